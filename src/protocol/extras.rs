//! Extras: a JSON object sent with the forces, in a form that i-PI can read.

use core::fmt::{self, Write};

use crate::fmt::debug_as_display;

/// Builds a JSON object for a reply's extras, in a buffer of `N` bytes.
///
/// i-PI 3.3.1 parses extras in its poll thread, and anything but a UTF-8 JSON *object* without the
/// key `raw` kills that thread and hangs the simulation (`ipi/interfaces/utils.py`, `parse_extra`).
/// This builder always holds a complete object that i-PI can read: each method adds one key or
/// changes nothing.
///
/// i-PI knows `dipole`, `polarizability`, `friction`, `BEC` and `committee_pot`, `committee_force`,
/// `committee_virial`, in atomic units. It writes other keys to its output.
///
/// ```
/// use forcewire::Extras;
///
/// let mut extras = Extras::<128>::new();
/// extras.reals("dipole", &[0.1, -0.25, 0.0])?;
/// extras.text("model", "water")?;
/// assert_eq!(extras.as_bytes(), br#"{"dipole":[0.1,-0.25,0.0],"model":"water"}"#);
/// # Ok::<(), forcewire::ExtrasError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Extras<const N: usize> {
    json: heapless::String<N>,
}

/// Why a key was not added to [`Extras`], which are unchanged.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ExtrasError {
    /// The buffer has no room for the key and its value.
    Full,
    /// The key is `raw`, which kills i-PI's poll thread: i-PI stores the text itself under that
    /// key.
    Reserved,
    /// JSON has no infinities and no NaN.
    NotFinite,
}

impl fmt::Display for ExtrasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the buffer for extras is full: give it more bytes",
            Self::Reserved => "the key \"raw\" is i-PI's own: choose another",
            Self::NotFinite => "JSON has no infinite numbers and no NaN: leave the key out",
        })
    }
}

debug_as_display!(ExtrasError);

impl core::error::Error for ExtrasError {}

impl<const N: usize> Extras<N> {
    const EMPTY: () = assert!(N >= 2, "an empty object takes two bytes");

    /// The empty object, `{}`. `N` is at least 2.
    #[must_use]
    pub fn new() -> Self {
        const { Self::EMPTY };
        let mut json = heapless::String::new();
        let _ = json.push_str("{}");
        Self { json }
    }

    /// Resets to the empty object.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The bytes of the object.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.json.as_bytes()
    }

    /// Adds a number.
    ///
    /// # Errors
    ///
    /// See [`ExtrasError`]; the object is unchanged after an error.
    pub fn real(&mut self, key: &str, value: f64) -> Result<(), ExtrasError> {
        self.add(key, |json| real(json, value))
    }

    /// Adds an array of numbers, for instance the three of a dipole, or a tensor row by row.
    ///
    /// # Errors
    ///
    /// See [`ExtrasError`]; the object is unchanged after an error.
    pub fn reals(&mut self, key: &str, values: &[f64]) -> Result<(), ExtrasError> {
        self.add(key, |json| {
            list(json, values.iter(), |json, value| real(json, *value))
        })
    }

    /// Adds an array of triples: a vector for each atom, or the rows of a tensor.
    ///
    /// # Errors
    ///
    /// See [`ExtrasError`]; the object is unchanged after an error.
    pub fn triples(&mut self, key: &str, values: &[[f64; 3]]) -> Result<(), ExtrasError> {
        self.add(key, |json| {
            list(json, values.iter(), |json, triple| {
                list(json, triple.iter(), |json, x| real(json, *x))
            })
        })
    }

    /// Adds a text.
    ///
    /// # Errors
    ///
    /// See [`ExtrasError`]; the object is unchanged after an error.
    pub fn text(&mut self, key: &str, value: &str) -> Result<(), ExtrasError> {
        self.add(key, |json| text(json, value))
    }

    fn add(
        &mut self,
        key: &str,
        value: impl FnOnce(&mut heapless::String<N>) -> Result<(), ExtrasError>,
    ) -> Result<(), ExtrasError> {
        if key == "raw" {
            return Err(ExtrasError::Reserved);
        }
        let end = self.json.len() - 1; // of what stands before the closing brace
        let result = self.add_or_break(key, value);
        if result.is_err() {
            self.json.truncate(end);
            let _ = self.json.push('}');
        }
        result
    }

    /// Adds a key. After an error the object is incomplete.
    fn add_or_break(
        &mut self,
        key: &str,
        value: impl FnOnce(&mut heapless::String<N>) -> Result<(), ExtrasError>,
    ) -> Result<(), ExtrasError> {
        let json = &mut self.json;
        json.pop();
        if json.len() > 1 {
            json.push(',').map_err(|_| ExtrasError::Full)?;
        }
        text(json, key)?;
        json.push(':').map_err(|_| ExtrasError::Full)?;
        value(json)?;
        json.push('}').map_err(|_| ExtrasError::Full)
    }
}

impl<const N: usize> Default for Extras<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> AsRef<[u8]> for Extras<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

fn real<const N: usize>(json: &mut heapless::String<N>, value: f64) -> Result<(), ExtrasError> {
    if !value.is_finite() {
        return Err(ExtrasError::NotFinite);
    }
    // The shortest digits that parse to the same number; `{:?}` always has a point or an exponent.
    write!(json, "{value:?}").map_err(|_| ExtrasError::Full)
}

fn list<const N: usize, T>(
    json: &mut heapless::String<N>,
    values: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut heapless::String<N>, T) -> Result<(), ExtrasError>,
) -> Result<(), ExtrasError> {
    json.push('[').map_err(|_| ExtrasError::Full)?;
    for (index, value) in values.enumerate() {
        if index > 0 {
            json.push(',').map_err(|_| ExtrasError::Full)?;
        }
        each(json, value)?;
    }
    json.push(']').map_err(|_| ExtrasError::Full)
}

fn text<const N: usize>(json: &mut heapless::String<N>, value: &str) -> Result<(), ExtrasError> {
    json.push('"').map_err(|_| ExtrasError::Full)?;
    for char in value.chars() {
        match char {
            '"' => json.push_str("\\\"").map_err(|_| ExtrasError::Full)?,
            '\\' => json.push_str("\\\\").map_err(|_| ExtrasError::Full)?,
            '\0'..='\x1f' => {
                write!(json, "\\u{:04x}", u32::from(char)).map_err(|_| ExtrasError::Full)?;
            }
            _ => json.push(char).map_err(|_| ExtrasError::Full)?,
        }
    }
    json.push('"').map_err(|_| ExtrasError::Full)
}
