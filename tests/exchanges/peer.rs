//! A driver written by hand, whose answer depends on every number that it received.

use forcewire::{Exchange, ProtocolError, Step, Virial};

use crate::common::*;

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
            self.last.copy_from_slice(&message[..12]);
            match &message[..12] {
                b"STATUS      " => self.says(self.status),
                b"INIT        " => {
                    assert!(self.initialize && self.status == NEEDINIT, "INIT");
                    self.replica = i32::from_le_bytes(message[12..16].try_into().unwrap());
                    let text = String::from_utf8(message[20..].to_vec()).unwrap();
                    if let Some((_, size)) = text.split_once("batch_size:") {
                        self.structures = size.parse().unwrap();
                    }
                    self.status = READY;
                }
                b"POSDATA     " => {
                    assert_eq!(self.status, READY, "POSDATA");
                    self.computes(&message[12..]);
                    self.status = HAVEDATA;
                    self.posdata += 1;
                    self.answer_from = usize::MAX;
                }
                b"GETFORCE    " => {
                    assert_eq!(self.status, HAVEDATA, "GETFORCE");
                    let bytes = forceready_batch(&self.computed);
                    (self.answer_from, self.answer_len) = (self.outbox.len(), bytes.len());
                    self.outbox.extend(bytes);
                    self.status = READY;
                }
                b"EXIT        " => self.exited = true,
                _ => panic!("{}", message.escape_ascii()),
            }
        }
    }

    /// The length of the first message, if it is complete.
    fn message(&self) -> Option<usize> {
        let integer = |at: usize| {
            let bytes = self.inbox.get(at..)?.first_chunk::<4>()?;
            usize::try_from(i32::from_le_bytes(*bytes)).ok()
        };
        let header = self.inbox.get(..12)?;
        let len = match header {
            b"INIT        " => 20 + integer(16)?,
            b"POSDATA     " => {
                let natoms = integer(if self.structures == 1 { 156 } else { 12 })?;
                16 + self.structures * (144 + 24 * natoms)
            }
            _ => 12,
        };
        (self.inbox.len() >= len).then_some(len)
    }

    fn computes(&mut self, message: &[u8]) {
        let reals = |bytes: &[u8]| -> Vec<f64> {
            let (numbers, _) = bytes.as_chunks();
            numbers.iter().map(|x| f64::from_le_bytes(*x)).collect()
        };
        let (cells, positions) = match self.structures {
            1 => (reals(&message[..144]), reals(&message[148..])),
            n => {
                let (cells, positions) = message[4..].split_at(144 * n);
                (reals(cells), reals(positions))
            }
        };
        let each = positions.len() / self.structures;
        let compute = |i: usize| {
            let h = cells[18 * i..].first_chunk().unwrap();
            computes(
                self.replica,
                h,
                positions[i * each..(i + 1) * each].as_chunks().0,
            )
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
