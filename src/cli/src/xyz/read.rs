//! Frames of a file, one by one.

use std::borrow::Cow;
use std::fs::File;
use std::io;

use super::columns::Columns;
use super::comment::{Comment, Info};
use super::lines::Lines;
use crate::elements;

/// One structure, in the units of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The number of its first line.
    pub line: usize,
    /// Symbols of elements and isotopes in their normal spelling; other labels unchanged.
    pub species: Vec<String>,
    pub positions: Vec<[f64; 3]>,
    /// The cell vectors; zeros if the file has none.
    pub lattice: [[f64; 3]; 3],
    /// Whether each direction is periodic. Periodic directions have vectors.
    pub pbc: [bool; 3],
    /// Masses in daltons, if the file has them.
    pub masses: Option<Vec<f64>>,
    pub motion: Option<Motion>,
    /// The other keys of the comment.
    pub info: Vec<Info>,
    /// Columns that the reader does not use: their properties, `:name:type:columns` each, and the
    /// fields of each atom.
    pub others: (String, Vec<String>),
}

/// The motion of the atoms.
#[derive(Clone, Debug, PartialEq)]
pub enum Motion {
    /// Momenta in √(dalton eV), ASE's unit.
    Momenta(Vec<[f64; 3]>),
    /// Velocities in Å/fs.
    Velocities(Vec<[f64; 3]>),
}

impl Frame {
    /// Whether any direction is periodic.
    pub fn is_periodic(&self) -> bool {
        self.pbc != [false; 3]
    }
}

/// The frames of a file. The first error ends the iteration.
pub struct Frames {
    lines: Lines,
    name: String,
    ended: bool,
}

impl Frames {
    /// Opens a file, or standard input for `-`.
    pub fn open(path: &str) -> Result<Self, String> {
        if path == "-" {
            return Ok(Self::new(Lines::stream(Box::new(io::stdin())), "stdin"));
        }
        let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self::new(Lines::file(file), path))
    }

    pub fn new(lines: Lines, name: &str) -> Self {
        Self {
            lines,
            name: name.into(),
            ended: false,
        }
    }

    /// The byte offset of the end of the last frame.
    pub const fn offset(&self) -> u64 {
        self.lines.offset
    }

    /// Whether the last line has its line ending.
    pub const fn line_has_end(&self) -> bool {
        self.lines.has_end
    }

    /// Whether the file has ended.
    pub fn at_end(&mut self) -> bool {
        self.lines.at_end()
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        self.lines.next().map_err(|error| error.to_string())
    }

    fn frame(&mut self) -> Result<Option<Frame>, String> {
        let count = loop {
            match self.line()? {
                None => return Ok(None),
                Some(text) if text.trim().is_empty() => {}
                Some(text) => break text,
            }
        };
        let line = self.lines.number;
        let count = count.trim();
        let natoms = match count.parse::<usize>() {
            Ok(0) => return Err("a frame without atoms: there is nothing to compute".into()),
            Ok(natoms) => natoms,
            Err(_) => {
                return Err(format!(
                    "a frame begins with its number of atoms, not with {count:?}"
                ));
            }
        };
        let comment = self
            .line()?
            .ok_or("the file ends before the frame's comment")?;
        let comment = Comment::parse(&comment)?;
        let columns = Columns::new(comment.properties())?;
        let (lattice, pbc) = cell(comment.lattice()?, comment.pbc()?)?;

        let mut frame = Frame {
            line,
            species: Vec::new(),
            positions: Vec::new(),
            lattice,
            pbc,
            masses: columns.mass.map(|_| Vec::new()),
            motion: None,
            info: comment.into_rest(),
            others: (columns.others(), Vec::new()),
        };
        let moving = columns.momentum.or(columns.velocity);
        let mut motion = Vec::new();
        for atom in 0..natoms {
            let Some(text) = self.line()? else {
                return Err(format!("the file ends after {atom} of {natoms} atoms"));
            };
            let fields = columns.split(&text)?;
            frame.species.push(species(&columns, &fields)?);
            frame.positions.push(columns.position(&fields)?);
            if let (Some(masses), Some(column)) = (&mut frame.masses, columns.mass) {
                let mass = columns.real(&fields, column)?;
                if mass <= 0.0 {
                    return Err(format!("a mass of {mass} daltons: it must be more than 0"));
                }
                masses.push(mass);
            }
            if let Some(column) = moving {
                motion.push(columns.vector(&fields, column)?);
            }
            if !frame.others.0.is_empty() {
                frame.others.1.push(columns.other_fields(&fields));
            }
        }
        frame.motion = moving.map(|_| match columns.momentum {
            Some(_) => Motion::Momenta(motion),
            None => Motion::Velocities(motion),
        });
        if self
            .lines
            .next_begins_with(b"VEC")
            .map_err(|error| error.to_string())?
        {
            self.lines.number += 1;
            let why = "cell vectors after the atoms are not read: write them as \
                       Lattice=\"ax ay az bx by bz cx cy cz\"";
            return Err(why.into());
        }
        Ok(Some(frame))
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
            .map_err(|what| format!("{}:{}: {what}", self.name, self.lines.number))
            .transpose()
    }
}

