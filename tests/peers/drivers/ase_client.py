"""ASE's SocketClient with one of its calculators, as its users write it.

    ase_client.py emt|gpaw|springs PORT | unix:NAME

Runs under ASE 3.22 and 3.29. Cell and positions come from the server.
"""

import sys

import ase
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.socketio import SocketClient


def emt():
    """Metals, with a smooth cutoff."""
    from ase.calculators.emt import EMT

    return Atoms("Cu4", calculator=EMT())


def gpaw():
    """Plane waves. Forces are small differences of densities, so they need tighter settings than the defaults."""
    import gpaw

    print("GPAW", gpaw.__version__)
    convergence = {"energy": 1e-6, "density": 1e-6, "eigenstates": 1e-8}
    calculator = gpaw.GPAW(mode=gpaw.PW(600), xc="LDA", symmetry="off", convergence=convergence, txt="gpaw.txt")
    return Atoms("H2", calculator=calculator)


def springs():
    """Takes almost no time to compute, so the time of the socket remains."""

    class Springs(Calculator):
        implemented_properties = ["energy", "forces", "stress"]

        def calculate(self, atoms=None, properties=None, system_changes=None):
            super().calculate(atoms, properties, system_changes)
            r = atoms.positions
            self.results = {"energy": 0.5 * (r**2).sum(), "forces": -r, "stress": np.zeros(6)}

    return Atoms("Cu4", calculator=Springs())


def main(calculator, where):
    print("ASE", ase.__version__, flush=True)
    atoms = {"emt": emt, "gpaw": gpaw, "springs": springs}[calculator]()
    atoms.cell, atoms.pbc = 5 * np.eye(3), True
    if where.startswith("unix:"):
        client = SocketClient(unixsocket=where.removeprefix("unix:"))
    else:
        client = SocketClient(host="127.0.0.1", port=int(where))
    client.run(atoms, use_stress=True)


main(*sys.argv[1:])
