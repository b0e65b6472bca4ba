//! The comment of a frame: `key=value` pairs, including Lattice and pbc.

use crate::number::real;

/// A key with its value, if it has one. ASE reads a key alone as true.
pub type Info = (String, Option<String>);

/// The pairs of a comment, split as ASE 3.29 does (`ase/io/extxyz.py`, `key_val_str_to_dict`).
pub struct Comment {
    pairs: Vec<Info>,
    /// Whether there is a cell in i-PI's format.
    has_ipi_cell: bool,
}

/// The brackets that i-PI 3.3.1 reads after the word (`ipi/utils/io/backends/io_xyz.py`,
/// `cell_re`).
const IPI_CELLS: [&str; 3] = ["CELL(", "CELL[", "CELL{"];

/// The quantities for which i-PI writes units: `positions{atomic_unit}`
/// (`ipi/utils/io/io_units.py`).
const IPI_QUANTITIES: [&str; 9] = [
    "positions",
    "x_centroid",
    "cell",
    "velocities",
    "v_centroid",
    "momenta",
    "p_centroid",
    "forces",
    "f_centroid",
];

/// Keys that determine the meaning of a frame's numbers.
const READ: [&str; 3] = ["Lattice", "Properties", "pbc"];

impl Comment {
    pub fn parse(text: &str) -> Result<Self, String> {
        refuse_ipi_units(text)?;
        let mut has_ipi_cell = IPI_CELLS.iter().any(|cell| text.contains(cell));
        let Some(pairs) = split(text.trim()) else {
            if READ.iter().any(|key| assigns(text, key)) {
                return Err("a quote or bracket in the comment is not closed".into());
            }
            // The comment is a sentence with an apostrophe.
            return Ok(Self {
                pairs: Vec::new(),
                has_ipi_cell,
            });
        };
        for key in READ {
            let mut named = pairs
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(key));
            let Some((name, value)) = named.next() else {
                continue;
            };
            if name != key {
                return Err(format!("{name} is spelled {key}"));
            }
            if value.is_none() && key != "pbc" {
                return Err(format!("{key} has no value"));
            }
            if named.next().is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        has_ipi_cell |= pairs.iter().any(|(name, _)| name == "CELL");
        Ok(Self {
            pairs,
            has_ipi_cell,
        })
    }

    /// The value of a key; `T` for a key without a value.
    fn value(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_deref().unwrap_or("T"))
    }

    pub fn properties(&self) -> Option<&str> {
        self.value("Properties")
    }

    /// The three cell vectors, if the comment has them.
    pub fn lattice(&self) -> Result<Option<[[f64; 3]; 3]>, String> {
        let Some(text) = self.value("Lattice") else {
            if self.has_ipi_cell {
                let why = "a cell in i-PI's way, which is not read: write it as \
                           Lattice=\"ax ay az bx by bz cx cy cz\"";
                return Err(why.into());
            }
            return Ok(None);
        };
        let numbers: Option<Vec<f64>> = words(text).map(real).collect();
        match numbers.as_deref() {
            Some(&[ax, ay, az, bx, by, bz, cx, cy, cz]) => {
                Ok(Some([[ax, ay, az], [bx, by, bz], [cx, cy, cz]]))
            }
            _ => Err(format!(
                "Lattice=\"ax ay az bx by bz cx cy cz\" takes nine numbers, not {text:?}"
            )),
        }
    }

    /// The periodic directions, if the comment has them.
    pub fn pbc(&self) -> Result<Option<[bool; 3]>, String> {
        let Some(text) = self.value("pbc") else {
            return Ok(None);
        };
        let flags: Option<Vec<bool>> = words(text)
            .map(|word| match word {
                "T" | "true" | "True" | "TRUE" | "1" => Some(true),
                "F" | "false" | "False" | "FALSE" | "0" => Some(false),
                _ => None,
            })
            .collect();
        match flags.as_deref() {
            Some(&[all]) => Ok(Some([all; 3])),
            Some(&[a, b, c]) => Ok(Some([a, b, c])),
            _ => Err(format!(
                "pbc=\"T T F\" takes T or F three times, not {text:?}"
            )),
        }
    }

    /// The other keys of the comment, each once. As in a dictionary, the last one wins.
    pub fn into_rest(self) -> Vec<Info> {
        let mut rest: Vec<Info> = Vec::new();
        for (name, value) in self.pairs {
            if READ.contains(&name.as_str()) || name.is_empty() {
                continue;
            }
            match rest.iter_mut().find(|(known, _)| *known == name) {
                Some(pair) => pair.1 = value,
                None => rest.push((name, value)),
            }
        }
        rest
    }
}

