//! What atoms weigh.

use mendeleev::Element;

/// The mass of an element in daltons, by its symbol or its number; D and T are hydrogen's isotopes (AME2020).
pub fn mass(species: &str) -> Option<f64> {
    match species {
        "D" => return Some(2.014101777844),
        "T" => return Some(3.016049281320),
        _ => {}
    }
    let number = species.parse().ok();
    Element::iter()
        .find(|element| element.symbol() == species || Some(element.atomic_number()) == number)
        .map(|element| element.atomic_weight().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_numbers_and_isotopes() {
        assert_eq!(mass("Ar"), Some(39.948));
        assert_eq!(mass("18"), mass("Ar"));
        assert_eq!(mass("H"), Some(1.008));
        assert!(mass("D") > mass("H") && mass("T") > mass("D"));
        for unknown in ["X", "ar", "0", "119", ""] {
            assert_eq!(mass(unknown), None, "{unknown}");
        }
    }
}
