//! Complete conversations with every kind of server, split at every byte.
//!
//! The server's bytes and the expected ones are written by hand (`support`). The order of messages
//! follows i-PI 3.3.1 (`ipi/interfaces/sockets.py`), ASE 3.29 (`ase/calculators/socketio.py`) and
//! IPICalculator.jl.

use forcewire::{Driver, Event, Exchange, Initialize, Parameters, ProtocolError, Step, Traffic};
use forcewire_support::*;

#[test]
fn the_bytes_of_these_tests_are_those_of_i_pi() {
    assert_eq!(posdata(&golden()), hex(GOLDEN_POSDATA));
    assert_eq!(forceready(&golden_answer()), hex(GOLDEN_FORCEREADY));
    assert_eq!(init(0, "  batch_size:3"), hex(GOLDEN_INIT));
    assert_eq!(posdata_batch(&golden_batch()), hex(GOLDEN_BATCH));
}

#[test]
fn the_bytes_of_i_pi_are_understood_and_answered() {
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            .hears(STATUS)
            .says(READY)
            .hears(hex(GOLDEN_POSDATA))
            .tells(golden().event())
            .holds(&[[1.5, -2.25, 0.125]])
            .holds_cells(&[golden().cell()])
            .replies(&golden_answer())
            .hears(STATUS)
            .says(HAVEDATA)
            .hears(GETFORCE)
            .says(hex(GOLDEN_FORCEREADY))
            .hears(EXIT)
            .tells(Event::Exit);
    });
}

// ---- servers ----

/// i-PI before 3.2, and later versions with `consolidate_messages` off.
#[test]
fn classic() {
    at_every_split(|split| {
        let mut driver = Driver::new();
        let mut script = script(&mut driver, split);
        for step in 0..5 {
            let answer = answer(3, f64::from(step), b"");
            script = script
                .hears(STATUS)
                .says(READY)
                .hears([&posdata(&water()), STATUS].concat())
                .tells(water().event())
                .replies(&answer)
                .says(HAVEDATA)
                .hears(GETFORCE)
                .says(forceready(&answer));
        }
        script.hears(EXIT).tells(Event::Exit);
    });
}

/// i-PI from 3.2 on.
#[test]
fn consolidated() {
    at_every_split(|split| {
        let mut driver = Driver::new();
        let mut script = script(&mut driver, split).hears(STATUS).says(READY);
        for step in 0..5 {
            let answer = answer(3, f64::from(step), b"{}");
            script = script
                .hears([&posdata(&water()), GETFORCE].concat())
                .tells(water().event())
                .holds(&water().positions)
                .replies(&answer)
                .says(forceready(&answer))
                .hears(STATUS)
                .says(READY);
        }
        script.hears(EXIT).tells(Event::Exit);
    });
}

#[test]
fn one_driver_takes_whichever_of_the_two_the_server_speaks() {
    at_every_split(|split| {
        let (first, second) = (answer(3, 1.0, b""), answer(3, 2.0, b""));
        script(&mut Driver::new(), split)
            .hears([&posdata(&water()), GETFORCE].concat())
            .tells(water().event())
            .replies(&first)
            .says(forceready(&first))
            .hears([STATUS, &posdata(&water()), STATUS, STATUS, GETFORCE].concat())
            .says(READY)
            .tells(water().event())
            .replies(&second)
            .says([HAVEDATA, HAVEDATA, &forceready(&second)].concat());
    });
}

/// i-PI with `batch_size`, which sends the number of atoms first and pads with the last structure.
#[test]
fn batched() {
    for size in [2, 3] {
        at_every_split(|split| {
            let mut structures = vec![golden(), cube(vec![[0.25, 1.0 / 3.0, -9.0]])];
            structures.resize(size, structures[1].clone());
            let answers: Vec<_> = (0..size)
                .map(|i| answer(1, i as f64, &b"{\"dipole\":[1,2,3]}"[..i * 9]))
                .collect();
            let mut driver = Driver::new().initialize(Initialize::Once);
            let mut script = script(&mut driver, split)
                .hears(STATUS)
                .says(NEEDINIT)
                .hears(init(0, format!("  batch_size:{size}")))
                .tells(Event::Init { replica: 0 })
                .hears(STATUS)
                .says(READY);
            for _ in 0..3 {
                let positions: Vec<_> = structures.iter().map(|it| it.positions[0]).collect();
                let cells: Vec<_> = structures.iter().map(|it| it.cell()).collect();
                script = script
                    .hears([&posdata_batch(&structures), GETFORCE].concat())
                    .tells(Event::Positions {
                        natoms: 1,
                        structures: size,
                        cell: golden().cell(),
                    })
                    .holds(&positions)
                    .holds_cells(&cells)
                    .replies_batch(&answers)
                    .says(forceready_batch(&answers))
                    .hears(STATUS)
                    .says(READY);
            }
            script.hears(EXIT).tells(Event::Exit);
        });
    }
}

