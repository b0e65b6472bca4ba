"""ASE's SocketIOCalculator in a simulation of five steps, always the same, for the conformance kit's drivers.

    ase_server.py PORT argon.xyz
"""

import contextlib
import socket
import sys

import ase.calculators.socketio as socketio
import numpy as np
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet


@contextlib.contextmanager
def bind_loopback(port):
    """Binds as ASE does, but only to the loopback address."""
    with socket.socket(socket.AF_INET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        yield server


def main(port, path):
    socketio.bind_inetsocket = bind_loopback
    atoms = read(path)
    atoms.cell, atoms.pbc = 20 * np.eye(3), True
    atoms.set_velocities(np.random.default_rng(4).normal(scale=0.01, size=atoms.positions.shape))
    with socketio.SocketIOCalculator(port=int(port), timeout=2) as calculator:
        atoms.calc = calculator
        VelocityVerlet(atoms, timestep=2 * units.fs).run(5)


main(*sys.argv[1:])
