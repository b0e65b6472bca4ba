//! The columns of an atom's line and their properties: `Properties=name:type:columns:…`.

use std::borrow::Cow;

use crate::number::real;

/// The columns of a frame without a Properties key.
const PLAIN: &str = "species:S:1:pos:R:3";

/// Properties that ASE reads as results of a calculator. They belong to the calculation that wrote
/// them.
const RESULTS: [&str; 9] = [
    "forces",
    "force",
    "energies",
    "stresses",
    "charge",
    "charges",
    "magmoms",
    "born_effective_charges",
    "local_energy",
];

/// The columns of a frame.
pub struct Columns {
    text: String,
    properties: Vec<Property>,
    count: usize,
    /// There is no Properties key, so columns after the position may hold anything.
    plain: bool,
    pub species: Option<usize>,
    pub number: Option<usize>,
    position: usize,
    pub mass: Option<usize>,
    pub momentum: Option<usize>,
    pub velocity: Option<usize>,
}

struct Property {
    name: String,
    kind: char,
    first: usize,
    columns: usize,
    /// True if the columns are not carried over to the output: the reader uses them, or they are
    /// results of another calculation.
    used: bool,
}

impl Columns {
    pub fn new(properties: Option<&str>) -> Result<Self, String> {
        let text = properties.unwrap_or(PLAIN);
        let wrong =
            |what: &str| format!("Properties are name:type:columns and so on, and {text:?} {what}");
        let mut columns = Self {
            text: text.into(),
            properties: Vec::new(),
            count: 0,
            plain: properties.is_none(),
            species: None,
            number: None,
            position: 0,
            mass: None,
            momentum: None,
            velocity: None,
        };
        let mut position = None;
        let fields: Vec<_> = text.split(':').map(str::trim).collect();
        for field in fields.chunks(3) {
            let &[name, kind, number] = field else {
                return Err(wrong("ends in the middle"));
            };
            let Ok(number @ 1..) = number.parse::<u16>() else {
                return Err(wrong(&format!("has no number of columns after {name}")));
            };
            let kind = match kind {
                "R" | "I" | "S" | "L" => kind.chars().next().unwrap_or('S'),
                _ => return Err(wrong(&format!("has a type {kind:?}, not R, I, S or L"))),
            };
            let role = match name {
                "species" | "symbols" => Some((&mut columns.species, "S", 1)),
                "Z" | "numbers" => Some((&mut columns.number, "I", 1)),
                "pos" | "positions" => Some((&mut position, "R", 3)),
                "mass" | "masses" => Some((&mut columns.mass, "R", 1)),
                "momenta" => Some((&mut columns.momentum, "R", 3)),
                "velocities" | "velo" | "vel" => Some((&mut columns.velocity, "R", 3)),
                _ => None,
            };
            let mut used = RESULTS.contains(&name);
            if let Some((place, needed, many)) = role {
                // A mass may be written as an integer.
                let fits = needed.starts_with(kind) || needed == "R" && kind == 'I';
                if !fits || number != many {
                    return Err(wrong(&format!("should say {name}:{needed}:{many}")));
                }
                if place.replace(columns.count).is_some() {
                    return Err(wrong(&format!("has {name} twice, or under two names")));
                }
                used = true;
            } else if columns
                .properties
                .iter()
                .any(|property| property.name == name)
            {
                return Err(wrong(&format!("has {name} twice")));
            }
            columns.properties.push(Property {
                name: name.into(),
                kind,
                first: columns.count,
                columns: number.into(),
                used,
            });
            columns.count += usize::from(number);
        }
        columns.position = position.ok_or_else(|| wrong("lacks pos:R:3"))?;
        if columns.species.is_none() && columns.number.is_none() {
            return Err(wrong("lacks species:S:1"));
        }
        Ok(columns)
    }

    /// Splits an atom's line into its fields and checks their number and types.
    pub fn split<'a>(&self, text: &'a str) -> Result<Vec<Cow<'a, str>>, String> {
        let fields = fields(text)?;
        let indexed = self.plain && fields.len() > self.count && fields[0].parse::<u32>().is_ok();
        if indexed {
            return Err(format!(
                "the first of {} columns is a number: is it the atom's index, or its element? Name the columns \
                 with Properties=",
                fields.len()
            ));
        }
        if fields.len() < self.count || !self.plain && fields.len() > self.count {
            return Err(format!(
                "an atom has {} columns here ({}), and this line has {}",
                self.count,
                self.text,
                fields.len()
            ));
        }
        for property in self.properties.iter().filter(|property| !property.used) {
            for (field, column) in fields[property.first..][..property.columns]
                .iter()
                .zip(property.first..)
            {
                let (fits, what) = match property.kind {
                    'R' => (
                        real(field).is_some() || field.parse::<f64>().is_ok(),
                        "a number",
                    ),
                    'I' => (field.parse::<i64>().is_ok(), "an integer"),
                    'L' => (matches!(&**field, "T" | "F" | "True" | "False"), "T or F"),
                    _ => (true, ""),
                };
                if !fits {
                    let name = &property.name;
                    return Err(format!(
                        "column {} ({name}) is {what}, not {field:?}",
                        column + 1
                    ));
                }
            }
        }
        Ok(fields)
    }

    pub fn position(&self, fields: &[Cow<'_, str>]) -> Result<[f64; 3], String> {
        self.vector(fields, self.position)
    }

    pub fn vector(&self, fields: &[Cow<'_, str>], first: usize) -> Result<[f64; 3], String> {
        Ok([
            self.real(fields, first)?,
            self.real(fields, first + 1)?,
            self.real(fields, first + 2)?,
        ])
    }

    pub fn real(&self, fields: &[Cow<'_, str>], column: usize) -> Result<f64, String> {
        let text = &fields[column];
        real(text).ok_or_else(|| format!("column {} is a number, not {text:?}", column + 1))
    }

    /// Properties that the reader does not use, in their original spelling.
    pub fn others(&self) -> String {
        let others = self.properties.iter().filter(|property| !property.used);
        let others = others
            .map(|property| format!(":{}:{}:{}", property.name, property.kind, property.columns));
        others.collect()
    }

    /// The values of these properties for one atom.
    pub fn other_fields(&self, fields: &[Cow<'_, str>]) -> String {
        let others = self.properties.iter().filter(|property| !property.used);
        let fields = others.flat_map(|property| &fields[property.first..][..property.columns]);
        let fields = fields.map(|field| match field.contains(char::is_whitespace) {
            true => format!(" \"{field}\""),
            false => format!(" {field}"),
        });
        fields.collect()
    }
}

/// Splits a line at blanks. A field that begins with a quote continues to the next quote.
fn fields(text: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if !text.contains('"') {
        return Ok(text.split_whitespace().map(Cow::Borrowed).collect());
    }
    let mut fields = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let field;
        if let Some(quoted) = rest.strip_prefix('"') {
            (field, rest) = quoted.split_once('"').ok_or("a quote is not closed")?;
            if rest.starts_with(|c: char| !c.is_whitespace()) || field.contains('\\') {
                return Err(format!(
                    "blanks are expected after the quoted {field:?}, and no backslash in it"
                ));
            }
        } else {
            (field, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        }
        fields.push(Cow::Borrowed(field));
        rest = rest.trim_start();
    }
    Ok(fields)
}
