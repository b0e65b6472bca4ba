//! A serial line: any bytes at one end, and two ends over a wire that damages what it carries.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use forcewire::line::{Framing, Role, State};

use super::choices::Choices;

const START: Duration = Duration::from_secs(1000);
/// What a frame on the wire has at most that is not data: an empty frame and one that says
/// something.
const CONTROL: usize = 13;

/// An even first byte: the rest of the bytes comes to one end. An odd one: they are decisions about two ends.
pub fn line(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let first = choices.byte();
    if first & 1 == 0 {
        hears(first >> 1, choices.0);
    } else {
        Ends::new(first >> 1).converse(choices);
    }
}

/// Bit 1: a host; bit 2: it has a connection, and then it does not matter how the bytes are cut.
fn hears(settings: u8, bytes: &[u8]) {
    let role = if settings & 1 == 1 {
        Role::Host
    } else {
        Role::Board
    };
    let piece = 1 + usize::from(settings >> 2);
    let heard = |piece| {
        let mut end = match (role, settings & 2 == 2) {
            (_, false) => Framing::new(role),
            (Role::Board, true) => opened().0,
            (Role::Host, true) => opened().1,
        };
        if settings & 2 == 0 && role == Role::Board {
            end.open(START);
        }
        let (mut rest, mut data, mut sent) = (bytes, Vec::new(), 0);
        while !rest.is_empty() {
            let space = end.space();
            assert!(!space.is_empty(), "nothing is read any more");
            let n = space.len().min(rest.len()).min(piece);
            let (came, later) = rest.split_at(n);
            space[..n].copy_from_slice(came);
            rest = later;
            end.received(n, START);
            while !end.data().is_empty() {
                assert!(end.data().len() <= 240);
                data.extend_from_slice(end.data());
                end.consume(usize::MAX);
            }
            sent += leave(&mut end).len();
        }
        assert!(data.len() <= bytes.len());
        let frames = bytes.iter().filter(|byte| **byte == 0).count();
        assert!(
            sent <= CONTROL * (frames + 2),
            "{sent} bytes for {frames} frames"
        );
        (data, end.state())
    };
    let whole = heard(usize::MAX);
    if settings & 2 == 2 {
        assert_eq!(heard(piece), whole);
        assert_eq!(heard(1), whole);
    } else {
        heard(piece);
    }
}

/// All that an end has for the line.
fn leave(end: &mut Framing) -> Vec<u8> {
    let mut left = Vec::new();
    loop {
        let bytes = end.outgoing();
        if bytes.is_empty() {
            return left;
        }
        left.extend_from_slice(bytes);
        let n = bytes.len();
        end.sent(n);
        assert!(left.len() < 4096, "it goes on for ever");
    }
}

/// A board and a host with a connection.
fn opened() -> (Framing, Framing) {
    let (mut board, mut host) = (Framing::new(Role::Board), Framing::new(Role::Host));
    leave(&mut host);
    board.open(START);
    come(&mut host, leave(&mut board));
    host.accept(START);
    come(&mut board, leave(&mut host));
    assert_eq!([board.state(), host.state()], [State::Open; 2]);
    (board, host)
}

fn come(end: &mut Framing, bytes: Vec<u8>) {
    end.space()[..bytes.len()].copy_from_slice(&bytes);
    end.received(bytes.len(), START);
}

/// Two ends, and the bytes between them. Index 0 is the board.
struct Ends {
    ends: [Framing; 2],
    /// Towards each end.
    wires: [VecDeque<u8>; 2],
    /// What each has put, and how much of the other's it has read, by connection.
    put: [HashMap<u8, Vec<u8>>; 2],
    read: [HashMap<u8, usize>; 2],
    /// Nothing has happened that may end a connection.
    calm: bool,
    now: Duration,
    most: usize,
}

impl Ends {
    fn new(settings: u8) -> Self {
        let (board, host) = opened();
        Self {
            ends: [board, host],
            wires: Default::default(),
            put: Default::default(),
            read: Default::default(),
            calm: true,
            now: START,
            most: 1 + 2 * usize::from(settings),
        }
    }