#[test]
fn a_batch_written_out() {
    at_every_split(|split| {
        let cells = [2.0, 4.0].map(|edge| forcewire::Cell::orthorhombic([edge; 3]));
        script(&mut Driver::new(), split)
            .hears(init(0, " batch_size:2"))
            .tells(Event::Init { replica: 0 })
            .hears(hex(GOLDEN_BATCH))
            .tells(Event::Positions {
                natoms: 1,
                structures: 2,
                cell: cells[0],
            })
            .holds_cells(&cells)
            .holds(&[[1.5, 0.0, 0.0], [0.0, -2.25, 0.0]]);
    });
}

#[test]
fn a_batch_of_more_structures_than_the_scratch_has_room_for() {
    at_every_split(|split| {
        let structures: Vec<_> = (0..100)
            .map(|i| cube(vec![[f64::from(i), 0.1, 0.2]]))
            .collect();
        let answers: Vec<_> = (0..100)
            .map(|i| answer(1, i as f64, &[b' '; 99][..i]))
            .collect();
        let mut driver = Driver::new();
        script_with_room::<f64>(&mut driver, split, 100, 100)
            .hears(init(-1, "batch_size : 100"))
            .tells(Event::Init { replica: -1 })
            .hears([&posdata_batch(&structures), GETFORCE].concat())
            .tells(Event::Positions {
                natoms: 1,
                structures: 100,
                cell: water().cell(),
            })
            .replies_batch(&answers)
            .says(forceready_batch(&answers));
    });
}

#[test]
fn a_batch_without_extras_has_empty_ones() {
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
    let answers = [answer(1, 1.0, b""), answer(1, 2.0, b"")];
    let evaluations = answers.each_ref().map(|it| it.evaluation);
    let forces = answers.each_ref().map(|it| it.forces[0]);
    let reply = driver.reply_batch(&evaluations, &forces, &[]);
    let (result, said) = pour(reply, &mut &GETFORCE[..]);
    assert_eq!((result, said), (Ok(()), forceready_batch(&answers)));
}

