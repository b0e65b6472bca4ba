//! The protocol's bytes as the kit sends them.
//!
//! The kit has to send messages that the library's machines refuse to send: flat cells, NaN, wrong
//! counts, half messages. It therefore has its own encoder. The tests below compare its correct
//! messages byte for byte with the messages of the library's server and driver.

use forcewire::{Cell, Header};

/// The offsets of the parts of POSDATA, header included.
pub const CELL: usize = 12;
pub const COUNT: usize = CELL + 2 * MATRIX;
pub const POSITIONS: usize = COUNT + 4;
/// The offsets of the parts of FORCEREADY.
pub const ENERGY: usize = 12;
pub const FORCES: usize = ENERGY + 8 + 4;
/// The sizes of nine reals and of one atom.
pub const MATRIX: usize = 72;
pub const ATOM: usize = 24;

/// A structure: the cell's vectors are the columns of `h`; bohr.
#[derive(Clone, Debug, PartialEq)]
pub struct Structure {
    pub h: [[f64; 3]; 3],
    pub positions: Vec<[f64; 3]>,
}

/// An answer: hartree, hartree/bohr, hartree.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub energy: f64,
    pub forces: Vec<f64>,
    pub virial: Vec<f64>,
    pub extras: Vec<u8>,
}

pub fn header(header: Header) -> &'static [u8] {
    header.bytes()
}

pub fn init(length: i32, text: &[u8]) -> Vec<u8> {
    let mut bytes = header(Header::Init).to_vec();
    bytes.extend(0i32.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(text);
    bytes
}

/// A correct POSDATA.
pub fn posdata(structure: &Structure) -> Vec<u8> {
    let inverse = Cell::from_rows(structure.h).inverse().unwrap_or_default();
    let mut bytes = header(Header::PosData).to_vec();
    bytes.extend(reals(structure.h.as_flattened()));
    bytes.extend(reals(inverse.as_flattened()));
    bytes.extend((structure.positions.len() as i32).to_le_bytes());
    bytes.extend(reals(structure.positions.as_flattened()));
    bytes
}

/// The message with other bytes at one place.
pub fn with(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// A correct FORCEREADY for an answer with these extras.
pub fn forceready(answer: &Answer) -> Vec<u8> {
    let mut bytes = header(Header::ForceReady).to_vec();
    bytes.extend(answer.energy.to_le_bytes());
    bytes.extend(((answer.forces.len() / 3) as i32).to_le_bytes());
    bytes.extend(reals(&answer.forces));
    bytes.extend(reals(&answer.virial));
    bytes.extend((answer.extras.len() as i32).to_le_bytes());
    bytes.extend(&answer.extras);
    bytes
}

/// Springs between the atoms and the origin, which the kit's own drivers compute.
pub fn springs(structure: &Structure) -> Answer {
    let mut answer = Answer {
        energy: 0.0,
        forces: Vec::new(),
        virial: vec![0.0; 9],
        extras: Vec::new(),
    };
    for r in &structure.positions {
        for (row, x) in r.iter().enumerate() {
            answer.energy += 0.5 * SPRING * x * x;
            answer.forces.push(-SPRING * x);
            for (column, y) in r.iter().enumerate() {
                answer.virial[3 * row + column] -= SPRING * x * y;
            }
        }
    }
    answer
}

/// Hartree/bohr², soft enough for any time step.
const SPRING: f64 = 1e-4;

pub fn reals(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks();
    chunks
        .iter()
        .map(|bytes| f64::from_le_bytes(*bytes))
        .collect()
}

pub fn integer(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_le_bytes)
}

/// Random bytes, always the same (Knuth's 64-bit generator).
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub const HTTP: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";

#[cfg(test)]
mod tests {
    use forcewire::{Driver, Evaluation, Exchange, Request, Server, Step, Virial};

    use super::*;

    /// No number occurs twice.
    fn structure() -> Structure {
        Structure {
            h: [[16.0, 1.5, 2.5], [0.0, 8.0, 3.5], [0.0, 0.0, 4.0]],
            positions: vec![[0.25, 0.5, 0.75], [1.25, -2.25, 3.25]],
        }
    }

    fn answer() -> Answer {
        Answer {
            energy: -0.5,
            forces: vec![0.25, -0.125, 2.0, 3.0, -4.0, 5.0],
            virial: vec![11.0, 12.0, 13.0, 12.0, 22.0, 23.0, 13.0, 23.0, 33.0],
            extras: b"{}".to_vec(),
        }
    }

    /// Returns the bytes that an exchange sends while its peer sends `inbox`.
    fn sends<X: Exchange>(mut exchange: X, mut inbox: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            let n = match exchange.step() {
                Err(error) => panic!("{error}"),
                Ok(Step::Done(_)) => return sent,
                Ok(Step::Write(bytes)) => {
                    sent.extend(bytes.iter());
                    bytes.len()
                }
                Ok(Step::Read(bytes)) => {
                    let (came, rest) = inbox.split_at(bytes.len());
                    bytes.copy_from_slice(came);
                    inbox = rest;
                    bytes.len()
                }
            };
            exchange.advance(n);
        }
    }

    #[test]
    fn posdata_is_the_librarys() {
        let structure = structure();
        let mut server = Server::new();
        sends(server.status(), header(Header::Ready));
        let cell = Cell::from_rows(structure.h);
        let request = Request::new(&cell, &structure.positions);
        let sent = sends(server.send_positions(request), b"");
        let ours = posdata(&structure);
        let after = [header(Header::GetForce), header(Header::Status)].concat();
        assert_eq!(sent, [ours.clone(), after].concat());

        let places = [CELL, CELL + MATRIX, COUNT, POSITIONS, ours.len()];
        let [h, inverse, count, atoms, end] = places;
        assert_eq!(numbers(&ours[h..inverse]), structure.h.as_flattened());
        assert_eq!(integer(&ours[count..atoms]), 2);
        assert_eq!(
            numbers(&ours[atoms..end]),
            structure.positions.as_flattened()
        );
        assert_eq!(end - atoms, 2 * ATOM);
    }

    #[test]
    fn forceready_is_the_librarys() {
        let (structure, answer) = (structure(), answer());
        let mut driver = Driver::new();
        let mut positions = [[0.0; 3]; 2];
        sends(driver.receive(&mut positions), &posdata(&structure));
        let evaluation = Evaluation {
            energy: answer.energy,
            virial: Virial([[11.0, 12.0, 13.0], [12.0, 22.0, 23.0], [13.0, 23.0, 33.0]]),
        };
        let forces = [[0.25, -0.125, 2.0], [3.0, -4.0, 5.0]];
        let reply = driver.reply(&evaluation, &forces, &answer.extras);
        let ours = forceready(&answer);
        assert_eq!(sends(reply, header(Header::GetForce)), ours);

        assert_eq!(numbers(&ours[ENERGY..ENERGY + 8]), [answer.energy]);
        assert_eq!(integer(&ours[FORCES - 4..FORCES]), 2);
        assert_eq!(numbers(&ours[FORCES..FORCES + 2 * ATOM]), answer.forces);
    }

    #[test]
    fn init_is_the_librarys() {
        let mut server = Server::new();
        sends(server.status(), header(Header::NeedInit));
        let sent = sends(server.initialize(0, b"k:1"), b"");
        assert!(
            sent.starts_with(&init(3, b"k:1")),
            "{}",
            sent.escape_ascii()
        );
    }
}
