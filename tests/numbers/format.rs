//! How often a driver misjudges the format of numbers: the tables in `src/protocol/detect.rs`.
//!
//! ```text
//! cargo test --test numbers format
//! FORCEWIRE_OVERWRITE=1 cargo test --test numbers format     writes the tables anew
//! ```

use std::fmt::Write as _;
use std::{env, fs, iter, thread};

use forcewire::{Driver, Event, ProtocolError, Quantity, Scalar};

use forcewire_support::*;

/// The number of structures of each kind and size.
const STRUCTURES: usize = 6000;
/// The numbers of atoms: one, two, half as many as are judged, and more than are judged.
const NATOMS: [usize; 4] = [1, 2, 8, 64];

/// An endless sequence of positions, as bits, of structures with this many atoms.
type Positions = fn(natoms: usize, Dice) -> Box<dyn Iterator<Item = Vec<u64>>>;
/// The nine numbers of a cell.
type Cell = fn(&mut Dice) -> [f64; 9];

/// Valid positions, and the most structures that may be refused.
const RIGHT: &[(&str, Positions, [usize; 4])] = &[
    (
        "damped oscillators along x, steps 0 to 5999",
        along_x,
        [0, 0, 1, 0],
    ),
    (
        "damped oscillators in space, steps 0 to 5999",
        in_space,
        [1, 0, 0, 0],
    ),
    // Below 2.2e-308 from about step 6730 on, but not below 2e-323, where 0.9 x is rounded to x.
    (
        "the same along x, steps 6000 to 11999",
        along_x_later,
        [0, 6000, 6000, 6000],
    ),
    (
        "the same in space, steps 6000 to 11999",
        in_space_later,
        [6000; 4],
    ),
    ("anywhere in a box of 1 to 100 bohr", anywhere, [0; 4]),
    ("points of a lattice of any spacing", lattice, [0; 4]),
    ("a molecule in the xy plane, z below 1e-16", planar, [0; 4]),
    ("anywhere, rounded to `f32`", single, [0; 4]),
    ("multiples of 1/8", eighths, [0; 4]),
    ("the origin, and the last atom near it", origin, [0; 4]),
];

/// Wrong positions, and the most structures that may be accepted.
const WRONG: &[(&str, Positions, [usize; 4])] = &[
    ("`int64`, 0 to 9", digits, [400, 5, 0, 0]),
    ("`int64`, -9 to 9", signed_digits, [600, 100, 0, 0]),
    ("`int64`, to 2^50", large_integers, [0; 4]),
    ("pointers, 0x00007f…", heap, [0; 4]),
    ("pointers, 0x000055…", program, [0; 4]),
    ("pairs of `uint32` to 1000", pairs, [0; 4]),
    ("pairs of any `uint32`", any_pairs, [6000; 4]),
];

/// Valid positions with their bytes reversed, and the most structures that may be accepted.
const REVERSED: &[(&str, Positions, [usize; 4])] = &[
    (
        "damped oscillators along x, steps 0 to 5999",
        along_x,
        [6000; 4],
    ),
    (
        "damped oscillators in space, steps 0 to 5999",
        in_space,
        [6000; 4],
    ),
    (
        "anywhere in a box of 1 to 100 bohr",
        anywhere,
        [900, 30, 0, 0],
    ),
    (
        "points of a lattice of any spacing",
        lattice,
        [6000, 6000, 6000, 900],
    ),
    (
        "a molecule in the xy plane, z below 1e-16",
        planar,
        [6000, 300, 60, 60],
    ),
    ("anywhere, rounded to `f32`", single, [0; 4]),
    ("multiples of 1/8", eighths, [0; 4]),
    ("`int64`, 0 to 9", digits, [6000; 4]),
    ("`int64`, to 2^50", large_integers, [6000; 4]),
    ("pointers, 0x00007f…", heap, [6000; 4]),
    ("pointers, 0x000055…", program, [6000; 4]),
    ("pairs of `uint32` to 1000", pairs, [6000; 4]),
    ("pairs of any `uint32`", any_pairs, [6000; 4]),
];

/// Cells, and the most that may be accepted with their bytes reversed, and as `int64`.
const CELLS: &[(&str, Cell, usize)] = &[
    ("cubic, 1 to 100 bohr", cubic, 300),
    ("orthorhombic", orthorhombic, 60),
    ("upper triangular", triangular, 5),
    ("orthorhombic, with residues below 1e-16", rotated, 300),
    ("cubic, rounded to `f32`", cubic_single, 0),
    ("orthorhombic, multiples of 1/8", orthorhombic_eighths, 0),
];