#[test]
fn single_structures_come_as_ever_after_batches_are_over() {
    at_every_split(|split| {
        let answers = [answer(1, 1.0, b""), answer(1, 2.0, b"{}")];
        script(&mut Driver::new(), split)
            .hears(init(0, "batch_size:2"))
            .tells(Event::Init { replica: 0 })
            .hears([&posdata_batch(&[golden(), golden()]), GETFORCE].concat())
            .tells(Event::Positions {
                natoms: 1,
                structures: 2,
                cell: golden().cell(),
            })
            .replies_batch(&answers)
            .says(forceready_batch(&answers))
            .hears(init(0, " "))
            .tells(Event::Init { replica: 0 })
            .hears([&posdata(&golden()), GETFORCE].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .says(hex(GOLDEN_FORCEREADY));
    });
}

/// ASE sends one NUL as INIT's text, the transposed inverse, and never EXIT.
#[test]
fn ases_server() {
    at_every_split(|split| {
        let mut structure = golden();
        let [xx, xy, xz, yx, yy, yz, zx, zy, zz] = structure.inverse;
        structure.inverse = [xx, yx, zx, xy, yy, zy, xz, yz, zz];
        let mut driver = Driver::new().initialize(Initialize::Once);
        let mut script = script(&mut driver, split)
            .hears(STATUS)
            .says(NEEDINIT)
            .hears(init(0, "\0"))
            .tells(Event::Init { replica: 0 });
        for _ in 0..3 {
            script = script
                .hears(STATUS)
                .says(READY)
                .hears([&posdata(&structure), STATUS].concat())
                .tells(golden().event())
                .replies(&golden_answer())
                .says(HAVEDATA)
                .hears(GETFORCE)
                .says(hex(GOLDEN_FORCEREADY));
        }
        script.hears_the_end().tells(Event::Closed);
    });
}

/// One STATUS after the connection was made, an inverse of zeros, and POSDATA without STATUS before
/// it.
#[test]
fn ipi_calculator_jls_server() {
    at_every_split(|split| {
        let mut structure = golden();
        structure.inverse = [0.0; 9];
        let mut driver = Driver::new();
        let mut script = script(&mut driver, split).hears(STATUS).says(READY);
        for _ in 0..3 {
            script = script
                .hears([&posdata(&structure), STATUS].concat())
                .tells(golden().event())
                .replies(&golden_answer())
                .says(HAVEDATA)
                .hears(GETFORCE)
                .says(hex(GOLDEN_FORCEREADY));
        }
        script.hears(EXIT).tells(Event::Exit);
    });
}

// ---- INIT ----

#[test]
fn init_for_every_structure() {
    at_every_split(|split| {
        let mut driver = Driver::new().initialize(Initialize::EveryStep);
        let mut script = script(&mut driver, split);
        for replica in [0, 1, 2, -7] {
            script = script
                .hears(STATUS)
                .says(NEEDINIT)
                .hears(init(replica, " "))
                .tells(Event::Init { replica })
                .then(|driver| assert_eq!(driver.replica(), Some(replica)))
                .hears(STATUS)
                .says(READY)
                .hears([&posdata(&golden()), GETFORCE].concat())
                .tells(golden().event())
                .replies(&golden_answer())
                .says(hex(GOLDEN_FORCEREADY));
        }
        script.hears(STATUS).says(NEEDINIT);
    });
}

#[test]
fn init_is_asked_for_once_a_connection() {
    at_every_split(|split| {
        let mut driver = Driver::new().initialize(Initialize::Once);
        let mut script = script(&mut driver, split);
        for _ in 0..2 {
            script = script
                .then(|driver| assert_eq!((driver.replica(), driver.init_text()), (None, &[][..])))
                .hears(STATUS)
                .says(NEEDINIT)
                .hears(STATUS)
                .says(NEEDINIT)
                .hears(init(3, "k : 1 , "))
                .tells(Event::Init { replica: 3 })
                .hears([&posdata(&golden()), GETFORCE, STATUS].concat())
                .tells(golden().event())
                .replies(&golden_answer())
                .says([hex(GOLDEN_FORCEREADY), READY.to_vec()].concat())
                .hears_the_end()
                .tells(Event::Closed)
                .reconnects();
        }
    });
}

#[test]
fn init_of_any_length_is_understood_to_its_end() {
    for len in [0, 1, 255, 256, 257, 767, 768, 769, 5000] {
        at_every_split(|split| {
            // The last bytes announce the batch, as in i-PI.
            let end = " , batch_size:2";
            let text = match len {
                0 => String::new(),
                1 => " ".to_owned(),
                _ => format!("  note : {}{end}", "x".repeat(len - 9 - end.len())),
            };
            assert_eq!(text.len(), len);
            let mut driver = Driver::new().initialize(Initialize::Once);
            let script = script(&mut driver, split)
                .hears(init(5, &text))
                .tells(Event::Init { replica: 5 })
                .then(|driver| {
                    let kept = &text.as_bytes()[..len.min(256)];
                    assert_eq!(driver.init_text(), kept);
                })
                .hears(STATUS)
                .says(READY);
            if len < 2 {
                script.hears(posdata(&golden())).tells(golden().event());
            } else {
                script
                    .hears(posdata_batch(&[golden(), golden()]))
                    .tells(Event::Positions {
                        natoms: 1,
                        structures: 2,
                        cell: golden().cell(),
                    });
            }
        });
    }
}

/// i-PI's text for `<parameters>{'sigma': '6.43', 'name': 'argon'}</parameters>`, with a batch
/// after it.
#[test]
fn parameters_are_those_of_the_text() {
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears(init(0, "  sigma : 6.43 , name : argon , batch_size:4"))
        .tells(Event::Init { replica: 0 });
    let pairs = [("sigma", "6.43"), ("name", "argon"), ("batch_size", "4")];
    assert!(driver.parameters().eq(pairs));
    assert!(Parameters::new("\0").eq([]));

    script(&mut driver, Split::Whole)
        .hears(init(0, b" name : argon , note : \xff\xfe , last : 1"))
        .tells(Event::Init { replica: 0 });
    assert_eq!(driver.parameters().next(), Some(("name", "argon")));
    assert!(driver.parameters().all(|(key, _)| key != "last"));
}

/// A truncated number is another number.
#[test]
fn a_parameter_that_was_cut_is_left_out() {
    let text = format!("note : {} , epsilon : 0.0003793", "x".repeat(232));
    assert_eq!(text[..256].split(" : ").last(), Some("0.00"));
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears(init(0, text))
        .tells(Event::Init { replica: 0 });
    let found = driver.parameters().find(|(key, _)| *key == "epsilon");
    assert_eq!(found, None);
}

#[test]
fn init_is_taken_in_any_state() {
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            // INIT in the state Ready, although the driver did not ask for it.
            .hears(init(1, "a : 1"))
            .tells(Event::Init { replica: 1 })
            .hears(init(2, "a : 2"))
            .tells(Event::Init { replica: 2 })
            .hears(STATUS)
            .says(READY)
            // INIT between POSDATA and GETFORCE is reported after the reply that it interrupts.
            .hears([&posdata(&golden()), &*init(3, "a : 3")].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .hears([STATUS, GETFORCE].concat())
            .says([HAVEDATA, &hex(GOLDEN_FORCEREADY)].concat())
            .tells(Event::Init { replica: 3 })
            .then(|driver| assert_eq!(driver.init_text(), b"a : 3"))
            .hears(STATUS)
            .says(READY);
    });
}

#[test]
fn a_batch_that_is_announced_while_computing_begins_with_the_next_positions() {
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            .hears([&posdata(&golden()), &*init(0, "batch_size:2")].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .hears(GETFORCE)
            .says(hex(GOLDEN_FORCEREADY))
            .tells(Event::Init { replica: 0 })
            .hears(posdata_batch(&[golden(), golden()]))
            .tells(Event::Positions {
                natoms: 1,
                structures: 2,
                cell: golden().cell(),
            });
    });
}

