//! Two ends of a line, a program at each, the bytes between them, and a virtual clock.

use std::collections::VecDeque;
use std::time::Duration;

use forcewire::line::{Framing, Role, State};

use forcewire_support::*;

/// A fault in one byte of one direction.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// This bit of the byte is flipped.
    Flip(u8),
    Lost,
    Doubled,
    /// This byte is inserted before the damaged place.
    Inserted(u8),
    /// The byte is lost, together with this many after it.
    Burst(usize),
}

/// One direction.
#[derive(Default)]
pub struct Wire {
    bytes: VecDeque<u8>,
    /// All bytes that were sent.
    pub sent: Vec<u8>,
    pub damage: Option<(usize, Damage)>,
}

impl Wire {
    fn carry(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let place = self.sent.len();
            self.sent.push(byte);
            match self.damage {
                Some((at, Damage::Flip(bit))) if at == place => {
                    self.bytes.push_back(byte ^ 1 << bit);
                }
                Some((at, Damage::Lost)) if at == place => {}
                Some((at, Damage::Doubled)) if at == place => self.bytes.extend([byte, byte]),
                Some((at, Damage::Inserted(new))) if at == place => self.bytes.extend([new, byte]),
                Some((at, Damage::Burst(n))) if (at..at + n).contains(&place) => {}
                _ => self.bytes.push_back(byte),
            }
        }
    }
}

/// A message and who sends it.
pub type Message = (Role, Vec<u8>);

/// A classic and a consolidated evaluation of 12 atoms, whose messages are two frames each.
pub fn conversation() -> Vec<Message> {
    let structure = atoms(12);
    let positions = posdata(&structure);
    let reply = forceready(&answer(12, 0.5, b"{}"));
    vec![
        (Role::Host, STATUS.to_vec()),
        (Role::Board, READY.to_vec()),
        (Role::Host, positions.clone()),
        (Role::Host, STATUS.to_vec()),
        (Role::Board, HAVEDATA.to_vec()),
        (Role::Host, GETFORCE.to_vec()),
        (Role::Board, reply.clone()),
        (Role::Host, [&positions[..], GETFORCE].concat()),
        (Role::Board, reply),
        (Role::Host, EXIT.to_vec()),
    ]
}

/// The program at one end: it sends its own messages and expects the others.
pub struct Program {
    role: Role,
    turn: usize,
    moved: usize,
}

impl Program {
    fn new(role: Role) -> Self {
        Self {
            role,
            turn: 0,
            moved: 0,
        }
    }

    /// Advances as far as possible. Everything that it reads must be right.
    fn run(&mut self, framing: &mut Framing, messages: &[Message]) {
        while let Some((sender, message)) = messages.get(self.turn) {
            let rest = &message[self.moved..];
            let n = if *sender == self.role {
                framing.put(rest)
            } else {
                let data = framing.data();
                let n = data.len().min(rest.len());
                assert_eq!(data[..n], rest[..n], "wrong data in message {}", self.turn);
                framing.consume(n);
                n
            };
            if n == 0 {
                return;
            }
            self.moved += n;
            if self.moved == message.len() {
                if *sender == self.role {
                    framing.end_message();
                }
                self.turn += 1;
                self.moved = 0;
            }
        }
    }
}

pub struct World {
    pub messages: Vec<Message>,
    pub board: Framing,
    pub host: Framing,
    pub to_board: Wire,
    pub to_host: Wire,
    pub board_program: Program,
    pub host_program: Program,
    pub now: Duration,
    /// The most bytes that arrive at once.
    pub most: usize,
    /// Whether the board reads, and whether the programs continue.
    pub reads: bool,
    pub speaks: bool,
    session: u8,
}

