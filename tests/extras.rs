//! The builder of extras: after any calls it holds a text that i-PI can read.

use forcewire::{Extras, ExtrasError};
use forcewire_support::Dice;
use serde_json::Value;

/// Parses the object as i-PI does (`json.loads`, then a search for `raw`).
#[track_caller]
fn parse<const N: usize>(extras: &Extras<N>) -> serde_json::Map<String, Value> {
    assert!(extras.as_bytes().len() <= N);
    let text = core::str::from_utf8(extras.as_bytes()).expect("UTF-8");
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) if !object.contains_key("raw") => object,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_object_written_out() {
    let mut extras = Extras::<256>::new();
    assert_eq!(extras.as_bytes(), b"{}");
    extras.reals("dipole", &[0.1, -0.25, 0.0]).unwrap();
    extras.real("e", 1.5e-7).unwrap();
    extras
        .triples("BEC", &[[1.0, 0.0, 0.0], [0.0, 1.0, -1e300]])
        .unwrap();
    extras.text("model", "a \"b\" \\ \n\0\u{1f} ö").unwrap();
    extras.reals("none", &[]).unwrap();
    extras.triples("", &[]).unwrap();
    assert_eq!(
        core::str::from_utf8(extras.as_bytes()).unwrap(),
        "{\"dipole\":[0.1,-0.25,0.0],\"e\":1.5e-7,\"BEC\":[[1.0,0.0,0.0],[0.0,1.0,-1e300]],\
         \"model\":\"a \\\"b\\\" \\\\ \\u000a\\u0000\\u001f ö\",\"none\":[],\"\":[]}"
    );
    parse(&extras);
    extras.clear();
    assert_eq!(extras.as_ref(), b"{}");
    assert_eq!(Extras::<2>::default().as_bytes(), b"{}");
}

#[test]
fn numbers_are_read_back_to_the_last_bit() {
    let mut dice = Dice::new(5);
    let mut extras = Extras::<64>::new();
    let mut check = |value: f64| {
        extras.clear();
        extras.real("x", value).unwrap();
        let read = parse(&extras)["x"].as_f64().unwrap();
        assert_eq!(read.to_bits(), value.to_bits(), "{value:?}");
    };
    for value in [
        0.0,
        -0.0,
        1.0,
        1e16,
        1e15,
        1e-5,
        123_456_789.125,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        f64::EPSILON,
    ] {
        check(value);
    }
    for value in (0..20_000).map(|_| f64::from_bits(dice.roll())) {
        if value.is_finite() {
            check(value);
        }
    }
}

#[test]
fn raw_is_i_pis_own_key() {
    let mut extras = Extras::<64>::new();
    assert_eq!(extras.real("raw", 1.0), Err(ExtrasError::Reserved));
    assert_eq!(extras.reals("raw", &[1.0]), Err(ExtrasError::Reserved));
    assert_eq!(extras.triples("raw", &[]), Err(ExtrasError::Reserved));
    assert_eq!(extras.text("raw", "{}"), Err(ExtrasError::Reserved));
    assert_eq!(extras.as_bytes(), b"{}");
    // Only this exact key is refused, and only as a key.
    extras.text("Raw", "raw").unwrap();
    extras.text("raw ", "").unwrap();
    extras.text("\"raw\":", "\",\"raw\":1,\"").unwrap();
    assert_eq!(parse(&extras).len(), 3);
    assert!(ExtrasError::Reserved.to_string().contains("choose another"));
}

#[test]
fn what_json_has_no_word_for_is_left_out() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut extras = Extras::<64>::new();
        extras.real("a", 1.0).unwrap();
        assert_eq!(extras.real("x", odd), Err(ExtrasError::NotFinite));
        assert_eq!(extras.reals("x", &[1.0, odd]), Err(ExtrasError::NotFinite));
        assert_eq!(
            extras.triples("x", &[[1.0; 3], [1.0, 2.0, odd]]),
            Err(ExtrasError::NotFinite)
        );
        assert_eq!(extras.as_bytes(), b"{\"a\":1.0}");
    }
    assert!(
        ExtrasError::NotFinite
            .to_string()
            .contains("leave the key out")
    );
}

/// Every buffer length up to the required one, so that the buffer gets full at each byte.
#[test]
fn a_full_buffer_holds_what_it_held() {
    fn check<const N: usize>() -> bool {
        let mut extras = Extras::<N>::new();
        let before = extras.real("a", 1.0);
        let held = extras.as_bytes().to_vec();
        parse(&extras);
        let after = extras.text("ö", "\n\"é");
        if after == Err(ExtrasError::Full) {
            assert_eq!(extras.as_bytes(), held);
        } else {
            assert_eq!(after, Ok(()));
        }
        parse(&extras);
        assert_eq!(before.is_ok(), N >= r#"{"a":1.0}"#.len());
        before.is_ok() && after.is_ok()
    }
    // The object is {"a":1.0,"ö":"\u000a\"é"}.
    let whole = r#"{"a":1.0,"#.len() + r#""ö":"\u000a\"é"}"#.len();
    assert_eq!(whole, 27);
    let sizes = [
        check::<2>,
        check::<3>,
        check::<4>,
        check::<5>,
        check::<6>,
        check::<7>,
        check::<8>,
        check::<9>,
        check::<10>,
        check::<11>,
        check::<12>,
        check::<13>,
        check::<14>,
        check::<15>,
        check::<16>,
        check::<17>,
        check::<18>,
        check::<19>,
        check::<20>,
        check::<21>,
        check::<22>,
        check::<23>,
        check::<24>,
        check::<25>,
        check::<26>,
        check::<27>,
    ];
    for (size, check) in (2..).zip(sizes) {
        assert_eq!(check(), size >= whole, "{size}");
    }
    assert!(ExtrasError::Full.to_string().contains("more bytes"));
}

#[test]
fn any_sequence_of_calls_gives_an_object() {
    const ODD: [&str; 12] = [
        "raw",
        "dipole",
        "",
        "\"",
        "\\",
        "\\\"",
        "\0\u{1}\u{1f}\u{7f}",
        "ö\u{2028}😀",
        "{}",
        "\n\t",
        "a,b:c",
        "\\u0072aw",
    ];
    for seed in 0..3000 {
        let mut dice = Dice::new(seed);
        let mut extras = Extras::<160>::new();
        let mut expected = serde_json::Map::new();
        for _ in 0..dice.below(25) {
            let key = ODD[dice.below(ODD.len())];
            let mut number = || match dice.below(8) {
                0 => f64::NAN,
                1 => f64::from_bits(dice.roll()),
                n => n as f64 / 8.0,
            };
            let numbers: [f64; 6] = std::array::from_fn(|_| number());
            let (len, word) = (dice.below(7), ODD[dice.below(ODD.len())]);
            let before = extras.clone();
            let (result, value) = match dice.below(9) {
                0 => (extras.real(key, numbers[0]), numbers[0].into()),
                1..3 => (extras.reals(key, &numbers[..len]), numbers[..len].into()),
                3..5 => {
                    let triples = &numbers.as_chunks::<3>().0[..len / 3];
                    let value = triples.iter().map(|it| Value::from(&it[..]));
                    (extras.triples(key, triples), value.collect())
                }
                5..8 => (extras.text(key, word), word.into()),
                _ => {
                    extras.clear();
                    expected.clear();
                    continue;
                }
            };
            if result.is_ok() {
                expected.insert(key.to_owned(), value);
            } else {
                assert_eq!(extras.as_bytes(), before.as_bytes(), "seed {seed}");
            }
            assert_eq!(parse(&extras), expected, "seed {seed}");
        }
    }
}