#[test]
fn init_that_came_with_the_end_is_told_before_it() {
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            .hears(init(4, " "))
            .hears_the_end()
            .tells(Event::Init { replica: 4 })
            .tells(Event::Closed);
    });
}

// ---- headers ----

#[test]
fn status_is_answered_as_often_as_it_is_asked() {
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            .hears(STATUS.repeat(50))
            .says(READY.repeat(50))
            .hears(posdata(&golden()))
            .tells(golden().event())
            .replies(&golden_answer())
            .hears(STATUS.repeat(50))
            .says(HAVEDATA.repeat(50))
            .hears([GETFORCE, &STATUS.repeat(50)].concat())
            .says([hex(GOLDEN_FORCEREADY), READY.repeat(50)].concat());
    });
}

#[test]
fn headers_may_be_padded_with_nuls() {
    at_every_split(|split| {
        script(&mut Driver::new(), split)
            .hears(b"STATUS\0\0\0\0\0\0")
            .says(READY)
            .hears([b"INIT \0 \0 \0 \0", &init(0, "")[HEADER..]].concat())
            .tells(Event::Init { replica: 0 })
            .hears([b"POSDATA\0\0\0\0\0", &posdata(&golden())[HEADER..]].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .hears(b"GETFORCE   \0")
            .says(hex(GOLDEN_FORCEREADY))
            .hears(b"EXIT\0\0\0\0\0\0\0\0")
            .tells(Event::Exit);
    });
}

/// The bytes after which EXIT or an end of the stream is tried, and what the driver has sent by
/// then.
#[test]
fn exit_and_the_end_are_understood_at_each_boundary() {
    for last in [Event::Exit, Event::Closed] {
        for boundary in 0..5 {
            at_every_split(|split| {
                let mut driver = Driver::new().initialize(Initialize::Once);
                let mut script = script(&mut driver, split);
                if boundary > 0 {
                    script = script.hears(STATUS).says(NEEDINIT);
                }
                if boundary > 1 {
                    script = script.hears(init(0, "k")).tells(Event::Init { replica: 0 });
                }
                if boundary > 2 {
                    script = script
                        .hears([STATUS, &posdata(&golden())].concat())
                        .says(READY)
                        .tells(golden().event())
                        .replies(&golden_answer());
                }
                if boundary > 3 {
                    script = script.hears(STATUS).says(HAVEDATA);
                }
                if boundary > 4 {
                    script = script.hears(GETFORCE).says(hex(GOLDEN_FORCEREADY));
                }
                let script = match last {
                    Event::Exit => script.hears(EXIT),
                    _ => script.hears_the_end(),
                };
                // The event is returned any number of times.
                script.tells(last).hears("").tells(last);
            });
        }
    }
}

// ---- sizes ----

#[test]
fn systems_and_extras_of_every_size_around_that_of_the_scratch() {
    for natoms in [0, 1, 2, 26, 27, 28, 29, 31, 32, 33, 63, 64, 65, 100] {
        for extras in [0, 1, 20, 24, 28, 668, 700, 767, 768, 769, 5000] {
            let extras = vec![b'x'; extras];
            let structure = atoms(natoms);
            let answer = answer(natoms, 0.3, &extras);
            for split in [Split::Whole, Split::Random(7), Split::Anew(8)] {
                script(&mut Driver::new(), split)
                    .hears([&posdata(&structure), STATUS, GETFORCE, STATUS].concat())
                    .tells(structure.event())
                    .holds(&structure.positions)
                    .replies(&answer)
                    .says([HAVEDATA, &forceready(&answer), READY].concat());
            }
        }
    }
}

#[test]
fn every_byte_alone_for_systems_that_fill_the_scratch() {
    for natoms in [0, 27, 28, 31, 32, 33, 100] {
        for extras in [0, 1, 768, 769] {
            let structure = atoms(natoms);
            let answer = answer(natoms, 0.3, &vec![b'x'; extras]);
            script(&mut Driver::new(), Split::Bytes)
                .hears([&posdata(&structure), GETFORCE].concat())
                .tells(structure.event())
                .holds(&structure.positions)
                .replies(&answer)
                .says(forceready(&answer));
        }
    }
}

#[test]
fn single_precision_holds_rounded_numbers_and_sends_what_it_holds() {
    for natoms in [0, 1, 27, 28, 31, 32, 33, 100] {
        at_every_split(|split| {
            let structure = atoms(natoms);
            let exact = answer(natoms, 0.3, b"{}");
            let mut rounded = exact.clone();
            for x in rounded.forces.as_flattened_mut() {
                *x = f64::from(*x as f32);
            }
            let mut driver = Driver::new();
            let mut script = script_with_room::<f32>(&mut driver, split, 128, 1);
            for _ in 0..2 {
                script = script
                    .hears([&posdata(&structure), GETFORCE].concat())
                    .tells(structure.event())
                    .holds(&structure.positions)
                    .replies(&exact)
                    .says(forceready(&rounded));
            }
            drop(script);
            if natoms > 0 {
                assert_ne!(exact.forces, rounded.forces);
            }
        });
    }
}

#[test]
fn a_batch_in_single_precision() {
    at_every_split(|split| {
        let structures = [atoms(20), atoms(20), water()].map(|mut it| {
            it.positions.resize(20, [1.0 / 3.0; 3]);
            it
        });
        let mut answers = [1.0, 2.0, 3.0].map(|salt| answer(20, salt, b"{}"));
        for answer in &mut answers {
            for x in answer.forces.as_flattened_mut() {
                *x = f64::from(*x as f32);
            }
        }
        let positions: Vec<_> = structures.iter().flat_map(|it| &it.positions).collect();
        let positions: Vec<_> = positions.into_iter().copied().collect();
        let mut driver = Driver::new();
        script_with_room::<f32>(&mut driver, split, 60, 3)
            .hears(init(0, "batch_size:3"))
            .tells(Event::Init { replica: 0 })
            .hears([&posdata_batch(&structures), GETFORCE].concat())
            .tells(Event::Positions {
                natoms: 20,
                structures: 3,
                cell: water().cell(),
            })
            .holds(&positions)
            .replies_batch(&answers)
            .says(forceready_batch(&answers));
    });
}

/// Any number of positions arrives in one piece, unless their bytes have to be reversed.
#[test]
fn positions_come_straight_into_the_callers_array() {
    let mut positions = [[0.0; 3]; 1000];
    let array = positions.as_ptr().addr();
    let mut driver = Driver::new();
    let frame = &posdata(&atoms(1000))[..Posdata::of(1000).positions(0)];
    pour_some(driver.receive(&mut positions), &mut { frame }, frame.len());
    let mut receive = driver.receive(&mut positions);
    let Ok(Step::Read(bytes)) = receive.step() else {
        panic!("positions are to be read");
    };
    let straight = (bytes.as_ptr().addr(), bytes.len()) == (array, 24_000);
    assert_eq!(straight, cfg!(target_endian = "little"));
}

#[test]
fn a_caller_with_too_little_room_may_come_back_with_more() {
    at_every_split(|split| {
        let refusal = |capacity| ProtocolError::TooManyAtoms {
            announced: 3,
            capacity,
        };
        let mut driver = Driver::new();
        script_with_room::<f64>(&mut driver, split, 2, 1)
            .hears([&posdata(&water()), GETFORCE].concat())
            .refuses(refusal(2))
            .holds(&[])
            .with_room(0, 1)
            .refuses(refusal(0))
            .with_room(3, 1)
            .tells(water().event())
            .holds(&water().positions)
            .holds_cells(&[water().cell()])
            .replies(&answer(3, 1.0, b""))
            .says(forceready(&answer(3, 1.0, b"")));
    });
}

#[test]
fn a_caller_in_single_precision_may_come_back_too() {
    at_every_split(|split| {
        let mut driver = Driver::new();
        script_with_room::<f32>(&mut driver, split, 2, 1)
            .hears(posdata(&water()))
            .refuses(ProtocolError::TooManyAtoms {
                announced: 3,
                capacity: 2,
            })
            .holds(&[])
            .with_room(5, 0)
            .tells(water().event())
            .holds(&water().positions);
    });
}

/// A caller with too little memory may continue with `f32`, which needs half of it.
#[test]
fn a_caller_may_come_back_in_single_precision() {
    let mut driver = Driver::new();
    script_with_room::<f64>(&mut driver, Split::Whole, 2, 1)
        .hears(&posdata(&water())[..Posdata::of(3).positions(0)])
        .refuses(ProtocolError::TooManyAtoms {
            announced: 3,
            capacity: 2,
        });
    script_with_room::<f32>(&mut driver, Split::Whole, 4, 1)
        .hears(&posdata(&water())[Posdata::of(3).positions(0)..])
        .tells(water().event())
        .holds(&water().positions);
}

#[test]
fn a_caller_with_too_few_cells_may_come_back_with_more() {
    at_every_split(|split| {
        let batch = [water(), atoms(3), water()];
        let positions: Vec<_> = batch.iter().flat_map(|it| it.positions.clone()).collect();
        let cells = batch.each_ref().map(Structure::cell);
        let mut driver = Driver::new();
        script_with_room::<f64>(&mut driver, split, 8, 2)
            .hears(init(0, "batch_size:3"))
            .tells(Event::Init { replica: 0 })
            .hears([&posdata_batch(&batch), GETFORCE].concat())
            .refuses(ProtocolError::TooManyStructures {
                announced: 3,
                capacity: 2,
            })
            .with_room(8, 3)
            .refuses(ProtocolError::TooManyAtoms {
                announced: 9,
                capacity: 8,
            })
            .holds(&[])
            .holds_cells(&[])
            .with_room(9, 3)
            .tells(Event::Positions {
                natoms: 3,
                structures: 3,
                cell: cells[0],
            })
            .holds(&positions)
            .holds_cells(&cells);
    });
}

// ---- connections ----

#[test]
fn a_driver_is_as_new_after_exit_and_reset() {
    at_every_split(|split| {
        let mut driver = Driver::new();
        let mut script = script(&mut driver, split);
        // Each connection has another number of atoms.
        for natoms in [1, 33, 2] {
            let (structure, answer) = (atoms(natoms), answer(natoms, 1.0, b"{}"));
            script = script
                .hears([STATUS, &posdata(&structure), GETFORCE].concat())
                .says(READY)
                .tells(structure.event())
                .replies(&answer)
                .says(forceready(&answer))
                .hears(EXIT)
                .tells(Event::Exit)
                .reconnects();
        }
    });
}

/// The same holds for a server that dropped the driver while it was computing: it never receives
/// HAVEDATA.
#[test]
fn a_driver_is_as_new_after_a_reset_in_the_middle_of_anything() {
    let batch = [golden(), golden()];
    let messages = [
        STATUS,
        &init(1, "batch_size:2"),
        STATUS,
        &posdata_batch(&batch),
        STATUS,
        GETFORCE,
    ]
    .concat();
    let answers = [golden_answer(), golden_answer()];
    let event = Event::Positions {
        natoms: 1,
        structures: 2,
        cell: golden().cell(),
    };
    let whole = messages.len();
    for cut in 0..=whole {
        let mut driver = Driver::new().initialize(Initialize::Once);
        let mut stopped = script(&mut driver, Split::Random(cut as u64)).hears(&messages[..cut]);
        // NEEDINIT, INIT, READY, POSDATA, HAVEDATA, FORCEREADY, in this order.
        if cut >= 12 {
            stopped = stopped.says(NEEDINIT);
        }
        if cut >= 12 + 32 {
            stopped = stopped.tells(Event::Init { replica: 1 });
        }
        if cut >= 12 + 32 + 12 {
            stopped = stopped.says(READY);
        }
        if cut >= whole - 24 {
            stopped = stopped.tells(event).replies_batch(&answers);
        }
        if cut >= whole {
            stopped = stopped.says([HAVEDATA, &forceready_batch(&answers)].concat());
        } else if cut >= whole - 12 {
            stopped = stopped.says(HAVEDATA);
        }
        drop(stopped);

        driver.reset();
        assert_eq!(driver.natoms(), 0);
        script(&mut driver, Split::Random(cut as u64))
            .then(|driver| assert_eq!(driver.replica(), None))
            .hears(STATUS)
            .says(NEEDINIT)
            .hears(init(2, " "))
            .tells(Event::Init { replica: 2 })
            .hears([&posdata(&water()), GETFORCE].concat())
            .tells(water().event())
            .holds(&water().positions)
            .replies(&answer(3, 1.0, b""))
            .says(forceready(&answer(3, 1.0, b"")))
            .hears(STATUS)
            .says(READY);
    }
}

#[test]
fn a_driver_is_as_new_after_a_reset_at_each_byte_of_its_own_messages() {
    let reply = hex(GOLDEN_FORCEREADY);
    for cut in 0..12 + reply.len() {
        let mut driver = Driver::new();
        let mut positions = [[0.0; 3]];
        let mut inbox = [&posdata(&golden()), STATUS, GETFORCE].concat();
        let answer = golden_answer();
        let mut said = Vec::new();
        let _ = carry(driver.receive(&mut positions), &mut inbox, &mut said, cut);
        let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
        assert!(!carry(reply, &mut inbox, &mut said, cut));
        assert_eq!(said.len(), cut);
        driver.reset();
        script(&mut driver, Split::Bytes)
            .hears([STATUS, &posdata(&golden()), GETFORCE].concat())
            .says(READY)
            .tells(golden().event())
            .replies(&golden_answer())
            .says(hex(GOLDEN_FORCEREADY));
    }
}

#[test]
fn what_the_driver_was_told_to_be_survives_a_reset() {
    let mut driver = Driver::new()
        .initialize(Initialize::EveryStep)
        .allow_changing_atoms()
        .allow_not_finite();
    driver.reset();
    let odd = cube(vec![[f64::NAN, f64::INFINITY, 0.0]]);
    script(&mut driver, Split::Whole)
        .hears(STATUS)
        .says(NEEDINIT)
        .hears(init(0, ""))
        .tells(Event::Init { replica: 0 })
        .hears([&posdata(&odd), GETFORCE].concat())
        .tells(odd.event())
        .replies(&answer(1, 1.0, b""))
        .says(forceready(&answer(1, 1.0, b"")))
        .hears([&init(1, ""), &*posdata(&water())].concat())
        .tells(Event::Init { replica: 1 })
        .tells(water().event());
}

#[test]
fn a_server_that_leaves_while_the_driver_computes_ends_the_reply_too() {
    for last in [Event::Exit, Event::Closed] {
        at_every_split(|split| {
            let mut driver = Driver::new();
            let script = script(&mut driver, split)
                .hears([&posdata(&golden()), STATUS].concat())
                .tells(golden().event())
                .replies(&golden_answer())
                .says(HAVEDATA);
            match last {
                Event::Exit => script.hears(EXIT),
                _ => script.hears_the_end(),
            }
            .tells(last)
            .reconnects()
            .hears(STATUS)
            .says(READY);
        });
    }
}

#[test]
fn traffic_is_what_has_moved_over_all_connections() {
    at_every_split(|split| {
        let traffic = |received, sent| {
            move |driver: &Driver| assert_eq!(driver.traffic(), Traffic { received, sent })
        };
        script(&mut Driver::new(), split)
            .then(traffic(0, 0))
            .hears(STATUS)
            .says(READY)
            .then(traffic(12, 12))
            .hears(posdata(&water()))
            .tells(water().event())
            .then(traffic(12 + 160 + 72, 12))
            .replies(&answer(3, 1.0, b"{}"))
            .hears(GETFORCE)
            .says(forceready(&answer(3, 1.0, b"{}")))
            .then(traffic(12 + 232 + 12, 12 + 100 + 72 + 2))
            .hears(init(0, "abc"))
            .tells(Event::Init { replica: 0 })
            .hears("STAT")
            .then(traffic(256 + 23 + 4, 186))
            .reconnects()
            .hears(EXIT)
            .tells(Event::Exit)
            .then(traffic(256 + 23 + 4 + 12, 186));
    });
}

// ---- the caller's side ----

#[test]
fn positions_are_returned_once_and_await_a_reply() {
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears([&posdata(&golden()), GETFORCE].concat())
        .tells(golden().event())
        .hears("")
        .refuses(ProtocolError::ReplyDue)
        .then(|driver| {
            assert_eq!((driver.natoms(), driver.structures()), (1, 1));
            assert_eq!(driver.status(), forcewire::Header::HaveData);
        })
        .replies(&golden_answer())
        .says(hex(GOLDEN_FORCEREADY));
}

#[test]
fn a_reply_that_has_ended_is_not_made_again() {
    at_every_split(|split| {
        let mut driver = Driver::new();
        script(&mut driver, split)
            .hears([&posdata(&golden()), GETFORCE].concat())
            .tells(golden().event())
            .replies(&golden_answer())
            .says(hex(GOLDEN_FORCEREADY))
            .hears(STATUS)
            .says(READY)
            .replies(&golden_answer())
            .refuses(ProtocolError::NothingToReplyTo);
    });
}

/// A transport that miscounts gains nothing and does no harm to the conversation.
#[test]
fn bytes_that_were_not_asked_for_are_not_counted() {
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]];
    let mut receive = driver.receive(&mut positions);
    let mut message = hex(GOLDEN_POSDATA).into_iter();
    while let Ok(Step::Read(slice)) = receive.step() {
        slice.fill_with(|| message.next().unwrap());
        receive.advance(usize::MAX);
    }
    // The exchange is already over.
    receive.advance(7);
    drop(receive);
    assert_eq!(driver.traffic().received, 184);
    let answer = golden_answer();
    let mut reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    let (result, said) = pour(&mut reply, &mut &GETFORCE[..]);
    assert_eq!((result, said), (Ok(()), hex(GOLDEN_FORCEREADY)));
    reply.advance(7);
    let traffic = Traffic {
        received: 184 + 12,
        sent: 126,
    };
    drop(reply);
    assert_eq!(driver.traffic(), traffic);
    script(&mut driver, Split::Bytes).hears(STATUS).says(READY);
}

