"""Argon in i-PI: its input, i-PI itself, stunnel in front of it, and what i-PI writes."""

import contextlib
import math
import os
import secrets
import time

import plot
from emulation import HERE, HOST, ROOT, Child, Failure, call, emulator, BOARDS, bridged, free_port, wait_for_port

PEERS = ROOT / "target" / "peers"
IPI = PEERS / "ipi" / "bin" / "i-pi"
IDENTITY = "board"

# Argon in atomic units, except for the lattice. The potential is shifted to 0 at the cutoff, which
# conserves energy.
SIGMA, EPSILON, CUTOFF = 6.43452, 0.000379384, 16.0863
LATTICE = 5.26  # angstrom, of the face-centred cubic crystal
BOHR = 0.52917721067  # angstrom
# The limit in hartree per atom. Pairs that cross the cutoff, where forces end abruptly, cause about
# a hundredth of it in 100 steps.
DRIFT = 1e-6

INPUT = """\
<simulation verbosity='low' floatformat='%25.17e'>
  <output prefix='argon'>
    <properties stride='1' flush='1' filename='out'>[step, potential, kinetic_md, conserved]</properties>
    <trajectory stride='{steps}' filename='pos' format='xyz' cell_units='angstrom'>positions</trajectory>
    <checkpoint stride='{steps}' filename='checkpoint' overwrite='True'/>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>31415</seed></prng>
  <ffsocket mode='inet' name='board' pbc='False'>
    <address>127.0.0.1</address><port>{port}</port><timeout>60</timeout><batch_size>{batch}</batch_size>
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz' units='angstrom'>argon.xyz</file>
      <velocities mode='thermal' units='kelvin'>30</velocities>
    </initialize>
    <forces><force forcefield='board'/></forces>
    <motion mode='dynamics'><dynamics mode='nve'><timestep units='femtosecond'>2</timestep></dynamics></motion>
    <ensemble><temperature units='kelvin'>30</temperature></ensemble>
  </system>
</simulation>
"""


def install_ipi(progress):
    call(HERE / "apt", "python3-venv", quiet=False)
    progress.say("looking for i-PI (10 s to install it)")
    call(ROOT / "tests" / "peers" / "install", PEERS, "ipi")


