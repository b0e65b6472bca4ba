//! The same bytes in other pieces are the same conversation.

use super::choices::{Choices, Wire};
use super::{driver, server};

/// A peer sends these bytes and closes. They arrive all at once, byte by byte, and in pieces of a
/// chosen size, with the exchange dropped and recreated after each.
pub fn splits(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let piece = 1 + usize::from(choices.byte() >> 1);
    if bytes.first().is_some_and(|byte| byte & 1 == 1) {
        let model = driver::settings(&mut choices);
        let converses = |piece| {
            let wire = Wire::new(choices.0);
            if model.single {
                driver::converses::<f32>(&model, wire, piece)
            } else {
                driver::converses::<f64>(&model, wire, piece)
            }
        };
        let whole = converses(usize::MAX);
        assert_eq!(converses(piece), whole);
        assert_eq!(converses(1), whole);
    } else {
        let model = server::settings(&mut choices);
        let converses = |piece| {
            let wire = Wire::new(choices.0);
            if model.single {
                server::converses::<f32>(&model, wire, piece)
            } else {
                server::converses::<f64>(&model, wire, piece)
            }
        };
        let whole = converses(usize::MAX);
        assert_eq!(converses(piece), whole);
        assert_eq!(converses(1), whole);
    }
}
