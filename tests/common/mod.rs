//! What the protocol's tests share: a conversation as a script, and the peer's bytes written out.
//!
//! Nothing here uses the code under test to make bytes. The layouts are those of i-PI 3.3.1
//! (`ipi/interfaces/sockets.py`), held against what its own code wrote in `conversations.rs`.

#![allow(dead_code)] // each test file uses its part

use std::collections::VecDeque;

use forcewire::{Cell, Driver, Evaluation, Event, ProtocolError, Scalar, Step, Transfer, Virial};

pub const STATUS: &[u8] = b"STATUS      ";
pub const GETFORCE: &[u8] = b"GETFORCE    ";
pub const EXIT: &[u8] = b"EXIT        ";
pub const NEEDINIT: &[u8] = b"NEEDINIT    ";
pub const READY: &[u8] = b"READY       ";
pub const HAVEDATA: &[u8] = b"HAVEDATA    ";

/// POSDATA of [`golden`], written by i-PI 3.3.1.
pub const GOLDEN_POSDATA: &str = "504f534441544120202020200000000000002440000000000000f03f0000000000000040000000000000\
    0000000000000000224000000000000008400000000000000000000000000000000000000000000020409a9999999999b93f176cc116\
    6cc186bf56555555555595bf00000000000000001cc7711cc771bc3f555555555555a5bf000000000000000000000000000000000000\
    00000000c03f01000000000000000000f83f00000000000002c0000000000000c03f";

/// FORCEREADY of [`golden_answer`], written by i-PI 3.3.1.
pub const GOLDEN_FORCEREADY: &str = "464f52434552454144592020000000000000e0bf01000000000000000000d03f000000000000c0bf\
    0000000000000040000000000000f03f0000000000000040000000000000084000000000000000400000000000001040000000000000\
    1440000000000000084000000000000014400000000000001840020000007b7d";

/// INIT of replica 0 with the text `  batch_size:3`, written by i-PI 3.3.1.
pub const GOLDEN_INIT: &str =
    "494e49542020202020202020000000000e000000202062617463685f73697a653a33";

/// Bytes from their hexadecimal digits.
pub fn hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        panic!("half a byte")
    };
    pairs
        .iter()
        .map(|&[high, low]| digit(high) << 4 | digit(low))
        .collect()
}

