"""ASE's SocketClient with EMT or Lennard-Jones for four atoms: ase_driver.py emt|lj PORT."""

import sys

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.socketio import SocketClient

calculators = {
    "emt": lambda: Atoms("Cu4", calculator=EMT()),
    "lj": lambda: Atoms("Ar4", calculator=LennardJones(sigma=3.405, epsilon=0.01, rc=8.5, smooth=True)),
}
atoms = calculators[sys.argv[1]]()
atoms.cell, atoms.pbc = 5 * np.eye(3), True
SocketClient(host="127.0.0.1", port=int(sys.argv[2])).run(atoms, use_stress=True)
