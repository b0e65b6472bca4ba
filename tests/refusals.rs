//! Refusals of a driver: the exact errors, and that each says what to do.

use forcewire::{
    Driver, Event, Exchange, Header, Initialize, ProtocolError, Quantity, Scalar, Step,
};
use forcewire_support::*;

/// A driver that has received [`golden`] and is about to reply.
fn computing() -> Driver {
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears(posdata(&golden()))
        .tells(golden().event());
    driver
}

/// Checks the text that users read.
#[track_caller]
fn says(error: ProtocolError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

// ---- headers ----

#[test]
fn an_unknown_header() {
    let odd: [&[u8; 12]; 9] = [
        b"status      ",
        b" STATUS     ",
        b"STATUSS     ",
        b"STATU       ",
        b"SHM         ",
        b"GET / HTTP/1",
        b"            ",
        &[0; 12],
        &[0xff; 12],
    ];
    for header in odd {
        at_every_split(|split| {
            let error = ProtocolError::UnknownHeader(*header);
            script(&mut Driver::new(), split)
                .hears(header)
                .refuses(error);
            let mut driver = computing();
            script(&mut driver, split)
                .replies(&golden_answer())
                .hears(header)
                .refuses(error);
        });
    }
    says(
        ProtocolError::UnknownHeader(*b"GET / HTTP/1"),
        &["\"GET / HTTP/1\"", "does it speak that"],
    );
    says(
        ProtocolError::UnknownHeader(*b"\x01\xffA         "),
        &["\"\\x01\\xffA\""],
    );
}

/// Each header in each state: the driver's answer, or its refusal.
#[test]
fn a_header_out_of_turn() {
    use Header::*;
    // A header, then the answers of a driver in the states NEEDINIT, READY and HAVEDATA: "" if it
    // keeps waiting, - if it refuses.
    let table = [
        (
            STATUS,
            Status,
            ["NEEDINIT    ", "READY       ", "HAVEDATA    "],
        ),
        (INIT, Init, ["", "", ""]),
        (POSDATA, PosData, ["-", "", "-"]),
        (GETFORCE, GetForce, ["-", "-", "FORCEREADY"]),
        (EXIT, Exit, ["end", "end", "end"]),
        (NEEDINIT, NeedInit, ["-", "-", "-"]),
        (READY, Ready, ["-", "-", "-"]),
        (HAVEDATA, HaveData, ["-", "-", "-"]),
        (FORCEREADY, ForceReady, ["-", "-", "-"]),
    ];
    for (bytes, command, answers) in table {
        for (status, answer) in [NeedInit, Ready, HaveData].into_iter().zip(answers) {
            at_every_split(|split| {
                let mut driver = match status {
                    NeedInit => Driver::new().initialize(Initialize::Once),
                    Ready => Driver::new(),
                    _ => computing(),
                };
                assert_eq!(driver.status(), status);
                let mut script = script(&mut driver, split);
                if status == HaveData {
                    script = script.replies(&golden_answer());
                }
                let script = script.hears(bytes);
                match answer {
                    "-" => script.refuses(ProtocolError::OutOfTurn { command, status }),
                    "end" => script.tells(Event::Exit),
                    "FORCEREADY" => script.says(hex(GOLDEN_FORCEREADY)),
                    answer => script.says(answer),
                };
            });
        }
    }
    says(
        ProtocolError::OutOfTurn {
            command: GetForce,
            status: Ready,
        },
        &["GETFORCE", "READY", "connect again"],
    );
    says(
        ProtocolError::OutOfTurn {
            command: PosData,
            status: NeedInit,
        },
        &["POSDATA", "INIT", "Initialize::Never"],
    );
}

#[test]
fn positions_without_init_for_the_second_structure() {
    at_every_split(|split| {
        let mut driver = Driver::new().initialize(Initialize::EveryStep);
        script(&mut driver, split)
            .hears(init(0, " "))
            .tells(Event::Init { replica: 0 })
            .hears([&posdata(&golden()), GETFORCE].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .says(hex(GOLDEN_FORCEREADY))
            .hears(posdata(&golden()))
            .refuses(ProtocolError::OutOfTurn {
                command: Header::PosData,
                status: Header::NeedInit,
            });
    });
}

// ---- counts and lengths ----

#[test]
fn too_many_atoms() {
    let error = |announced, capacity| ProtocolError::TooManyAtoms {
        announced,
        capacity,
    };
    at_every_split(|split| {
        for (natoms, capacity) in [(1, 0), (3, 2), (100, 99)] {
            script_with_room::<f64>(&mut Driver::new(), split, capacity, 1)
                .hears(posdata(&atoms(natoms)))
                .refuses(error(natoms, capacity))
                .holds(&[]);
            script_with_room::<f32>(&mut Driver::new(), split, capacity, 1)
                .hears(posdata(&atoms(natoms)))
                .refuses(error(natoms, capacity))
                .holds(&[]);
        }
    });
    // The largest count that can be announced, for one structure and in a batch.
    let most = i32::MAX as usize;
    let mut bytes = posdata(&golden());
    put_integer(&mut bytes, Posdata::of(1).atoms(), i32::MAX);
    script(&mut Driver::new(), Split::Whole)
        .hears(bytes)
        .refuses(error(most, 128))
        .holds(&[]);
    let mut bytes = posdata_batch(&[golden(), golden()]);
    put_integer(&mut bytes, Posdata::batch(2, 1).atoms(), i32::MAX);
    script(&mut Driver::new(), Split::Whole)
        .hears(init(0, "batch_size:2"))
        .tells(Event::Init { replica: 0 })
        .hears(&bytes[..16])
        .refuses(error(2 * most, 128))
        .holds(&[]);
    says(
        error(100, 64),
        &["100 atoms", "room for 64", "longer arrays"],
    );
}

#[test]
fn too_many_structures() {
    let error = |announced, capacity| ProtocolError::TooManyStructures {
        announced,
        capacity,
    };
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            .hears(init(0, "batch_size:5"))
            .tells(Event::Init { replica: 0 })
            .hears(&posdata_batch(&[golden(), golden()])[..16])
            .refuses(error(5, 4))
            .holds(&[])
            .holds_cells(&[]);
    });
    // There is no room because the array is empty.
    script(&mut Driver::new(), Split::Whole)
        .hears(init(0, format!("batch_size:{}0", u64::MAX)))
        .tells(Event::Init { replica: 0 })
        .hears([POSDATA, &integer(0)].concat())
        .refuses(error(usize::MAX, 4));
    says(
        error(5, 4),
        &["5 structures", "room for 4", "more cells", "batch_size"],
    );
}

