//! A driver's `receive`, stopped at every byte of POSDATA.

use forcewire::{Cell, Driver, Evaluation, Event, Header, Initialize, ProtocolError};

use crate::number::{Number, blank, converted, for_both_types, memory, numbers};
use forcewire_support::*;

/// The number of structures in a message, and of atoms in each.
const SIZES: [(usize, usize); 5] = [(1, 0), (1, 3), (1, 34), (2, 3), (2, 17)];

/// The offset of the positions in POSDATA of one structure, and of the second cell in that of a
/// batch.
const POSITIONS: usize = Posdata::of(1).positions(0);
const SECOND_CELL: usize = Posdata::batch(2, 1).cell(1);

#[derive(Clone, Debug, PartialEq)]
struct Arrays<T> {
    cells: Vec<Cell>,
    positions: Vec<[T; 3]>,
}

/// A driver whose exchange was dropped, and its arrays.
struct Stopped<T> {
    driver: Driver,
    structures: usize,
    natoms: usize,
    message: Vec<u8>,
    /// The number of bytes received.
    cut: usize,
    arrays: Arrays<T>,
}

fn structures<T: Number>(structures: usize, natoms: usize) -> Vec<Structure> {
    let cell = |i: usize| Structure {
        h: golden().h.map(|x| x + 10.0 * i as f64),
        inverse: golden().inverse,
        positions: converted::<T, f64>(&numbers(3 * natoms * i, natoms)),
    };
    (0..structures).map(cell).collect()
}

/// A driver that waits for this many structures.
fn driver(structures: usize) -> Driver {
    if structures == 1 {
        return Driver::new();
    }
    let mut driver = Driver::new().initialize(Initialize::Once);
    connect(&mut driver, structures);
    driver
}

/// Sends the server's first message, if there is one.
fn connect(driver: &mut Driver, structures: usize) {
    if structures > 1 {
        let init = init(0, format!("batch_size:{structures}"));
        let (event, _) = pour(driver.receive::<f64>(&mut []), &mut init.as_slice());
        assert_eq!(event, Ok(Event::Init { replica: 0 }));
    }
}

impl<T: Number> Stopped<T> {
    fn new((count, natoms): (usize, usize), cut: usize, forget: bool) -> Self {
        let sent = structures::<T>(count, natoms);
        let message = match sent.as_slice() {
            [structure] => posdata(structure),
            _ => posdata_batch(&sent),
        };
        let mut stopped = Self {
            driver: driver(count),
            structures: count,
            natoms,
            message,
            cut,
            arrays: Arrays {
                cells: vec![UNTOUCHED_CELL; count],
                positions: blank(count * natoms),
            },
        };
        let Arrays { cells, positions } = &mut stopped.arrays;
        let mut receive = stopped.driver.receive_batch(cells, positions);
        pour_at_most(&mut receive, &mut &stopped.message[..cut], cut);
        if forget {
            std::mem::forget(receive);
        } else {
            drop(receive);
        }
        stopped
    }

    fn total(&self) -> usize {
        self.structures * self.natoms
    }

    /// Whether everything has arrived, although the exchange has not returned it.
    fn complete(&self) -> bool {
        self.cut == self.message.len()
    }

    /// Whether part of the message is in the arrays, or on its way to them.
    fn begun(&self) -> bool {
        let first = if self.structures == 1 {
            POSITIONS + 1
        } else {
            SECOND_CELL
        };
        self.cut >= first || self.complete()
    }

    /// The number of cells and of bytes of positions that are in the arrays.
    fn delivered(&self) -> (usize, usize) {
        let cells = self.arrays.cells.iter();
        let cells = cells.take_while(|cell| **cell != UNTOUCHED_CELL).count();
        let before = memory(&blank::<T>(self.total()));
        let now = memory(&self.arrays.positions);
        let differs = |i: &usize| before[*i] != now[*i];
        let last = (0..now.len()).rev().find(differs);
        (cells, last.map_or(0, |last| last + 1))
    }