    fn converse(&mut self, mut choices: Choices) {
        while !choices.is_empty() {
            let what = choices.byte();
            let (end, what) = (usize::from(what & 1), what >> 1);
            match what % 8 {
                0 | 1 => self.put(end, usize::from(choices.byte())),
                2 => self.ends[end].end_message(),
                3 => self.leave(end),
                4 => self.arrive(end, usize::MAX),
                5 => self.damage(end, &mut choices),
                6 => {
                    self.calm = false;
                    self.now += Duration::from_millis(50 * u64::from(choices.byte()));
                    self.ends[end].elapsed(self.now);
                }
                _ => {
                    self.calm = false;
                    match end {
                        0 if self.ends[0].state() != State::Opening => self.ends[0].open(self.now),
                        _ => self.ends[end].close(),
                    }
                }
            }
        }
        // Whatever has happened, an end is left that can be read, and what is read was sent.
        for _ in 0..8 {
            for end in [0, 1] {
                self.ends[end].end_message();
                self.leave(end);
                self.arrive(end, usize::MAX);
            }
        }
        if self.calm {
            for end in [0, 1] {
                let session = self.ends[end].session();
                let put = self.put[1 - end].get(&session).map_or(0, Vec::len);
                let read = self.read[end].get(&session).copied().unwrap_or(0);
                assert_eq!(read, put, "of what was put some has not come");
            }
        }
    }

    /// Bytes that are others at each place, end and connection.
    fn put(&mut self, end: usize, n: usize) {
        let session = self.ends[end].session();
        for _ in 0..n {
            let all = self.put[end].entry(session).or_default();
            let place = all.len() as u32 * 4 + u32::from(session) * 1021 + end as u32 * 7;
            let byte = (place.wrapping_mul(2_654_435_761) >> 24) as u8;
            if self.ends[end].put(&[byte]) == 0 {
                self.leave(end);
                if self.ends[end].put(&[byte]) == 0 {
                    return;
                }
            }
            let all = self.put[end].entry(session).or_default();
            all.push(byte);
        }
    }

    fn leave(&mut self, end: usize) {
        let bytes = leave(&mut self.ends[end]);
        self.wires[1 - end].extend(bytes);
    }

    /// Has some of the bytes arrive, and reads what they bring.
    fn arrive(&mut self, end: usize, most: usize) {
        let mut rest = self.wires[end].len().min(most);
        while rest > 0 {
            let framing = &mut self.ends[end];
            let space = framing.space();
            let n = space.len().min(rest).min(self.most);
            assert!(n > 0, "nothing is read any more");
            for (to, from) in space.iter_mut().zip(self.wires[end].drain(..n)) {
                *to = from;
            }
            rest -= n;
            framing.received(n, self.now);
            while !self.ends[end].data().is_empty() {
                self.check(end);
            }
            if self.ends[1].state() == State::Opening {
                self.ends[1].accept(self.now);
            }
        }
    }

    /// What is read is what the other end has put, at its place in the same connection.
    fn check(&mut self, end: usize) {
        let framing = &mut self.ends[end];
        let session = framing.session();
        let read = self.read[end].entry(session).or_default();
        let data = framing.data();
        let put = self.put[1 - end]
            .get(&session)
            .map_or(&[][..], Vec::as_slice);
        let expected = put.get(*read..*read + data.len());
        assert_eq!(expected, Some(data), "not what was put");
        *read += data.len();
        framing.consume(usize::MAX);
    }

    /// Changes one byte under way, loses it, doubles it, or adds another.
    fn damage(&mut self, end: usize, choices: &mut Choices) {
        let wire = &mut self.wires[end];
        let (kind, place) = (choices.byte(), usize::from(choices.byte()));
        if wire.is_empty() {
            return;
        }
        self.calm = false;
        let place = place % wire.len();
        match kind % 4 {
            0 => wire[place] ^= 1 << (kind >> 5),
            1 => drop(wire.remove(place)),
            2 => wire.insert(place, wire[place]),
            _ => wire.insert(place, kind >> 2),
        }
    }
}
