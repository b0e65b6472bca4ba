//! Sessions of three evaluations that fail at each received byte, over each shim, and are then
//! repeated without a fault. `cargo test --release --test every_byte -- --nocapture` prints the
//! number of cases.

use std::task::{Context, Poll, Waker};

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use forcewire::smoltcp::poll;
use forcewire::{
    Driver, Error, Event, Exchange, Initialize, Mode, ProtocolError, Request, Server, asynch,
    blocking,
};
use forcewire_support::network::Hosts;
use forcewire_support::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// No fault, but the bytes before this one and after it are read separately.
    Split,
    End,
    Reset,
    TimedOut,
    Interrupted,
    WrongByte,
}

const FAULTS: [Fault; 5] = [
    Fault::End,
    Fault::Reset,
    Fault::TimedOut,
    Fault::Interrupted,
    Fault::WrongByte,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shim {
    Blocking,
    Asynch,
    Smoltcp,
}

// ---- connections ----

/// The error of an exchange over any shim.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Protocol(ProtocolError),
    Reset,
    TimedOut,
}

/// A peer that has sent all its bytes, up to a fault.
struct Stream {
    inbox: Vec<u8>,
    read: usize,
    cut: usize,
    fault: Fault,
    failed: bool,
    /// The sizes of pieces, unless they are as large as possible.
    dice: Option<(Dice, usize)>,
    said: Vec<u8>,
}

impl ErrorType for Stream {
    type Error = ErrorKind;
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.read == self.cut && !self.failed {
            match self.fault {
                Fault::Split | Fault::WrongByte => self.failed = true,
                Fault::End => return Ok(0),
                Fault::Reset => return Err(ErrorKind::ConnectionReset),
                Fault::TimedOut => {
                    self.failed = true;
                    return Err(ErrorKind::TimedOut);
                }
                Fault::Interrupted => {
                    self.failed = true;
                    return Err(ErrorKind::Interrupted);
                }
            }
        }
        let end = if self.read < self.cut {
            self.cut
        } else {
            self.inbox.len()
        };
        let n = self.piece(buffer.len().min(end - self.read));
        buffer[..n].copy_from_slice(&self.inbox[self.read..][..n]);
        self.read += n;
        Ok(n)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let n = self.piece(bytes.len());
        self.said.extend(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl embedded_io_async::Read for Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        Read::read(self, buffer)
    }
}

impl embedded_io_async::Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        Write::write(self, bytes)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl Stream {
    fn piece(&mut self, most: usize) -> usize {
        match &mut self.dice {
            Some((dice, largest)) if most > 0 => most.min(1 + dice.below(*largest)),
            _ => most,
        }
    }
}

/// The same peer, over any shim.
struct Connection {
    shim: Shim,
    stream: Stream,
    hosts: Option<Hosts>,
}

impl Connection {
    fn new(shim: Shim, inbox: &[u8], cut: usize, fault: Fault) -> Self {
        let mut inbox = inbox.to_vec();
        if fault == Fault::WrongByte {
            inbox[cut] ^= 0x80;
        }
        let rings = (4096, 4096);
        Self {
            shim,
            stream: Stream {
                inbox,
                read: 0,
                cut,
                fault,
                failed: false,
                dice: None,
                said: Vec::new(),
            },
            hosts: (shim == Shim::Smoltcp).then(|| Hosts::new(rings, rings, 0)),
        }
    }

    /// Runs an exchange; after a time-out it is recreated.
    fn run<T: Exchange>(&mut self, transfer: T) -> Result<T::Output, Failure> {
        let result = match self.shim {
            Shim::Smoltcp => return self.polls(transfer),
            Shim::Blocking => blocking::run(&mut self.stream, transfer),
            Shim::Asynch => {
                let mut future = std::pin::pin!(asynch::run(&mut self.stream, transfer));
                let mut context = Context::from_waker(Waker::noop());
                // The future never waits, but yields from time to time.
                let mut polls = (0..100).map(|_| future.as_mut().poll(&mut context));
                let ready = polls.find_map(|polled| match polled {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                });
                ready.expect("it waits")
            }
        };
        result.map_err(|error| match error {
            Error::Protocol(error) => Failure::Protocol(error),
            Error::Transport(ErrorKind::TimedOut) => Failure::TimedOut,
            Error::Transport(ErrorKind::ConnectionReset) => Failure::Reset,
            error => panic!("{error:?}"),
        })
    }

