//! The bytes and offsets of a frame.
//!
//! ```text
//! plain   kind  session  number  data: 0 to 240 bytes  CRC-32C of all before it, little-endian
//! wire    COBS code, the plain bytes with each zero replaced, 00
//! ```

use crc::{CRC_32_ISCSI, Crc, NoTable};

/// The most data in a frame: positions or forces of ten atoms.
pub(super) const MOST_DATA: usize = 240;
/// The offset of a frame's data, on the wire too.
pub(super) const DATA: usize = 1 + HEADER;
/// The longest frame on the wire: 249 bytes, including its end. Up to 256 bytes need only one COBS
/// code.
pub(super) const MOST_WIRE: usize = DATA + MOST_DATA + CHECK + 1;
/// The byte that ends a frame. It occurs nowhere else on the wire.
pub(super) const END: u8 = 0;

const HEADER: usize = 3;
const CHECK: usize = 4;

// Computed without a table, which would take 1 KiB of flash. A UART is slower than this.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the board: connect to a server.
    Open = 1,
    /// From the host: connected.
    Opened = 2,
    /// From either end: the connection has ended. One byte of data, a [`Reason`].
    Close = 3,
    /// From the host, after a silence: asks whether a frame was lost.
    Probe = 4,
    /// From the board, in reply to a probe.
    Answer = 5,
    /// Data in the middle of a message.
    Part = 6,
    /// Data at the end of a message.
    Last = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Answer, Close, Last, Open, Opened, Part, Probe};
        [Open, Opened, Close, Probe, Answer, Part, Last]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Why a connection has ended: the data of [`Kind::Close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The program or the server at that end wanted it.
    Done = 0,
    /// The received bytes were damaged, or there is no connection.
    Fault = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    /// The number of this connection over the line. The host counts from 1 to 255 and then starts
    /// again.
    pub session: u8,
    /// For data, how many data frames came before in this direction, modulo 256. For `Close`,
    /// `Probe` and `Answer`, how many data frames have been sent. For `Open`, the number of the
    /// request, which `Opened` returns.
    pub number: u8,
}

/// Builds a frame in place around the data, `len` bytes from [`DATA`] on. Returns the frame's
/// length on the wire, or zero if there is no room for it.
pub(super) fn seal(wire: &mut [u8], header: Header, len: usize) -> usize {
    let end = DATA + len;
    if let Some(fields) = wire.get_mut(1..DATA) {
        fields.copy_from_slice(&[header.kind as u8, header.session, header.number]);
    }
    let Some(check) = wire.get(1..end).map(|plain| CRC.checksum(plain)) else {
        return 0;
    };
    match wire.get_mut(end..end + CHECK + 1) {
        Some([a, b, c, d, last]) => {
            [*a, *b, *c, *d] = check.to_le_bytes();
            *last = END;
        }
        _ => return 0,
    }
    if let Some((code, plain)) = wire
        .get_mut(..end + CHECK)
        .and_then(|w| w.split_first_mut())
    {
        let mut distance = 1;
        for byte in plain.iter_mut().rev() {
            if *byte == 0 {
                *byte = distance;
                distance = 0;
            }
            distance += 1;
        }
        *code = distance;
    }
    end + CHECK + 1
}

/// Decodes a frame in place, without its end. Returns its header and the length of its data, which
/// begin at [`DATA`], or `None` if it was damaged.
pub(super) fn unseal(wire: &mut [u8]) -> Option<(Header, usize)> {
    let (code, plain) = wire.split_first_mut()?;
    let mut distance = *code;
    for byte in plain.iter_mut() {
        distance = distance.wrapping_sub(1);
        if distance == 0 {
            distance = *byte;
            *byte = 0;
        }
    }
    let (plain, check) = plain.split_last_chunk::<CHECK>()?;
    let (&[kind, session, number], data) = plain.split_first_chunk::<HEADER>()?;
    let is_whole = distance == 1 && CRC.checksum(plain) == u32::from_le_bytes(*check);
    let kind = Kind::of(kind).filter(|_| is_whole)?;
    let right = match kind {
        Kind::Open | Kind::Opened | Kind::Probe | Kind::Answer => data.is_empty(),
        Kind::Close => data.len() == 1,
        Kind::Part | Kind::Last => !data.is_empty() && data.len() <= MOST_DATA,
    };
    let header = Header {
        kind,
        session,
        number,
    };
    right.then_some((header, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These frames are written by hand, except for the checksum, whose check value comes from RFC
    /// 3720.
    #[test]
    fn a_frame_is_these_bytes() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        let mut wire = [0xaa; 16];
        wire[DATA..DATA + 4].copy_from_slice(&[5, 0, 0, 7]);
        let header = Header {
            kind: Kind::Last,
            session: 1,
            number: 0,
        };
        let length = seal(&mut wire, header, 4);
        let check = CRC.checksum(&[7, 1, 0, 5, 0, 0, 7]).to_le_bytes();
        assert!(!check.contains(&0));
        assert_eq!(wire[..length - 5], [3, 7, 1, 2, 5, 1, 6, 7]);
        assert_eq!(wire[length - 5..length - 1], check);
        assert_eq!(wire[length - 1], END);
        assert_eq!(unseal(&mut wire[..length - 1]), Some((header, 4)));
        assert_eq!(wire[DATA..DATA + 4], [5, 0, 0, 7]);
    }

    #[test]
    fn the_longest_frame_comes_back_whatever_its_bytes_are() {
        for seed in 0..=255_u8 {
            let mut wire = [0; MOST_WIRE];
            for (i, byte) in (0_u8..).zip(&mut wire[DATA..DATA + MOST_DATA]) {
                *byte = i.wrapping_mul(seed);
            }
            let before = wire;
            let header = Header {
                kind: Kind::Part,
                session: 255,
                number: seed,
            };
            assert_eq!(seal(&mut wire, header, MOST_DATA), MOST_WIRE);
            assert_eq!(
                wire.iter().position(|byte| *byte == END),
                Some(MOST_WIRE - 1)
            );
            let plain = &mut wire[..MOST_WIRE - 1];
            assert_eq!(unseal(plain), Some((header, MOST_DATA)));
            assert_eq!(wire[DATA..DATA + MOST_DATA], before[DATA..DATA + MOST_DATA]);
        }
    }

    #[test]
    fn a_buffer_that_is_too_short_gets_no_frame() {
        let header = Header {
            kind: Kind::Close,
            session: 1,
            number: 1,
        };
        for room in 0..DATA + 1 + CHECK + 1 {
            let mut wire = [1; DATA + 1 + CHECK + 1];
            assert_eq!(seal(&mut wire[..room], header, 1), 0);
        }
    }
}
