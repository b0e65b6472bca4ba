"""What of an image's flash is the protocol, and what is routines, storage and the image's own.

By the names of functions, those that were inlined included, which the debug information keeps: an instruction counts for
the innermost function of this crate, of the image or of the compiler's routines that it is in. Instructions in
none but core's and other crates' functions count as protocol.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path

from image import Unsound

KINDS = ["protocol", "memory", "arithmetic", "Storage", "demo"]

# The compiler's routines, with everything inlined into them. "Arithmetic" is floating point, and
# any other operation that the CPU lacks, in software.
ROUTINES = [
    ("memory", re.compile(r"(__aeabi_)?(mem(cpy|move|set|clr|cmp)\d?|bcmp)|compiler_builtins::mem::.*")),
    ("arithmetic", re.compile(r"__\w+|f(max|min)imum_num|<?(compiler_builtins|libm)::.*")),
]


def split(image):
    """Bytes of .text by kind, and bytes of constants, which are of any."""
    text = image.elf.get_section_by_name(".text")
    addresses = range(text["sh_addr"], text["sh_addr"] + text["sh_size"], STEP)
    demo = {"images", "smoltcp", Path(image.path).name.replace("-", "_")}
    sizes = Counter()
    for functions in read_functions(image, addresses):
        sizes[kind(functions, demo)] += STEP
    if not sizes["protocol"] or not sizes["demo"]:
        raise Unsound(f"{image.path} has no debug information")
    return sizes, image.section(".rodata")


# The size of every instruction is a multiple of this many bytes.
STEP = 2


def read_functions(image, addresses):
    """For each address the functions that it is in, the innermost first, by full names."""
    addresses = [f"{it:#x}" for it in addresses]
    ask = ["llvm-symbolizer", f"--obj={image.path}", "--functions=linkage", "--inlining", "--output-style=LLVM"]
    answers = run(ask, addresses).strip("\n").split("\n\n")
    # On RISC-V the outermost name is a label.
    outermost = [image.containing(int(it, 16)) for it in addresses]
    outermost = run(["llvm-cxxfilt"], [it.name if it else "" for it in outermost]).splitlines()
    if not len(answers) == len(outermost) == len(addresses):
        raise Unsound(f"{image.path}: {len(answers)} answers, {len(outermost)} names for {len(addresses)} addresses")
    # Each answer has a line with the name, then one with the place in the source.
    inlined = (it.strip("\n").split("\n")[:-2:2] for it in answers)
    return [[*inner, outer] for inner, outer in zip(inlined, outermost)]


def run(command, lines):
    given = "".join(f"{it}\n" for it in lines)
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout


def kind(functions, demo):
    """The kind of an instruction in these functions, of an image with these crates of its own."""
    for it, pattern in ROUTINES:
        if pattern.fullmatch(functions[-1]):
            return it
    for name in functions:
        path = re.search(r"\w+(::\w+)*", name.replace("mut ", ""))
        crate, *modules = path[0].split("::") if path else [""]
        if crate == "forcewire":
            return "Storage" if "storage" in modules else "protocol"
        if crate in demo or name == "image":
            return "demo"
    return "protocol"
