//! Dialects of extended XYZ, and how ASE reads them.
//!
//! Each row is read as in ASE, or both refuse it. Where ASE misreads, drops or guesses, this reader
//! refuses. Where ASE refuses something unambiguous, this reader may read it. All exceptions are in
//! [`DIFFERENT`] with the reason.

use std::io;

use serde::Deserialize;

use super::lines::Lines;
use super::read::{Frame, Frames, Motion};
use crate::elements;

#[derive(Deserialize)]
struct Table {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    file: String,
    ase: Ase,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum Ase {
    Error(String),
    Frames(Vec<Structure>),
}

/// A structure as read by ASE.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Structure {
    numbers: Vec<u32>,
    positions: Vec<[f64; 3]>,
    cell: [[f64; 3]; 3],
    pbc: [bool; 3],
    momenta: Option<Vec<[f64; 3]>>,
    masses: Option<Vec<f64>>,
}

impl From<Frame> for Structure {
    fn from(frame: Frame) -> Self {
        let numbers = frame.species.iter();
        Self {
            numbers: numbers
                .map(|symbol| elements::number(symbol).unwrap_or(u32::MAX))
                .collect(),
            positions: frame.positions,
            cell: frame.lattice,
            pbc: frame.pbc,
            momenta: match frame.motion {
                Some(Motion::Momenta(momenta)) => Some(momenta),
                _ => None,
            },
            masses: frame.masses,
        }
    }
}