#[test]
fn the_tables_of_false_alarms_and_misses_are_right() {
    let tables = [
        || {
            table("Right positions that are refused", RIGHT, |bits, h| {
                refused(h, bits).is_some()
            })
        },
        || {
            table("Wrong positions that are accepted", WRONG, |bits, h| {
                refused(h, bits).is_none()
            })
        },
        || {
            table(
                "Reversed positions that are accepted",
                REVERSED,
                |bits, h| refused(h, &reversed(bits)).is_none(),
            )
        },
        cells,
    ];
    let tables = thread::scope(|scope| {
        let tables = tables.map(|table| scope.spawn(table));
        tables
            .map(|table| table.join().expect("the limits hold"))
            .concat()
    });

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/protocol/detect.rs");
    let source = fs::read_to_string(path).unwrap();
    let (before, rest) = source.split_once(HEADING).expect("the heading");
    let (old, after) = rest.split_once("\n\n").expect("the end of the comment");
    if env::var_os("FORCEWIRE_OVERWRITE").is_some() {
        fs::write(
            path,
            format!("{before}{HEADING}{}\n\n{after}", tables.trim_end()),
        )
        .unwrap();
    } else {
        assert_eq!(
            old,
            tables.trim_end(),
            "src/protocol/detect.rs has other tables; FORCEWIRE_OVERWRITE=1 writes them anew"
        );
    }
}

/// The heading of the tables.
const HEADING: &str = "//! Out of 6000 structures each (`cargo test --test numbers format`):\n";

/// A table of the number of structures that `counts` selects, each in a cubic cell. Checks the
/// limits.
fn table(
    title: &str,
    rows: &[(&str, Positions, [usize; 4])],
    counts: fn(&[u64], &[f64; 9]) -> bool,
) -> String {
    let mut table = String::new();
    writeln!(
        table,
        "//!\n//! | {title} | 1 atom | 2 atoms | 8 atoms | 64 atoms |"
    )
    .unwrap();
    writeln!(table, "//! |---|---|---|---|---|").unwrap();
    for (name, positions, limits) in rows {
        write!(table, "//! | {name} |").unwrap();
        for (natoms, limit) in NATOMS.into_iter().zip(limits) {
            let mut dice = Dice::new(natoms as u64);
            let structures = positions(natoms, dice).take(STRUCTURES);
            let count = structures
                .filter(|bits| counts(bits, &cubic(&mut dice)))
                .count();
            assert!(
                count <= *limit,
                "{title}: {name}: {count} of {natoms} atoms"
            );
            write!(table, " {count} |").unwrap();
        }
        table.push('\n');
    }
    table
}

/// The table of cells. Checks the limits.
fn cells() -> String {
    let mut table = String::new();
    writeln!(
        table,
        "//!\n//! | Cells | right, refused | `int64`, accepted | reversed, accepted | and 8 atoms |"
    )
    .unwrap();
    writeln!(table, "//! |---|---|---|---|---|").unwrap();
    for (name, cell, limit) in CELLS {
        let mut dice = Dice::new(1);
        let (mut right, mut integers, mut swapped, mut both) = (0, 0, 0, 0);
        for atoms in anywhere(8, dice).take(STRUCTURES) {
            let h = cell(&mut dice);
            right += usize::from(refused(&h, &atoms).is_some());
            let numbers = h.map(|x| f64::from_bits((x as i64).cast_unsigned()));
            integers += usize::from(refused(&numbers, &atoms).is_none());
            let h = h.map(|x| f64::from_bits(x.to_bits().swap_bytes()));
            swapped += usize::from(refused(&h, &atoms).is_none());
            both += usize::from(refused(&h, &reversed(&atoms)).is_none());
        }
        assert_eq!((right, integers, both), (0, 0, 0), "{name}");
        assert!(swapped <= *limit, "{name}: {swapped}");
        writeln!(
            table,
            "//! | {name} | {right} | {integers} | {swapped} | {both} |"
        )
        .unwrap();
    }
    table
}

/// The same numbers with their bytes reversed.
fn reversed(bits: &[u64]) -> Vec<u64> {
    bits.iter().map(|bits| bits.swap_bytes()).collect()
}