#[test]
fn nothing_is_said_before_it_can_be_finished() {
    // A reply is requested and was never made: no byte of it is sent.
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears([&posdata(&golden()), STATUS, GETFORCE].concat())
        .tells(golden().event());
    let mut positions = [[0.0; 3]];
    let mut receive = driver.receive(&mut positions);
    assert!(matches!(receive.step(), Err(ProtocolError::ReplyDue)));
}

#[test]
fn midway_is_inside_a_message_and_nowhere_else() {
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]];
    let answer = golden_answer();
    // Points at which nothing is owed: (the server's bytes, the driver's bytes).
    let inbox = [
        STATUS,
        &init(0, "k"),
        &posdata(&golden()),
        STATUS,
        GETFORCE,
        STATUS,
    ]
    .concat();
    let boundaries = [
        (0, 0),
        (12, 0), // the answer has not begun
        (12, 12),
        (33, 12),
        (217, 12),
        (229, 12),
        (229, 24),
        (241, 24), // nor has the reply
        (241, 150),
        (253, 150),
        (253, 162),
    ];
    let (mut heard, mut said) = (0, 0);
    let mut seen = Vec::new();
    while heard < inbox.len() || said < 162 {
        let mut note = |midway: bool, at: (usize, usize)| {
            assert_eq!(midway, !boundaries.contains(&at), "{at:?}");
            seen.extend((!midway && !seen.contains(&at)).then_some(at));
        };
        if driver.status() == forcewire::Header::HaveData {
            let mut reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
            note(reply.midway(), (heard, said));
            one_byte(&mut reply, &inbox, &mut heard, &mut said);
            note(reply.midway(), (heard, said));
        } else {
            let mut receive = driver.receive(&mut positions);
            note(receive.midway(), (heard, said));
            one_byte(&mut receive, &inbox, &mut heard, &mut said);
            note(receive.midway(), (heard, said));
            // Returns the event, now that the positions are complete.
            receive.step().unwrap();
        }
    }
    assert_eq!(seen, boundaries);
}

