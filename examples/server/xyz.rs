//! Frames of a file in the XYZ format, plain or extended, read one by one and written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use forcewire::{Cell, Rotation};

use crate::comment::{Columns, lattice};
use crate::units::Units;

/// One structure, in bohr, as the file has it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The line that it begins in.
    pub line: usize,
    /// Symbols, or numbers, or whatever is in their place.
    pub species: Vec<String>,
    /// In daltons, if the file says so.
    pub masses: Option<Vec<f64>>,
    /// Whether the file has a cell for it. Otherwise it is the cube.
    pub has_lattice: bool,
    pub cell: Cell,
    pub positions: Vec<[f64; 3]>,
    /// The cell as it is sent, and what makes it so.
    pub upper: Cell,
    pub rotation: Rotation,
}

/// The frames of a file. After the first error there are no more.
pub struct Frames {
    source: Box<dyn BufRead + Send>,
    name: String,
    line: usize,
    units: Units,
    cube: Cell,
    /// The atoms of the first frame, and whether it has a cell.
    first: Option<(Vec<String>, bool)>,
    ended: bool,
}

impl Frames {
    /// Opens a file, or the standard input if that is `-`. Frames without a cell are in this cube.
    pub fn open(path: &str, units: Units, cube: Cell) -> Result<Self, String> {
        if path == "-" {
            let source = BufReader::new(io::stdin());
            return Ok(Self::new(Box::new(source), "stdin", units, cube));
        }
        let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self::new(Box::new(BufReader::new(file)), path, units, cube))
    }

    fn new(source: Box<dyn BufRead + Send>, name: &str, units: Units, cube: Cell) -> Self {
        Self {
            source,
            name: name.into(),
            line: 0,
            units,
            cube,
            first: None,
            ended: false,
        }
    }

    /// The next frame, or why there is none.
    pub fn required(&mut self) -> Result<Frame, String> {
        let frame = self.next();
        frame.unwrap_or_else(|| Err(format!("{}: there is no frame in it", self.name)))
    }

    fn frame(&mut self) -> Result<Option<Frame>, String> {
        let count = loop {
            match self.text()? {
                None => return Ok(None),
                Some(text) if text.trim().is_empty() => {}
                Some(text) => break text,
            }
        };
        let line = self.line;
        let natoms = match count.trim().parse::<usize>() {
            Ok(0) => return Err("a frame without atoms: there is nothing to compute".into()),
            Ok(natoms) => natoms,
            Err(_) => {
                let count = count.trim();
                return Err(format!(
                    "a frame begins with its number of atoms, not with {count:?}"
                ));
            }
        };
        let comment = self
            .text()?
            .ok_or("the file ends before the frame's comment")?;
        let lattice = lattice(&comment)?;
        let columns = Columns::of(&comment)?;
        let scale = self.units.in_bohr();
        let cell = lattice.map_or(self.cube, |vectors| {
            Cell::from_vectors(vectors.map(|vector| vector.map(|x| x * scale)))
        });
        let (upper, rotation) = cell
            .to_upper_triangular()
            .ok_or("the vectors of the Lattice lie in one plane: correct them, or remove it")?;

        let mut frame = Frame {
            line,
            species: Vec::new(),
            masses: columns.mass.map(|_| Vec::new()),
            has_lattice: lattice.is_some(),
            cell,
            positions: Vec::new(),
            upper,
            rotation,
        };
        for atom in 0..natoms {
            let text = self
                .text()?
                .ok_or_else(|| format!("the file ends after {atom} of {natoms} atoms"))?;
            let (species, position, mass) = columns.split(&text)?;
            frame.species.push(species.into());
            frame.positions.push(position.map(|x| x * scale));
            if let Some(masses) = &mut frame.masses {
                masses.extend(mass);
            }
        }
        self.compare(&frame)?;
        Ok(Some(frame))
    }

    /// Drivers are never told which atoms they compute.
    fn compare(&mut self, frame: &Frame) -> Result<(), String> {
        let line = frame.line;
        let (species, has_lattice) = self
            .first
            .get_or_insert_with(|| (frame.species.clone(), frame.has_lattice));
        if *species != frame.species {
            Err(format!(
                "the frame of line {line} has not the atoms of the first, in their order: the protocol sends \
                 positions only, so evaluate it with drivers of its own"
            ))
        } else if *has_lattice != frame.has_lattice {
            Err(format!(
                "of the frame of line {line} and the first, one has a Lattice: give it to both or to none"
            ))
        } else {
            Ok(())
        }
    }

    /// The next line.
    fn text(&mut self) -> Result<Option<String>, String> {
        let mut bytes = Vec::new();
        self.line += 1;
        match self.source.read_until(b'\n', &mut bytes) {
            Ok(0) => Ok(None),
            // A comment may be in any encoding.
            Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.frame();
        self.ended = !matches!(frame, Ok(Some(_)));
        frame
            .map_err(|what| format!("{}:{}: {what}", self.name, self.line))
            .transpose()
    }
}