/// The error, if any, for a structure with these numbers.
///
/// A driver that converts positions judges their format in the same way as one that does not.
fn refused(h: &[f64; 9], positions: &[u64]) -> Option<ProtocolError> {
    let natoms = positions.len() / 3;
    // All bits of a NaN are sent too.
    let positions: Vec<_> = positions.iter().map(|bits| f64::from_bits(*bits)).collect();
    let message = layout::posdata(h, &[0.0; 9], &positions);
    let error = received::<f64>(&message, Driver::new());
    if natoms < 8 {
        // Numbers too large for `f32` become infinite there.
        let infinite = Some(ProtocolError::NotFinite(Quantity::Positions));
        let single = received::<f32>(&message, Driver::new());
        assert!(single == error || single == infinite && error.is_none());
    }
    error
}

fn received<T: Scalar>(message: &[u8], mut driver: Driver) -> Option<ProtocolError> {
    let mut positions = [[T::ZERO; 3]; 64];
    match pour(driver.receive(&mut positions), &mut &message[..]).0 {
        Ok(Event::Positions { .. }) => None,
        Ok(event) => panic!("{event:?}"),
        Err(error) => Some(error),
    }
}

// ---- the switch ----

#[test]
fn numbers_of_any_format_pass_only_if_they_are_trusted() {
    let integers = |x: f64| f64::from_bits((x as i64).cast_unsigned());
    let reversed = |x: f64| f64::from_bits(x.to_bits().swap_bytes());
    let right = cube(vec![[1.1, 2.2, 3.3], [4.4, 5.5, 6.6]]);
    let with = |cell: &dyn Fn(f64) -> f64, positions: &dyn Fn(f64) -> f64| {
        let mut structure = right.clone();
        structure.h = structure.h.map(cell);
        for atom in &mut structure.positions {
            *atom = atom.map(positions);
        }
        structure
    };
    for (structure, error) in [
        (
            with(&integers, &|x| x),
            ProtocolError::NotReals(Quantity::Cell),
        ),
        (
            with(&|x| x, &integers),
            ProtocolError::NotReals(Quantity::Positions),
        ),
        (
            with(&reversed, &|x| x),
            ProtocolError::BigEndian(Quantity::Cell),
        ),
        (
            with(&|x| x, &reversed),
            ProtocolError::BigEndian(Quantity::Positions),
        ),
    ] {
        let message = posdata(&structure);
        for driver in [Driver::new(), Driver::new().allow_not_finite()] {
            assert_eq!(received::<f64>(&message, driver), Some(error));
        }
        for driver in [Driver::new(), Driver::new().allow_not_finite()] {
            assert_eq!(received::<f32>(&message, driver), Some(error));
        }
        let driver = Driver::new().trust_number_format();
        assert_eq!(received::<f64>(&message, driver), None);
    }
    // The switch does not allow infinite numbers.
    let message = posdata(&with(&|x| x, &|x| x / 0.0));
    let driver = Driver::new().trust_number_format();
    let infinite = Some(ProtocolError::NotFinite(Quantity::Positions));
    assert_eq!(received::<f64>(&message, driver), infinite);
}

// ---- right positions ----

/// A random number from 0 to 1.
fn part(dice: &mut Dice) -> f64 {
    (dice.roll() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Structures whose coordinates are independent.
fn coordinates(
    natoms: usize,
    mut dice: Dice,
    mut coordinate: impl FnMut(&mut Dice) -> u64 + 'static,
) -> Box<dyn Iterator<Item = Vec<u64>>> {
    Box::new(iter::from_fn(move || {
        Some((0..3 * natoms).map(|_| coordinate(&mut dice)).collect())
    }))
}

/// Oscillators that start 1 to 2 bohr to either side and lose a tenth at each step.
fn oscillators(natoms: usize, along: usize, mut dice: Dice) -> impl Iterator<Item = Vec<u64>> {
    let start = iter::repeat_with(move || (1.0 + part(&mut dice)) * [1.0, -1.0][dice.below(2)]);
    let zeros = move |(i, x)| if i % 3 < along { x } else { 0.0 };
    let start: Vec<f64> = start.enumerate().map(zeros).take(3 * natoms).collect();
    let step = |x: &Vec<f64>| Some(x.iter().map(|x| x * 0.9).collect());
    iter::successors(Some(start), step).map(|x| x.into_iter().map(f64::to_bits).collect())
}

fn along_x(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    Box::new(oscillators(natoms, 1, dice))
}

fn in_space(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    Box::new(oscillators(natoms, 3, dice))
}

fn along_x_later(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    Box::new(oscillators(natoms, 1, dice).skip(STRUCTURES))
}

fn in_space_later(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    Box::new(oscillators(natoms, 3, dice).skip(STRUCTURES))
}

/// An edge of 1 to 100 bohr.
fn edge(dice: &mut Dice) -> f64 {
    1.0 + 99.0 * part(dice)
}

fn anywhere(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| (edge(dice) * part(dice)).to_bits())
}

fn single(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| {
        f64::from((edge(dice) * part(dice)) as f32).to_bits()
    })
}