    fn polls<T: Exchange>(&mut self, mut transfer: T) -> Result<T::Output, Failure> {
        let (stream, hosts) = (&mut self.stream, self.hosts.as_mut().unwrap());
        loop {
            let before = if stream.failed || stream.fault == Fault::WrongByte {
                stream.inbox.len()
            } else {
                stream.cut
            };
            let peer = hosts.server.socket();
            if peer.can_send() {
                stream.read += peer.send_slice(&stream.inbox[stream.read..before]).unwrap();
            }
            hosts.turn();
            let peer = hosts.server.socket();
            while peer.can_recv() {
                let take = |bytes: &mut [u8]| (bytes.len(), bytes.to_vec());
                stream.said.extend(peer.recv(take).unwrap());
            }
            let arrived = stream.read == before && peer.send_queue() == 0;
            match poll(hosts.driver.socket(), &mut transfer) {
                Ok(Poll::Ready(output)) => return Ok(output),
                Err(Error::Protocol(error)) => return Err(Failure::Protocol(error)),
                Err(Error::Transport(_)) => return Err(Failure::Reset),
                Err(error) => panic!("{error:?}"),
                Ok(Poll::Pending) => {}
            }
            if !arrived || hosts.driver.socket().recv_queue() > 0 {
                continue;
            }
            // Everything has been read, and the exchange waits for more.
            let ended = stream.failed || stream.fault == Fault::WrongByte;
            match stream.fault {
                Fault::Reset if !ended => hosts.server.socket().abort(),
                Fault::End => hosts.server.socket().close(),
                _ if ended => hosts.server.socket().close(),
                Fault::TimedOut => {
                    stream.failed = true;
                    return Err(Failure::TimedOut);
                }
                _ => stream.failed = true,
            }
        }
    }
}

// ---- sessions ----

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Driver,
    Server,
}

/// A machine of either role, which outlives its connections.
enum Machine {
    Driver(Box<Driver>),
    Server(Box<Server>),
}

struct Session {
    role: Role,
    mode: Mode,
    /// The received messages, and whether each completes an evaluation's numbers.
    messages: Vec<(Vec<u8>, bool)>,
    heard: Vec<u8>,
    said: Vec<u8>,
    /// The structures of each of three evaluations, and the answers to them.
    structures: Vec<Vec<Structure>>,
    answers: Vec<Vec<Answer>>,
}

/// The received numbers, bit by bit.
type Numbers = Vec<u64>;

fn bits<'a>(triples: impl IntoIterator<Item = &'a [f64; 3]>) -> impl Iterator<Item = u64> {
    let numbers: Vec<_> = triples.into_iter().flatten().map(|x| x.to_bits()).collect();
    numbers.into_iter()
}