#[test]
fn a_negative_number_of_atoms() {
    for natoms in [-1, i32::MIN] {
        at_every_split(|split| {
            let mut bytes = posdata(&golden());
            put_integer(&mut bytes, Posdata::of(1).atoms(), natoms);
            script(&mut Driver::new(), split)
                .hears(bytes)
                .refuses(ProtocolError::NegativeAtoms(natoms))
                .holds(&[]);
            let mut bytes = posdata_batch(&[golden(), golden()]);
            put_integer(&mut bytes, Posdata::batch(2, 1).atoms(), natoms);
            script(&mut Driver::new(), split)
                .hears(init(0, "batch_size:2"))
                .tells(Event::Init { replica: 0 })
                .hears(bytes)
                .refuses(ProtocolError::NegativeAtoms(natoms))
                .holds(&[]);
        });
    }
    says(
        ProtocolError::NegativeAtoms(-1),
        &["-1 atoms", "out of step"],
    );
}

#[test]
fn a_number_of_atoms_that_changes() {
    let answer = answer(3, 1.0, b"");
    for natoms in [0, 1, 4] {
        at_every_split(|split| {
            let error = ProtocolError::AtomsChanged {
                announced: natoms,
                expected: 3,
            };
            let mut driver = Driver::new();
            script(&mut driver, split)
                .hears([&posdata(&water()), GETFORCE].concat())
                .tells(water().event())
                .replies(&answer)
                .says(forceready(&answer))
                .hears(posdata(&atoms(natoms)))
                .refuses(error)
                .holds(&water().positions)
                // Another connection may have another system.
                .reconnects()
                .hears(posdata(&atoms(natoms)))
                .tells(atoms(natoms).event());

            let mut driver = Driver::new().allow_changing_atoms();
            script(&mut driver, split)
                .hears([&posdata(&water()), GETFORCE].concat())
                .tells(water().event())
                .replies(&answer)
                .says(forceready(&answer))
                .hears(posdata(&atoms(natoms)))
                .tells(atoms(natoms).event());
        });
    }
    says(
        ProtocolError::AtomsChanged {
            announced: 4,
            expected: 3,
        },
        &["4 atoms", "after 3", "allow_changing_atoms"],
    );
}

