//! Bytes to send: one growing frame of data, and one control frame.

use super::frame::{DATA, Header, Kind, MOST_DATA, MOST_WIRE, Reason, seal};

/// An empty frame and the longest control frame.
const MOST_CONTROL: usize = 12;

#[derive(Debug)]
pub(super) struct Outgoing {
    frame: [u8; MOST_WIRE],
    /// The number of bytes that wait for more data, or for the end of their message.
    gathered: usize,
    /// The unsent part of the frame.
    rest: (usize, usize),
    control: [u8; MOST_CONTROL],
    control_rest: (usize, usize),
    /// The next control frame; a later one replaces an earlier one.
    due: Option<Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Open,
    Opened,
    Close(Reason),
    Probe,
    Answer,
}

impl Outgoing {
    pub const fn new() -> Self {
        Self {
            frame: [0; MOST_WIRE],
            gathered: 0,
            rest: (0, 0),
            control: [0; MOST_CONTROL],
            control_rest: (0, 0),
            due: None,
        }
    }

    pub const fn say(&mut self, due: Due) {
        self.due = Some(due);
    }

    pub const fn due(&self) -> Option<Due> {
        self.due
    }

    /// Drops data, even of a partly sent frame: the empty frame before the next OPEN or CLOSE ends
    /// it.
    pub const fn drop_data(&mut self) {
        self.gathered = 0;
        self.rest = (0, 0);
    }

    pub const fn has_gathered(&self) -> bool {
        self.gathered > 0
    }

    /// Whether a data frame waits to be sent, or a control frame must be sent before the next one.
    pub const fn is_blocked(&self) -> bool {
        self.rest.0 < self.rest.1 || self.due.is_some()
    }

    /// Accepts data as far as there is room in the frame.
    pub fn gather(&mut self, bytes: &[u8]) -> usize {
        let room = self.frame.get_mut(DATA + self.gathered..DATA + MOST_DATA);
        let mut n = 0;
        for (to, from) in room.unwrap_or_default().iter_mut().zip(bytes) {
            *to = *from;
            n += 1;
        }
        self.gathered += n;
        n
    }

    /// Makes a frame of the collected data.
    pub fn seal(&mut self, header: Header) {
        self.rest = (0, seal(&mut self.frame, header, self.gathered));
        self.gathered = 0;
    }

    /// The next bytes for the line. `numbers` are the session, the opening, and the number of data
    /// frames so far.
    pub fn bytes(&mut self, (session, opening, number): (u8, u8, u8)) -> &[u8] {
        let has_control = self.control_rest.0 < self.control_rest.1;
        let has_data = self.rest.0 < self.rest.1;
        if !has_control
            && !has_data
            && let Some(due) = self.due.take()
        {
            let (kind, number) = match due {
                Due::Open => (Kind::Open, opening),
                Due::Opened => (Kind::Opened, opening),
                Due::Close(_) => (Kind::Close, number),
                Due::Probe => (Kind::Probe, number),
                Due::Answer => (Kind::Answer, number),
            };
            let header = Header {
                kind,
                session,
                number,
            };
            // The first byte is an empty frame.
            let start = usize::from(matches!(due, Due::Probe | Due::Answer));
            let mut len = 0;
            if let Some((blank, wire)) = self.control.split_first_mut() {
                *blank = super::frame::END;
                if let Due::Close(reason) = due
                    && let Some(data) = wire.get_mut(DATA)
                {
                    *data = reason as u8;
                    len = 1;
                }
                self.control_rest = (start, 1 + seal(wire, header, len));
            }
        }
        let (bytes, rest) = if self.control_rest.0 < self.control_rest.1 {
            (&self.control[..], self.control_rest)
        } else {
            (&self.frame[..], self.rest)
        };
        bytes.get(rest.0..rest.1).unwrap_or_default()
    }

    /// Counts bytes that the line has accepted. Returns whether they were data.
    pub fn sent(&mut self, n: usize) -> bool {
        let has_control = self.control_rest.0 < self.control_rest.1;
        let rest = if has_control {
            &mut self.control_rest
        } else {
            &mut self.rest
        };
        rest.0 = rest.0.saturating_add(n).min(rest.1);
        !has_control && n > 0
    }
}
