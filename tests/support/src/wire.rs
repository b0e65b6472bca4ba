//! How the bytes of a conversation move: split in every way, to and from any exchange.

use std::collections::VecDeque;

use forcewire::{Exchange, ProtocolError, Step};

/// How the bytes of a conversation are split on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Split {
    /// All available bytes at once.
    Whole,
    /// One byte at a time.
    Bytes,
    /// Pieces of any size, from this seed.
    Random(u64),
    /// Pieces of any size; the exchange is dropped and recreated after each.
    Anew(u64),
}

/// Runs a conversation at every split.
pub fn at_every_split(conversation: impl Fn(Split)) {
    conversation(Split::Whole);
    conversation(Split::Bytes);
    for seed in 1..=4 {
        conversation(Split::Random(seed));
        conversation(Split::Anew(seed));
    }
}

/// Random numbers that are the same in every run (xorshift64).
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }
}

/// Moves at most this many bytes of an exchange, in both directions together, polls it and drops
/// it. Returns what it sent.
pub fn pour_some<X: Exchange>(mut transfer: X, inbox: &mut &[u8], most: usize) -> Vec<u8> {
    let said = pour_at_most(&mut transfer, inbox, most);
    match transfer.step() {
        Ok(_) => said,
        Err(error) => panic!("{error}"),
    }
}

/// Like [`pour_some`] without the last poll, for an exchange that may refuse to continue.
pub fn pour_at_most<X: Exchange>(mut transfer: X, inbox: &mut &[u8], most: usize) -> Vec<u8> {
    let mut said = Vec::new();
    let mut left = most;
    while left > 0 {
        let n = match transfer.step() {
            Err(_) | Ok(Step::Done(_)) => break,
            Ok(Step::Write(slice)) => {
                let n = slice.len().min(left);
                said.extend(&slice[..n]);
                n
            }
            Ok(Step::Read(_)) if inbox.is_empty() => break,
            Ok(Step::Read(slice)) => {
                let (came, rest) = inbox.split_at(slice.len().min(inbox.len()).min(left));
                slice[..came.len()].copy_from_slice(came);
                *inbox = rest;
                came.len()
            }
        };
        left -= n;
        transfer.advance(n);
    }
    said
}

/// Runs one exchange with the rest of its peer's bytes and then the end. Returns its result and
/// what it sent.
pub fn pour<X: Exchange>(
    mut transfer: X,
    inbox: &mut &[u8],
) -> (Result<X::Output, ProtocolError>, Vec<u8>) {
    let mut said = Vec::new();
    loop {
        match transfer.step() {
            Err(error) => return (Err(error), said),
            Ok(Step::Done(output)) => return (Ok(output), said),
            Ok(Step::Read([]) | Step::Write([])) => panic!("an empty slice"),
            Ok(Step::Write(slice)) => {
                said.extend(slice.iter());
                let n = slice.len();
                transfer.advance(n);
            }
            Ok(Step::Read(_)) if inbox.is_empty() => transfer.end(),
            Ok(Step::Read(slice)) => {
                let (came, rest) = inbox.split_at(slice.len().min(inbox.len()));
                slice[..came.len()].copy_from_slice(came);
                *inbox = rest;
                transfer.advance(came.len());
            }
        }
    }
}

/// A peer's bytes on their way to an exchange, and the bytes that the exchange has sent.
pub struct Wire {
    pub split: Split,
    dice: Dice,
    pub inbox: VecDeque<u8>,
    pub outbox: Vec<u8>,
    /// Whether the stream ends after the inbox.
    pub ended: bool,
}

/// Why an exchange pauses.
pub enum Pause<O> {
    /// The exchange waits for its peer.
    Waiting,
    /// The exchange has moved bytes and has to be recreated.
    Anew,
    Over(Result<O, ProtocolError>),
}

impl<O> Pause<O> {
    pub fn map<P>(self, map: impl FnOnce(O) -> P) -> Pause<P> {
        match self {
            Self::Waiting => Pause::Waiting,
            Self::Anew => Pause::Anew,
            Self::Over(result) => Pause::Over(result.map(map)),
        }
    }
}

impl Wire {
    pub fn new(split: Split) -> Self {
        let seed = match split {
            Split::Whole | Split::Bytes => 0,
            Split::Random(seed) | Split::Anew(seed) => seed,
        };
        Self {
            split,
            dice: Dice::new(seed),
            inbox: VecDeque::new(),
            outbox: Vec::new(),
            ended: false,
        }
    }

    /// Starts another connection.
    pub fn reconnect(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.ended = false;
    }

    /// Checks that exactly these bytes were sent since the last check.
    #[track_caller]
    pub fn has_said(&mut self, expected: &[u8]) {
        let said = std::mem::take(&mut self.outbox);
        let same = said
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        let around = |bytes: &[u8]| {
            let around = &bytes[same.saturating_sub(20)..bytes.len().min(same + 200)];
            around.escape_ascii().to_string()
        };
        assert!(
            said == expected,
            "{:?}: said {} bytes, expected {}, byte {same} differs; around it:\n{}\n{}",
            self.split,
            said.len(),
            expected.len(),
            around(&said),
            around(expected)
        );
    }

    /// Moves bytes until the exchange waits or is over, or after each piece if it has to be
    /// recreated.
    pub fn carry<X: Exchange>(&mut self, mut transfer: X) -> Pause<X::Output> {
        loop {
            let (looked, again) = (look(&mut transfer), look(&mut transfer));
            assert_eq!(looked, again, "the second look differs from the first");
            match transfer.step() {
                Err(error) => return Pause::Over(Err(error)),
                Ok(Step::Done(output)) => return Pause::Over(Ok(output)),
                Ok(Step::Read([]) | Step::Write([])) => panic!("an empty slice"),
                Ok(Step::Read(_)) if self.inbox.is_empty() && !self.ended => {
                    return Pause::Waiting;
                }
                Ok(Step::Read(_)) if self.inbox.is_empty() => transfer.end(),
                Ok(Step::Read(slice)) => {
                    let n = self.piece(slice.len().min(self.inbox.len()));
                    for (byte, heard) in slice.iter_mut().zip(self.inbox.drain(..n)) {
                        *byte = heard;
                    }
                    transfer.advance(n);
                }
                Ok(Step::Write(slice)) => {
                    let n = self.piece(slice.len());
                    self.outbox.extend(&slice[..n]);
                    transfer.advance(n);
                }
            }
            if let Split::Anew(_) = self.split {
                // A transport may report zero bytes.
                transfer.advance(0);
                return Pause::Anew;
            }
        }
    }

    fn piece(&mut self, most: usize) -> usize {
        match self.split {
            Split::Whole => most,
            Split::Bytes => 1,
            Split::Random(_) | Split::Anew(_) => 1 + self.dice.below(most),
        }
    }
}

/// A step: whether it reads, writes or neither, the address of its slice, and the number of bytes.
fn look<X: Exchange>(transfer: &mut X) -> (u8, usize, usize) {
    match transfer.step() {
        Ok(Step::Read(slice)) => (0, slice.as_ptr().addr(), slice.len()),
        Ok(Step::Write(slice)) => (1, slice.as_ptr().addr(), slice.len()),
        Ok(Step::Done(_)) => (2, 0, 0),
        Err(_) => (3, 0, 0),
    }
}