    /// Whether these arrays hold everything that has arrived.
    fn is_held_by(&self, arrays: &Arrays<T>) -> bool {
        let (cells, bytes) = self.delivered();
        self.arrays.cells.get(..cells) == arrays.cells.get(..cells)
            && memory(&self.arrays.positions).get(..bytes) == memory(&arrays.positions).get(..bytes)
    }

    /// Receives the rest into these arrays.
    fn receives<U: Number>(&mut self, arrays: &mut Arrays<U>) -> Result<Event, ProtocolError> {
        let mut inbox = &self.message[self.cut..];
        let receive = self
            .driver
            .receive_batch(&mut arrays.cells, &mut arrays.positions);
        let (result, sent) = pour(receive, &mut inbox);
        assert_eq!(sent, b"");
        self.cut = self.message.len() - inbox.len();
        result
    }

    #[track_caller]
    fn completes_in(&mut self, arrays: &mut Arrays<T>) {
        let sent = structures::<T>(self.structures, self.natoms);
        let event = Event::Positions {
            natoms: self.natoms,
            structures: self.structures,
            cell: sent[0].cell(),
        };
        let cut = self.cut;
        assert_eq!(self.receives(arrays), Ok(event), "after {cut} bytes");
        for (structure, cell) in sent.iter().zip(&arrays.cells) {
            assert_eq!(structure.cell(), *cell, "after {cut} bytes");
        }
        let expected = numbers::<T>(0, self.total());
        assert_eq!(arrays.positions[..self.total()], expected, "after {cut}");
    }

    /// The exchange that began the message completes it.
    #[track_caller]
    fn completes(&mut self) {
        let mut arrays = self.arrays.clone();
        self.completes_in(&mut arrays);
    }

    /// An exchange recreated with these arrays completes if they hold what has arrived; otherwise
    /// it changes nothing.
    #[track_caller]
    fn meets(&mut self, mut arrays: Arrays<T>) {
        if self.is_held_by(&arrays) {
            return self.completes_in(&mut arrays);
        }
        let (before, cut) = (arrays.clone(), self.cut);
        for _ in 0..2 {
            let error = ProtocolError::Unfinished(Header::PosData);
            assert_eq!(self.receives(&mut arrays), Err(error), "after {cut} bytes");
            assert_eq!((&arrays, self.cut), (&before, cut));
        }
        self.completes();
    }
}

/// Stops at each byte of each message.
fn at_each_byte<T: Number>(check: impl Fn(Stopped<T>)) {
    for size in SIZES {
        let len = Stopped::<T>::new(size, 0, false).message.len();
        for cut in 0..=len {
            check(Stopped::new(size, cut, false));
        }
    }
}

#[test]
fn positions_go_on_in_the_same_array() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let mut arrays = std::mem::replace(
                &mut stopped.arrays,
                Arrays {
                    cells: vec![],
                    positions: vec![],
                },
            );
            let place = arrays.positions.as_ptr();
            stopped.completes_in(&mut arrays);
            assert_eq!(arrays.positions.as_ptr(), place);
        });
    }
    for_both_types!(check);
}

#[test]
fn positions_go_on_in_an_array_that_was_moved() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let mut arrays = stopped.arrays.clone();
            stopped.arrays.positions.fill([T::ZERO; 3]);
            stopped.completes_in(&mut arrays);
        });
    }
    for_both_types!(check);
}

/// Freed memory is often allocated again at the same address.
#[test]
fn positions_do_not_go_on_in_a_new_array_at_the_same_address() {
    fn check<T: Number>() {
        let mut at_the_same = 0;
        for cut in POSITIONS + 770..POSITIONS + 816 {
            let mut stopped = Stopped::<T>::new((1, 34), cut, false);
            let address = stopped.arrays.positions.as_ptr();
            drop(std::mem::take(&mut stopped.arrays.positions));
            let mut zeros = Arrays {
                cells: vec![UNTOUCHED_CELL],
                positions: vec![[T::ZERO; 3]; 34],
            };
            at_the_same += usize::from(zeros.positions.as_ptr() == address);
            let error = ProtocolError::Unfinished(Header::PosData);
            assert_eq!(stopped.receives(&mut zeros), Err(error), "{cut}");
            assert_eq!(zeros.positions, [[T::ZERO; 3]; 34], "{cut}");
        }
        println!("{at_the_same} of 46 arrays were at the same address");
    }
    for_both_types!(check);
}

