//! Frames with their results, in the form in which `ase.io.read` puts them into a calculator.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::comment::quoted;
use super::read::Frame;
use crate::elements;
use crate::number::shortest;

/// Keys of other calculations in a frame's comment, which ASE would read as results of this one
/// (ASE 3.29, `all_properties`), and the virial that some programs write.
const RESULTS: [&str; 9] = [
    "energy",
    "free_energy",
    "stress",
    "virial",
    "dipole",
    "magmom",
    "dielectric_tensor",
    "polarization",
    "dipole_moment",
];

/// A frame and the results to write with it, in eV and Å.
pub struct Writer<'a> {
    frame: &'a Frame,
    comment: String,
    /// Vectors for each atom, with the names of their columns.
    columns: Vec<(&'static str, &'a [[f64; 3]])>,
    masses: Option<Cow<'a, [f64]>>,
    /// The frame's length unit in Å.
    scale: f64,
}

impl<'a> Writer<'a> {
    pub fn new(frame: &'a Frame, scale: f64) -> Self {
        let mut masses = frame.masses.as_deref().map(Cow::Borrowed);
        // ASE has no isotopes: they become their elements, with masses.
        if masses.is_none()
            && frame
                .species
                .iter()
                .any(|symbol| elements::element(symbol) != symbol)
        {
            let all = frame.species.iter().map(|symbol| elements::mass(symbol));
            masses = all.collect::<Option<Vec<_>>>().map(Cow::Owned);
        }
        Self {
            frame,
            comment: String::new(),
            columns: Vec::new(),
            masses,
            scale,
        }
    }

    /// Adds a number to the comment.
    pub fn number(self, key: &str, value: f64) -> Self {
        self.text(key, &shortest(value))
    }

    /// Adds a text to the comment.
    pub fn text(mut self, key: &str, value: &str) -> Self {
        let _ = write!(self.comment, " {key}={}", quoted(value));
        self
    }

    /// Adds a matrix to the comment.
    pub fn matrix(self, key: &str, matrix: [[f64; 3]; 3]) -> Self {
        let numbers: Vec<_> = matrix.as_flattened().iter().map(|x| shortest(*x)).collect();
        self.text(key, &numbers.join(" "))
    }

    /// Adds a column with a vector for each atom.
    pub fn column(mut self, name: &'static str, vectors: &'a [[f64; 3]]) -> Self {
        self.columns.push((name, vectors));
        self
    }

    /// Writes the frame with a single call.
    pub fn write(self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            frame,
            comment,
            columns,
            masses,
            scale,
        } = self;
        let mut text = format!("{}\n", frame.species.len());
        if frame.lattice != [[0.0; 3]; 3] {
            let numbers = frame.lattice.as_flattened().iter();
            let numbers: Vec<_> = numbers.map(|x| shortest(x * scale)).collect();
            let _ = write!(text, "Lattice=\"{}\" ", numbers.join(" "));
        }
        text.push_str("Properties=species:S:1:pos:R:3");
        if masses.is_some() {
            text.push_str(":masses:R:1");
        }
        for (name, _) in &columns {
            let _ = write!(text, ":{name}:R:3");
        }
        text.push_str(&frame.others.0);
        let _ = write!(text, "{comment}");
        for (key, value) in &frame.info {
            // The results of this calculation replace the file's.
            let said = comment.contains(&format!(" {key}="));
            if RESULTS.contains(&key.as_str()) || said {
                continue;
            }
            let _ = write!(text, " {}", quoted(key));
            if let Some(value) = value {
                let _ = write!(text, "={}", quoted(value));
            }
        }
        let pbc = frame
            .pbc
            .map(|is_periodic| if is_periodic { "T" } else { "F" });
        let _ = writeln!(text, " pbc=\"{}\"", pbc.join(" "));
        for (atom, (species, position)) in frame.species.iter().zip(&frame.positions).enumerate() {
            text.push_str(&field(elements::element(species)));
            for x in position {
                let _ = write!(text, " {}", shortest(x * scale));
            }
            if let Some(mass) = masses.as_ref().and_then(|masses| masses.get(atom)) {
                let _ = write!(text, " {}", shortest(*mass));
            }
            for (_, vectors) in &columns {
                for x in vectors.get(atom).into_iter().flatten() {
                    let _ = write!(text, " {}", shortest(*x));
                }
            }
            if let Some(others) = frame.others.1.get(atom) {
                text.push_str(others);
            }
            text.push('\n');
        }
        out.write_all(text.as_bytes())
    }
}

/// Writes a label as one field.
fn field(label: &str) -> String {
    match label.contains(char::is_whitespace) {
        true => format!("\"{label}\""),
        false => label.into(),
    }
}
