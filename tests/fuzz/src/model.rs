//! The protocol of `src/manual/protocol.md` in the simplest form: one slice with all received
//! bytes, one vector for all sent bytes.

use forcewire::{Header, Initialize, Mode, ProtocolError, Quantity};

use super::layout::{
    self, ATOM, CELL, EXIT, FORCEREADY, GETFORCE, HAVEDATA, HEADER, INIT, INTEGER, MATRIX,
    NEEDINIT, POSDATA, READY, REAL, STATUS, integer_at, numbers, real_at,
};

pub const HEADERS: [(Header, &[u8]); 9] = [
    (Header::Status, STATUS),
    (Header::Init, INIT),
    (Header::PosData, POSDATA),
    (Header::GetForce, GETFORCE),
    (Header::Exit, EXIT),
    (Header::NeedInit, NEEDINIT),
    (Header::Ready, READY),
    (Header::HaveData, HAVEDATA),
    (Header::ForceReady, FORCEREADY),
];

/// The twelve bytes of a header.
pub fn header(header: Header) -> &'static [u8] {
    let (_, bytes) = HEADERS.iter().find(|it| it.0 == header).expect("all nine");
    bytes
}

/// The unread bytes, and the place in the message.
pub struct Stream<'a> {
    pub rest: &'a [u8],
    pub within: Option<Header>,
    pub message: usize,
}

impl<'a> Stream<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            within: None,
            message: 0,
        }
    }

    /// The next bytes of a message, or the end of the stream inside of it.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], ProtocolError> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return Err(ProtocolError::EndOfStream {
                within: self.within,
                after: self.message + self.rest.len(),
            });
        };
        self.rest = rest;
        self.message += n;
        Ok(taken)
    }

    /// The next header; `None` if the stream ends before it.
    pub fn header(&mut self) -> Result<Option<Header>, ProtocolError> {
        (self.within, self.message) = (None, 0);
        if self.rest.is_empty() {
            return Ok(None);
        }
        let bytes = self.take(HEADER)?;
        let padded = |it: &[u8]| {
            let mut pairs = it.iter().zip(bytes);
            pairs.all(|(&it, &byte)| it == byte || (it == b' ' && byte == 0))
        };
        match HEADERS.iter().find(|it| padded(it.1)) {
            Some(&(header, _)) => {
                self.within = Some(header);
                Ok(Some(header))
            }
            None => Err(ProtocolError::UnknownHeader(bytes.try_into().expect("12"))),
        }
    }

    pub fn integer(&mut self) -> Result<i32, ProtocolError> {
        Ok(integer_at(self.take(INTEGER)?, 0))
    }

    pub fn reals<const N: usize>(&mut self) -> Result<[f64; N], ProtocolError> {
        let bytes = self.take(REAL * N)?;
        Ok(std::array::from_fn(|i| real_at(bytes, REAL * i)))
    }
}

fn finite(reals: &[f64], quantity: Quantity, not_finite: bool) -> Result<(), ProtocolError> {
    if not_finite || reals.iter().all(|x| x.is_finite()) {
        Ok(())
    } else {
        Err(ProtocolError::NotFinite(quantity))
    }
}

/// Checks that the first numbers, at most 48, are little-endian binary64.
///
/// They are refused if each nonzero number is subnormal or has the bits of a negative `i64` of at
/// least 2^32 - 2^51, and at least two are subnormal. They are also refused if all, with their
/// bytes reversed, are zero or between 2^-64 and 2^65, and enough of them are between 2^-32 and
/// 2^33 only then: three with different low halves, or any two in a cell or among such bits.
fn format(reals: &[f64], quantity: Quantity) -> Result<(), ProtocolError> {
    let within = |x: f64, n: i32| (2_f64.powi(-n)..2_f64.powi(n + 1)).contains(&x.abs());
    let reversed = |x: f64| f64::from_bits(x.to_bits().swap_bytes());
    let is_negative = |x: f64| ((1 << 32) - (1 << 51)..0).contains(&x.to_bits().cast_signed());

    let numbers: Vec<_> = reals
        .iter()
        .take(48)
        .copied()
        .filter(|&x| x != 0.0)
        .collect();
    let subnormal = numbers.iter().filter(|x| x.is_subnormal()).count();
    let integers = subnormal >= 2 && numbers.iter().all(|&x| x.is_subnormal() || is_negative(x));
    let reversible = numbers
        .iter()
        .all(|&x| reversed(x) == 0.0 || within(reversed(x), 64));
    let mut witnesses: Vec<_> = numbers
        .iter()
        .filter(|&&x| !within(x, 32) && within(reversed(x), 32))
        .map(|x| x.to_bits() % (1 << 32))
        .collect();
    let enough = if integers || quantity == Quantity::Cell {
        2
    } else {
        witnesses.sort_unstable();
        witnesses.dedup();
        3
    };
    if reversible && witnesses.len() >= enough {
        Err(ProtocolError::BigEndian(quantity))
    } else if integers {
        Err(ProtocolError::NotReals(quantity))
    } else {
        Ok(())
    }
}