#[test]
fn a_text_of_negative_length() {
    at_every_split(|split| {
        for (status, len) in [(Initialize::Never, -1), (Initialize::Once, i32::MIN)] {
            let mut driver = Driver::new().initialize(status);
            script(&mut driver, split)
                .hears([INIT, &integer(0)[..], &integer(len)].concat())
                .refuses(ProtocolError::NegativeLength(len));
        }
        script(&mut computing(), split)
            .replies(&golden_answer())
            .hears([INIT, &integer(0)[..], &integer(-5)].concat())
            .refuses(ProtocolError::NegativeLength(-5));
    });
    says(
        ProtocolError::NegativeLength(-5),
        &["a text of -5 bytes", "out of step"],
    );
}

// ---- reversed bytes ----

/// The same numbers with their bytes reversed, as on a big-endian CPU.
fn reversed<const N: usize>(numbers: [f64; N]) -> [f64; N] {
    numbers.map(|x| f64::from_bits(x.to_bits().swap_bytes()))
}

#[test]
fn numbers_of_a_big_endian_server() {
    let cell = [9.87, 1.25, -2.5e-7, 0.0, 11.3, 3.0, 0.0, -0.0, 8.75];
    let structure = Structure {
        h: cell,
        positions: (0..40)
            .map(|i| [0.1, 2.0, -3e-9].map(|x| x * f64::from(i)))
            .collect(),
        ..golden()
    };
    let mut swapped_cell = structure.clone();
    swapped_cell.h = reversed(cell);
    let mut swapped_positions = structure.clone();
    for atom in &mut swapped_positions.positions {
        *atom = reversed(*atom);
    }
    // Of the atoms that are judged, only the last is not at the origin.
    let mut told_late = cube(vec![[0.0; 3]; 16]);
    told_late.positions[15] = reversed([4.0 / 3.0, 1.2, 1.1]);
    for (structure, quantity) in [
        (&swapped_cell, Quantity::Cell),
        (&swapped_positions, Quantity::Positions),
        (&told_late, Quantity::Positions),
    ] {
        at_every_split(|split| {
            script(&mut Driver::new(), split)
                .hears(posdata(structure))
                .refuses(ProtocolError::BigEndian(quantity));
            script_with_room::<f32>(&mut Driver::new(), split, 40, 1)
                .hears(posdata(structure))
                .refuses(ProtocolError::BigEndian(quantity));
            let mut driver = Driver::new().allow_not_finite();
            script(&mut driver, split)
                .hears(posdata(structure))
                .refuses(ProtocolError::BigEndian(quantity));
            let mut driver = Driver::new().allow_not_finite().trust_number_format();
            script(&mut driver, split)
                .hears(posdata(structure))
                .tells(structure.event());
        });
    }
    says(
        ProtocolError::BigEndian(Quantity::Positions),
        &["of the positions", "bytes reversed", "'<f8'"],
    );
}

/// NumPy arrays sent without conversion: `np.array([[1, -2, 3], [0, 5, 0]])`, and one of objects.
#[test]
fn integers_and_objects_of_a_server() {
    let bits = |numbers: [[u64; 3]; 2]| numbers.map(|atom| atom.map(f64::from_bits)).to_vec();
    let integers = [[1, -2, 3], [0, 5, 0]].map(|atom| atom.map(i64::cast_unsigned));
    let objects = [
        [0x7f3a_1c04_5a90, 0x7f3a_1c04_5ab0, 0x55d0_92c1_e3f0],
        [0x7f3a_1c04_5a90, 0x55d0_92c1_e3f0, 0x7f3a_1c04_5ad0],
    ];
    let mut cell = golden();
    cell.h = [10, 0, 0, 0, 10, 0, 0, 0, 10].map(f64::from_bits);
    for (structure, quantity) in [
        (cube(bits(integers)), Quantity::Positions),
        (cube(bits(objects)), Quantity::Positions),
        (cell, Quantity::Cell),
    ] {
        at_every_split(|split| {
            script(&mut Driver::new(), split)
                .hears(posdata(&structure))
                .refuses(ProtocolError::NotReals(quantity));
            script_with_room::<f32>(&mut Driver::new(), split, 2, 1)
                .hears(posdata(&structure))
                .refuses(ProtocolError::NotReals(quantity));
        });
    }
    says(
        ProtocolError::NotReals(Quantity::Positions),
        &["of the positions", "integers or objects", "astype('<f8')"],
    );
}

