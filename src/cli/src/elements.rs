//! Chemical elements: their symbols, numbers and masses.

use std::collections::HashMap;
use std::sync::LazyLock;

use mendeleev::Element;

static BY_SYMBOL: LazyLock<HashMap<&str, Element>> = LazyLock::new(|| {
    Element::iter()
        .map(|element| (element.symbol(), element))
        .collect()
});

/// Isotopes with common symbols: the element, and the mass in daltons (AME2020).
const ISOTOPES: [(&str, &str, f64); 2] = [("D", "H", 2.014101777844), ("T", "H", 3.016049281320)];

/// The symbol of an atom that is no element; ASE gives it number 0.
pub const DUMMY: &str = "X";

/// The symbol for an atomic number.
pub fn symbol(number: u32) -> Option<&'static str> {
    if number == 0 {
        return Some(DUMMY);
    }
    let mut elements = Element::iter();
    elements
        .find(|element| element.atomic_number() == number)
        .map(|element| element.symbol())
}

/// The symbol as ASE writes it: `AR` and `ar` become Ar. `None` if it is neither an element nor an
/// isotope nor X.
pub fn known(species: &str) -> Option<String> {
    if mass(species).is_some() {
        return Some(species.into());
    }
    let mut chars = species.chars();
    let first = chars.next()?.to_ascii_uppercase();
    let symbol = format!("{first}{}", chars.as_str().to_ascii_lowercase());
    let is_known = symbol == DUMMY || mass(&symbol).is_some();
    is_known.then_some(symbol)
}

/// The element of an isotope, or the symbol itself.
pub fn element(symbol: &str) -> &str {
    let isotope = ISOTOPES.iter().find(|(name, ..)| *name == symbol);
    isotope.map_or(symbol, |(_, element, _)| element)
}

/// The atomic number of a symbol, as in ASE: 0 for X.
#[cfg(test)]
pub fn number(symbol: &str) -> Option<u32> {
    if symbol == DUMMY {
        return Some(0);
    }
    BY_SYMBOL
        .get(element(symbol))
        .map(|element| element.atomic_number())
}

/// The mass of a symbol, in daltons.
pub fn mass(symbol: &str) -> Option<f64> {
    if let Some((.., mass)) = ISOTOPES.iter().find(|(name, ..)| *name == symbol) {
        return Some(*mass);
    }
    BY_SYMBOL
        .get(symbol)
        .map(|element| element.atomic_weight().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_numbers_and_isotopes() {
        assert_eq!(mass("Ar"), Some(39.948));
        assert_eq!(symbol(18), Some("Ar"));
        assert_eq!(symbol(0), Some("X"));
        assert_eq!(symbol(119), None);
        assert!(mass("D") > mass("H") && mass("T") > mass("D"));
        for (written, read) in [("AR", "Ar"), ("h", "H"), ("d", "D"), ("X", "X")] {
            assert_eq!(known(written).as_deref(), Some(read));
        }
        for label in ["", "C1", "OW", "Ü", "18", "H_2"] {
            assert_eq!(known(label), None, "{label}");
        }
        assert_eq!((element("D"), element("Ar")), ("H", "Ar"));
    }
}