/// Writes a frame. `more` is what else its comment says.
pub fn write(
    out: &mut impl Write,
    species: &[String],
    cell: &Cell,
    positions: &[[f64; 3]],
    units: Units,
    more: &str,
) -> io::Result<()> {
    let scale = units.in_bohr();
    let vectors = cell.vectors();
    let lattice = vectors.as_flattened().iter();
    let lattice: Vec<_> = lattice.map(|x| format!("{:.12}", x / scale)).collect();
    writeln!(out, "{}", species.len())?;
    writeln!(
        out,
        "Lattice=\"{}\" Properties=species:S:1:pos:R:3 pbc=\"T T T\" {more}",
        lattice.join(" ")
    )?;
    for (name, position) in species.iter().zip(positions) {
        let [x, y, z] = position.map(|x| x / scale);
        writeln!(out, "{name:<3} {x:>18.12} {y:>18.12} {z:>18.12}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBE: Cell = Cell::orthorhombic([50.0; 3]);

    fn read(text: &str, units: Units) -> Vec<Result<Frame, String>> {
        let source = io::Cursor::new(text.to_owned());
        Frames::new(Box::new(source), "it.xyz", units, CUBE).collect()
    }

    fn frame(text: &str) -> Frame {
        let mut frames = read(text, Units::Bohr);
        assert_eq!(frames.len(), 1);
        frames.remove(0).unwrap()
    }

    /// The one error, after so many frames.
    fn error(text: &str, frames: usize) -> String {
        let mut read = read(text, Units::Bohr);
        assert_eq!(read.len(), frames + 1, "{read:?}");
        read.pop().unwrap().unwrap_err()
    }

    #[test]
    fn a_plain_frame_is_in_the_cube() {
        let frame = frame("2\nwater's = {half\n O 0 0 0\n H 1e0 -2.5 3 0.4 a column more\n");
        assert_eq!((frame.line, frame.has_lattice), (1, false));
        assert_eq!(frame.species, ["O", "H"]);
        assert_eq!(frame.positions, [[0.0; 3], [1.0, -2.5, 3.0]]);
        assert_eq!((frame.cell, frame.upper), (CUBE, CUBE));
        assert_eq!(frame.masses, None);
    }

    #[test]
    fn columns_are_where_properties_say() {
        let frame = frame(
            "1\nenergy=-1.5 Properties=id:I:1:forces:R:3:pos:R:3:masses:R:1:Z:I:1:tags:S:2 pbc='T T T' \
             config=\"Lattice=no\" Lattice=\"1 0 0 2 3 0 4 5 6\"\n7 .1 .2 .3 1 2 3 2.014 1 a b\n",
        );
        assert_eq!(frame.species, ["1"]);
        assert_eq!(frame.positions, [[1.0, 2.0, 3.0]]);
        assert_eq!(frame.masses, Some(vec![2.014]));
        let cell = Cell::from_vectors([[1.0, 0.0, 0.0], [2.0, 3.0, 0.0], [4.0, 5.0, 6.0]]);
        assert_eq!((frame.cell, frame.upper), (cell, cell));
    }

    #[test]
    fn angstroms_are_bohrs_inside_and_angstroms_again_outside() {
        let text = "1\nLattice=\"0.529177210544 0 0 0 2 0 0.1 0 4\" Properties=species:S:1:pos:R:3\n\
                    Ar 1 0.529177210544 -3\n";
        let frame = read(text, Units::Angstrom).remove(0).unwrap();
        let [a, _, _] = frame.cell.vectors();
        assert!((a[0] - 1.0).abs() < 1e-15);
        assert!((frame.positions[0][1] - 1.0).abs() < 1e-15);
        let mut out = Vec::new();
        let Frame {
            species,
            cell,
            positions,
            ..
        } = &frame;
        write(
            &mut out,
            species,
            cell,
            positions,
            Units::Angstrom,
            "step=3",
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "1",
                "Lattice=\"0.529177210544 0.000000000000 0.000000000000 0.000000000000 2.000000000000 \
                 0.000000000000 0.100000000000 0.000000000000 4.000000000000\" \
                 Properties=species:S:1:pos:R:3 pbc=\"T T T\" step=3",
                "Ar      1.000000000000     0.529177210544    -3.000000000000"
            ]
        );
    }

    #[test]
    fn frames_follow_each_other_with_or_without_blank_lines() {
        let one = "1\n\nAr 0 0 0\n";
        for text in [
            format!("{one}{one}"),
            format!("\n{one}\n \n\t{one}\n\n"),
            format!("{one}{}", one.trim_end()),
        ] {
            let frames = read(&text, Units::Bohr);
            assert_eq!(frames.len(), 2, "{text:?}");
            assert!(frames.iter().all(Result::is_ok), "{frames:?}");
        }
        assert!(read("\n \n", Units::Bohr).is_empty());
    }

    #[test]
    fn a_cell_is_turned_with_its_atoms() {
        let frame = frame("1\nLattice=\"0 0 5 4 0 0 0 3 0\"\nAr 1 0.5 0.25\n");
        assert_eq!(frame.upper, Cell::orthorhombic([5.0, 4.0, 3.0]));
        assert_eq!(frame.rotation.apply(frame.positions[0]), [0.25, 1.0, 0.5]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, says) in [
            (
                "atoms\n",
                "it.xyz:1: a frame begins with its number of atoms, not with \"atoms\"",
            ),
            ("-1\n\n", "it.xyz:1: a frame begins"),
            ("0\n\n", "it.xyz:1: a frame without atoms"),
            ("2", "it.xyz:2: the file ends before the frame's comment"),
            (
                "2\n\nAr 0 0 0\n",
                "it.xyz:4: the file ends after 1 of 2 atoms",
            ),
            (
                "1\n\nAr 0 0\n",
                "it.xyz:3: an atom has 4 columns here (species:S:1:pos:R:3), and this line has 3",
            ),
            (
                "1\n\nAr 0 O 0\n",
                "it.xyz:3: column 3 is a number, and not \"O\"",
            ),
            (
                "1\n\nAr 0 0 inf\n",
                "it.xyz:3: column 4 is a number, and not \"inf\"",
            ),
            ("1\nLattice=\"1 0 0\"\n", "it.xyz:2: Lattice="),
            ("1\nLattice=5\n", "and here it is \"5\""),
            ("1\nLattice=\"1 0 0 0 1 0 0 0 nan\"\n", "has nine numbers"),
            (
                "1\nLattice=\"1 0 0 0 1 0 0 0 0\"\n",
                "it.xyz:2: the vectors of the Lattice lie in one plane",
            ),
            ("1\nProperties=pos:R:3\n", "lack species:S:1"),
            ("1\nProperties=species:S:1:pos:R:2\n", "lack pos:R:3"),
            ("1\nProperties=species:S:1:pos\n", "are not whole"),
            ("1\nProperties=species:S:x\n", "without a number of columns"),
            (
                "1\nProperties=a:S:65535:b:S:65536\n",
                "without a number of columns",
            ),
            (
                "1\n# CELL(abcABC): 5 5 5 90 90 90\n",
                "it.xyz:2: a cell in i-PI's own way",
            ),
        ] {
            let error = error(text, 0);
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn later_frames_have_the_atoms_of_the_first() {
        let first = "2\n\nO 0 0 0\nH 1 0 0\n";
        for (second, says) in [
            ("2\n\nH 0 0 0\nO 1 0 0\n", "has not the atoms of the first"),
            ("1\n\nO 0 0 0\n", "has not the atoms of the first"),
            (
                "2\nLattice=\"9 0 0 0 9 0 0 0 9\"\nO 0 0 0\nH 1 0 0\n",
                "one has a Lattice",
            ),
        ] {
            let error = error(&format!("{first}{second}{first}"), 1);
            assert!(error.contains(says) && error.contains("line 5"), "{error}");
        }
    }
}