// ---- any order ----

/// Random legal orders: the answers follow the protocol's state diagram.
#[test]
fn conversations_in_any_legal_order() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let when = [Initialize::Never, Initialize::Once, Initialize::EveryStep][dice.below(3)];
        let asks = when != Initialize::Never;
        let mut driver = Driver::new().initialize(when).allow_changing_atoms();
        let mut script = script(&mut driver, Split::Anew(seed));
        let (mut ready, mut batch) = (!asks, 1);
        for _ in 0..40 {
            script = match dice.below(if ready { 4 } else { 2 }) {
                0 => script
                    .hears(STATUS)
                    .says(if ready { READY } else { NEEDINIT }),
                1 => {
                    batch = 1 + dice.below(4);
                    let replica = dice.below(9) as i32 - 4;
                    ready = true;
                    let text = [" ".to_owned(), format!(" , batch_size : {batch} , k:1")];
                    script
                        .hears(init(replica, &text[usize::from(batch > 1)]))
                        .tells(Event::Init { replica })
                }
                _ => {
                    let natoms = dice.below(33);
                    let structures: Vec<_> = (0..batch)
                        .map(|i| {
                            let mut it = atoms(natoms);
                            it.h[0] += i as f64;
                            it
                        })
                        .collect();
                    let answers: Vec<_> = (0..batch)
                        .map(|i| answer(natoms, i as f64, &vec![b'e'; dice.below(900)]))
                        .collect();
                    let message = match &structures[..] {
                        [one] => posdata(one),
                        all => posdata_batch(all),
                    };
                    let asked = dice.below(3);
                    ready = when != Initialize::EveryStep;
                    let told = Event::Positions {
                        natoms,
                        structures: batch,
                        cell: structures[0].cell(),
                    };
                    let pause = dice.below(13);
                    let rest = [STATUS.repeat(asked), GETFORCE.to_vec()].concat();
                    script
                        .hears([&message, &rest[..pause]].concat())
                        .tells(told)
                        .replies_batch(&answers)
                        .hears(&rest[pause..])
                        .says([HAVEDATA.repeat(asked), forceready_batch(&answers)].concat())
                }
            };
        }
    }
}