impl Session {
    fn new(role: Role, mode: Mode) -> Self {
        let batch = if let Mode::Batched(size) = mode {
            size
        } else {
            1
        };
        let salt = |i: usize, j: usize| (1 + 2 * i + j) as f64 / 7.0;
        let structure = |i, j| cube(vec![[salt(i, j), -0.3, 9.0], [2.5, salt(j, i), 1e-9]]);
        let text = |j| if j == 0 { &b"{\"q\":[1]}"[..] } else { b"" };
        let structures: Vec<Vec<_>> = (0..3)
            .map(|i| (0..batch).map(|j| structure(i, j)).collect())
            .collect();
        let answers: Vec<Vec<_>> = (0..3)
            .map(|i| (0..batch).map(|j| answer(2, salt(i, j), text(j))).collect())
            .collect();
        let mut asks: Vec<(Vec<u8>, bool)> = vec![(STATUS.to_vec(), false)];
        let mut tells: Vec<(Vec<u8>, bool)> = Vec::new();
        if batch > 1 {
            tells.push((NEEDINIT.to_vec(), false));
            asks.push((init(0, format!("  batch_size:{batch}")), false));
            asks.push((STATUS.to_vec(), false));
        }
        tells.push((READY.to_vec(), false));
        for (structures, answers) in structures.iter().zip(&answers) {
            match structures.as_slice() {
                [structure] => asks.push((posdata(structure), true)),
                batch => asks.push((posdata_batch(batch), true)),
            }
            if mode == Mode::Classic {
                asks.push((STATUS.to_vec(), false));
                tells.push((HAVEDATA.to_vec(), false));
            }
            asks.push((GETFORCE.to_vec(), false));
            asks.push((STATUS.to_vec(), false));
            tells.push((forceready_batch(answers), true));
            tells.push((READY.to_vec(), false));
        }
        asks.push((EXIT.to_vec(), false));
        let whole = |messages: &[(Vec<u8>, bool)]| -> Vec<u8> {
            messages.iter().flat_map(|it| it.0.clone()).collect()
        };
        let (said, messages) = match role {
            Role::Driver => (whole(&tells), asks),
            Role::Server => (whole(&asks), tells),
        };
        Self {
            role,
            mode,
            heard: whole(&messages),
            messages,
            said,
            structures,
            answers,
        }
    }

    fn machine(&self) -> Machine {
        match self.role {
            Role::Driver => Machine::Driver(Box::new(match self.mode {
                Mode::Batched(_) => Driver::new().initialize(Initialize::Once),
                _ => Driver::new(),
            })),
            Role::Server => Machine::Server(Box::new(Server::new().mode(self.mode))),
        }
    }

    /// The message to which this byte belongs: its start, and the number of evaluations before it.
    fn message(&self, at: usize) -> (usize, usize, &(Vec<u8>, bool)) {
        let (mut start, mut evaluations) = (0, 0);
        for message in &self.messages {
            if at < start + message.0.len() {
                return (start, evaluations, message);
            }
            start += message.0.len();
            evaluations += usize::from(message.1);
        }
        panic!("{at} is behind the end")
    }

    /// The expected numbers of each evaluation, from the bytes written by hand.
    fn expected(&self) -> Vec<Numbers> {
        let answers = self.answers.iter().map(|answers| {
            let mut all: Numbers = bits(answers.iter().flat_map(|it| &it.forces)).collect();
            for answer in answers {
                all.push(answer.evaluation.energy.to_bits());
                all.extend(bits(&answer.evaluation.virial.0));
                all.extend(answer.extras.iter().map(|&byte| u64::from(byte)));
            }
            all
        });
        let structures = self.structures.iter().map(|structures| {
            let mut all: Numbers = bits(structures.iter().flat_map(|it| &it.positions)).collect();
            all.extend(
                structures
                    .iter()
                    .flat_map(|it| bits(it.cell().h()).collect::<Vec<_>>()),
            );
            all
        });
        match self.role {
            Role::Driver => structures.collect(),
            Role::Server => answers.collect(),
        }
    }

    /// The numbers of each reported evaluation, and the end of the session.
    fn run(
        &self,
        machine: &mut Machine,
        to: &mut Connection,
    ) -> (Vec<Numbers>, Result<(), Failure>) {
        let mut came = Vec::new();
        let result = match machine {
            Machine::Driver(driver) => self.drives(driver, to, &mut came),
            Machine::Server(server) => self.serves(server, to, &mut came),
        };
        (came, result)
    }

