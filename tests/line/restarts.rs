//! An end that restarts at any byte of a conversation.

use std::time::Duration;

use forcewire::line::{Fault, Role, State};

use crate::world::*;

/// Runs the conversation until one end has sent `bytes`, then restarts it. The rest runs over
/// connections that the board opens, as firmware does.
fn restarted(from: Role, bytes: usize, restart: impl Fn(&mut World)) {
    let mut world = World::new(conversation());
    world.most = 1;
    let sent = |world: &World| match from {
        Role::Board => world.to_host.sent.len(),
        Role::Host => world.to_board.sent.len(),
    };
    while sent(&world) < bytes && world.turn() {}
    restart(&mut world);
    world.most = usize::MAX;
    let end = world.now + Duration::from_secs(10);
    loop {
        while world.turn() {}
        if world.is_done() {
            return;
        }
        if matches!(world.board.state(), State::Closed | State::Failed(_)) {
            world.reopen();
        }
        assert!(world.now < end, "{from:?} restarted after {bytes} bytes");
        world.tick();
    }
}

#[test]
fn a_board_may_restart_after_any_byte() {
    for bytes in 0..1100 {
        restarted(Role::Board, bytes, World::restart_board);
    }
}

#[test]
fn a_host_may_restart_after_any_byte() {
    for bytes in 0..1100 {
        restarted(Role::Host, bytes, World::restart_host);
    }
}

#[test]
fn a_board_that_restarts_drops_what_it_was_sent_before() {
    let mut world = World::new(vec![
        (Role::Host, b"for the board as it was".to_vec()),
        (Role::Board, b"never".to_vec()),
    ]);
    world.reads = false;
    world.turn();
    world.reads = true;
    world.turn(); // OPENED
    world.reads = false;
    world.turn(); // the message is on the wire
    world.restart_board();
    world.reads = true;
    world.messages = vec![(Role::Host, b"for the new one".to_vec())];
    world.run(Duration::from_secs(5));
    assert!(world.is_done());
}

/// A restarted board may take the answer to its first request for the answer to its second, and
/// reply to data of the first connection.
#[test]
fn an_answer_to_an_earlier_connection_is_not_data_of_this_one() {
    let mut world = World::new(vec![]);
    world.speaks = false;
    world.reads = false;
    while world.turn() {}
    assert_eq!(world.host.state(), State::Open);
    world.host.put(b"asked in the first connection");
    world.host.end_message();
    while world.turn() {}
    world.restart_board();
    world.reads = true;
    world.turn();
    assert_eq!(world.host.state(), State::Opening);
    assert_eq!(world.host.last_fault(), Some(Fault::Restarted));
    assert_eq!(world.board.data(), b"asked in the first connection");
    world.board.consume(usize::MAX);
    world.board.put(b"answered");
    world.board.end_message();
    while world.turn() {
        assert_eq!(world.host.data(), b"");
    }
    assert_eq!(world.host.state(), State::Failed(Fault::Restarted));
    assert_eq!(world.board.state(), State::Failed(Fault::Reported));
}

#[test]
fn a_host_that_starts_ends_the_connection_of_the_one_before() {
    let mut world = World::new(conversation());
    world.speaks = false;
    while world.turn() {}
    assert_eq!(world.board.state(), State::Open);
    world.restart_host();
    while world.turn() {}
    assert_eq!(world.board.state(), State::Failed(Fault::Reported));
    assert_eq!(world.board.last_fault(), Some(Fault::Reported));
    world.reopen();
    assert_eq!(world.board.last_fault(), Some(Fault::Reported));
    while world.turn() {}
    assert_eq!(world.board.state(), State::Open);
    assert_eq!(world.board.last_fault(), None);
}