/// The cell and its periodic directions. Without pbc, the directions with a vector are periodic.
fn cell(
    lattice: Option<[[f64; 3]; 3]>,
    pbc: Option<[bool; 3]>,
) -> Result<([[f64; 3]; 3], [bool; 3]), String> {
    let Some(lattice) = lattice else {
        return match pbc {
            Some(pbc) if pbc != [false; 3] => {
                Err("pbc says periodic, and there is no Lattice".into())
            }
            _ => Ok(([[0.0; 3]; 3], [false; 3])),
        };
    };
    let pbc = pbc.unwrap_or_else(|| lattice.map(|vector| vector != [0.0; 3]));
    for ((vector, periodic), name) in lattice.iter().zip(pbc).zip(["first", "second", "third"]) {
        if periodic && *vector == [0.0; 3] {
            return Err(format!(
                "pbc says periodic along the {name} vector of the Lattice, which is zero"
            ));
        }
    }
    let periodic: Vec<_> = lattice
        .iter()
        .zip(pbc)
        .filter(|(_, is_periodic)| *is_periodic)
        .map(|(v, _)| *v)
        .collect();
    if crate::sent::completed(&periodic, 1.0).is_none() {
        return Err(
            "vectors of the Lattice that are periodic lie in one plane or in one line".into(),
        );
    }
    Ok((lattice, pbc))
}

/// The element or name of an atom. The atomic number takes precedence over the label, as in ASE.
fn species(columns: &Columns, fields: &[Cow<'_, str>]) -> Result<String, String> {
    let label = columns.species.map(|column| &*fields[column]);
    if label.is_some_and(|label| label.eq_ignore_ascii_case("Tv")) {
        let why = "Tv is a vector of the cell, as Gaussian has it, and no atom: write it into \
                   Lattice=\"ax ay az bx by bz cx cy cz\", and count atoms only";
        return Err(why.into());
    }
    let number = match (columns.number, label) {
        (Some(column), _) => Some(&*fields[column]),
        (None, Some(label)) if label.bytes().all(|byte| byte.is_ascii_digit()) => Some(label),
        _ => None,
    };
    let label_symbol = label.and_then(elements::known);
    let Some(number) = number else {
        return Ok(label_symbol.unwrap_or_else(|| label.unwrap_or_default().into()));
    };
    let symbol = number.parse().ok().and_then(elements::symbol);
    let symbol = symbol.ok_or_else(|| format!("{number} is not the number of an element"))?;
    match label_symbol {
        Some(label) if elements::element(&label) != symbol => Err(format!(
            "species {label} has not the atomic number {number}"
        )),
        Some(label) => Ok(label),
        None => Ok(symbol.into()),
    }
}