/// The address is certainly the same.
#[test]
fn positions_do_not_go_on_in_their_array_after_it_was_cleared() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let (size, cut) = ((stopped.structures, stopped.natoms), stopped.cut);
            let mut cleared = stopped.arrays.clone();
            cleared.positions.fill([T::ZERO; 3]);
            stopped.meets(cleared);
            if size.0 > 1 {
                let mut stopped = Stopped::<T>::new(size, cut, false);
                let mut cleared = stopped.arrays.clone();
                cleared.cells.fill(UNTOUCHED_CELL);
                stopped.meets(cleared);
            }
        });
    }
    for_both_types!(check);
}

#[test]
fn positions_do_not_go_on_in_a_shorter_array() {
    fn check<T: Number>() {
        at_each_byte::<T>(|stopped| {
            let (size, total) = ((stopped.structures, stopped.natoms), stopped.total());
            for len in [0, total / 2, total.saturating_sub(1)] {
                if len == total {
                    continue;
                }
                let mut stopped = Stopped::<T>::new(size, stopped.cut, false);
                let mut shorter = stopped.arrays.clone();
                shorter.positions.truncate(len);
                let error = if stopped.is_held_by(&shorter) {
                    ProtocolError::TooManyAtoms {
                        announced: total,
                        capacity: len,
                    }
                } else {
                    ProtocolError::Unfinished(Header::PosData)
                };
                let before = shorter.positions.clone();
                for _ in 0..2 {
                    assert_eq!(stopped.receives(&mut shorter), Err(error));
                    assert_eq!(shorter.positions, before);
                }
                stopped.completes();
            }
        });
    }
    for_both_types!(check);
}

#[test]
fn a_batch_does_not_go_on_with_fewer_cells() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            if stopped.structures == 1 {
                return;
            }
            let mut fewer = stopped.arrays.clone();
            fewer.cells.truncate(1);
            let error = if stopped.is_held_by(&fewer) {
                ProtocolError::TooManyStructures {
                    announced: 2,
                    capacity: 1,
                }
            } else {
                ProtocolError::Unfinished(Header::PosData)
            };
            assert_eq!(stopped.receives(&mut fewer), Err(error));
            assert_eq!(fewer.cells, stopped.arrays.cells[..1]);
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn positions_go_on_in_a_longer_array_that_begins_alike() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let mut longer = stopped.arrays.clone();
            longer.positions.extend(blank::<T>(5));
            longer.cells.push(UNTOUCHED_CELL);
            stopped.completes_in(&mut longer);
            assert_eq!(longer.positions[stopped.total()..], blank::<T>(5));
            assert_eq!(longer.cells[stopped.structures..], [UNTOUCHED_CELL]);
        });
    }
    for_both_types!(check);
}

#[test]
fn positions_do_not_go_on_as_numbers_of_another_type() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let mut other = Arrays::<T::Other> {
                cells: stopped.arrays.cells.clone(),
                positions: converted(&stopped.arrays.positions),
            };
            if stopped.begun() {
                let error = ProtocolError::Unfinished(Header::PosData);
                assert_eq!(stopped.receives(&mut other), Err(error));
                return stopped.completes();
            }
            assert!(stopped.receives(&mut other).is_ok());
            let expected = numbers::<T>(0, stopped.total());
            assert_eq!(other.positions, converted::<T, T::Other>(&expected));
        });
    }
    for_both_types!(check);
}

#[test]
fn positions_do_not_go_on_after_one_number_was_changed() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let (cells, bytes) = stopped.delivered();
            let (last, numbers) = (bytes.div_ceil(size_of::<T>()), 3 * stopped.total());
            let (size, cut) = ((stopped.structures, stopped.natoms), stopped.cut);
            // The first number, the last that has arrived, and the one after it, which may be
            // changed.
            for number in [Some(0), last.checked_sub(1), Some(last)] {
                let Some(number) = number.filter(|number| *number < numbers) else {
                    continue;
                };
                let mut changed = stopped.arrays.clone();
                changed.positions.as_flattened_mut()[number] = T::ONE;
                stopped.meets(changed);
                stopped = Stopped::new(size, cut, false);
            }
            if size.0 > 1 && cells > 0 {
                let mut changed = stopped.arrays.clone();
                changed.cells[cells - 1] = Cell::orthorhombic([1.0; 3]);
                stopped.meets(changed);
            }
        });
    }
    for_both_types!(check);
}