/// A damped oscillator passes through every size that a number can have.
#[test]
fn one_number_of_any_size_is_no_evidence() {
    let mut x = 1.0;
    for _ in 0..12_000 {
        for position in [[x, 0.0, 0.0], [-x, x, -x]] {
            // Three subnormal numbers are evidence.
            if position[1] == 0.0 || x >= f64::MIN_POSITIVE {
                let structure = cube(vec![position]);
                script(&mut Driver::new(), Split::Whole)
                    .hears(posdata(&structure))
                    .tells(structure.event());
            }
        }
        x *= 0.9;
    }
}

/// Typical numbers, short ones, zeros of both signs, and numbers of any size: one in a cell, two in
/// positions.
#[test]
fn numbers_in_the_right_order_are_never_refused() {
    let mut dice = Dice::new(2);
    for round in 0..100_000 {
        let random = |dice: &mut Dice, lowest: usize, sizes: usize| {
            let exponent = (1023 + dice.below(sizes) - lowest) as u64;
            f64::from_bits(dice.roll() & 0x800f_ffff_ffff_ffff | exponent << 52)
        };
        let number = |dice: &mut Dice| match dice.below(8) {
            0 => 0.0,
            1 => -0.0,
            2 => [10.0, 0.5, -3.0][dice.below(3)],
            // From 2^-32 to 2^33.
            _ => random(dice, 32, 65),
        };
        let mut structure = golden();
        structure.h = std::array::from_fn(|_| number(&mut dice));
        structure.positions = (0..1 + round % 3)
            .map(|_| std::array::from_fn(|_| number(&mut dice)))
            .collect();
        // Any except subnormal ones.
        structure.h[dice.below(9)] = random(&mut dice, 1022, 2046);
        let positions = structure.positions.as_flattened_mut();
        for _ in 0..2 {
            let at = dice.below(positions.len());
            positions[at] = random(&mut dice, 1022, 2046);
        }
        script(&mut Driver::new(), Split::Whole)
            .hears(posdata(&structure))
            .tells(structure.event());
    }
}

// ---- batches ----

/// i-PI with `batch_size` and a driver that sent READY first: the number of atoms comes first.
#[test]
fn a_batch_that_nobody_announced() {
    let mut tiny = cube(vec![[0.0; 3]]);
    (tiny.h, tiny.inverse) = (tiny.inverse, tiny.h);
    let mut negative_zero = golden();
    negative_zero.inverse[3] = -0.0;
    for structure in [golden(), water(), atoms(100), tiny, negative_zero] {
        for size in [2, 3, 16] {
            at_every_split(|split| {
                let batch = vec![structure.clone(); size];
                script(&mut Driver::new(), split)
                    .hears(STATUS)
                    .says(READY)
                    .hears([&posdata_batch(&batch), GETFORCE].concat())
                    .refuses(ProtocolError::UnannouncedBatch)
                    .holds(&[])
                    .holds_cells(&[]);
            });
        }
    }
    says(
        ProtocolError::UnannouncedBatch,
        &["batches", "Initialize::Once", "batch_size"],
    );
}

#[test]
fn a_lone_structure_is_never_taken_for_a_batch() {
    let mut dice = Dice::new(1);
    let mut matrix = |kind: usize| -> [f64; 9] {
        match kind {
            0 => [0.0; 9],
            1 => [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            // Any lengths, upper triangular, lower triangular or full, with few or many binary
            // digits.
            _ => std::array::from_fn(|i| {
                let zero = match kind {
                    2 => i % 4 != 0,
                    3 => i / 3 > i % 3,
                    4 => i / 3 < i % 3,
                    _ => false,
                };
                let short = [10.0, 1.0, 0.5, -3.0][dice.below(4)];
                let long = f64::from_bits((dice.roll() >> 2) | 0x3f00_0000_0000_0000);
                if zero {
                    0.0
                } else {
                    [short, long][dice.below(2)]
                }
            }),
        }
    };
    let mut finite = 0;
    for round in 0..20_000 {
        let mut structure = atoms(round % 5);
        structure.h = matrix(2 + round % 4);
        structure.inverse = matrix(round / 4 % 6);
        let mut driver = Driver::new().allow_not_finite();
        script(&mut driver, Split::Whole)
            .hears(posdata(&structure))
            .then(|driver| finite += usize::from(driver.status() == Header::HaveData))
            .tells(structure.event());
    }
    assert_eq!(finite, 20_000);
}

#[test]
fn inverses_that_peers_send_are_not_looked_at() {
    let [xx, xy, xz, yx, yy, yz, zx, zy, zz] = golden().inverse;
    let inverses = [
        golden().inverse,
        [xx, yx, zx, xy, yy, zy, xz, yz, zz],          // ASE
        [0.0; 9],                                      // IPICalculator.jl
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], // pysisyphus, eOn
        [f64::NAN; 9],
        [f64::INFINITY; 9],
    ];
    for inverse in inverses {
        at_every_split(|split| {
            let structure = Structure {
                inverse,
                ..golden()
            };
            script(&mut Driver::new(), split)
                .hears(posdata(&structure))
                .tells(golden().event());
        });
    }
}

