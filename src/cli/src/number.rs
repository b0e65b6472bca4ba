//! Numbers as people and programs write them.

/// A finite real number. Fortran writes `1.0D+00` and `0.01d0`.
pub fn real(text: &str) -> Option<f64> {
    let is_number = |byte: u8| byte.is_ascii_digit() || b"+-.eEdD".contains(&byte);
    if !text.bytes().all(is_number) {
        return None; // inf, nan and 1_000 are numbers to Rust or Python
    }
    let number = text.replace(['d', 'D'], "e").parse::<f64>().ok()?;
    number.is_finite().then_some(number)
}

/// The shortest text that parses to the same number.
pub fn shortest(number: f64) -> String {
    match number.abs() {
        0.0 => format!("{number:.1}"),
        1e-5..1e16 => format!("{number:?}"),
        _ => format!("{number:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fortran_writes_an_exponent_with_d() {
        for (text, number) in [
            ("1.0D+00", 1.0),
            ("0.01d0", 0.01),
            ("-2.5E-3", -0.0025),
            (".5", 0.5),
            ("7", 7.0),
        ] {
            assert_eq!(real(text), Some(number), "{text}");
        }
        for text in [
            "", "nan", "inf", "1_0", "1e", "1d1d1", "0x10", "1,5", "1e999",
        ] {
            assert_eq!(real(text), None, "{text}");
        }
    }

    #[test]
    fn shortest_reads_back() {
        for number in [
            0.0,
            -0.0,
            0.1,
            1.0,
            -3.5e-9,
            1e22,
            f64::MIN_POSITIVE,
            123456.789,
        ] {
            let text = shortest(number);
            assert_eq!(
                text.parse::<f64>().unwrap().to_bits(),
                number.to_bits(),
                "{text}"
            );
            assert!(text.len() < 25, "{text}");
        }
    }
}