/// A number in the caller's type.
pub fn kept(x: f64, single: bool) -> f64 {
    if single { f64::from(x as f32) } else { x }
}

// ---- a driver ----

/// A driver and its caller, which replies at once with the positions themselves as forces.
#[derive(Clone, Copy, Debug)]
pub struct DriverModel {
    pub initialize: Initialize,
    pub changing_atoms: bool,
    pub not_finite: bool,
    pub any_format: bool,
    pub single: bool,
    /// Room for this many atoms and structures.
    pub atoms: usize,
    pub structures: usize,
}

/// The events of a driver's caller. Numbers are compared by their bits, because NaN differs from
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Init(i32),
    Positions {
        natoms: usize,
        structures: usize,
        cells: Vec<u64>,
        positions: Vec<u64>,
    },
    Exit,
    Closed,
    Refused(String),
}

pub fn bits(reals: &[f64]) -> Vec<u64> {
    reals.iter().map(|x| x.to_bits()).collect()
}

/// The bits of numbers that are means: which of two NaNs a mean returns is undefined.
pub fn answered_bits(reals: &[f64]) -> Vec<u64> {
    let one_nan = |x: f64| if x.is_nan() { f64::NAN } else { x };
    reals.iter().map(|&x| one_nan(x).to_bits()).collect()
}

impl DriverModel {
    /// The caller's events and the driver's bytes if its server has sent these bytes and closed.
    pub fn converse(&self, heard: &[u8]) -> (Vec<Told>, Vec<u8>) {
        let (mut told, mut said) = (Vec::new(), Vec::new());
        let last = match self.until_the_end(&mut Stream::new(heard), &mut told, &mut said) {
            Ok(last) => last,
            Err(error) => Told::Refused(format!("{error:?}")),
        };
        told.push(last);
        (told, said)
    }

    fn until_the_end(
        &self,
        stream: &mut Stream<'_>,
        told: &mut Vec<Told>,
        said: &mut Vec<u8>,
    ) -> Result<Told, ProtocolError> {
        let idle = match self.initialize {
            Initialize::Never => Header::Ready,
            _ => Header::NeedInit,
        };
        let (mut status, mut batch, mut natoms) = (idle, 1, None);
        // The prepared reply, and an INIT that arrived before it was sent.
        let (mut reply, mut news) = (Vec::new(), None);
        loop {
            let command = stream.header()?;
            match (command, status) {
                (Some(Header::Status), _) => said.extend(header(status)),
                (Some(Header::Init), _) => {
                    let (replica, text) = self.init(stream)?;
                    batch = batch_size(text);
                    if status == Header::HaveData {
                        news = Some(Told::Init(replica));
                    } else {
                        status = Header::Ready;
                        told.push(Told::Init(replica));
                    }
                }
                (Some(Header::PosData), Header::Ready) => {
                    let (cells, positions) = self.posdata(stream, batch, &mut natoms)?;
                    reply = forceready(&cells, &positions, batch);
                    told.push(Told::Positions {
                        natoms: positions.len() / 3 / batch,
                        structures: batch,
                        cells: bits(&cells),
                        positions: bits(&positions),
                    });
                    status = Header::HaveData;
                }
                (Some(Header::GetForce), Header::HaveData) => {
                    said.append(&mut reply);
                    told.extend(news.take());
                    status = match self.initialize {
                        Initialize::EveryStep => Header::NeedInit,
                        _ => Header::Ready,
                    };
                }
                (Some(Header::Exit) | None, _) => {
                    told.extend(news);
                    let exit = command.is_some();
                    return Ok(if exit { Told::Exit } else { Told::Closed });
                }
                (Some(command), status) => {
                    return Err(ProtocolError::OutOfTurn { command, status });
                }
            }
        }
    }