/// Numbers as a little-endian peer sends them.
pub fn reals(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// An integer as a little-endian peer sends it.
pub fn integer(value: i32) -> [u8; 4] {
    value.to_le_bytes()
}

/// What a server sends to be computed.
#[derive(Clone, Debug)]
pub struct Structure {
    /// Row by row: `ax bx cx ay by cy az bz cz`.
    pub h: [f64; 9],
    pub inverse: [f64; 9],
    pub positions: Vec<[f64; 3]>,
}

impl Structure {
    pub fn cell(&self) -> Cell {
        let [ax, bx, cx, ay, by, cy, az, bz, cz] = self.h;
        Cell::from_rows([[ax, bx, cx], [ay, by, cy], [az, bz, cz]])
    }

    /// The event that tells of this structure alone.
    pub fn event(&self) -> Event {
        Event::Positions {
            natoms: self.positions.len(),
            structures: 1,
            cell: self.cell(),
        }
    }
}

/// One atom in a triclinic cell, with i-PI's own inverse.
pub fn golden() -> Structure {
    Structure {
        h: [10.0, 1.0, 2.0, 0.0, 9.0, 3.0, 0.0, 0.0, 8.0],
        #[rustfmt::skip]
        inverse: [
            0.1, -0.011111111111111112, -0.020833333333333336,
            0.0, 0.1111111111111111, -0.041666666666666664,
            0.0, 0.0, 0.125,
        ],
        positions: vec![[1.5, -2.25, 0.125]],
    }
}

/// Three atoms in a cube.
pub fn water() -> Structure {
    cube(vec![[0.0, 0.0, 0.2], [0.0, 1.43, -0.9], [0.1, -1.43, -0.9]])
}

/// Any number of atoms in a cube, each number another one and none of them short in binary.
pub fn atoms(natoms: usize) -> Structure {
    let number = |i: usize| (i as f64 - 7.0) / 7.0;
    cube(
        (0..natoms)
            .map(|i| [number(3 * i), number(3 * i + 1), number(3 * i + 2)])
            .collect(),
    )
}

/// These atoms in a cube of 20 bohr.
pub fn cube(positions: Vec<[f64; 3]>) -> Structure {
    Structure {
        h: [20.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0, 20.0],
        inverse: [0.05, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.05],
        positions,
    }
}

pub fn init(replica: i32, text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let len = i32::try_from(text.len()).unwrap();
    [b"INIT        ", &integer(replica)[..], &integer(len), text].concat()
}

pub fn posdata(structure: &Structure) -> Vec<u8> {
    let natoms = i32::try_from(structure.positions.len()).unwrap();
    [
        b"POSDATA     ",
        &reals(&structure.h)[..],
        &reals(&structure.inverse),
        &integer(natoms),
        &reals(structure.positions.as_flattened()),
    ]
    .concat()
}

/// POSDATA of a batch: the number of atoms comes first.
pub fn posdata_batch(structures: &[Structure]) -> Vec<u8> {
    let natoms = i32::try_from(structures[0].positions.len()).unwrap();
    let mut bytes = [b"POSDATA     ", &integer(natoms)[..]].concat();
    for structure in structures {
        bytes.extend(reals(&structure.h));
        bytes.extend(reals(&structure.inverse));
    }
    for structure in structures {
        bytes.extend(reals(structure.positions.as_flattened()));
    }
    bytes
}

/// What a driver computed for one structure.
#[derive(Clone, Debug)]
pub struct Answer {
    pub evaluation: Evaluation,
    pub forces: Vec<[f64; 3]>,
    pub extras: Vec<u8>,
}

/// The answer of [`GOLDEN_FORCEREADY`].
pub fn golden_answer() -> Answer {
    Answer {
        evaluation: Evaluation {
            energy: -0.5,
            virial: Virial([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]),
        },
        forces: vec![[0.25, -0.125, 2.0]],
        extras: b"{}".to_vec(),
    }
}

/// An answer for any number of atoms; `salt` makes it another one.
pub fn answer(natoms: usize, salt: f64, extras: &[u8]) -> Answer {
    let number = |i: usize| salt - i as f64 / 3.0;
    Answer {
        evaluation: Evaluation {
            energy: salt * -1.25,
            virial: Virial([[salt, 0.1, 0.2], [0.1, -salt, 0.3], [0.2, 0.3, 0.7]]),
        },
        forces: (0..natoms)
            .map(|i| [number(3 * i), number(3 * i + 1), number(3 * i + 2)])
            .collect(),
        extras: extras.to_vec(),
    }
}

pub fn forceready(answer: &Answer) -> Vec<u8> {
    forceready_batch(std::slice::from_ref(answer))
}

pub fn forceready_batch(answers: &[Answer]) -> Vec<u8> {
    let natoms = i32::try_from(answers[0].forces.len()).unwrap();
    let mut bytes = b"FORCEREADY  ".to_vec();
    for answer in answers {
        bytes.extend(answer.evaluation.energy.to_le_bytes());
    }
    bytes.extend(integer(natoms));
    for answer in answers {
        bytes.extend(reals(answer.forces.as_flattened()));
    }
    for answer in answers {
        bytes.extend(reals(answer.evaluation.virial.0.as_flattened()));
    }
    for answer in answers {
        bytes.extend(integer(i32::try_from(answer.extras.len()).unwrap()));
        bytes.extend(&answer.extras);
    }
    bytes
}

/// How the bytes of a conversation are cut on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Split {
    /// As much as there is.
    Whole,
    /// One byte at a time.
    Bytes,
    /// Pieces of any size, from this seed.
    Random(u64),
    /// Such pieces, and the transfer is dropped and made again after each.
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

/// Numbers that are the same in every run (xorshift64).
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Begins a script for a driver with room for 128 atoms and 4 structures, in double precision.
pub fn script(driver: &mut Driver, split: Split) -> Script<'_, f64> {
    script_with_room(driver, split, 128, 4)
}