impl World {
    pub fn new(messages: Vec<Message>) -> Self {
        let mut board = Framing::new(Role::Board);
        let now = Duration::from_secs(1_000);
        board.open(now);
        Self {
            messages,
            board,
            host: Framing::new(Role::Host),
            to_board: Wire::default(),
            to_host: Wire::default(),
            board_program: Program::new(Role::Board),
            host_program: Program::new(Role::Host),
            now,
            most: usize::MAX,
            reads: true,
            speaks: true,
            session: 0,
        }
    }

    pub fn with_damage(messages: Vec<Message>, to: Role, at: usize, damage: Damage) -> Self {
        let mut world = Self::new(messages);
        match to {
            Role::Board => world.to_board.damage = Some((at, damage)),
            Role::Host => world.to_host.damage = Some((at, damage)),
        }
        world
    }

    /// Starts another board, with new programs on both sides.
    pub fn restart_board(&mut self) {
        self.board = Framing::new(Role::Board);
        self.reopen();
    }

    pub fn restart_host(&mut self) {
        self.host = Framing::new(Role::Host);
        self.session = 0;
        self.host_program = Program::new(Role::Host);
    }

    pub fn reopen(&mut self) {
        self.board.open(self.now);
        self.board_program = Program::new(Role::Board);
    }

    /// Moves as much as possible without waiting. Returns whether any bytes moved.
    pub fn turn(&mut self) -> bool {
        if self.host.state() == State::Opening {
            self.host.accept(self.now);
        }
        if self.host.session() != self.session {
            self.session = self.host.session();
            self.host_program = Program::new(Role::Host);
        }
        if self.speaks {
            self.board_program.run(&mut self.board, &self.messages);
            self.host_program.run(&mut self.host, &self.messages);
        }
        if self.speaks && self.board_is_done() && self.board.state() == State::Open {
            self.board.close();
        }
        let (now, most) = (self.now, self.most);
        send(&mut self.board, &mut self.to_host, most)
            | receive(&mut self.host, &mut self.to_host, most, now)
            | send(&mut self.host, &mut self.to_board, most)
            | (self.reads && receive(&mut self.board, &mut self.to_board, most, now))
    }

    pub fn tick(&mut self) {
        self.now += Duration::from_millis(100);
        self.host.elapsed(self.now);
        if self.reads {
            self.board.elapsed(self.now);
        }
    }

    pub fn board_is_done(&self) -> bool {
        self.board_program.turn == self.messages.len()
    }

    pub fn is_done(&self) -> bool {
        self.board_is_done() && self.host_program.turn == self.messages.len()
    }

    pub fn waiting_for_board(&self) -> usize {
        self.to_board.bytes.len()
    }

    /// Runs until neither end has a connection any more, which must be within a limit.
    pub fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            while self.turn() {}
            let has_ended = |state| matches!(state, State::Closed | State::Failed(_));
            if has_ended(self.board.state()) && has_ended(self.host.state()) {
                return;
            }
            assert!(
                self.now < end,
                "still {:?} and {:?} after {limit:?}",
                self.board.state(),
                self.host.state()
            );
            self.tick();
        }
    }
}

/// Returns whether any bytes were sent.
fn send(from: &mut Framing, wire: &mut Wire, most: usize) -> bool {
    let bytes = from.outgoing();
    let n = bytes.len().min(most);
    wire.carry(&bytes[..n]);
    from.sent(n);
    n > 0
}

/// Returns whether any bytes were received.
fn receive(to: &mut Framing, wire: &mut Wire, most: usize, now: Duration) -> bool {
    let space = to.space();
    let n = space.len().min(wire.bytes.len()).min(most);
    for (to, from) in space.iter_mut().zip(wire.bytes.drain(..n)) {
        *to = from;
    }
    to.received(n, now);
    n > 0
}

/// The ranges of the frames in these bytes, including their ends.
pub fn frames(sent: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    sent.split_inclusive(|byte| *byte == 0)
        .map(|frame| {
            start += frame.len();
            start - frame.len()..start
        })
        .filter(|frame| frame.len() > 1)
        .collect()
}