fn eighths(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| {
        ((edge(dice) * 8.0).round() / 8.0).to_bits()
    })
}

/// A cube of atoms around the origin, at least 2 along each side.
fn lattice(natoms: usize, mut dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    let side = (natoms as f64).cbrt().round().max(2.0) as usize;
    Box::new(iter::from_fn(move || {
        let spacing = edge(&mut dice) / side as f64;
        let atoms = (0..natoms).flat_map(|i| [i + 1, (i + 1) / side, (i + 1) / side / side]);
        Some(
            atoms
                .map(|i| ((i % side) as f64 * spacing).to_bits())
                .collect(),
        )
    }))
}

/// Residues of a rotation as z.
fn planar(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    let mut axes = [false, false, true].into_iter().cycle();
    coordinates(natoms, dice, move |dice| {
        let residue = axes.next() == Some(true);
        let x = 10.0 * part(dice) - 5.0;
        (if residue { x * 2e-17 } else { x }).to_bits()
    })
}

/// Zeros, except for the last atom, which has a subnormal number, one below 1e-100, and a zero.
fn origin(natoms: usize, mut dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    Box::new(iter::from_fn(move || {
        let mut positions = vec![0; 3 * natoms];
        positions[3 * natoms - 3] = dice.roll() >> 12;
        positions[3 * natoms - 2] = (part(&mut dice) * 1e-100).to_bits();
        Some(positions)
    }))
}

// ---- wrong positions ----

fn digits(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| dice.below(10) as u64)
}

fn signed_digits(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| {
        (dice.below(19) as i64 - 9).cast_unsigned()
    })
}

fn large_integers(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| dice.roll() >> 14)
}

/// Addresses of objects that malloc put into a thread's arena or into a mapping.
fn heap(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| {
        0x7f00_0000_0000 | dice.roll() >> 24 & !15
    })
}

/// Addresses of objects on a program's heap, or in the program itself.
fn program(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| {
        0x5500_0000_0000 | dice.roll() >> 24 & !15
    })
}

fn pairs(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, |dice| {
        (dice.below(1001) as u64) << 32 | dice.below(1001) as u64
    })
}

fn any_pairs(natoms: usize, dice: Dice) -> Box<dyn Iterator<Item = Vec<u64>>> {
    coordinates(natoms, dice, Dice::roll)
}

// ---- cells ----

fn cubic(dice: &mut Dice) -> [f64; 9] {
    let edge = edge(dice);
    [edge, 0.0, 0.0, 0.0, edge, 0.0, 0.0, 0.0, edge]
}

fn orthorhombic(dice: &mut Dice) -> [f64; 9] {
    let [x, y, z] = [edge(dice), edge(dice), edge(dice)];
    [x, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, z]
}

fn triangular(dice: &mut Dice) -> [f64; 9] {
    let mut h = orthorhombic(dice);
    for at in [1, 2, 5] {
        h[at] = h[0] * (part(dice) - 0.5);
    }
    h
}

fn rotated(dice: &mut Dice) -> [f64; 9] {
    let h = orthorhombic(dice);
    h.map(|x| {
        if x == 0.0 {
            (part(dice) - 0.5) * 2e-16
        } else {
            x
        }
    })
}

fn cubic_single(dice: &mut Dice) -> [f64; 9] {
    cubic(dice).map(|x| f64::from(x as f32))
}

fn orthorhombic_eighths(dice: &mut Dice) -> [f64; 9] {
    orthorhombic(dice).map(|x| (x * 8.0).round() / 8.0)
}