/// Begins a script for a driver with this much room.
pub fn script_with_room<T: Scalar>(
    driver: &mut Driver,
    split: Split,
    natoms: usize,
    structures: usize,
) -> Script<'_, T> {
    let seed = match split {
        Split::Whole | Split::Bytes => 0,
        Split::Random(seed) | Split::Anew(seed) => seed,
    };
    Script {
        driver,
        split,
        dice: Dice::new(seed),
        inbox: VecDeque::new(),
        outbox: Vec::new(),
        ended: false,
        cells: vec![UNTOUCHED_CELL; structures],
        positions: vec![[T::from_f64(UNTOUCHED); 3]; natoms],
        replying: None,
        outcome: None,
    }
}

/// What arrays hold before anything has come.
pub const UNTOUCHED: f64 = -777.0;
pub const UNTOUCHED_CELL: Cell = Cell::from_rows([[UNTOUCHED; 3]; 3]);

/// A conversation, line by line; whatever the driver says or tells must be expected by the next line.
pub struct Script<'d, T: Scalar> {
    pub driver: &'d mut Driver,
    split: Split,
    dice: Dice,
    inbox: VecDeque<u8>,
    outbox: Vec<u8>,
    ended: bool,
    cells: Vec<Cell>,
    positions: Vec<[T; 3]>,
    /// What is being replied, for each structure.
    replying: Option<Vec<Answer>>,
    outcome: Option<Result<Event, ProtocolError>>,
}

impl<T: Scalar> Script<'_, T> {
    /// The server sends these bytes.
    pub fn hears(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.inbox.extend(bytes.as_ref());
        self.go_on();
        self
    }

    /// The server closes its side.
    pub fn hears_the_end(mut self) -> Self {
        self.ended = true;
        self.go_on();
        self
    }

    /// The driver has sent exactly these bytes since the last line that said so.
    #[track_caller]
    pub fn says(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let (said, expected) = (std::mem::take(&mut self.outbox), bytes.as_ref());
        let same = said
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            said == expected,
            "{:?}: said {} bytes, expected {}, byte {same} differs:\n{}\n{}",
            self.split,
            said.len(),
            expected.len(),
            said.escape_ascii(),
            expected.escape_ascii()
        );
        self
    }

    /// The exchange ends with this event.
    #[track_caller]
    pub fn tells(mut self, event: Event) -> Self {
        assert_eq!(self.outcome.take(), Some(Ok(event)), "{:?}", self.split);
        if let Event::Init { .. } = event {
            self.go_on();
        }
        self
    }

    /// The exchange ends with this error, again and again.
    #[track_caller]
    pub fn refuses(mut self, error: ProtocolError) -> Self {
        // NaN is not itself, but no error holds a number.
        assert_eq!(self.outcome.take(), Some(Err(error)), "{:?}", self.split);
        self.go_on();
        assert_eq!(self.outcome.take(), Some(Err(error)), "{:?}", self.split);
        self
    }

    /// The caller's array begins with these positions, rounded as it must be, and goes on untouched.
    #[track_caller]
    pub fn holds(self, positions: &[[f64; 3]]) -> Self {
        let bits = |triples: &[[T; 3]]| -> Vec<u64> {
            let numbers = triples.as_flattened().iter();
            numbers.map(|x| x.to_f64().to_bits()).collect()
        };
        let mut expected = vec![[T::from_f64(UNTOUCHED); 3]; self.positions.len()];
        for (expected, position) in expected.iter_mut().zip(positions) {
            *expected = position.map(T::from_f64);
        }
        assert_eq!(bits(&self.positions), bits(&expected), "{:?}", self.split);
        self
    }

    /// The caller's cells begin with these and go on untouched.
    #[track_caller]
    pub fn holds_cells(self, cells: &[Cell]) -> Self {
        let mut expected = vec![UNTOUCHED_CELL; self.cells.len()];
        expected[..cells.len()].copy_from_slice(cells);
        assert_eq!(self.cells, expected, "{:?}", self.split);
        self
    }

    /// The caller comes back with arrays of this size.
    pub fn with_room(mut self, natoms: usize, structures: usize) -> Self {
        self.positions = vec![[T::from_f64(UNTOUCHED); 3]; natoms];
        self.cells = vec![UNTOUCHED_CELL; structures];
        self.go_on();
        self
    }

    /// The caller hands back what it computed.
    pub fn replies(self, answer: &Answer) -> Self {
        self.replies_batch(std::slice::from_ref(answer))
    }

    /// The caller hands back what it computed for a batch.
    pub fn replies_batch(mut self, answers: &[Answer]) -> Self {
        self.replying = Some(answers.to_vec());
        self.go_on();
        self
    }

    /// The caller resets the driver and connects again.
    pub fn reconnects(mut self) -> Self {
        self.driver.reset();
        self.inbox.clear();
        self.outbox.clear();
        self.ended = false;
        self.replying = None;
        self.outcome = None;
        self
    }

    /// Looks at the driver.
    pub fn then(self, look: impl FnOnce(&Driver)) -> Self {
        look(self.driver);
        self
    }

    /// Moves bytes until the driver waits for more or has something to tell.
    fn go_on(&mut self) {
        while self.outcome.is_none() {
            match self.replying.take() {
                None => {
                    if !self.receive() {
                        return;
                    }
                }
                Some(answers) => {
                    if !self.reply(&answers) {
                        self.replying = Some(answers);
                        return;
                    }
                }
            }
        }
    }

    /// Whether there is an outcome.
    fn receive(&mut self) -> bool {
        let mut wire = Wire {
            split: self.split,
            dice: &mut self.dice,
            inbox: &mut self.inbox,
            outbox: &mut self.outbox,
            ended: self.ended,
        };
        self.outcome = loop {
            let transfer = self
                .driver
                .receive_batch(&mut self.cells, &mut self.positions);
            match wire.carry(transfer) {
                Pause::Anew => {}
                Pause::Waiting => break None,
                Pause::Over(outcome) => break Some(outcome),
            }
        };
        self.outcome.is_some()
    }

    /// Whether all of the reply has been sent.
    fn reply(&mut self, answers: &[Answer]) -> bool {
        let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
        let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
        let forces = answers.iter().flat_map(|it| &it.forces);
        let forces: Vec<_> = forces.map(|it| it.map(T::from_f64)).collect();
        let mut wire = Wire {
            split: self.split,
            dice: &mut self.dice,
            inbox: &mut self.inbox,
            outbox: &mut self.outbox,
            ended: self.ended,
        };
        loop {
            let pause = match (evaluations.as_slice(), extras.as_slice()) {
                ([evaluation], [extras]) => {
                    wire.carry(self.driver.reply(evaluation, &forces, extras))
                }
                _ => wire.carry(self.driver.reply_batch(&evaluations, &forces, &extras)),
            };
            match pause {
                Pause::Anew => {}
                Pause::Waiting => return false,
                Pause::Over(Ok(())) => return true,
                Pause::Over(Err(error)) => {
                    self.outcome = Some(Err(error));
                    return false;
                }
            }
        }
    }
}

