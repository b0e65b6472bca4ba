//! Any bytes to one end of a serial line, and valid frames with arbitrary headers.

use std::time::Duration;

use forcewire::line::{Fault, Framing, Role, State};

use super::choices::Choices;

/// A checksum and COBS as documented for `forcewire::line`, without any saving of memory.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let crc = plain.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    });
    let plain = [plain, &(!crc).to_le_bytes()].concat();
    let mut wire = Vec::new();
    for run in plain.split(|byte| *byte == 0) {
        wire.push(run.len() as u8 + 1);
        wire.extend_from_slice(run);
    }
    wire.push(0);
    wire
}

/// One end, the data of the frames that were sent to it, and the time elapsed on its clock.
struct End {
    framing: Framing,
    sent: Vec<Vec<u8>>,
    now: Duration,
}

impl End {
    fn hear(&mut self, bytes: &[u8], most: usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Read the waiting data, all or in part.
            if !self.framing.data().is_empty() {
                self.read(most);
                continue;
            }
            let space = self.framing.space();
            let n = space.len().min(rest.len()).min(most);
            assert!(n > 0, "no room");
            space[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            self.framing.received(n, self.now);
            self.look();
        }
    }

    fn read(&mut self, most: usize) {
        self.framing.consume(most);
        self.look();
    }

    /// Checks that data come from a valid frame, and that there is room unless there are data.
    fn look(&mut self) {
        let data = self.framing.data().to_vec();
        let is_right = |sent: &Vec<u8>| sent.ends_with(&data);
        assert!(
            data.is_empty() || self.sent.iter().any(is_right),
            "{data:?}"
        );
        assert_eq!(self.framing.space().is_empty(), !data.is_empty());
    }

    /// Sends everything, which is at most one data frame and two others.
    fn leave(&mut self, most: usize) {
        let mut left = 0;
        loop {
            let n = self.framing.outgoing().len().min(most);
            if n == 0 {
                return;
            }
            self.framing.sent(n);
            left += n;
            assert!(left <= 249 + 2 * 12, "it says {left} bytes");
        }
    }
}

pub fn framing(choices: &mut Choices<'_>) {
    let role = choices.of([Role::Board, Role::Host]);
    let mut end = End {
        framing: Framing::new(role),
        sent: Vec::new(),
        now: Duration::ZERO,
    };
    while !choices.is_empty() {
        let (what, most) = (choices.below(12), 1 + usize::from(choices.byte()));
        match what {
            0 => end.framing.open(end.now),
            1 => end.framing.accept(end.now),
            2 => end.framing.close(),
            3 => end.framing.fail(Fault::Lost),
            4 => {
                end.now += Duration::from_millis(10 * most as u64);
                end.framing.elapsed(end.now);
            }
            5 => end.read(most),
            6 => end.leave(most),
            7 => {
                let taken = end.framing.put(&[7; 256][..most]);
                assert!(taken <= most);
                if end.framing.state() != State::Open {
                    assert_eq!(taken, 0);
                }
            }
            8 => end.framing.end_message(),
            // Send bytes unchanged.
            9 => {
                let (bytes, rest) = choices.0.split_at(most.min(choices.0.len()));
                choices.0 = rest;
                // They can be a frame by chance only, because it has a checksum of 32 bits.
                end.hear(bytes, most);
            }
            // Send a frame with any header and data of any length, even too long.
            _ => {
                let kind = choices.byte() % 9;
                let session = match choices.byte() {
                    0..200 => end.framing.session(),
                    other => other,
                };
                let number = choices.byte();
                let len = match kind {
                    3 => 1,
                    6 | 7 => most.min(247),
                    _ => usize::from(choices.byte() == 255),
                };
                let data: Vec<u8> = (0..len)
                    .map(|i| (i * most) as u8 ^ choices.byte())
                    .collect();
                let header = [kind, session, number];
                let frame = sealed(&[&header[..], &data].concat());
                end.sent.push(data);
                if choices.bit() {
                    end.hear(&[0], 1);
                }
                end.hear(&frame, most);
            }
        }
        end.look();
    }
}
