//! One byte or several, damaged at every place.

use std::time::Duration;

use forcewire::line::{Fault, Role, State};

use crate::world::*;

/// Both ends must notice by then. The limit of a frame or a probe is a second, and a lost OPEN is
/// repeated after a second.
const LIMIT: Duration = Duration::from_secs(5);

/// The conversation without damage: the bytes sent to the board and to the host.
fn recorded() -> [(Role, Vec<u8>); 2] {
    let mut world = World::new(conversation());
    world.run(LIMIT);
    assert!(world.is_done());
    assert_eq!(world.board.state(), State::Closed);
    assert_eq!(world.host.state(), State::Closed);
    [
        (Role::Board, world.to_board.sent),
        (Role::Host, world.to_host.sent),
    ]
}

/// Runs the conversation with damage at every place. Received data are checked in `Program::run`.
/// Damage to data must be an error at the end that reads it.
fn damaged_everywhere(damages: &[Damage]) {
    for (to, sent) in recorded() {
        // OPEN or OPENED, data, CLOSE from the board; the host sends CLOSE first.
        let frames = frames(&sent);
        let data = match to {
            Role::Board => frames[2].start..sent.len(),
            Role::Host => frames[1].start..frames[frames.len() - 2].end,
        };
        for at in 0..sent.len() {
            for &damage in damages {
                let mut world = World::with_damage(conversation(), to, at, damage);
                // A burst may swallow many probes, or OPEN, which is only ten bytes a second.
                let is_long = matches!(damage, Damage::Burst(_)) || !data.contains(&at);
                world.host.set_silence(Some(8 * LIMIT));
                world.run(if is_long { 20 * LIMIT } else { LIMIT });
                let (reader, other) = match to {
                    Role::Board => (world.board.state(), world.host.state()),
                    Role::Host => (world.host.state(), world.board.state()),
                };
                let place = format!("{damage:?} at {at} to the {to:?}: {reader:?}, {other:?}");
                if data.contains(&at) && !is_after_the_last(damage, at + 1 == data.end) {
                    assert!(
                        matches!(
                            reader,
                            State::Failed(Fault::Damaged | Fault::Lost | Fault::Cut)
                        ) || is_long && is_silent([reader, other]),
                        "{place}"
                    );
                    assert!(
                        matches!(other, State::Failed(Fault::Reported) | State::Closed)
                            || is_long && is_silent([reader, other]),
                        "{place}"
                    );
                } else if [reader, other] == [State::Closed; 2] {
                    assert!(world.is_done(), "{place}");
                }
            }
        }
    }
}

fn is_silent(states: [State; 2]) -> bool {
    states.contains(&State::Failed(Fault::Silent))
}

/// A second end after the last frame does not damage data.
fn is_after_the_last(damage: Damage, is_last_byte: bool) -> bool {
    is_last_byte && matches!(damage, Damage::Doubled | Damage::Inserted(0))
}

#[test]
fn every_flipped_bit_is_an_error() {
    damaged_everywhere(&[0, 1, 2, 3, 4, 5, 6, 7].map(Damage::Flip));
}

#[test]
fn every_lost_byte_is_an_error() {
    damaged_everywhere(&[Damage::Lost]);
}

#[test]
fn every_doubled_byte_is_an_error() {
    damaged_everywhere(&[Damage::Doubled]);
}

#[test]
fn every_inserted_byte_is_an_error() {
    damaged_everywhere(&[0, 1, 2, 7, 0x55, 0xff].map(Damage::Inserted));
}

#[test]
fn every_burst_is_an_error() {
    damaged_everywhere(&[2, 20, 21, 22, 249, 600].map(Damage::Burst));
}

#[test]
fn a_lost_frame_is_an_error_whichever_it_is() {
    for (to, sent) in recorded() {
        for frame in frames(&sent) {
            let damage = Damage::Burst(frame.len());
            let mut world = World::with_damage(conversation(), to, frame.start, damage);
            world.run(2 * LIMIT);
            let states = [world.board.state(), world.host.state()];
            if states == [State::Closed; 2] {
                assert!(world.is_done(), "{frame:?} to the {to:?}");
            } else {
                let found = [Fault::Lost, Fault::Reported].map(State::Failed);
                assert!(
                    states.iter().any(|state| found.contains(state)),
                    "{states:?}"
                );
            }
        }
    }
}

#[test]
fn noise_is_never_data() {
    let mut dice = forcewire_support::Dice::new(7);
    for role in [Role::Board, Role::Host] {
        for _ in 0..200 {
            let mut world = World::new(conversation());
            world.speaks = false;
            while world.turn() {}
            let end = match role {
                Role::Board => &mut world.board,
                Role::Host => &mut world.host,
            };
            assert_eq!(end.state(), State::Open);
            for _ in 0..20 {
                let space = end.space();
                space.fill_with(|| dice.below(256) as u8);
                let n = space.len();
                end.received(n, world.now);
                assert_eq!(end.data(), b"");
            }
            assert_eq!(end.state(), State::Failed(Fault::Damaged));
        }
    }
}

#[test]
fn pieces_of_any_length_are_put_together() {
    for most in (1..=30).chain([248, 249, 250, 255, 256, 257]) {
        let mut world = World::new(conversation());
        world.most = most;
        world.run(LIMIT);
        assert!(world.is_done(), "{most} bytes at once");
    }
}

/// The lengths on the wire that the documentation of `forcewire::line` states.
#[test]
fn overhead_is_what_the_manual_says() {
    use forcewire_support::*;
    let on_the_wire = |messages: Vec<Message>| {
        let lengths = |messages| {
            let mut world = World::new(messages);
            world.run(LIMIT);
            world.to_board.sent.len() + world.to_host.sent.len()
        };
        lengths(messages) - lengths(vec![])
    };
    assert_eq!(on_the_wire(vec![(Role::Host, vec![7; 240])]), 249);
    assert_eq!(on_the_wire(vec![(Role::Host, STATUS.to_vec())]), 21);
    let classic = vec![
        (Role::Host, STATUS.to_vec()),
        (Role::Board, READY.to_vec()),
        (Role::Host, posdata(&atoms(64))),
        (Role::Host, STATUS.to_vec()),
        (Role::Board, HAVEDATA.to_vec()),
        (Role::Host, GETFORCE.to_vec()),
        (Role::Board, forceready(&answer(64, 0.5, b""))),
    ];
    let plain: usize = classic.iter().map(|(_, message)| message.len()).sum();
    let wire = on_the_wire(classic);
    let page = include_str!("../../src/line/mod.rs").replace("\n//!", "");
    let more = 100.0 * (wire - plain) as f64 / plain as f64;
    let memory = std::mem::size_of::<forcewire::line::Framing>();
    assert!(memory <= 700, "{memory} bytes");
    let says = format!("{wire} bytes on the wire instead of {plain}, {more:.1} % more");
    assert!(page.contains(&says), "{says}");
}
