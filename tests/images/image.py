"""What a linked image says of itself: its functions, who calls whom, and how much stack each takes.

Needs an image that was linked with `--emit-relocs` and compiled with `-Z emit-stack-sizes`. Whatever can't be decided is
taken for the worst: an indirect call may reach every function whose address is taken anywhere.
"""

import re
import subprocess
from bisect import bisect_right
from functools import cached_property
from io import BytesIO

from elftools.common.utils import struct_parse
from elftools.construct import ULInt32
from elftools.elf.elffile import ELFFile

# Relocations of branches, which take no address, and of sections that do not belong to the program
# (or is paired with another).
BRANCH = re.compile(r"R_ARM_THM_(CALL|JUMP\d+)|R_RISCV_(CALL|CALL_PLT|JAL|BRANCH|RVC_\w+)")
OTHER = re.compile(r"R_RISCV_(RELAX|ALIGN|PCREL_LO12_[IS])|R_ARM_NONE")

BASE = r"(?:bl|b|cbz|cbnz|blx|bx)"
CONDITION = r"(?:eq|ne|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"


class Unsound(Exception):
    """The image holds what no bound can be given for."""


class Function:
    """A function: its name, its address, the stack it takes itself, the addresses it calls."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.names = {name}
        self.size = self.last = 0
        # The stack use reported by the compiler, and the amount by which the code lowers the stack
        # pointer; None if unbounded.
        self.stack = None
        self.lowered = 0
        self.calls = set()
        self.indirect = False

    def __repr__(self):
        return self.name


class Image:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.elf = ELFFile(BytesIO(file.read()))
        self.arm = self.elf["e_machine"] == "EM_ARM"
        self.symbols = self.elf.get_section_by_name(".symtab")
        self._read_functions()
        self._read_stack_sizes()
        self._read_relocations()
        self._read_instructions()

    def section(self, prefix):
        """Bytes of the sections that a device keeps under this name."""
        return sum(
            it["sh_size"] for it in self.elf.iter_sections() if it.name.startswith(prefix) and it["sh_flags"] & 2
        )

    def compiler(self):
        """The compiler's name and version, as it has left them."""
        comment = self.elf.get_section_by_name(".comment").data().decode()
        return "rustc " + re.search(r"rustc version (\S+)", comment)[1]

    def names(self):
        """All symbols' names."""
        return [it.name for it in self.symbols.iter_symbols() if it.name]

    def function(self, name):
        return next(it for it in self.functions.values() if name in it.names)

    def containing(self, address):
        """The function that this code belongs to; None if it is padding. Assembly may have no size."""
        function = self.functions[self.starts[max(0, bisect_right(self.starts, address) - 1)]]
        inside = function.address <= address < function.address + (function.size or 1 << 32)
        return function if inside else None

    def callees(self, function):
        """The functions that this one may call, those in its place at the end included."""
        called = set(function.calls)
        if function.indirect:
            called |= self.taken
        return [self.functions[it] for it in sorted(called)]

    def callers(self, function):
        return [it for it in self.functions.values() if function in self.callees(it)]

    def depth(self, function):
        """The most stack that a call of `function` takes, and the path that takes it."""
        return self._depth(function, [])

    def _depth(self, function, above):
        if function in above:
            cycle = above[above.index(function) :] + [function]
            raise Unsound(f"{self.path}: recursion: {' -> '.join(map(short, cycle))}")
        if function.address not in self._depths:
            below = [self._depth(it, above + [function]) for it in self.callees(function)]
            deepest, path = max(below, key=lambda it: it[0], default=(0, []))
            self._depths[function.address] = (function.stack + deepest, [function] + path)
        return self._depths[function.address]

    @cached_property
    def _depths(self):
        return {}

    def _read_functions(self):
        self.functions = {}
        for symbol in self.symbols.iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC":
                address = symbol["st_value"] & ~self.arm
                function = self.functions.setdefault(address, Function(symbol.name, address))
                function.names.add(symbol.name)
                function.size = max(function.size, symbol["st_size"])
        self.starts = sorted(self.functions)

    def _read_stack_sizes(self):
        section = self.elf.get_section_by_name(".stack_sizes")
        data = section.data() if section else b""
        at = 0
        while at < len(data):
            address = int.from_bytes(data[at : at + 4], "little") & ~self.arm
            at, shift, size = at + 4, 0, 0
            while True:
                size |= (data[at] & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if not data[at - 1] & 0x80:
                    break
            self.functions[address].stack = size

    def _read_relocations(self):
        """Where direct calls go, and which functions' addresses are taken."""
        self.taken = set()
        self.branches = {}
        # Used addresses, by the place of use; and places in functions to which jump tables refer.
        self.uses, self.tables = {}, {}
        # auipc and jalr form one call; the first has the relocation.
        self.pairs = set()
        kinds = elf_relocation_names(self.arm)
        for table in self.elf.iter_sections():
            if table["sh_type"] not in ("SHT_REL", "SHT_RELA"):
                continue
            target = self.elf.get_section(table["sh_info"])
            if not target["sh_flags"] & 2 or target["sh_type"] == "SHT_ARM_EXIDX":
                continue
            for it in table.iter_relocations():
                kind = kinds[it["r_info_type"]]
                symbol = self.symbols.get_symbol(it["r_info_sym"])
                value = symbol["st_value"]
                if it.is_RELA():
                    value += it["r_addend"]
                elif kind == "R_ARM_ABS32":
                    # The addend is in the image, where the linker has already added it.
                    value = self._word(it["r_offset"])
                elif symbol["st_info"]["type"] == "STT_SECTION":
                    raise Unsound(f"{self.path}: {kind} of a section at {it['r_offset']:#x}")
                value &= ~self.arm
                if BRANCH.fullmatch(kind):
                    self.branches[it["r_offset"]] = value
                    if kind.startswith("R_RISCV_CALL"):
                        self.pairs.add(it["r_offset"])
                elif OTHER.fullmatch(kind):
                    continue
                elif value in self.functions:
                    self.taken.add(value)
                elif target["sh_flags"] & 4:
                    self.uses[it["r_offset"]] = value
                else:
                    self.tables[it["r_offset"]] = self.containing(value)

    def _word(self, address):
        for it in self.elf.iter_sections():
            start = it["sh_addr"]
            if it["sh_flags"] & 2 and start <= address < start + it["sh_size"]:
                self.elf.stream.seek(it["sh_offset"] + address - start)
                return struct_parse(ULInt32(""), self.elf.stream)
        raise Unsound(f"{self.path}: nothing is at {address:#x}")

    def _read_instructions(self):
        read = self._read_thumb if self.arm else self._read_riscv
        features = [] if self.arm else ["--mattr=+m,+c"]
        command = ["llvm-objdump", "-d", "--no-show-raw-insn", *features, self.path]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for line in listing.splitlines():
            found = re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", line)
            if not found:
                continue
            address, (name, operands) = int(found[1], 16), found.groups()[1:]
            if re.fullmatch(r"[0-9a-f]{2}", name) or name.startswith("."):
                continue  # data among the code
            if name == "<unknown>":
                raise Unsound(f"{self.path}: an instruction at {address:#x} that llvm-objdump doesn't know")
            function = self.containing(address)
            if function is None or address - 4 in self.pairs:
                continue
            if address in self.branches:
                self._call(function, self.branches[address], name != "b.w")
            else:
                read(function, name, operands)
            function.last = address
        for function in self.functions.values():
            # Assembly and precompiled crates report no size: use the amount by which any path
            # lowers the stack pointer.
            if function.stack is None:
                if function.lowered is None:
                    raise Unsound(f"{self.path}: nothing bounds the stack of {short(function)}")
                function.stack = function.lowered

    def _call(self, function, address, returns):
        """A branch to an address; one that doesn't come back may be a loop of the function's own."""
        if address in self.functions and (returns or address != function.address):
            function.calls.add(address)
        elif self.containing(address) is not function:
            raise Unsound(f"{self.path}: {short(function)} jumps to {address:#x}, where no function begins")

    def _lower(self, function, by):
        if function.lowered is not None:
            function.lowered = None if by is None else function.lowered + by

    def _read_thumb(self, function, name, operands):
        name = name.removesuffix(".w")
        target = re.search(r"(0x[0-9a-f]+) <", operands)
        if re.fullmatch(BASE + CONDITION, name):
            if target:
                self._call(function, int(target[1], 16), name == "bl")
            elif not (name.startswith("bx") and operands == "lr"):
                # Jump tables don't use bx: the compiler uses tbb, tbh and moves to pc.
                function.indirect = True
        elif name.startswith("push") or name.startswith("stmdb") and operands.startswith("sp!"):
            self._lower(function, 4 * registers(operands))
        elif name.startswith("sub") and operands.startswith("sp"):
            by = re.search(r"#(\d+)$", operands)
            self._lower(function, int(by[1]) if by else None)
        elif re.match(r"(mov|add)\w*\s+sp, r\d|msr", f"{name} {operands}") or "[sp, #-" in operands and "]!" in operands:
            # Restoring from a frame pointer is fine if the compiler has reported the size.
            self._lower(function, None)

    def table(self, address):
        """The function into which the table leads whose address is used here."""
        return self.tables.get(self.uses.get(address))

    def _read_riscv(self, function, name, operands):
        target = re.search(r"(0x[0-9a-f]+) <", operands)
        if name == "jr" and function in map(self.table, range(function.last - 48, function.last + 4, 2)):
            pass  # by a table of jumps, whose address has just been loaded
        elif name in ("jr", "jalr"):
            function.indirect = True
        elif target and name != "auipc":
            self._call(function, int(target[1], 16), name in ("jal",))
        elif name == "addi" and operands.startswith("sp, sp, -"):
            self._lower(function, int(operands.rsplit("-")[-1]))
        elif operands.startswith("sp,") and name in ("add", "sub", "mv", "and", "andi"):
            self._lower(function, None)


def registers(operands):
    """How many registers a list names."""
    number = {"r" + str(n): n for n in range(16)} | {"sp": 13, "lr": 14, "pc": 15}
    count = 0
    for item in operands[operands.index("{") :].strip("{}").split(", "):
        first, *last = item.split("-")
        count += number[last[0]] - number[first] + 1 if last else 1
    return count


def elf_relocation_names(arm):
    from elftools.elf import enums

    table = enums.ENUM_RELOC_TYPE_ARM if arm else RISCV
    return {number: name for name, number in table.items() if isinstance(number, int)}


# RISC-V ELF psABI 1.0, table 3, which pyelftools 0.29 lacks.
RISCV = {
    "R_RISCV_32": 1,
    "R_RISCV_BRANCH": 16,
    "R_RISCV_JAL": 17,
    "R_RISCV_CALL": 18,
    "R_RISCV_CALL_PLT": 19,
    "R_RISCV_PCREL_HI20": 23,
    "R_RISCV_PCREL_LO12_I": 24,
    "R_RISCV_PCREL_LO12_S": 25,
    "R_RISCV_HI20": 26,
    "R_RISCV_LO12_I": 27,
    "R_RISCV_LO12_S": 28,
    "R_RISCV_ADD32": 35,
    "R_RISCV_SUB32": 39,
    "R_RISCV_ALIGN": 43,
    "R_RISCV_RVC_BRANCH": 44,
    "R_RISCV_RVC_JUMP": 45,
    "R_RISCV_RELAX": 51,
}


def short(function):
    """A name that a person can read."""
    command = ["llvm-cxxfilt", function.name]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return re.sub(r"\[[0-9a-f]+\]|<[^<>]*? as |::<.*", "", name)
