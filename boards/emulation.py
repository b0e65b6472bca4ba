"""The boards of boards.toml: what they need, how they are built and emulated; and processes that end with their block."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TOOLS = HERE / "target" / "tools"
PRINTER = TOOLS / "bin" / "defmt-print"
PRINTER_VERSION = "1.0.0"
HOST = "host"  # no board: `forcewire driver` on this machine


class Failure(Exception):
    """Something went wrong that the user should read in one line."""


@dataclass(frozen=True)
class Board:
    """A table of boards.toml."""

    name: str
    core: str
    target: str
    emulator: str
    machine: list
    packages: list
    atoms: int
    structures: int
    flash: int
    memory: int
    stack: int
    crate: str = ""
    network: list = field(default_factory=list)
    link: str = "network"
    language: str = "rust"
    engine: dict = None
    logic: str = ""

    @property
    def on_line(self):
        return self.link == "uart"

    @property
    def in_c(self):
        return self.language == "c"


BOARDS = {
    name: Board(**{"name": name, "crate": name, **table})
    for name, table in tomllib.loads((HERE / "boards.toml").read_text()).items()
}


class Progress:
    """A line for each thing that takes a while, with the time since the start."""

    def __init__(self):
        self.start = time.monotonic()

    def say(self, text):
        print(f"[{time.monotonic() - self.start:6.1f} s] {text}", flush=True)


def call(*command, cwd=None, quiet=True):
    """Runs a command to its end; what it printed is shown if it failed. It ends with us, and so does what it started."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        end(process)
        raise
    if process.returncode != 0:
        print(said or "", file=sys.stderr)
        raise Failure(f"{' '.join(map(str, command))} failed")


def end(process):
    """Ends a process and all of its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def install_emulator(name, progress):
    board = BOARDS[name]
    call(HERE / "apt", *board.packages, "binutils", quiet=False)
    if not board.on_line and not PRINTER.exists():
        progress.say(f"building defmt-print {PRINTER_VERSION}, which reads the board's log (about a minute)")
        call("cargo", "install", "--quiet", "--locked", "--debug", "--root", TOOLS, f"defmt-print@{PRINTER_VERSION}")


def forcewire(progress):
    """The command."""
    progress.say("building the host's forcewire")
    call("cargo", "build", "--release", "--quiet", "--package", "forcewire-cli", cwd=ROOT)
    return executable("forcewire")


def executable(name):
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / name


def build(name, progress, tls=False, binary=None):
    """The firmware, or the host's driver."""
    if name == HOST:
        return forcewire(progress)
    board, binary = BOARDS[name], binary or name
    progress.say(f"building the firmware {binary} (a minute the first time)")
    if board.on_line:
        forcewire(progress)
    if board.in_c:
        call("make", "--silent", cwd=HERE / name)
        return HERE / "target" / name / name
    if board.engine:
        cargo(board.engine["target"], board.engine["crate"], board.engine["binary"])
    if board.logic:
        call("cargo", "build", "--release", "--bin", board.logic, "--target-dir", HERE / "target", cwd=HERE)
    image = cargo(board.target, board.crate, binary, *(["--features", "tls"] if tls else []))
    # cargo gives both images the same name and builds the requested one there.
    return image.rename(f"{image}-tls") if tls else image


def cargo(target, crate, binary, *features):
    """Builds one image; where it is."""
    arguments = ["build", "--release", "--bin", binary, *features, "--target-dir", HERE / "target"]
    call(HERE / "cargo", target, *arguments, cwd=HERE / crate)
    return HERE / "target" / target / "release" / binary


def images(board, firmware):
    """The images that a board runs: the firmware, and that of its engine."""
    if not board.engine:
        return [firmware]
    return [firmware, HERE / "target" / board.engine["target"] / "release" / board.engine["binary"]]


def has_tls(name):
    """Whether the board's crate has the feature."""
    if name not in BOARDS or BOARDS[name].on_line:
        return False
    return "tls" in tomllib.loads((HERE / BOARDS[name].crate / "Cargo.toml").read_text()).get("features", {})