    fn drives(
        &self,
        driver: &mut Driver,
        to: &mut Connection,
        came: &mut Vec<Numbers>,
    ) -> Result<(), Failure> {
        let batch = self.structures[0].len();
        let mut cells = vec![UNTOUCHED_CELL; batch];
        let mut positions = vec![[UNTOUCHED; 3]; 2 * batch];
        loop {
            let event = again(|| to.run(driver.receive_batch(&mut cells, &mut positions)))?;
            match event {
                Event::Init { .. } => continue,
                Event::Exit | Event::Closed => return Ok(()),
                Event::Positions { .. } => {}
                event => panic!("{event:?}"),
            }
            let answers = &self.answers[came.len()];
            let mut all: Numbers = bits(&positions).collect();
            all.extend(match event {
                Event::Positions { cell, .. } if batch == 1 => bits(cell.h()).collect::<Vec<_>>(),
                _ => cells
                    .iter()
                    .flat_map(|it| bits(it.h()).collect::<Vec<_>>())
                    .collect(),
            });
            came.push(all);
            positions.fill([UNTOUCHED; 3]);
            cells.fill(UNTOUCHED_CELL);
            let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
            let forces: Vec<_> = answers.iter().flat_map(|it| it.forces.clone()).collect();
            let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
            again(|| to.run(driver.reply_batch(&evaluations, &forces, &extras)))?;
        }
    }

    fn serves(
        &self,
        server: &mut Server,
        to: &mut Connection,
        came: &mut Vec<Numbers>,
    ) -> Result<(), Failure> {
        for structures in &self.structures {
            let cells: Vec<_> = structures.iter().map(Structure::cell).collect();
            let positions: Vec<_> = structures
                .iter()
                .flat_map(|it| it.positions.clone())
                .collect();
            let mut answers = vec![forcewire::Answer::default(); cells.len()];
            let mut forces = vec![[UNTOUCHED; 3]; positions.len()];
            let mut extras = [0; 64];
            again(|| {
                let request = Request::batch(&cells, &positions);
                to.run(server.evaluate_batch(request, &mut answers, &mut forces, &mut extras))
            })?;
            let mut all: Numbers = bits(&forces).collect();
            for answer in &answers {
                all.push(answer.evaluation.energy.to_bits());
                all.extend(bits(&answer.evaluation.virial.0));
                all.extend(answer.extras(&extras).iter().map(|&byte| u64::from(byte)));
            }
            came.push(all);
        }
        again(|| to.run(server.exit()))
    }

    /// The whole session without a fault.
    #[track_caller]
    fn succeeds(&self, machine: &mut Machine, mut to: Connection, at: &str) {
        let (came, result) = self.run(machine, &mut to);
        assert_eq!(result, Ok(()), "{at}");
        assert_eq!(came, self.expected(), "{at}");
        // The last message may still be on its way to smoltcp's peer.
        let said = if to.shim == Shim::Smoltcp {
            &self.said[..to.stream.said.len()]
        } else {
            &self.said[..]
        };
        assert_eq!(to.stream.said, said, "{at}");
    }