    fn init<'a>(&self, stream: &mut Stream<'a>) -> Result<(i32, &'a [u8]), ProtocolError> {
        let both = stream.take(2 * INTEGER)?;
        let mut both = Stream::new(both);
        let (replica, announced) = (both.integer()?, both.integer()?);
        let len = usize::try_from(announced);
        let len = len.map_err(|_| ProtocolError::NegativeLength(announced))?;
        Ok((replica, stream.take(len)?))
    }

    /// The cells and positions of one structure or a batch, in the caller's type.
    fn posdata(
        &self,
        stream: &mut Stream<'_>,
        batch: usize,
        before: &mut Option<usize>,
    ) -> Result<(Vec<f64>, Vec<f64>), ProtocolError> {
        let mut cells = Vec::new();
        let natoms = if batch > 1 {
            let natoms = self.natoms(stream.integer()?, before)?;
            if batch > self.structures {
                return Err(ProtocolError::TooManyStructures {
                    announced: batch,
                    capacity: self.structures,
                });
            }
            self.room(natoms.saturating_mul(batch))?;
            for _ in 0..batch {
                let cell = stream.reals::<18>()?;
                self.format(&cell[..9], Quantity::Cell)?;
                finite(&cell[..9], Quantity::Cell, self.not_finite)?;
                cells.extend(&cell[..9]);
            }
            natoms
        } else {
            let frame = stream.take(CELL + INTEGER)?;
            if is_batch(frame) {
                return Err(ProtocolError::UnannouncedBatch);
            }
            let mut frame = Stream::new(frame);
            let cell = frame.reals::<18>()?;
            self.format(&cell[..9], Quantity::Cell)?;
            finite(&cell[..9], Quantity::Cell, self.not_finite)?;
            cells.extend(&cell[..9]);
            let natoms = self.natoms(frame.integer()?, before)?;
            self.room(natoms)?;
            natoms
        };
        let sent = numbers(stream.take(ATOM * natoms * batch)?);
        self.format(&sent, Quantity::Positions)?;
        let positions: Vec<_> = sent.iter().map(|&x| kept(x, self.single)).collect();
        finite(&positions, Quantity::Positions, self.not_finite)?;
        Ok((cells, positions))
    }

    fn format(&self, sent: &[f64], quantity: Quantity) -> Result<(), ProtocolError> {
        if self.any_format {
            Ok(())
        } else {
            format(sent, quantity)
        }
    }

    fn natoms(&self, announced: i32, before: &mut Option<usize>) -> Result<usize, ProtocolError> {
        let natoms = usize::try_from(announced);
        let natoms = natoms.map_err(|_| ProtocolError::NegativeAtoms(announced))?;
        match before.replace(natoms) {
            Some(expected) if expected != natoms && !self.changing_atoms => {
                Err(ProtocolError::AtomsChanged {
                    announced: natoms,
                    expected,
                })
            }
            _ => Ok(natoms),
        }
    }

    fn room(&self, announced: usize) -> Result<(), ProtocolError> {
        let capacity = self.atoms;
        if announced > capacity {
            return Err(ProtocolError::TooManyAtoms {
                announced,
                capacity,
            });
        }
        Ok(())
    }
}

/// The batch size that this text of INIT announces: `batch_size`, a colon and a number larger than
/// 1, with blanks between them and commas around them. The last announcement counts.
pub fn batch_size(text: &[u8]) -> usize {
    let mut size = 1;
    for pair in text.split(|&byte| byte == b',') {
        let trimmed = |bytes: &[u8]| -> Vec<u8> {
            let from = bytes.iter().position(|&byte| byte != b' ');
            let to = bytes.iter().rposition(|&byte| byte != b' ');
            from.zip(to)
                .map_or(vec![], |(from, to)| bytes[from..=to].to_vec())
        };
        let Some(colon) = pair.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (key, value) = (trimmed(&pair[..colon]), trimmed(&pair[colon + 1..]));
        if key == b"batch_size" {
            let digits = value.iter().all(u8::is_ascii_digit);
            let number = value.iter().fold(0_usize, |number, digit| {
                number
                    .saturating_mul(10)
                    .saturating_add(usize::from(digit.wrapping_sub(b'0')))
            });
            size = if digits { number.max(1) } else { 1 };
        }
    }
    size
}

