"""Writes the table's inputs, and how ASE reads each of them.

    target/peers/ase/bin/python src/cli/tests/xyz/make.py

`dialects.json` has one row per dialect: its name, the bytes of the file, and ASE's frames or its error.
`--print` prints the rows and does not change the file.
"""

import io
import json
import pathlib
import sys
import warnings

import ase
import ase.io
import numpy as np

warnings.simplefilter("ignore")
here = pathlib.Path(__file__).parent

CELL = 'Lattice="6.0 0.0 0.0 0.0 6.0 0.0 0.0 0.0 6.0"'
SKEWED = "5 0 0 1 6 0 2 3 7"
PLAIN = "Properties=species:S:1:pos:R:3"
ATOMS = "Ar 0 0.5 0\nAr 3 0 0.25\n"


def two(comment, atoms=ATOMS):
    return f"2\n{comment}\n{atoms}"


DIALECTS = {
    "plain": two("argon"),
    "plain, empty comment": two(""),
    "plain, an apostrophe in the comment": two("the dimer's bottom"),
    "plain, an apostrophe, and words that are keys": two("the dimer's pbc and Lattice"),
    "plain, more columns": two("argon", "Ar 0 0 0 0.5 9 9 9\nAr 3 0 0 0.5 9 9 9\n"),
    "plain, an index first": two("argon", "1 2 3 0 0 0\n2 5 0 0 3 1\n"),
    "plain, atomic numbers": two("argon", "18 0 0 0\n18 3 0 0\n"),
    "cell": two(f"{CELL} {PLAIN}"),
    "cell, skewed": two(f'Lattice="{SKEWED}" {PLAIN}'),
    "cell, blanks around =": two(f'Lattice = "{SKEWED}" {PLAIN} pbc= "T T T"'),
    "properties, blanks around =": two(
        f"{CELL} Properties = species:S:1:forces:R:3:pos:R:3", "Ar 9 9 9 0 0 0\nAr 8 8 8 3 0 0\n"
    ),
    "cell, single quotes": two(f"Lattice='{SKEWED}' {PLAIN}"),
    "cell, braces": two(f"Lattice={{{SKEWED}}} {PLAIN}"),
    "cell, brackets": two(f"Lattice=[{SKEWED}] {PLAIN}"),
    "cell, commas": two('Lattice="5,0,0,1,6,0,2,3,7" ' + PLAIN),
    "cell, commas and brackets": two("Lattice=[5, 0, 0, 1, 6, 0, 2, 3, 7] " + PLAIN),
    "cell, nested brackets": two("Lattice=[[5, 0, 0], [1, 6, 0], [2, 3, 7]] " + PLAIN),
    "cell, JSON": two('Lattice="_JSON [[5, 0, 0], [1, 6, 0], [2, 3, 7]]" ' + PLAIN),
    "cell, D exponents": two('Lattice="5.0D0 0 0 0 6.0d+00 0 0 0 0.07D2" ' + PLAIN),
    "cell, integers": two('Lattice="5 0 0 0 6 0 0 0 7" ' + PLAIN),
    "cell, three numbers": two('Lattice="5 6 7" ' + PLAIN),
    "cell, not a number": two('Lattice="5 0 0 0 nan 0 0 0 7" ' + PLAIN),
    "cell, left-handed": two('Lattice="0 5 0 6 0 0 0 0 7" ' + PLAIN),
    "cell, zeros": two('Lattice="0 0 0 0 0 0 0 0 0" pbc="F F F" ' + PLAIN),
    "cell, zeros without pbc": two('Lattice="0 0 0 0 0 0 0 0 0" ' + PLAIN),
    "cell, zeros that are periodic": two('Lattice="0 0 0 0 0 0 0 0 0" pbc="T T T" ' + PLAIN),
    "cell, a zero vector": two('Lattice="5 0 0 0 6 0 0 0 0" pbc="T T F" ' + PLAIN),
    "cell, in one plane": two('Lattice="5 0 0 0 6 0 5 6 0" ' + PLAIN),
    "cell, lower case": two('lattice="5 0 0 0 6 0 0 0 7" ' + PLAIN),
    "cell, twice": two(f'{CELL} Lattice="5 0 0 0 6 0 0 0 7" {PLAIN}'),
    "cell, quote not closed": two('Lattice="5 0 0 0 6 0 0 0 7 ' + PLAIN),
    "cell, in another value": two(f"config=\"Lattice=no\" note='pbc=no' {CELL} {PLAIN}"),
    "cell, of i-PI": two("# CELL(abcABC): 5 6 7 90 90 90 Step: 0 cell{angstrom} positions{angstrom}"),
    "cell, of i-PI, brackets": two("# CELL[abcABC]: 5 6 7 90 90 90 Step: 0 positions{angstrom}"),
    "cell, of i-PI, braces": two("# CELL{H}: 5 0 0 0 6 0 0 0 7 Step: 0 positions{angstrom}"),
    "cell, of i-PI, and an apostrophe": two("# Bob's CELL{GENH}: 5 0 0 0 6 0 0 0 7"),
    "units, of i-PI": two("# positions{angstrom} Step: 0"),
    "units, of i-PI, atomic": two("# positions{atomic_unit} Step: 0"),
    "units, of i-PI, of a centroid": two("# x_centroid{atomic_unit} Step: 0"),
    "units, of i-PI, of the cell": two(f"{CELL} cell{{atomic_unit}}"),
    "columns, of i-PI, velocities": two("# velocities{angstrom} Step: 0"),
    "cell, of Gaussian": "5\nargon\n" + ATOMS + "Tv 5 0 0\nTv 0 6 0\nTv 0 0 7\n",
    "cell, after the atoms": two("argon", ATOMS + "VEC1 5 0 0\nVEC2 0 6 0\nVEC3 0 0 7\n"),
    "pbc T T T": two(f'{CELL} pbc="T T T" {PLAIN}'),
    "pbc F F F": two(f'{CELL} pbc="F F F" {PLAIN}'),
    "pbc T T F": two(f'{CELL} pbc="T T F" {PLAIN}'),
    "pbc true false": two(f'{CELL} pbc="true True FALSE" {PLAIN}'),
    "pbc 1 1 0": two(f'{CELL} pbc="1 1 0" {PLAIN}'),
    "pbc, commas": two(f"{CELL} pbc=[T, T, F] {PLAIN}"),
    "pbc, one for all": two(f"{CELL} pbc=F {PLAIN}"),
    "pbc, two": two(f'{CELL} pbc="T T" {PLAIN}'),
    "pbc, other words": two(f'{CELL} pbc="yes yes no" {PLAIN}'),
    "pbc without a cell": two(f'pbc="T T T" {PLAIN}'),
    "atomic numbers": two(f"{CELL} Properties=Z:I:1:pos:R:3", "18 0 0 0\n2 3 0 0\n"),
    "atomic numbers and labels": two(
        f"{CELL} Properties=species:S:1:Z:I:1:pos:R:3", "C1 6 0 0 0\nO2 8 3 0 0\n"
    ),
    "atomic numbers that contradict symbols": two(
        f"{CELL} Properties=species:S:1:Z:I:1:pos:R:3", "C 6 0 0 0\nC 8 3 0 0\n"
    ),
    "quoted columns": two(
        "Properties=label:S:1:Z:I:1:pos:R:3:force:R:3",
        '"C 1" 6 0.5 0.25 0.125 0 0 0\n"H 2" 1 1 1 1 0 0 0\n',
    ),
    "quoted columns without blanks": two(PLAIN, '"Ar" 0 0 0\n"Ar" 3 0 0\n'),
    "quoted properties": two(f'{CELL} Properties="species:S:1:pos:R:3"'),
    "unknown columns": two(
        f"{CELL} Properties=id:I:1:species:S:1:flag:L:1:tags:S:2:pos:R:3:q:R:1",
        "7 Ar T a b 0 0.5 0 1e-3\n8 Ar F c d 3 0 0.25 -1\n",
    ),
    "unknown columns, of another type": two(
        f"{CELL} Properties=id:I:1:species:S:1:pos:R:3", "7.5 Ar 0 0 0\n8 Ar 3 0 0\n"
    ),
    "unknown columns, a wrong truth": two(
        f"{CELL} Properties=species:S:1:pos:R:3:flag:L:1", "Ar 0 0 0 yes\nAr 3 0 0 no\n"
    ),
    "more columns than properties": two(f"{CELL} {PLAIN}", "Ar 9 9 9 0 0 0\nAr 8 8 8 3 0 0\n"),
    "fewer columns than properties": two(f"{CELL} {PLAIN}", "Ar 9 9\nAr 8 8\n"),
    "properties, no position": two(f"{CELL} Properties=species:S:1:forces:R:3"),
    "properties, two coordinates": two(f"{CELL} Properties=species:S:1:pos:R:2", "Ar 0 0\nAr 3 0\n"),
    "properties, no species": two(f"{CELL} Properties=pos:R:3", "0 0 0\n3 0 0\n"),
    "properties, ends in the middle": two(f"{CELL} Properties=species:S:1:pos:R:3:forces:R", ATOMS),
    "properties, another type": two(f"{CELL} Properties=species:S:1:pos:Q:3"),
    "properties, lower case": two(f"{CELL} properties=species:S:1:pos:R:3"),
    "properties, a name twice": two(
        f"{CELL} Properties=species:S:1:pos:R:3:a:R:1:a:R:1", "Ar 0 0 0 1 2\nAr 3 0 0 1 2\n"
    ),
    "momenta": two(
        f"{CELL} Properties=species:S:1:pos:R:3:momenta:R:3", "Ar 0 0 0 1 2 3\nAr 3 0 0 -1 -2 -3\n"
    ),
    "masses": two(
        f"{CELL} Properties=species:S:1:pos:R:3:masses:R:1", "Ar 0 0 0 36.5\nAr 3 0 0 40\n"
    ),
    "results of another calculation": two(
        f'{CELL} Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 stress="1 0 0 0 1 0 0 0 1"',
        "Ar 0 0 0 1 2 3\nAr 3 0 0 -1 -2 -3\n",
    ),
    "lower case symbols": two("argon", "ar 0 0 0\nAR 3 0 0\n"),
    "isotopes": two("water", "D 0 0 0\nO 3 0 0\n"),
    "labels": two("water", "OW 0 0 0\nHW1 1 0 0\n"),
    "numbers, D exponents": two(f"{CELL} {PLAIN}", "Ar 0.1D+01 0 0\nAr 3d0 0 0\n"),
    "numbers, E exponents": two(f"{CELL} {PLAIN}", "Ar 0.1E+01 -0 .5\nAr 3e0 +1. 0\n"),
    "numbers, infinite": two(f"{CELL} {PLAIN}", "Ar 0 0 inf\nAr 3 0 0\n"),
    "numbers, underscores": two(f"{CELL} {PLAIN}", "Ar 0 0 1_0\nAr 3 0 0\n"),
    "escapes": two(f'{CELL} {PLAIN} note="a \\"b\\" c" path=a\\ b "a key"=1'),
    "an empty value before the cell": two(f'note="" {CELL} {PLAIN}'),
    "byte order mark": "\ufeff" + two(f"{CELL} {PLAIN}"),
    "lines end with CR LF": two(f"{CELL} {PLAIN}").replace("\n", "\r\n"),
    "lines end with CR": two(f"{CELL} {PLAIN}").replace("\n", "\r"),
    "tabs": two(f"{CELL}\t{PLAIN}\tpbc='T F T'", "Ar\t0\t0.5\t0\nAr\t3\t0\t0.25\n"),
    "no newline at the end": two(f"{CELL} {PLAIN}").rstrip(),
    "count with blanks": "  2  \n" + two(f"{CELL} {PLAIN}")[2:],
    "count is not a number": "two" + two(f"{CELL} {PLAIN}")[1:],
    "count with a word": "2 atoms" + two(f"{CELL} {PLAIN}")[1:],
    "count is negative": "-" + two(f"{CELL} {PLAIN}"),
    "no atoms": f"0\n{CELL} {PLAIN}\n",
    "ends in the atoms": "3" + two(f"{CELL} {PLAIN}")[1:],
    "ends before the comment": "2",
    "empty": "",
    "blank lines at the end": two(f"{CELL} {PLAIN}") + "\n \n",
    "blank lines between frames": two(f"{CELL} {PLAIN}") + "\n" + two(PLAIN),
    "frames of different composition": two(f"{CELL} {PLAIN}")
    + "1\n" + PLAIN + "\nO 0 0 0\n"
    + two('Lattice="5 0 0 0 6 0 0 0 7" ' + PLAIN, "H 1 1 1\nO 2 2 2\n"),
}