# Prints QEMU's errors, then the board's log as text. The status is QEMU's. $1 prints the log, $2 is
# the image.
DECODED = 'printer=$1 image=$2; shift 2; set -o pipefail; "$@" | "$printer" --log-format "{L:5} {s}" -e "$image"'


def emulator(name, firmware, directory, options, flags=()):
    """The command that runs firmware with these options."""
    # The options follow the image's path on one line, which the firmware splits into words. The
    # path must therefore be short and without blanks. A second image of a board has the board's
    # name and one more word.
    board, image = BOARDS.get(name) or BOARDS[name.rpartition("-")[0]], directory / name
    links = [image, *(directory / other.name for other in images(board, firmware)[1:])]
    for link, target in zip(links, images(board, firmware)):
        if not link.is_symlink():
            link.symlink_to(target)
    loaded = []
    for core, link in enumerate(links[1:], 1):
        loaded += ["-device", f"loader,file={link.name},cpu-num={core}"]
    quiet = ["-display", "none", "-monitor", "none", "-semihosting-config", "enable=on,target=native"]
    serial = ["-serial", "stdio" if board.on_line else "none"]
    machine = [*flags, *board.machine, *board.network, *quiet, *serial, *loaded]
    qemu = [board.emulator, *machine, "-kernel", image.name, "-append", options]
    command = qemu if board.on_line else ["bash", "-c", DECODED, "emulator", PRINTER, image.name, *qemu]
    return [HERE / "target" / "release" / board.logic, *command] if board.logic else command


def bridged(port, command):
    """A command whose input and output are a line, connected to a server."""
    return [executable("forcewire"), "bridge", "--to", f"127.0.0.1:{port}", *command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, server, patience=60):
    """Until the kernel says that someone listens; connecting would be taken for a driver."""
    listening = re.compile(rf"^ *\d+: \w+:{port:04X} \w+:\w+ 0A ", re.MULTILINE)
    end = time.monotonic() + patience
    while not listening.search(Path("/proc/net/tcp").read_text()):
        if not server.running() or time.monotonic() > end:
            raise Failure(f"{server.log.stem} does not listen on port {port}:\n{server.log.read_text()}")
        time.sleep(0.05)


class Child:
    """A process in its own group. It is ended, with what it has started, when its block is left.

    What it prints goes to a file; of a board, warnings and errors are shown as they come, or all if `show`.
    """

    def __init__(self, command, directory, log, show=False, board=None):
        self.log = directory / log
        self.log.write_text("")  # not what the last one of that name has printed
        self.show, self.board = show, board
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=directory, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        with open(self.log, "w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                if self.show or self.board and line.startswith(("WARN", "ERROR")):
                    print(f"{self.board}: {line}" if self.board else line, end="", flush=True)

    def running(self):
        return self.process.poll() is None

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"none: it was still running {seconds} s later"

    def processes(self):
        """The process and all that it has started: for each, the numbers of /proc/PID/stat after the name."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # the session
                    found[int(stat.parent.name)] = fields
        return found

    def processor_seconds(self):
        """The CPU time that these have used so far."""
        used = sum(int(fields[11]) + int(fields[12]) for fields in self.processes().values())
        return used / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.reader.join(5)


def footprint(*images):
    """Bytes of flash and of memory, without the stacks, that images take."""
    said = subprocess.run(["size", "-A", *images], check=True, capture_output=True, text=True).stdout
    flash = memory = 0
    for name, size, at in re.findall(r"^(\.\S+) +(\d+) +(\d+)$", said, re.MULTILINE):
        flash += int(size) if name in CODE and int(at) or name == ".data" else 0
        memory += int(size) if name in DATA else 0
    return flash, memory


DATA = {".data", ".bss", ".uninit", ".dma"}
CODE = {".vector_table", ".vectors", ".init", ".text", ".trap", ".rodata", ".eh_frame"}


def command(main, name):
    """Runs a command's `main`: a failure is one line, and ended from outside its children are ended too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        main()
    except Failure as failure:
        sys.exit(f"{name}: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