/// Refuses units that differ from the file's, and columns that are not positions.
fn refuse_ipi_units(text: &str) -> Result<(), String> {
    for word in text.split_whitespace() {
        let Some((name, unit)) = word.strip_suffix('}').and_then(|word| word.split_once('{'))
        else {
            continue;
        };
        if !IPI_QUANTITIES
            .iter()
            .any(|quantity| name.starts_with(quantity))
        {
            continue;
        }
        let is_length = ["positions", "x_centroid", "cell"]
            .iter()
            .any(|quantity| name.starts_with(quantity));
        if !is_length {
            return Err(format!(
                "{word}: i-PI has written {name} here, and not positions"
            ));
        }
        if unit != "angstrom" {
            return Err(format!(
                "{word}: units in i-PI's way, which are not read: write lengths in Å, or give --units and take \
                 the word out"
            ));
        }
    }
    Ok(())
}

/// Whether `key =` occurs anywhere in a text, in quotes or not.
fn assigns(text: &str, key: &str) -> bool {
    let (text, key) = (text.to_ascii_lowercase(), key.to_ascii_lowercase());
    let mut after = text.split(&key).skip(1);
    after.any(|rest| rest.trim_start().starts_with('='))
}

/// Splits a text at blanks and commas.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
}

/// Keys and values; `None` if a quote is not closed.
fn split(text: &str) -> Option<Vec<Info>> {
    // Each pair is a list of texts that were joined by `=`. The last text is still growing.
    let mut pairs = vec![vec![String::new()]];
    let mut closing = None;
    let mut escaped = false;
    // The last text is an empty one in quotes. ASE ignores it and takes the next word instead.
    let mut empty = false;
    for c in text.chars() {
        let pair = pairs.last_mut()?;
        if escaped {
            pair.last_mut()?.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if let Some(end) = closing {
            if c == end {
                closing = None;
                empty = pair.len() > 1 && pair.last()?.is_empty();
            } else {
                pair.last_mut()?.push(c);
            }
        } else if let Some(end) = closes(c) {
            closing = Some(end);
        } else if c.is_whitespace() {
            if !pair.last()?.is_empty() || empty {
                empty = false;
                pairs.push(vec![String::new()]);
            }
        } else if c == '=' {
            // Blanks before the `=` have begun another pair.
            if pairs.len() > 1 && pairs.last()?.iter().eq([""]) {
                pairs.pop();
            }
            pairs.last_mut()?.push(String::new());
        } else {
            pair.last_mut()?.push(c);
        }
    }
    if closing.is_some() {
        return None;
    }
    let pairs = pairs.into_iter().map(|mut pair| {
        let key = pair.remove(0);
        let value = (!pair.is_empty()).then(|| pair.join("="));
        (key, value)
    });
    Some(
        pairs
            .filter(|(key, value)| !key.is_empty() || value.is_some())
            .collect(),
    )
}

const fn closes(open: char) -> Option<char> {
    match open {
        '"' | '\'' => Some(open),
        '{' => Some('}'),
        '[' => Some(']'),
        _ => None,
    }
}

/// Writes a key or a value, in quotes if needed. Empty ones become a blank, because ASE would take
/// the next word instead.
pub fn quoted(text: &str) -> String {
    let text = if text.is_empty() { " " } else { text };
    let needs = |c: char| c.is_whitespace() || "\"'{}[]=\\".contains(c);
    if !text.contains(needs) {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let comment = Comment::parse(text).unwrap();
        let pairs = comment.pairs.into_iter();
        pairs
            .map(|(key, value)| (key, value.unwrap_or_else(|| "-".into())))
            .collect()
    }

    #[test]
    fn pairs_are_split_as_ase_splits_them() {
        for (text, expected) in [
            ("a=1 b", &[("a", "1"), ("b", "-")][..]),
            ("a = 1  b= 2 c =3", &[("a", "1"), ("b", "2"), ("c", "3")]),
            (
                r#"a="x y" b='p "q"' c={1 2} d=[3, 4]"#,
                &[("a", "x y"), ("b", "p \"q\""), ("c", "1 2"), ("d", "3, 4")],
            ),
            (
                r#""a b"=1 c=x\ y d="\"z\"""#,
                &[("a b", "1"), ("c", "x y"), ("d", "\"z\"")],
            ),
            ("a=b=c", &[("a", "b=c")]),
            ("a=\"\" b='' c", &[("a", ""), ("b", ""), ("c", "-")]),
            ("a=\tb\tc", &[("a", "b"), ("c", "-")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for text in [
            "plain",
            " ",
            "two words",
            "it's \"x\"",
            r"back\slash",
            "a=b",
            "{1}",
        ] {
            let line = format!("key={} other", quoted(text));
            assert_eq!(pairs(&line)[0], ("key".into(), text.into()), "{line}");
        }
    }
}
