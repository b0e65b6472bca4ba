//! A conversation of a driver as a script.

use forcewire::{Cell, Driver, Event, ProtocolError, Scalar};

use super::bytes::Answer;
use super::wire::{Pause, Split, Wire};

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
    Script {
        driver,
        wire: Wire::new(split),
        cells: vec![UNTOUCHED_CELL; structures],
        positions: vec![[T::from_f64(UNTOUCHED); 3]; natoms],
        replying: None,
        outcome: None,
    }
}

/// The contents of arrays before anything has arrived.
pub const UNTOUCHED: f64 = -777.0;
pub const UNTOUCHED_CELL: Cell = Cell::from_rows([[UNTOUCHED; 3]; 3]);

/// A conversation, line by line. Everything that the driver sends or returns must be expected by
/// the next line.
pub struct Script<'d, T: Scalar> {
    pub driver: &'d mut Driver,
    wire: Wire,
    cells: Vec<Cell>,
    positions: Vec<[T; 3]>,
    /// The reply for each structure.
    replying: Option<Vec<Answer>>,
    outcome: Option<Result<Event, ProtocolError>>,
}

impl<T: Scalar> Script<'_, T> {
    /// The server sends these bytes.
    pub fn hears(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.wire.inbox.extend(bytes.as_ref());
        self.go_on();
        self
    }

    /// The server closes its side.
    pub fn hears_the_end(mut self) -> Self {
        self.wire.ended = true;
        self.go_on();
        self
    }

    /// Expects that the driver has sent exactly these bytes since the last such line.
    #[track_caller]
    pub fn says(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.wire.has_said(bytes.as_ref());
        self
    }

    /// Expects that the exchange ends with this event.
    #[track_caller]
    pub fn tells(mut self, event: Event) -> Self {
        assert_eq!(
            self.outcome.take(),
            Some(Ok(event)),
            "{:?}",
            self.wire.split
        );
        if let Event::Init { .. } = event {
            self.go_on();
        }
        self
    }

    /// Expects that the exchange ends with this error, each time that it is stepped.
    #[track_caller]
    pub fn refuses(mut self, error: ProtocolError) -> Self {
        // NaN differs from itself, but no error contains a number.
        assert_eq!(
            self.outcome.take(),
            Some(Err(error)),
            "{:?}",
            self.wire.split
        );
        self.go_on();
        assert_eq!(
            self.outcome.take(),
            Some(Err(error)),
            "{:?}",
            self.wire.split
        );
        self
    }

    /// Expects that the caller's array begins with these positions, rounded to its type, and is
    /// untouched after them.
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
        assert_eq!(
            bits(&self.positions),
            bits(&expected),
            "{:?}",
            self.wire.split
        );
        self
    }

    /// Expects that the caller's cells begin with these and are untouched after them.
    #[track_caller]
    pub fn holds_cells(self, cells: &[Cell]) -> Self {
        let mut expected = vec![UNTOUCHED_CELL; self.cells.len()];
        expected[..cells.len()].copy_from_slice(cells);
        assert_eq!(self.cells, expected, "{:?}", self.wire.split);
        self
    }

    /// The caller continues with arrays of this size.
    pub fn with_room(mut self, natoms: usize, structures: usize) -> Self {
        self.positions = vec![[T::from_f64(UNTOUCHED); 3]; natoms];
        self.cells = vec![UNTOUCHED_CELL; structures];
        self.go_on();
        self
    }

    /// The caller replies with this answer.
    pub fn replies(self, answer: &Answer) -> Self {
        self.replies_batch(std::slice::from_ref(answer))
    }

    /// The caller replies with these answers to a batch.
    pub fn replies_batch(mut self, answers: &[Answer]) -> Self {
        self.replying = Some(answers.to_vec());
        self.go_on();
        self
    }

    /// The caller resets the driver and connects again.
    pub fn reconnects(mut self) -> Self {
        self.driver.reset();
        self.wire.reconnect();
        self.replying = None;
        self.outcome = None;
        self
    }

    /// Inspects the driver.
    pub fn then(self, look: impl FnOnce(&Driver)) -> Self {
        look(self.driver);
        self
    }

    /// Moves bytes until the driver waits for more, or returns an event.
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

    /// Advances a receive; returns whether it has ended.
    fn receive(&mut self) -> bool {
        self.outcome = loop {
            let transfer = self
                .driver
                .receive_batch(&mut self.cells, &mut self.positions);
            match self.wire.carry(transfer) {
                Pause::Anew => {}
                Pause::Waiting => break None,
                Pause::Over(outcome) => break Some(outcome),
            }
        };
        self.outcome.is_some()
    }

    /// Advances a reply; returns whether the whole reply has been sent.
    fn reply(&mut self, answers: &[Answer]) -> bool {
        let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
        let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
        let forces = answers.iter().flat_map(|it| &it.forces);
        let forces: Vec<_> = forces.map(|it| it.map(T::from_f64)).collect();
        loop {
            let pause = match (evaluations.as_slice(), extras.as_slice()) {
                ([evaluation], [extras]) => self
                    .wire
                    .carry(self.driver.reply(evaluation, &forces, extras)),
                _ => self
                    .wire
                    .carry(self.driver.reply_batch(&evaluations, &forces, &extras)),
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
            assert_eq!(self.outcome, None, "{:?}: not expected", self.wire.split);
            let said = self.wire.outbox.escape_ascii().to_string();
            assert_eq!(said, "", "{:?}: not expected", self.wire.split);
        }
    }
}
