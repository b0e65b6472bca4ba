"""Returns what i-PI gets from a driver: its `ffsocket`, without a simulation around it.

    ipi_server.py PORT pbc|nopbc STRUCTURES

Listens on this port of 127.0.0.1 and reports that, has the structures of a file evaluated one after another ("pbc"
first folds atoms into the cell), and prints its version and the answers as its last line, with all digits. Structures
and answers are JSON in atomic units; a structure has "cell" (h by rows) and "positions".
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from ipi.engine.atoms import Atoms
from ipi.engine.cell import Cell
from ipi.engine.forcefields import FFSocket
from ipi.interfaces.sockets import InterfaceSocket


def evaluate(field, structure):
    positions = np.array(structure["positions"], float)
    atoms = Atoms(len(positions))
    atoms.q[:] = positions.flatten()
    cell = Cell()
    cell.h = np.array(structure["cell"], float)
    request = field.queue(atoms, cell, reqid=0)
    while request["status"] != "Done":
        time.sleep(1e-4)
    energy, forces, virial, _ = request["result"]
    field.release(request)
    return {"energy": float(energy), "forces": forces.reshape(-1, 3).tolist(), "virial": virial.tolist()}


def main(port, pbc, path):
    with open(path) as file:
        structures = json.load(file)
    interface = InterfaceSocket(address="127.0.0.1", port=int(port), mode="inet", timeout=0)
    field = FFSocket(dopbc=pbc == "pbc", interface=interface)
    field.start()
    print("listening", flush=True)
    answers = [evaluate(field, structure) for structure in structures]
    field.stop()
    print(json.dumps({"server": "i-PI " + version("ipi"), "answers": answers}))


main(*sys.argv[1:])