enum Ours {
    /// Refuses the file with this message.
    Refuses(&'static str),
    /// Reads the file where ASE fails or reads other numbers: x of each atom, the cell's diagonal,
    /// pbc.
    Reads(&'static [f64], [f64; 3], [bool; 3]),
}
use Ours::{Reads, Refuses};

const MOLECULE: ([f64; 3], [bool; 3]) = ([0.0; 3], [false; 3]);
const PERIODIC: [bool; 3] = [true; 3];

const DIFFERENT: &[(&str, Ours)] = &[
    // ASE fails, although the meaning is unambiguous.
    (
        "plain, atomic numbers",
        Reads(&[0.0, 3.0], MOLECULE.0, MOLECULE.1),
    ),
    (
        "cell, D exponents",
        Reads(&[0.0, 3.0], [5.0, 6.0, 7.0], PERIODIC),
    ),
    (
        "cell, after the atoms",
        Refuses("FILE:5: cell vectors after the atoms"),
    ),
    ("quoted columns", Reads(&[0.5, 1.0], MOLECULE.0, MOLECULE.1)),
    (
        "quoted columns without blanks",
        Reads(&[0.0, 3.0], MOLECULE.0, MOLECULE.1),
    ),
    ("isotopes", Reads(&[0.0, 3.0], MOLECULE.0, MOLECULE.1)),
    // Labels are not sent to drivers.
    ("labels", Reads(&[0.0, 1.0], MOLECULE.0, MOLECULE.1)),
    (
        "numbers, D exponents",
        Reads(&[1.0, 3.0], [6.0; 3], PERIODIC),
    ),
    (
        "an empty value before the cell",
        Reads(&[0.0, 3.0], [6.0; 3], PERIODIC),
    ),
    ("byte order mark", Reads(&[0.0, 3.0], [6.0; 3], PERIODIC)),
    // ASE stops reading at the first blank line.
    (
        "blank lines between frames",
        Reads(&[0.0, 3.0, 0.0, 3.0], MOLECULE.0, MOLECULE.1),
    ),
    // ASE reads something that the file does not contain, or that can't be computed.
    ("cell, not a number", Refuses("FILE:2: Lattice=")),
    (
        "cell, zeros without pbc",
        Reads(&[0.0, 3.0], MOLECULE.0, MOLECULE.1),
    ),
    (
        "cell, zeros that are periodic",
        Refuses("FILE:2: pbc says periodic along the first vector"),
    ),
    (
        "cell, in one plane",
        Refuses("FILE:2: vectors of the Lattice that are periodic lie in one plane"),
    ),
    (
        "cell, lower case",
        Refuses("FILE:2: lattice is spelled Lattice"),
    ),
    ("cell, twice", Refuses("FILE:2: Lattice is given twice")),
    ("cell, of i-PI", Refuses("FILE:2: a cell in i-PI's way")),
    (
        "cell, of i-PI, brackets",
        Refuses("FILE:2: a cell in i-PI's way"),
    ),
    (
        "cell, of i-PI, braces",
        Refuses("FILE:2: a cell in i-PI's way"),
    ),
    (
        "cell, of i-PI, and an apostrophe",
        Refuses("FILE:2: a cell in i-PI's way"),
    ),
    (
        "units, of i-PI, atomic",
        Refuses("FILE:2: positions{atomic_unit}: units in i-PI's way"),
    ),
    (
        "units, of i-PI, of a centroid",
        Refuses("FILE:2: x_centroid{atomic_unit}: units in i-PI's way"),
    ),
    (
        "units, of i-PI, of the cell",
        Refuses("FILE:2: cell{atomic_unit}: units in i-PI's way"),
    ),
    (
        "columns, of i-PI, velocities",
        Refuses("FILE:2: velocities{angstrom}: i-PI has written velocities here"),
    ),
    ("pbc, other words", Refuses("FILE:2: pbc=")),
    (
        "pbc without a cell",
        Refuses("FILE:2: pbc says periodic, and there is no Lattice"),
    ),
    (
        "atomic numbers that contradict symbols",
        Refuses("FILE:4: species C has not the atomic number 8"),
    ),
    (
        "unknown columns, a wrong truth",
        Refuses("FILE:3: column 5 (flag) is T or F, not \"yes\""),
    ),
    (
        "more columns than properties",
        Refuses("FILE:3: an atom has 4 columns here"),
    ),
    ("properties, no position", Refuses("lacks pos:R:3")),
    ("properties, no species", Refuses("lacks species:S:1")),
    (
        "properties, ends in the middle",
        Refuses("ends in the middle"),
    ),
    (
        "properties, lower case",
        Refuses("FILE:2: properties is spelled Properties"),
    ),
    (
        "numbers, infinite",
        Refuses("FILE:3: column 4 is a number, not \"inf\""),
    ),
    (
        "numbers, underscores",
        Refuses("FILE:3: column 4 is a number, not \"1_0\""),
    ),
    ("no atoms", Refuses("FILE:1: a frame without atoms")),
];

/// Reads a row from a file. Other sources don't allow reading ahead.
fn read(text: &str) -> Result<Vec<Structure>, String> {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    let frames = Frames::new(Lines::file(file), "FILE");
    frames.map(|frame| frame.map(Structure::from)).collect()
}

fn check(table: &str) {
    let table: Table = serde_json::from_str(table).unwrap();
    for (name, _) in DIFFERENT {
        assert!(
            table.rows.iter().any(|row| row.name == *name),
            "{name}: no such row"
        );
    }
    let mut faults = Vec::new();
    for Row { name, file, ase } in table.rows {
        let ours = read(&file);
        let different = DIFFERENT
            .iter()
            .find(|(row, _)| *row == name)
            .map(|(_, how)| how);
        let right = match (different, &ours) {
            (None, Ok(ours)) => ase == Ase::Frames(ours.clone()),
            (None, Err(_)) => matches!(ase, Ase::Error(_)),
            (Some(Refuses(words)), Err(error)) => {
                error.starts_with("FILE:") && error.contains(words)
            }
            (Some(Reads(x, cell, pbc)), Ok(frames)) => {
                let all: Vec<f64> = frames
                    .iter()
                    .flat_map(|structure| &structure.positions)
                    .map(|r| r[0])
                    .collect();
                let last = |structure: &Structure| {
                    [0, 1, 2].map(|axis| structure.cell[axis][axis]) == *cell
                        && structure.pbc == *pbc
                };
                all == *x && frames.last().is_none_or(last) && ase != Ase::Frames(frames.clone())
            }
            _ => false,
        };
        if !right {
            faults.push(format!("{name}: {ours:?}, and ASE: {ase:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn dialects_are_read_as_ase_reads_them() {
    check(include_str!("../../tests/xyz/dialects.json"));
}

/// The same table compared with the ASE installed in `FORCEWIRE_PEERS` (`tests/peers/install`).
#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn dialects_are_read_as_the_installed_ase_reads_them() {
    let peers = std::env::var("FORCEWIRE_PEERS").expect("FORCEWIRE_PEERS names a directory");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xyz/make.py");
    let output = std::process::Command::new(format!("{peers}/ase/bin/python"))
        .args([script, "--print"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    check(std::str::from_utf8(&output.stdout).unwrap());
}

/// Bytes of the table's files are changed, dropped and repeated. Either a line is refused, or the
/// numbers are finite and as many as the file announces.
#[test]
fn no_bytes_make_the_reader_panic() {
    let table = include_str!("../../tests/xyz/dialects.json");
    let table: Table = serde_json::from_str(table).unwrap();
    let mut random = 1_u64;
    let mut below = |n: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % n.max(1)
    };
    let mut read = 0;
    for row in &table.rows {
        for _ in 0..200 {
            let mut bytes = row.file.clone().into_bytes();
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                let some = b"\0\"'{}[]=:, \t\r\n\\0129-+.eDTFRISL\xc3\xff";
                match below(4) {
                    0 if !bytes.is_empty() => drop(bytes.remove(at)),
                    1 => bytes.insert(at, some[below(some.len())]),
                    2 if !bytes.is_empty() => bytes[at] = some[below(some.len())],
                    _ => bytes.extend_from_within(at..),
                }
            }
            let lines = Lines::stream(Box::new(io::Cursor::new(bytes)));
            for frame in Frames::new(lines, "FILE").flatten() {
                read += 1;
                let natoms = frame.species.len();
                let positions = frame.positions.as_flattened().iter();
                let mut numbers = positions.chain(frame.lattice.as_flattened());
                assert!(numbers.all(|x| x.is_finite()));
                assert_eq!(frame.positions.len(), natoms);
                assert!(frame.masses.is_none_or(|masses| masses.len() == natoms));
            }
        }
    }
    assert!(read > 1000, "{read}");
}

fn stream(text: &str) -> Vec<Result<Frame, String>> {
    let source = io::Cursor::new(text.to_owned());
    Frames::new(Lines::stream(Box::new(source)), "FILE").collect()
}

#[test]
fn there_are_no_frames_after_an_error() {
    let frames = stream("1\n\nAr 0 0 0\nno\n1\n\nAr 0 0 0\n");
    assert_eq!(frames.len(), 2);
    assert_eq!(
        frames[1].as_ref().unwrap_err(),
        "FILE:4: a frame begins with its number of atoms, not with \"no\""
    );
}

#[test]
fn velocities_masses_and_other_columns_are_kept() {
    let frames = stream(
        "1\nProperties=species:S:1:pos:R:3:tag:S:2:vel:R:3:masses:R:1:forces:R:3 energy=-1 step=3 note=\"a b\" alone\n\
         D 0 0 0 \"a b\" c 1 2 3 2.5 9 9 9\n",
    );
    let frame = frames.into_iter().next().unwrap().unwrap();
    assert_eq!(frame.species, ["D"]);
    assert_eq!(
        frame.motion,
        Some(Motion::Velocities(vec![[1.0, 2.0, 3.0]]))
    );
    assert_eq!(frame.masses, Some(vec![2.5]));
    assert_eq!(frame.others, (":tag:S:2".into(), vec![" \"a b\" c".into()]));
    let mut out = Vec::new();
    super::Writer::new(&frame, 1.0)
        .number("energy", -0.5)
        .column("forces", &[[0.25, 0.0, -1e-7]])
        .write(&mut out)
        .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "1\nProperties=species:S:1:pos:R:3:masses:R:1:forces:R:3:tag:S:2 energy=-0.5 step=3 note=\"a b\" alone \
         pbc=\"F F F\"\nH 0.0 0.0 0.0 2.5 0.25 0.0 -1e-7 \"a b\" c\n"
    );
}
