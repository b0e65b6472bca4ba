//! Silent lines: idle ones, computing boards, lost ends.

use std::time::Duration;

use forcewire::line::{Fault, State};

use crate::world::*;

/// An open connection whose programs send nothing until `speaks` is set.
fn open() -> World {
    let mut world = World::new(conversation());
    world.speaks = false;
    while world.turn() {}
    assert_eq!(states(&world), [State::Open; 2]);
    world
}

fn states(world: &World) -> [State; 2] {
    [world.board.state(), world.host.state()]
}

fn pass(world: &mut World, seconds: u32) {
    for _ in 0..10 * seconds {
        while world.turn() {}
        world.tick();
    }
}

#[test]
fn an_idle_line_stays_open_for_a_day() {
    let mut world = open();
    pass(&mut world, 86_400);
    assert_eq!(states(&world), [State::Open; 2]);
    world.speaks = true;
    world.run(Duration::from_secs(1));
    assert!(world.is_done());
}

#[test]
fn a_board_may_compute_for_a_day_with_a_small_buffer() {
    let mut world = open();
    world.reads = false;
    pass(&mut world, 86_400);
    assert!(
        world.waiting_for_board() <= 17 * 9,
        "{}",
        world.waiting_for_board()
    );
    world.reads = true;
    // More than a second between two readings of the clock counts as one.
    world.board.elapsed(world.now);
    assert_eq!(states(&world), [State::Open; 2]);
    world.speaks = true;
    world.run(Duration::from_secs(1));
    assert!(world.is_done());
}

#[test]
fn a_board_notices_within_ten_seconds_that_its_host_is_gone() {
    let mut world = open();
    world.to_board.damage = Some((world.to_board.sent.len(), Damage::Burst(usize::MAX / 2)));
    pass(&mut world, 9);
    assert_eq!(world.board.state(), State::Open);
    pass(&mut world, 2);
    assert_eq!(world.board.state(), State::Failed(Fault::Silent));
    assert_eq!(world.host.state(), State::Failed(Fault::Reported));
}

#[test]
fn a_host_notices_that_its_board_is_gone_only_if_it_has_a_limit() {
    for limit in [None, Some(Duration::from_secs(60))] {
        let mut world = open();
        world.host.set_silence(limit);
        world.reads = false;
        pass(&mut world, 3_600);
        let expected = limit.map_or(State::Open, |_| State::Failed(Fault::Silent));
        assert_eq!(world.host.state(), expected);
    }
}

#[test]
fn a_connection_that_is_asked_for_is_asked_for_every_second() {
    let mut world = World::new(vec![]);
    let nothing = Damage::Burst(100);
    world.to_host.damage = Some((0, nothing));
    pass(&mut world, 20);
    assert_eq!(world.board.state(), State::Closed);
    assert!(world.to_host.sent.len() > 100);
}

#[test]
fn a_slow_line_is_no_cut_one() {
    let mut world = World::new(conversation());
    world.most = 1;
    for _ in 0..20_000 {
        world.turn();
        world.tick();
    }
    assert!(world.is_done());
}
