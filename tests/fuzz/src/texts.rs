//! Texts: INIT's parameters and extras.

use forcewire::{Driver, Event, Extras, ExtrasError, Parameters};

use super::choices::{Choices, Wire};
use super::layout::{POSDATA, init};
use super::model::batch_size;

/// INIT with any text is reported and kept, a long one is cut at a comma, and a batch is recognized
/// at any length.
pub fn parameters(bytes: &[u8]) {
    let heard = [&init(7, bytes), POSDATA].concat();
    let mut driver = Driver::new();
    let mut wire = Wire::new(&heard);
    wire.ended = false;
    let told = wire.run(driver.receive::<f64>(&mut []));
    assert_eq!(told, Some(Ok(Event::Init { replica: 7 })));
    let kept = &bytes[..bytes.len().min(256)];
    assert_eq!((driver.replica(), driver.init_text()), (Some(7), kept));
    // After the header of POSDATA, a batch begins with four bytes, a single structure with 148.
    assert_eq!(wire.run(driver.receive::<f64>(&mut [])), None);
    let batch = format!("{driver:?}").contains("Atoms");
    assert_eq!(batch, batch_size(bytes) > 1, "{}", bytes.escape_ascii());
    // The parameters are the same as in the text, as far as it is complete and UTF-8.
    let whole = match bytes.len() {
        257.. => &kept[..kept.iter().rposition(|&byte| byte == b',').unwrap_or(0)],
        _ => kept,
    };
    let valid = whole.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let expected = valid.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once(':')?;
        Some((key.trim_ascii(), value.trim_ascii()))
    });
    assert!(driver.parameters().eq(expected.clone()));
    assert!(Parameters::new(valid).eq(expected));
}

/// Extras built from anything are one JSON object that holds what was added, without `raw`.
pub fn extras(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut extras = Extras::<64>::new();
    while !choices.is_empty() {
        let before = extras.as_bytes().to_vec();
        let (what, len) = (choices.below(5), choices.below(24));
        let (text, rest) = choices.0.split_at(len.min(choices.0.len()));
        choices.0 = rest;
        let key = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut real =
            || f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| choices.byte())));
        let result = match what {
            0 => extras.real(key, real()),
            1 => extras.reals(key, &[real(), real()]),
            2 => extras.triples(key, &[[real(), 0.5, -0.0]]),
            3 => extras.text(key, key),
            _ => {
                extras.clear();
                continue;
            }
        };
        assert!(extras.as_bytes().len() <= 64);
        let parsed: serde_json::Value = serde_json::from_slice(extras.as_bytes()).expect("JSON");
        let object = parsed.as_object().expect("an object");
        assert!(!object.contains_key("raw"));
        match result {
            Ok(()) => assert!(object.contains_key(key)),
            Err(error) => {
                assert_eq!(extras.as_bytes(), before, "unchanged");
                assert_eq!(error == ExtrasError::Reserved, key == "raw");
            }
        }
    }
}
