"""ASE's SocketIOCalculator as the server of a driver that computes Lennard-Jones argon, shifted at the cutoff.

    ase_server.py tcp | unix:NAME

Prints where it listens ("listening 12345", "listening /tmp/ipi_NAME"), then moves atoms, lets
them relax and strains the cell, and compares what comes over the socket with ASE's own LennardJones each time.
The last line is "agrees COMPARISONS ERROR EVALUATIONS SECONDS": the largest relative error, and the time that the
socket took. Ends as every script with ASE does: it closes the connection and sends nothing.
"""

import contextlib
import socket
import sys
import time

import ase.calculators.socketio as socketio
import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

# Argon, with the driver's parameters in atomic units: -m lj -o 6.43452,0.000379384,8.7 --cutoff
# shifted
SIGMA, EPSILON, CUTOFF = 6.43452 * units.Bohr, 0.000379384 * units.Hartree, 8.7 * units.Bohr
TOLERANCE = 1e-8
errors = []


@contextlib.contextmanager
def bind_loopback(port):
    """ASE binds every interface, and a fixed port; a test takes a free one of the loopback's."""
    with socket.socket(socket.AF_INET) as server:
        server.bind(("127.0.0.1", port))
        yield server


class TimedCalculator(socketio.SocketIOCalculator):
    """Counts evaluations and their time. The first one is left out: it waits for the driver to connect."""

    times = []

    def calculate(self, *args, **kwargs):
        start = time.perf_counter()
        super().calculate(*args, **kwargs)
        self.times.append(time.perf_counter() - start)


def compare(atoms):
    """What came over the socket against ASE's own."""
    own = atoms.copy()
    own.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
    for name, ours, theirs in [
        ("energy", atoms.get_potential_energy(), own.get_potential_energy()),
        ("forces", atoms.get_forces(), own.get_forces()),
        ("stress", atoms.get_stress(), own.get_stress()),
    ]:
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error < TOLERANCE, f"{name} after {len(errors)} comparisons: {ours} and ASE's {theirs}"
        errors.append(error)


def main(where):
    socketio.bind_inetsocket = bind_loopback
    address = {"port": 0} if where == "tcp" else {"unixsocket": where.removeprefix("unix:")}
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat(2)
    # Neither upper nor lower triangular, so that a transposed cell is detected.
    skew = np.eye(3) + [[0, 0.02, -0.03], [0.05, 0.01, 0], [0, -0.02, 0.03]]
    atoms.set_cell(atoms.cell.array @ skew, scale_atoms=True)
    atoms.rattle(0.05, seed=3)
    atoms.set_velocities(np.random.default_rng(4).normal(scale=0.01, size=atoms.positions.shape))

    with TimedCalculator(timeout=60, **address) as calculator:
        name = calculator.server.serversocket.getsockname()
        print("listening", name[1] if where == "tcp" else name, flush=True)
        atoms.calc = calculator
        compare(atoms)
        dynamics = VelocityVerlet(atoms, timestep=2 * units.fs)
        dynamics.attach(compare, atoms=atoms)
        dynamics.run(20)
        BFGS(atoms, logfile=None).run(fmax=1e-9, steps=5)
        compare(atoms)
        for step in range(5):
            strain = 1e-3 * np.diag([1, -2, step])
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            compare(atoms)
        times = calculator.times[1:]
        print("agrees", len(errors) // 3, max(errors), len(times), sum(times), flush=True)


main(*sys.argv[1:])