/// Whether these bytes of POSDATA belong to a batch: the number of atoms, and then i-PI's first
/// cell, whose h and inverse have zeros below the diagonal and numbers between 2^-64 and 2^65 on
/// it.
fn is_batch(frame: &[u8]) -> bool {
    let natoms = integer_at(frame, 0);
    let real = |i: usize| real_at(frame, INTEGER + REAL * i);
    natoms > 0
        && [3, 6, 7, 12, 15, 16].into_iter().all(|i| real(i) == 0.0)
        && [0, 4, 8, 9, 13, 17].into_iter().all(|i| {
            let size = real(i).abs();
            (2_f64.powi(-64)..2_f64.powi(65)).contains(&size)
        })
}

/// The reply of the model's caller: the energies are the numbers of the structures, the virials
/// their cells.
fn forceready(cells: &[f64], forces: &[f64], structures: usize) -> Vec<u8> {
    let energies: Vec<_> = (0..structures).map(|index| index as f64).collect();
    let extras: Vec<_> = (0..structures).map(|index| vec![b'x'; index]).collect();
    layout::forceready(&energies, forces, cells, &extras)
}

// ---- a server ----

/// A server and its caller, which requests these evaluations in order.
#[derive(Clone, Copy, Debug)]
pub struct ServerModel {
    pub mode: Mode,
    pub not_finite: bool,
    pub single: bool,
    pub natoms: usize,
    /// Room for this many bytes of extras.
    pub extras: usize,
}

/// A result for a server's caller: energy and virial of each structure, then all forces and the
/// extras.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub reals: Vec<u64>,
    pub extras: Vec<Vec<u8>>,
    pub sent: Vec<usize>,
}

/// The edge of the box, whose inverse has few digits too.
pub const EDGE: f64 = 16.0;

/// The positions of one structure.
pub fn positions(natoms: usize, structure: usize) -> Vec<f64> {
    (0..3 * natoms)
        .map(|i| 0.5 * i as f64 - structure as f64)
        .collect()
}

impl ServerModel {
    /// How the evaluations end, and the server's bytes, if its driver has sent these bytes and
    /// closed.
    pub fn converse(
        &self,
        heard: &[u8],
        evaluations: usize,
    ) -> (Vec<Result<Answered, String>>, Vec<u8>) {
        let (mut answers, mut said) = (Vec::new(), Vec::new());
        let mut stream = Stream::new(heard);
        // Whether STATUS has been sent, and the number of structures in each message.
        let (mut asked, mut carried) = (false, 1);
        for index in 0..evaluations {
            let structures = carried.min(index + 1);
            let answer =
                self.evaluate(&mut stream, &mut said, &mut asked, &mut carried, structures);
            let failed = answer.is_err();
            answers.push(answer.map_err(|error| format!("{error:?}")));
            if failed {
                break;
            }
        }
        (answers, said)
    }

    fn evaluate(
        &self,
        stream: &mut Stream<'_>,
        said: &mut Vec<u8>,
        asked: &mut bool,
        carried: &mut usize,
        structures: usize,
    ) -> Result<Answered, ProtocolError> {
        let ask = |said: &mut Vec<u8>| said.extend(header(Header::Status));
        if !*asked {
            ask(said);
        }
        let mut initialized = false;
        loop {
            match self.answer(stream, Header::Status)? {
                Header::Ready => break,
                Header::NeedInit if initialized => {
                    return Err(unexpected(Header::NeedInit, Header::Init));
                }
                Header::NeedInit => {
                    initialized = true;
                    let text = match self.mode {
                        Mode::Batched(size @ 2..) => {
                            *carried = size;
                            format!("  batch_size:{size}")
                        }
                        _ => " ".into(),
                    };
                    said.extend(layout::init(0, text));
                    ask(said);
                }
                answer => return Err(unexpected(answer, Header::Status)),
            }
        }
        self.posdata(said, *carried, structures);
        if matches!(self.mode, Mode::Classic | Mode::Strict) {
            ask(said);
            match self.answer(stream, Header::Status)? {
                Header::HaveData => {}
                answer => return Err(unexpected(answer, Header::Status)),
            }
        }
        said.extend(header(Header::GetForce));
        *asked = self.mode != Mode::Strict;
        if *asked {
            ask(said);
        }
        match self.answer(stream, Header::GetForce)? {
            Header::ForceReady => self.forceready(stream, *carried, structures),
            answer => Err(unexpected(answer, Header::GetForce)),
        }
    }