impl<T: Scalar> Drop for Script<'_, T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.outcome, None, "{:?}: not expected", self.split);
            let said = self.outbox.escape_ascii().to_string();
            assert_eq!(said, "", "{:?}: not expected", self.split);
        }
    }
}

/// Runs one transfer with what is left of a server's bytes, and then the end; its result and what it said.
pub fn pour<X: Transfer>(
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

struct Wire<'a> {
    split: Split,
    dice: &'a mut Dice,
    inbox: &'a mut VecDeque<u8>,
    outbox: &'a mut Vec<u8>,
    ended: bool,
}

enum Pause<O> {
    Waiting,
    Anew,
    Over(Result<O, ProtocolError>),
}

impl Wire<'_> {
    fn carry<X: Transfer>(&mut self, mut transfer: X) -> Pause<X::Output> {
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
                // A transport that moved nothing may say so.
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

/// What a step says: whether to read, to write or neither, from where and how many bytes.
fn look<X: Transfer>(transfer: &mut X) -> (u8, usize, usize) {
    match transfer.step() {
        Ok(Step::Read(slice)) => (0, slice.as_ptr().addr(), slice.len()),
        Ok(Step::Write(slice)) => (1, slice.as_ptr().addr(), slice.len()),
        Ok(Step::Done(_)) => (2, 0, 0),
        Err(_) => (3, 0, 0),
    }
}
