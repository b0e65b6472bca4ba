//! A driver written by hand, whose answer depends on every number that it received.

use forcewire::{Exchange, ProtocolError, Step, Virial};

use forcewire_support::layout::{HEADER, INTEGER, MATRIX, Posdata, integer_at, numbers};
use forcewire_support::*;

/// A driver on the other side of a server.
pub struct Peer {
    initialize: bool,
    /// The number of structures per batch, if INIT has announced one.
    structures: usize,
    status: &'static [u8],
    replica: i32,
    inbox: Vec<u8>,
    computed: Vec<Answer>,
    /// All bytes for the server, how many of them it has read, and the start of the last answer.
    outbox: Vec<u8>,
    taken: usize,
    answer_from: usize,
    answer_len: usize,
    /// The last complete message.
    last: [u8; 12],
    pub posdata: usize,
    pub exited: bool,
}

/// This driver's answer to a structure that follows an INIT of this replica.
pub fn computes(replica: i32, h: &[f64; 9], positions: &[[f64; 3]]) -> Answer {
    let forces: Vec<_> = positions
        .iter()
        .map(|r| r.map(|x| 2.0 * x + h[0]))
        .collect();
    let sum: f64 = positions.as_flattened().iter().sum();
    let [a, b, c, .., d] = *h;
    Answer {
        evaluation: forcewire::Evaluation {
            energy: sum + f64::from(replica),
            virial: Virial([[a, b, c], [b, sum, d], [c, d, f64::from(replica)]]),
        },
        forces,
        extras: format!("{{\"sum\": {sum}, \"replica\": {replica}}}").into_bytes(),
    }
}

impl Peer {
    pub fn new(initialize: bool) -> Self {
        Self {
            initialize,
            structures: 1,
            status: if initialize { NEEDINIT } else { READY },
            replica: 0,
            inbox: vec![],
            computed: vec![],
            outbox: vec![],
            taken: 0,
            answer_from: usize::MAX,
            answer_len: 0,
            last: [b' '; 12],
            posdata: 0,
            exited: false,
        }
    }

    /// Whether INIT, or another message of the same write, has been received in part.
    pub fn is_in_init(&self) -> bool {
        self.inbox.starts_with(b"I") || self.last.starts_with(b"INIT")
    }

    /// Whether positions have begun to arrive.
    pub fn has_positions(&self) -> bool {
        self.posdata > 0 || self.inbox.starts_with(b"P")
    }

    /// How many bytes of the last answer the server has read.
    pub fn read(&self) -> usize {
        let read = self.taken.saturating_sub(self.answer_from);
        read.min(self.answer_len)
    }

    /// Whether the server has read all of the last answer.
    pub fn is_answered(&self) -> bool {
        self.answer_len > 0 && self.read() == self.answer_len
    }

    fn hears(&mut self, bytes: &[u8]) {
        self.inbox.extend(bytes);
        while let Some(len) = self.message() {
            let message: Vec<_> = self.inbox.drain(..len).collect();
            self.last.copy_from_slice(&message[..HEADER]);
            match &message[..HEADER] {
                STATUS => self.says(self.status),
                INIT => {
                    assert!(self.initialize && self.status == NEEDINIT, "INIT");
                    self.replica = integer_at(&message, HEADER);
                    let text = String::from_utf8(message[init(0, "").len()..].to_vec()).unwrap();
                    if let Some((_, size)) = text.split_once("batch_size:") {
                        self.structures = size.parse().unwrap();
                    }
                    self.status = READY;
                }
                POSDATA => {
                    assert_eq!(self.status, READY, "POSDATA");
                    self.computes(&message);
                    self.status = HAVEDATA;
                    self.posdata += 1;
                    self.answer_from = usize::MAX;
                }
                GETFORCE => {
                    assert_eq!(self.status, HAVEDATA, "GETFORCE");
                    let bytes = forceready_batch(&self.computed);
                    (self.answer_from, self.answer_len) = (self.outbox.len(), bytes.len());
                    self.outbox.extend(bytes);
                    self.status = READY;
                }
                EXIT => self.exited = true,
                _ => panic!("{}", message.escape_ascii()),
            }
        }
    }

    /// The length of the first message, if it is complete.
    fn message(&self) -> Option<usize> {
        let integer = |at: usize| {
            let bytes = self.inbox.get(at..at + INTEGER)?;
            usize::try_from(integer_at(bytes, 0)).ok()
        };
        let header = self.inbox.get(..HEADER)?;
        let len = match header {
            INIT => init(0, "").len() + integer(HEADER + INTEGER)?,
            POSDATA => {
                let natoms = integer(Posdata::batch(self.structures, 0).atoms())?;
                Posdata::batch(self.structures, natoms).end()
            }
            _ => HEADER,
        };
        (self.inbox.len() >= len).then_some(len)
    }

    fn computes(&mut self, message: &[u8]) {
        let natoms = integer_at(message, Posdata::batch(self.structures, 0).atoms());
        let places = Posdata::batch(self.structures, natoms as usize);
        let compute = |i: usize| {
            let h = numbers(&message[places.cell(i)..][..MATRIX]);
            let positions = numbers(&message[places.positions(i)..places.positions(i + 1)]);
            let h = h.first_chunk().unwrap();
            computes(self.replica, h, positions.as_chunks().0)
        };
        self.computed = (0..self.structures).map(compute).collect();
    }

    fn says(&mut self, bytes: &[u8]) {
        self.outbox.extend(bytes);
    }

    /// Moves at most this many bytes, in both directions together. Returns None if the exchange has
    /// not ended by then.
    pub fn serves<X: Exchange>(
        &mut self,
        exchange: &mut X,
        most: usize,
    ) -> Option<Result<X::Output, ProtocolError>> {
        let mut remaining = most;
        while remaining > 0 {
            let n = match exchange.step() {
                Err(error) => return Some(Err(error)),
                Ok(Step::Done(output)) => return Some(Ok(output)),
                Ok(Step::Write(bytes)) => {
                    let n = bytes.len().min(remaining);
                    self.hears(&bytes[..n]);
                    n
                }
                Ok(Step::Read(_)) if self.taken == self.outbox.len() => {
                    assert!(self.exited, "both sides wait");
                    exchange.end();
                    continue;
                }
                Ok(Step::Read(bytes)) => {
                    let sent = &self.outbox[self.taken..];
                    let n = bytes.len().min(remaining).min(sent.len());
                    bytes[..n].copy_from_slice(&sent[..n]);
                    self.taken += n;
                    n
                }
            };
            remaining -= n;
            exchange.advance(n);
        }
        None
    }
}