// ---- without a script ----

/// Runs an exchange until it is done, or until it has sent `room` bytes.
fn carry<T: Exchange>(
    mut transfer: T,
    inbox: &mut Vec<u8>,
    said: &mut Vec<u8>,
    room: usize,
) -> bool {
    loop {
        match transfer.step().unwrap() {
            Step::Done(_) => return true,
            Step::Read([]) | Step::Write([]) => panic!("an empty slice"),
            Step::Read(slice) => {
                let n = slice.len().min(inbox.len());
                slice[..n].copy_from_slice(&inbox[..n]);
                inbox.drain(..n);
                transfer.advance(n);
            }
            Step::Write(slice) => {
                let n = slice.len().min(room - said.len());
                said.extend(&slice[..n]);
                transfer.advance(n);
                if said.len() == room {
                    return false;
                }
            }
        }
    }
}

fn one_byte<T: Exchange>(transfer: &mut T, inbox: &[u8], heard: &mut usize, said: &mut usize) {
    match transfer.step().unwrap() {
        Step::Done(_) => return,
        Step::Read(slice) => {
            slice[0] = inbox[*heard];
            *heard += 1;
        }
        Step::Write(_) => *said += 1,
    }
    transfer.advance(1);
}

// ---- callers ----

/// A caller's count of moved bytes is limited to the slice.
#[test]
fn no_more_moves_than_was_asked_for() {
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    let mut receive = driver.receive(&mut positions);
    for (at, moved) in [(0, 5), (5, 100)] {
        let Ok(Step::Read(slice)) = receive.step() else {
            panic!("{receive:?}")
        };
        slice.copy_from_slice(&STATUS[at..]);
        receive.advance(moved);
    }
    assert!(matches!(receive.step(), Ok(Step::Write(answer)) if answer == READY));
    drop(receive);
    assert_eq!(driver.traffic().received, 12);
}

/// A driver in a log: its state, and no arrays.
#[test]
fn a_driver_in_a_log() {
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears(posdata(&water()))
        .tells(water().event());
    let text = format!("{driver:?}");
    assert!(text.starts_with("Driver {"), "{text}");
    for word in ["natoms: Some(3)", "received: "] {
        assert!(text.contains(word), "{text}");
    }
}