    /// A session that fails at this byte, followed by another connection.
    fn fails(&self, shim: Shim, cut: usize, fault: Fault) {
        let at = &format!(
            "{:?} {:?} {shim:?} byte {cut} {fault:?}",
            self.role, self.mode
        );
        let mut to = Connection::new(shim, &self.heard, cut, fault);
        let mut machine = self.machine();
        if matches!(fault, Fault::TimedOut | Fault::Interrupted) {
            self.succeeds(&mut machine, to, at);
        } else {
            let (start, evaluations, (_, numbers)) = self.message(cut);
            let (came, result) = self.run(&mut machine, &mut to);
            // Each reported evaluation has arrived completely and is right.
            assert_eq!(came[..evaluations], self.expected()[..evaluations], "{at}");
            // A server is done after the third reply.
            let over = self.role == Role::Server && evaluations == 3;
            match fault {
                _ if over => {}
                Fault::Reset => assert_eq!(result, Err(Failure::Reset), "{at}"),
                Fault::End if cut > start => {
                    let ended = |error| matches!(error, ProtocolError::EndOfStream { after, .. } if after == cut - start);
                    assert!(
                        matches!(result, Err(Failure::Protocol(error)) if ended(error)),
                        "{at}: {result:?}"
                    );
                }
                // Between messages a server may end the conversation; a driver may not.
                Fault::End if self.role == Role::Server => {
                    let gone =
                        matches!(result, Err(Failure::Protocol(ProtocolError::Unanswered(_))));
                    assert!(gone, "{at}: {result:?}");
                }
                Fault::WrongByte if cut - start < 12 => {
                    let unknown = matches!(
                        result,
                        Err(Failure::Protocol(ProtocolError::UnknownHeader(_)))
                    );
                    assert!(unknown, "{at}: {result:?}");
                }
                _ => {}
            }
            if fault != Fault::WrongByte || cut - start < 12 {
                assert_eq!(
                    came.len(),
                    evaluations,
                    "{at}: an event with a part of a message"
                );
            } else if *numbers && result == Ok(()) {
                // The changed byte was part of a number, or of the inverse, which nothing uses; no
                // other number has changed.
                let behind = evaluations + 1;
                assert_eq!(came[behind..], self.expected()[behind..], "{at}");
            }
        }
        match &mut machine {
            Machine::Driver(driver) => driver.reset(),
            Machine::Server(server) => server.reset(),
        }
        let clean = Connection::new(shim, &self.heard, 0, Fault::Split);
        self.succeeds(&mut machine, clean, at);
    }
}

/// Repeats a call until it does not time out.
fn again<T>(mut call: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    loop {
        match call() {
            Err(Failure::TimedOut) => {}
            result => return result,
        }
    }
}

fn sessions() -> impl Iterator<Item = Session> {
    [Role::Driver, Role::Server].into_iter().flat_map(|role| {
        [Mode::Classic, Mode::Consolidated, Mode::Batched(2)].map(|mode| Session::new(role, mode))
    })
}

fn every_fault(shim: Shim) {
    let mut cases = 0;
    for session in sessions() {
        for cut in 0..session.heard.len() {
            for fault in FAULTS {
                session.fails(shim, cut, fault);
                cases += 1;
            }
        }
    }
    println!("{cases} cases over {shim:?}");
    assert!(cases > 20_000);
}

#[test]
fn every_fault_at_every_byte_over_a_blocking_stream() {
    every_fault(Shim::Blocking);
}

#[test]
fn every_fault_at_every_byte_over_an_asynchronous_stream() {
    every_fault(Shim::Asynch);
}

#[test]
fn every_fault_at_every_byte_over_smoltcp() {
    every_fault(Shim::Smoltcp);
}

#[test]
fn every_split_is_the_same_conversation() {
    let mut cases = 0;
    for session in sessions() {
        let mut one = |cut, dice: Option<(Dice, usize)>, shim, at: &str| {
            let mut to = Connection::new(shim, &session.heard, cut, Fault::Split);
            to.stream.dice = dice;
            session.succeeds(&mut session.machine(), to, at);
            cases += 1;
        };
        for shim in [Shim::Blocking, Shim::Asynch] {
            for cut in 0..session.heard.len() {
                one(cut, None, shim, &format!("split at {cut}"));
            }
            one(0, Some((Dice::new(1), 1)), shim, "byte by byte");
        }
        for seed in 0..100_000 / 6 + 1 {
            let pieces = [3, 12, 40, 400][seed as usize % 4];
            let shim = [Shim::Blocking, Shim::Asynch][seed as usize / 4 % 2];
            one(
                0,
                Some((Dice::new(seed), pieces)),
                shim,
                &format!("seed {seed}"),
            );
        }
    }
    println!("{cases} splits");
    assert!(cases > 100_000);
}
