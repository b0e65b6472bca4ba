//! What the comment of an extended XYZ file says of its frame (<https://github.com/libAtoms/extxyz>): `Lattice`, nine
//! numbers in quotes, three a vector, and `Properties`. The rest stays a comment.

/// Where on an atom's line there is what.
pub struct Columns {
    properties: String,
    count: usize,
    species: usize,
    position: usize,
    pub mass: Option<usize>,
}

impl Columns {
    /// As `Properties` says, `name:type:columns:…`, or as they are in a plain file.
    pub fn of(comment: &str) -> Result<Self, String> {
        let properties = value(comment, "Properties").unwrap_or("species:S:1:pos:R:3");
        let wrong = |what: &str| {
            format!("Properties are name:type:columns and so on, and {properties:?} {what}")
        };
        let (mut species, mut number, mut position, mut mass) = (None, None, None, None);
        let mut count = 0;
        let fields: Vec<_> = properties.split(':').collect();
        for field in fields.chunks(3) {
            let &[name, _, columns] = field else {
                return Err(wrong("are not whole"));
            };
            let columns: u16 = columns
                .parse()
                .map_err(|_| wrong("have a name without a number of columns"))?;
            let place = match (name, columns) {
                ("species", 1) => &mut species,
                ("Z" | "numbers", 1) => &mut number,
                ("pos", 3) => &mut position,
                ("mass" | "masses", 1) => &mut mass,
                _ => &mut None,
            };
            *place = Some(count);
            count += usize::from(columns);
        }
        Ok(Self {
            properties: properties.into(),
            count,
            species: species
                .or(number)
                .ok_or_else(|| wrong("lack species:S:1"))?,
            position: position.ok_or_else(|| wrong("lack pos:R:3"))?,
            mass,
        })
    }

    /// Species, position and mass of an atom.
    pub fn split<'a>(&self, text: &'a str) -> Result<(&'a str, [f64; 3], Option<f64>), String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() < self.count {
            return Err(format!(
                "an atom has {} columns here ({}), and this line has {}",
                self.count,
                self.properties,
                fields.len()
            ));
        }
        let number = |column: usize| match fields[column].parse() {
            Ok(number) if f64::is_finite(number) => Ok(number),
            _ => {
                let (column, text) = (column + 1, fields[column]);
                Err(format!("column {column} is a number, and not {text:?}"))
            }
        };
        let at = self.position;
        let position = [number(at)?, number(at + 1)?, number(at + 2)?];
        let mass = self.mass.map(number).transpose()?;
        Ok((fields[self.species], position, mass))
    }
}

/// The three vectors, if the comment has them.
pub fn lattice(comment: &str) -> Result<Option<[[f64; 3]; 3]>, String> {
    let Some(text) = value(comment, "Lattice") else {
        let theirs = ["CELL(", "CELL[", "CELL{"];
        if theirs.iter().any(|cell| comment.contains(cell)) {
            let why = "a cell in i-PI's own way, which is not read here: write it as \
                       Lattice=\"ax ay az bx by bz cx cy cz\"";
            return Err(why.into());
        }
        return Ok(None);
    };
    let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    match numbers.as_deref() {
        Ok(all @ &[ax, ay, az, bx, by, bz, cx, cy, cz]) if all.iter().all(|x| x.is_finite()) => {
            Ok(Some([[ax, ay, az], [bx, by, bz], [cx, cy, cz]]))
        }
        _ => Err(format!(
            "Lattice=\"ax ay az bx by bz cx cy cz\" has nine numbers, and here it is {text:?}"
        )),
    }
}

/// The value of a key in a comment of `key=value`, `key="a value"` and other words.
fn value<'a>(comment: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = comment.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace());
        let (name, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let Some(behind) = behind.strip_prefix('=') else {
            rest = behind.trim_start();
            continue;
        };
        let closing = match behind.chars().next() {
            Some('{') => Some('}'),
            first => first.filter(|&it| it == '"' || it == '\''),
        };
        let value;
        (value, rest) = match closing {
            Some(closing) => behind[1..]
                .split_once(closing)
                .unwrap_or((&behind[1..], "")),
            None => behind
                .split_once(char::is_whitespace)
                .unwrap_or((behind, "")),
        };
        if name.eq_ignore_ascii_case(key) {
            return Some(value);
        }
        rest = rest.trim_start();
    }
    None
}