    fn answer(&self, stream: &mut Stream<'_>, to: Header) -> Result<Header, ProtocolError> {
        stream.header()?.ok_or(ProtocolError::Unanswered(to))
    }

    fn posdata(&self, said: &mut Vec<u8>, carried: usize, structures: usize) {
        let cell = [EDGE, 1.0 / EDGE].map(layout::cube);
        let positions = (0..carried).map(|index| positions(self.natoms, index.min(structures - 1)));
        let positions: Vec<_> = positions.flatten().collect();
        said.extend(match carried {
            1 => layout::posdata(&cell[0], &cell[1], &positions),
            _ => layout::posdata_batch(&vec![cell; carried], &positions),
        });
    }

    fn forceready(
        &self,
        stream: &mut Stream<'_>,
        carried: usize,
        structures: usize,
    ) -> Result<Answered, ProtocolError> {
        let (mut energies, mut virials) = (Vec::new(), Vec::new());
        let mut announced = 0;
        for index in 0..carried {
            // Small fields that arrive together are checked together.
            let last = index + 1 == carried;
            let mut field = Stream::new(stream.take(if last { REAL + INTEGER } else { REAL })?);
            let [energy] = field.reals()?;
            if index < structures {
                finite(&[energy], Quantity::Energy, self.not_finite)?;
                energies.push(energy);
            }
            if last {
                announced = field.integer()?;
            }
        }
        if usize::try_from(announced) != Ok(self.natoms) {
            return Err(ProtocolError::WrongAtoms {
                announced,
                expected: self.natoms,
            });
        }
        let reals = 3 * self.natoms * structures;
        let forces = numbers(stream.take(REAL * reals)?);
        let forces: Vec<_> = forces.iter().map(|&x| kept(x, self.single)).collect();
        finite(&forces, Quantity::Forces, self.not_finite)?;
        stream.take(ATOM * self.natoms * (carried - structures))?;
        for index in 0..carried {
            let last = index + 1 == carried;
            let mut field =
                Stream::new(stream.take(if last { MATRIX + INTEGER } else { MATRIX })?);
            let virial = field.reals::<9>()?;
            if index < structures {
                finite(&virial, Quantity::Virial, self.not_finite)?;
                virials.push(symmetric(virial));
            }
            if last {
                announced = field.integer()?;
            }
        }
        let (mut extras, mut sent, mut room) = (Vec::new(), Vec::new(), self.extras);
        for index in 0..carried {
            if index > 0 {
                announced = stream.integer()?;
            }
            let len = usize::try_from(announced);
            let len = len.map_err(|_| ProtocolError::NegativeLength(announced))?;
            let bytes = stream.take(len)?;
            if index < structures {
                let kept = len.min(room);
                room -= kept;
                extras.push(bytes[..kept].to_vec());
                sent.push(len);
            }
        }
        let evaluations = energies.iter().zip(&virials);
        let evaluations =
            evaluations.flat_map(|(&energy, virial)| [&[energy][..], virial].concat());
        let reals: Vec<_> = evaluations.chain(forces).collect();
        Ok(Answered {
            reals: answered_bits(&reals),
            extras,
            sent,
        })
    }
}

fn unexpected(answer: Header, to: Header) -> ProtocolError {
    ProtocolError::UnexpectedAnswer { answer, to }
}

/// The full virial, of which a driver may have sent only one triangle.
fn symmetric(virial: [f64; 9]) -> [f64; 9] {
    let upper = [virial[1], virial[2], virial[5]];
    let lower = [virial[3], virial[6], virial[7]];
    let none = |triangle: [f64; 3]| triangle.iter().all(|&x| x == 0.0);
    let [xy, xz, yz] = if none(lower) {
        upper
    } else if none(upper) {
        lower
    } else {
        // Halve first: the sum of two large numbers would overflow, although two subnormal numbers
        // lose a bit this way.
        std::array::from_fn(|i| 0.5 * upper[i] + 0.5 * lower[i])
    };
    [virial[0], xy, xz, xy, virial[4], yz, xz, yz, virial[8]]
}