def lattice(natoms):
    """Positions on an fcc lattice and the edge of its cube, in angstrom. Sites that are too many stay empty."""
    # At least two cells along each side: the cutoff is at most half of that, and must include the
    # nearest neighbours.
    n = max(2, math.ceil((natoms / 4) ** (1 / 3) - 1e-9))
    corners = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    sites = [
        [(a + b) * LATTICE for a, b in zip((i, j, k), corner)]
        for i in range(n) for j in range(n) for k in range(n) for corner in corners
    ]
    return [sites[i * len(sites) // natoms] for i in range(natoms)], n * LATTICE


@contextlib.contextmanager
def ipi(arguments, directory, progress):
    """i-PI with argon, and stunnel if there is to be TLS: its process, the port for drivers, their options."""
    positions, edge = lattice(arguments.atoms)
    cutoff = min(CUTOFF, 0.499 * edge / BOHR)
    with open(directory / "argon.xyz", "w") as file:
        cube = f"{edge:.8f} {edge:.8f} {edge:.8f} 90 90 90"
        file.write(f"{len(positions)}\n# CELL(abcABC): {cube} cell{{angstrom}} positions{{angstrom}}\n")
        file.writelines("Ar %.8f %.8f %.8f\n" % tuple(r) for r in positions)
    port = free_port()
    text = INPUT.format(steps=arguments.steps, beads=arguments.beads, batch=arguments.batch, port=port)
    (directory / "input.xml").write_text(text)
    lj = f"{SIGMA},{EPSILON},{cutoff:.6f}"
    with contextlib.ExitStack() as children:
        child = children.enter_context(Child([IPI, "input.xml"], directory, "i-pi.log"))
        wait_for_port(port, child)
        psk = None
        if arguments.tls:
            psk = secrets.token_hex(32)
            _, port = children.enter_context(stunnel(directory, port, psk))
            progress.say(f"stunnel on 127.0.0.1:{port}, which knows one key")
        yield child, port, lj, psk


@contextlib.contextmanager
def stunnel(directory, port, key):
    """stunnel in front of a port, for those that have the key; its process and its own port."""
    private = directory / "private"  # not for the output
    private.mkdir(mode=0o700)
    keys = private / "keys"
    with open(keys, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(f"{IDENTITY}:{key}\n")
    accept = free_port()
    (directory / "stunnel.conf").write_text(
        f"foreground = yes\npid =\n[i-pi]\naccept = 127.0.0.1:{accept}\nconnect = 127.0.0.1:{port}\n"
        f"ciphers = PSK\nsslVersionMin = TLSv1.3\nPSKsecrets = {keys}\n"
    )
    with Child(["stunnel4", "stunnel.conf"], directory, "stunnel.log") as child:
        wait_for_port(accept, child)
        yield child, accept


def driver(name, firmware, directory, port, lj, psk=None, counted=False):
    """The command of a board, or of the host's driver, that serves i-PI. If `counted`, the board's clock counts
    instructions: a nanosecond is one."""
    if name == HOST:
        flags = ["-a", "127.0.0.1", "-p", port, "-m", "lj", "-o", lj, "--cutoff", "shifted", "--init", "once", "-v"]
        return [firmware, "driver", *flags]
    options = f"lj={lj} patience=30" if BOARDS[name].in_c else f"lj={lj} cutoff=shifted patience=30"
    if not BOARDS[name].on_line:
        options = f"port={port} {options}" + (f" {credentials(IDENTITY, psk)}" if psk else "")
    command = emulator(name, firmware, directory, options, ["-icount", "shift=0"] if counted else [])
    return bridged(port, command) if BOARDS[name].on_line else command


def credentials(identity, key):
    """What the board needs for TLS: who it is, and something random."""
    return f"tls={identity}:{key} seed={secrets.token_hex(32)}"


class Table:
    """The rows that i-PI writes, some twenty of them as they come, and what they amount to at the end."""

    def __init__(self, path, arguments):
        self.path, self.arguments = path, arguments
        self.rows, self.start, self.end = [], None, None
        self.at = 0  # in the file
        self.stride = max(1, arguments.steps // 20)
        print(f"{'step':>8} {'potential/Eh':>16} {'kinetic/Eh':>16} {'conserved/Eh':>16}", flush=True)

    def update(self):
        try:
            with open(self.path, "rb") as file:
                file.seek(self.at)
                # The last line may be incomplete.
                new = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self.at += len(new[0]) + len(new[1])
        rows = [[float(x) for x in line.split()] for line in new[0].splitlines() if not line.startswith(b"#")]
        for step, *energies in rows:
            self.end = time.monotonic()
            self.start = self.start or self.end
            if step % self.stride == 0 or step == self.arguments.steps:
                print(f"{step:8.0f} " + " ".join(f"{energy:16.9f}" for energy in energies), flush=True)
        self.rows += rows

    def finish(self):
        """Prints what the run was worth; a failure if it is short or energy is not conserved."""
        steps, beads, atoms = self.arguments.steps, self.arguments.beads, self.arguments.atoms
        if len(self.rows) != steps + 1:
            raise Failure(f"i-PI wrote {len(self.rows)} rows and not {steps + 1}")
        conserved = [row[3] for row in self.rows]
        drift = (max(conserved) - min(conserved)) / (atoms * beads)
        seconds = max(self.end - self.start, 0.05)  # how often rows are looked for
        print(f"{'evaluations':>24}  {(steps + 1) * beads}")
        print(f"{'evaluations a second':>24}  {steps * beads / seconds:.1f}, i-PI's own work included")
        print(f"{'drift':>24}  {drift:.1e} Eh an atom (at most {DRIFT:.0e})")
        print(f"{'conserved energy':>24}  {plot.sparkline(conserved)}")
        title = f"Argon, {atoms} atoms, {beads} beads: conserved energy"
        plot.svg(self.path.with_name("conserved.svg"), title, "step of 2 fs", "hartree", range(steps + 1), conserved)
        if not drift <= DRIFT:
            raise Failure("the conserved energy drifts: forces and energies do not belong together")
        return f"drift {drift:.1e}\n"