/// Before all positions have arrived, nothing can be replied to.
#[test]
fn another_kind_of_exchange_changes_nothing_in_the_middle_of_positions() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            if stopped.complete() {
                return;
            }
            let evaluations = vec![Evaluation::default(); stopped.structures];
            let forces = vec![[T::ZERO; 3]; stopped.total()];
            let error = ProtocolError::NothingToReplyTo;
            let reply = stopped.driver.reply_batch(&evaluations, &forces, &[]);
            let mut inbox = &stopped.message[stopped.cut..];
            assert_eq!(pour(reply, &mut inbox), (Err(error), vec![]));
            let awaited = pour(stopped.driver.await_getforce(), &mut inbox);
            assert_eq!(awaited, (Err(error), vec![]));
            assert_eq!(inbox.len(), stopped.message.len() - stopped.cut);
            stopped.completes();
        });
    }
    for_both_types!(check);
}

/// The arrays of a forgotten exchange are unknown.
#[test]
fn positions_of_a_forgotten_exchange_do_not_go_on() {
    fn check<T: Number>() {
        for size in SIZES {
            let len = Stopped::<T>::new(size, 0, false).message.len();
            for cut in 0..=len {
                let mut stopped = Stopped::<T>::new(size, cut, true);
                if !stopped.begun() {
                    stopped.completes();
                    continue;
                }
                let mut arrays = stopped.arrays.clone();
                let error = ProtocolError::Unfinished(Header::PosData);
                assert_eq!(stopped.receives(&mut arrays), Err(error), "{cut}");
                assert_eq!(arrays, stopped.arrays);
            }
        }
    }
    for_both_types!(check);
}

#[test]
fn a_reset_forgets_positions_that_had_begun() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            stopped.driver.reset();
            connect(&mut stopped.driver, stopped.structures);
            let mut arrays = Arrays {
                cells: vec![UNTOUCHED_CELL; stopped.structures],
                positions: blank(stopped.total()),
            };
            stopped.cut = 0;
            stopped.completes_in(&mut arrays);
        });
    }
    for_both_types!(check);
}

/// An error that leaves the driver unchanged does not hide an end of the stream.
#[test]
fn the_stream_ends_after_an_exchange_was_refused() {
    at_each_byte::<f64>(|mut stopped| {
        let mut cleared = stopped.arrays.clone();
        cleared.positions.fill([0.0; 3]);
        if stopped.complete() || stopped.is_held_by(&cleared) {
            return;
        }
        let error = ProtocolError::Unfinished(Header::PosData);
        assert_eq!(stopped.receives(&mut cleared), Err(error));
        let Arrays { cells, positions } = &mut stopped.arrays;
        let receive = stopped.driver.receive_batch(cells, positions);
        let error = ProtocolError::EndOfStream {
            within: Some(Header::PosData),
            after: stopped.cut,
        };
        assert_eq!(pour(receive, &mut &b""[..]).0, Err(error));
    });
}

/// Each exchange is dropped after one byte, and its array moves to another place.
#[test]
fn positions_go_on_after_every_byte_in_an_array_that_moves_each_time() {
    fn check<T: Number>() {
        for size in SIZES {
            let mut stopped = Stopped::<T>::new(size, 0, false);
            while !stopped.complete() {
                let mut arrays = stopped.arrays.clone();
                let receive = stopped
                    .driver
                    .receive_batch(&mut arrays.cells, &mut arrays.positions);
                pour_at_most(receive, &mut &stopped.message[stopped.cut..], 1);
                stopped.cut += 1;
                stopped.arrays = arrays;
            }
            stopped.completes();
        }
    }
    for_both_types!(check);
}