// ---- numbers ----

const ODD: [f64; 4] = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

#[test]
fn a_cell_that_is_not_finite() {
    for odd in ODD {
        for at in 0..9 {
            let mut structure = golden();
            structure.h[at] = odd;
            for split in [Split::Whole, Split::Bytes] {
                script(&mut Driver::new(), split)
                    .hears(posdata(&structure))
                    .refuses(ProtocolError::NotFinite(Quantity::Cell))
                    .holds(&[])
                    .holds_cells(&[]);
                // In the second structure of a batch.
                script(&mut Driver::new(), split)
                    .hears(init(0, "batch_size:2"))
                    .tells(Event::Init { replica: 0 })
                    .hears(posdata_batch(&[golden(), structure.clone()]))
                    .refuses(ProtocolError::NotFinite(Quantity::Cell))
                    .holds(&[]);
            }
        }
    }
    says(ProtocolError::NotFinite(Quantity::Cell), &["cell", "NaN"]);
}

#[test]
fn a_position_that_is_not_finite() {
    fn check<T: Scalar>(odd: f64) {
        for natoms in [1, 33, 100] {
            for at in [0, natoms / 2, natoms - 1] {
                for axis in 0..3 {
                    let mut structure = atoms(natoms);
                    structure.positions[at][axis] = odd;
                    for split in [Split::Whole, Split::Random(3), Split::Anew(4)] {
                        script_with_room::<T>(&mut Driver::new(), split, 100, 1)
                            .hears(posdata(&structure))
                            .refuses(ProtocolError::NotFinite(Quantity::Positions));
                    }
                }
            }
        }
    }
    for odd in ODD {
        check::<f64>(odd);
        check::<f32>(odd);
    }
    // Too large for the caller's type.
    check::<f32>(1e300);
    says(
        ProtocolError::NotFinite(Quantity::Positions),
        &["positions", "NaN"],
    );
}