def numbers(array):
    """Replaces NaN and infinities, which JSON does not have, by the largest number."""
    return np.nan_to_num(array, nan=sys.float_info.max, posinf=sys.float_info.max).tolist()


def read(text):
    path = here / "dialect.tmp"
    path.write_bytes(text.encode())
    try:
        frames = ase.io.read(path, index=":", format="extxyz")
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".replace(str(path), "FILE").split("\n")[0]}
    finally:
        path.unlink()
    result = []
    for atoms in frames:
        row = {
            "numbers": atoms.numbers.tolist(),
            "positions": numbers(atoms.positions),
            "cell": numbers(np.asarray(atoms.cell)),
            "pbc": atoms.pbc.tolist(),
        }
        for name in ("momenta", "masses"):
            if atoms.has(name):
                row[name] = atoms.arrays[name].tolist()
        result.append(row)
    return {"frames": result}


rows = [{"name": name, "file": text, "ase": read(text)} for name, text in DIALECTS.items()]
table = {"command": "src/cli/tests/xyz/make.py", "ase": ase.__version__, "rows": rows}
if "--print" in sys.argv:
    json.dump(table, sys.stdout)
else:
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps({key: table[key] for key in ("command", "ase")})[:-1]
    (here / "dialects.json").write_text(f'{head}, "rows": [\n{lines}\n]}}\n')