#[test]
fn the_numbers_of_the_structure_before_prove_nothing() {
    fn check<T: Scalar>() {
        let mut structure = atoms(100);
        let mut driver = Driver::new();
        script_with_room::<f64>(&mut driver, Split::Bytes, 100, 1)
            .hears(posdata(&structure))
            .tells(structure.event());
        driver.reset();
        structure.positions[1][1] = f64::NAN;
        script_with_room::<T>(&mut driver, Split::Random(5), 100, 1)
            .hears(posdata(&structure))
            .refuses(ProtocolError::NotFinite(Quantity::Positions));
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn the_rest_of_a_longer_array_may_hold_anything() {
    let mut driver = Driver::new();
    let mut positions = [[f64::NAN; 3]; 4];
    let message = posdata(&water());
    let event = run(driver.receive(&mut positions), &message);
    assert_eq!(event, Ok(water().event()));
    assert!(positions[3][0].is_nan());
}

#[test]
fn a_reply_that_is_not_finite() {
    for odd in ODD {
        at_every_split(|split| {
            let mut energy = golden_answer();
            energy.evaluation.energy = odd;
            let mut force = golden_answer();
            force.forces[0][2] = odd;
            let mut virial = golden_answer();
            virial.evaluation.virial.0[2][0] = odd;
            let mut driver = computing();
            script(&mut driver, split)
                .replies(&energy)
                .refuses(ProtocolError::NotFinite(Quantity::Energy))
                .replies(&force)
                .refuses(ProtocolError::NotFinite(Quantity::Forces))
                .replies(&virial)
                .refuses(ProtocolError::NotFinite(Quantity::Virial))
                // The driver is unchanged.
                .replies(&golden_answer())
                .hears([STATUS, GETFORCE].concat())
                .says([HAVEDATA, &hex(GOLDEN_FORCEREADY)].concat());
            // In single precision, and in the second structure of a batch.
            let mut driver = computing();
            script_with_room::<f32>(&mut driver, split, 1, 1)
                .replies(&force)
                .refuses(ProtocolError::NotFinite(Quantity::Forces));
            for (quantity, answer) in [
                (Quantity::Energy, &energy),
                (Quantity::Forces, &force),
                (Quantity::Virial, &virial),
            ] {
                script(&mut computing_two(), split)
                    .replies_batch(&[golden_answer(), answer.clone()])
                    .refuses(ProtocolError::NotFinite(quantity));
            }
        });
    }
}

#[test]
fn the_numbers_of_every_reply_are_looked_at() {
    at_every_split(|split| {
        let mut odd = golden_answer();
        odd.evaluation.energy = f64::NAN;
        let mut driver = Driver::new();
        let mut script = script(&mut driver, split);
        for _ in 0..2 {
            script = script
                .hears([&posdata(&golden()), GETFORCE].concat())
                .tells(golden().event())
                .replies(&odd)
                .refuses(ProtocolError::NotFinite(Quantity::Energy))
                .replies(&golden_answer())
                .says(hex(GOLDEN_FORCEREADY));
        }
    });
}

#[test]
fn what_is_not_finite_passes_where_it_is_allowed() {
    for odd in ODD {
        at_every_split(|split| {
            let mut structure = atoms(33);
            structure.positions[32] = [odd; 3];
            let mut answer = answer(33, odd, b"");
            answer.forces[32] = [odd; 3];
            let mut driver = Driver::new().allow_not_finite();
            script(&mut driver, split)
                .hears([&posdata(&structure), GETFORCE].concat())
                .tells(structure.event())
                .holds(&structure.positions)
                .replies(&answer)
                .says(forceready(&answer));
        });
    }
    // The cell contains NaN, so the event differs from itself.
    let mut structure = golden();
    structure.h[4] = f64::NAN;
    let mut driver = Driver::new().allow_not_finite();
    let event = run(driver.receive(&mut [[0.0; 3]]), &posdata(&structure));
    assert!(matches!(event, Ok(Event::Positions { .. })), "{event:?}");
}

// ---- replies ----

#[test]
fn a_reply_without_a_structure() {
    at_every_split(|split| {
        let answer = golden_answer();
        let mut driver = Driver::new();
        let reply = |driver: &mut Driver| {
            let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
            run(reply, b"")
        };
        assert_eq!(reply(&mut driver), Err(ProtocolError::NothingToReplyTo));
        script(&mut driver, split)
            .replies(&golden_answer())
            .refuses(ProtocolError::NothingToReplyTo)
            .then(|driver| assert_eq!(driver.status(), Header::Ready));
        // The driver is unchanged.
        script(&mut driver, split)
            .hears([&posdata(&golden()), GETFORCE].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .says(hex(GOLDEN_FORCEREADY))
            .reconnects()
            .replies(&golden_answer())
            .refuses(ProtocolError::NothingToReplyTo);
    });
    says(ProtocolError::NothingToReplyTo, &["receive one first"]);
}

#[test]
fn a_reply_of_another_length() {
    let wrong = |quantity, given, expected| ProtocolError::WrongLength {
        quantity,
        given,
        expected,
    };
    at_every_split(|split| {
        let mut driver = Driver::new();
        let mut script = script(&mut driver, split)
            .hears(posdata(&water()))
            .tells(water().event());
        for natoms in [0, 2, 4] {
            script = script.replies(&answer(natoms, 1.0, b"")).refuses(wrong(
                Quantity::Forces,
                natoms,
                3,
            ));
        }
        script
            .replies_batch(&[answer(1, 1.0, b""), answer(2, 1.0, b"")])
            .refuses(wrong(Quantity::Evaluations, 2, 1))
            .replies(&answer(3, 1.0, b""))
            .hears(GETFORCE)
            .says(forceready(&answer(3, 1.0, b"")));
    });

    let mut driver = computing_two();
    let answers = [golden_answer(), golden_answer()];
    let both = answers.each_ref().map(|it| it.evaluation);
    let forces = [[0.0; 3]; 2];
    assert_eq!(
        run(driver.reply(&both[0], &forces, b"{}"), b""),
        Err(wrong(Quantity::Evaluations, 1, 2))
    );
    let reply = driver.reply_batch(&both, &forces[..1], &[]);
    assert_eq!(run(reply, b""), Err(wrong(Quantity::Forces, 1, 2)));
    for extras in [&[&b"{}"[..]][..], &[b"", b"", b""]] {
        let reply = driver.reply_batch(&both, &forces, extras);
        let error = wrong(Quantity::Extras, extras.len(), 2);
        assert_eq!(run(reply, b""), Err(error));
    }
    script(&mut driver, Split::Whole)
        .replies_batch(&answers)
        .hears(GETFORCE)
        .says(forceready_batch(&answers));
    says(
        wrong(Quantity::Forces, 2, 3),
        &["forces", "length 2", "3 is needed"],
    );
}

/// Announced lengths must be kept: a reply that was begun is not completed with other arguments.
#[test]
fn a_reply_that_was_begun_is_not_finished_with_other_lengths() {
    let mut driver = computing();
    let answer = golden_answer();
    let long = vec![b'x'; 1000];
    let mut begun = driver.reply(&answer.evaluation, &answer.forces, &long);
    // Everything except the last 10 bytes of the extras.
    assert_eq!(move_at_most(&mut begun, GETFORCE, 1124 - 10), 1124 - 10);
    drop(begun);
    for len in [0, 10, 999, 1000, 1001, 2000] {
        let other = vec![b'y'; len];
        let error = ProtocolError::Unfinished(Header::ForceReady);
        let again = driver.reply(&answer.evaluation, &answer.forces, &other);
        assert_eq!(run(again, b""), Err(error));
    }
    let again = driver.reply(&answer.evaluation, &answer.forces, &long);
    assert_eq!(run(again, b""), Ok(()));
    assert_eq!(driver.traffic().sent, 1124);
}

/// 2 GiB of extras would not fit into memory, but a slice that is mapped and never touched works.
#[test]
#[cfg(target_pointer_width = "64")]
fn extras_too_long_to_be_announced() {
    let most = i32::MAX as usize;
    let extras = vec![0_u8; most + 1];
    let answer = golden_answer();
    let mut driver = computing();
    let reply = driver.reply(&answer.evaluation, &answer.forces, &extras);
    let error = ProtocolError::TextTooLong(most + 1);
    assert_eq!(run(reply, b""), Err(error));
    // The same limit holds for the second structure of a batch.
    let mut two = computing_two();
    let evaluations = [answer.evaluation; 2];
    let forces = [answer.forces[0]; 2];
    let both: [&[u8]; 2] = [b"{}", &extras];
    let reply = two.reply_batch(&evaluations, &forces, &both);
    assert_eq!(run(reply, b""), Err(error));
    // One byte less fits, and the driver is unchanged.
    let mut reply = driver.reply(&answer.evaluation, &answer.forces, &extras[..most]);
    assert_eq!(move_at_most(&mut reply, GETFORCE, 124), 124);
    says(error, &["2147483648 bytes", "2147483647"]);
}

// ---- ends ----

/// Wherever the stream ends, the driver has returned exactly the complete messages.
#[test]
fn the_stream_ends_at_each_byte_of_each_message() {
    let answer = answer(3, 1.0, b"{}");
    let messages: [(Option<Header>, Vec<u8>); 6] = [
        (Some(Header::Status), STATUS.to_vec()),
        (Some(Header::Init), init(1, "key : value")),
        (Some(Header::PosData), posdata(&water())),
        (Some(Header::Status), STATUS.to_vec()),
        (Some(Header::Init), init(2, "")),
        (Some(Header::GetForce), GETFORCE.to_vec()),
    ];
    let all = messages
        .each_ref()
        .map(|(_, bytes)| bytes.as_slice())
        .concat();
    for end in 0..=all.len() {
        for split in [Split::Whole, Split::Bytes, Split::Anew(end as u64)] {
            let came = |n: usize| end >= messages[..n].iter().map(|it| it.1.len()).sum();
            let mut driver = Driver::new();
            let mut script = script(&mut driver, split).hears(&all[..end]);
            if came(1) {
                script = script.says(READY);
            }
            if came(2) {
                script = script.tells(Event::Init { replica: 1 });
            }
            if came(3) {
                script = script.tells(water().event()).replies(&answer);
            }
            if came(6) {
                script = script
                    .says([HAVEDATA, &forceready(&answer)].concat())
                    .tells(Event::Init { replica: 2 });
            } else if came(4) {
                script = script.says(HAVEDATA);
            }
            let script = script.hears_the_end();
            // The message in which the stream ended, and the place in it.
            let mut after = end;
            let within = messages.iter().find_map(|(header, bytes)| {
                if after < bytes.len() {
                    Some(*header)
                } else {
                    after -= bytes.len();
                    None
                }
            });
            match within {
                Some(header) if after > 0 => {
                    let within = header.filter(|_| after >= 12);
                    script.refuses(ProtocolError::EndOfStream { within, after })
                }
                _ if came(5) && !came(6) => script
                    .tells(Event::Init { replica: 2 })
                    .tells(Event::Closed),
                _ => script.tells(Event::Closed),
            };
        }
    }
    says(
        ProtocolError::EndOfStream {
            within: Some(Header::PosData),
            after: 17,
        },
        &["closed", "inside POSDATA", "17 bytes", "connect again"],
    );
    says(
        ProtocolError::EndOfStream {
            within: None,
            after: 3,
        },
        &["inside a header", "3 bytes"],
    );
}

#[test]
fn the_stream_ends_at_each_byte_of_a_batch() {
    let batch = [water(), atoms(3)];
    let bytes = posdata_batch(&batch);
    for after in 1..bytes.len() {
        for split in [Split::Whole, Split::Anew(after as u64)] {
            let error = ProtocolError::EndOfStream {
                within: (after >= 12).then_some(Header::PosData),
                after,
            };
            script_with_room::<f32>(&mut Driver::new(), split, 6, 2)
                .hears(init(0, "batch_size:2"))
                .tells(Event::Init { replica: 0 })
                .hears(&bytes[..after])
                .hears_the_end()
                .refuses(error);
        }
    }
}

/// For any bytes, a driver ends with an event or an error and never with a panic.
#[test]
fn noise_is_refused() {
    let words: [&[u8]; 8] = [
        STATUS,
        GETFORCE,
        INIT,
        POSDATA,
        &[0, 0, 0, 0],
        &[2, 0, 0, 0],
        b"batch_size:2",
        &[0xff; 5],
    ];
    for seed in 0..2000 {
        let mut dice = Dice::new(seed);
        let mut noise = Vec::new();
        for _ in 0..dice.below(40) {
            match dice.below(12) {
                8 => noise.extend(posdata(&golden())),
                9 => noise.extend(init(0, "batch_size:2")),
                10 => noise.extend(posdata_batch(&[golden(), golden()])),
                11 => noise.extend(dice.roll().to_le_bytes()),
                word => noise.extend(words[word]),
            }
        }
        let mut driver = Driver::new().initialize(Initialize::Once);
        if seed % 2 == 0 {
            driver = driver.allow_changing_atoms().allow_not_finite();
        }
        let mut inbox = noise.as_slice();
        let mut positions = [[0.0_f32; 3]; 4];
        let mut cells = [UNTOUCHED_CELL; 2];
        let answers = [golden_answer(), golden_answer()];
        let evaluations = answers.each_ref().map(|it| it.evaluation);
        for round in 0.. {
            assert!(round < 100, "seed {seed} goes on for ever");
            match pour(driver.receive_batch(&mut cells, &mut positions), &mut inbox).0 {
                Ok(Event::Init { .. }) => {}
                Ok(Event::Positions {
                    natoms, structures, ..
                }) => {
                    let forces = vec![[1.0_f32; 3]; natoms * structures];
                    let reply = driver.reply_batch(&evaluations[..structures], &forces, &[]);
                    if pour(reply, &mut inbox).0.is_err() {
                        break;
                    }
                }
                Ok(Event::Exit | Event::Closed) | Err(_) => break,
                Ok(event) => panic!("{event:?}"),
            }
        }
        assert_eq!(
            driver.traffic().received as usize,
            noise.len() - inbox.len(),
            "seed {seed}"
        );
    }
}

// ---- without a script ----

/// A driver that has received a batch of two and is about to reply.
fn computing_two() -> Driver {
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears(init(0, "batch_size:2"))
        .tells(Event::Init { replica: 0 })
        .hears(posdata_batch(&[golden(), golden()]))
        .tells(Event::Positions {
            natoms: 1,
            structures: 2,
            cell: golden().cell(),
        });
    driver
}

/// The result of an exchange that receives everything from the server, then the end.
fn run<T: Exchange>(transfer: T, mut inbox: &[u8]) -> Result<T::Output, ProtocolError> {
    pour(transfer, &mut inbox).0
}

/// Lets an exchange receive everything and send at most this many bytes. Returns how many it sent.
fn move_at_most(transfer: &mut impl Exchange, mut inbox: &[u8], most: usize) -> usize {
    let mut said = 0;
    while said < most {
        match transfer.step().unwrap() {
            Step::Done(_) => break,
            Step::Read(slice) => {
                let n = slice.len().min(inbox.len());
                let (came, rest) = inbox.split_at(n);
                slice[..n].copy_from_slice(came);
                inbox = rest;
                transfer.advance(n);
            }
            Step::Write(slice) => {
                let n = slice.len().min(most - said);
                said += n;
                transfer.advance(n);
            }
        }
    }
    said
}
