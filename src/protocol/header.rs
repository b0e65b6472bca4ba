//! The first twelve bytes of every message.

/// The length of a header in bytes.
pub(crate) const HEADER: usize = 12;
/// The first twelve bytes of every message: upper-case ASCII, padded with blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Header {
    /// Server: asks for the driver's state.
    Status,
    /// Server: the number of the replica to compute, and a text with parameters.
    Init,
    /// Server: a cell and positions.
    PosData,
    /// Server: asks for the forces.
    GetForce,
    /// Server: ends the conversation.
    Exit,
    /// Driver, in answer to STATUS: needs INIT first.
    NeedInit,
    /// Driver, in answer to STATUS: waits for positions.
    Ready,
    /// Driver, in answer to STATUS: waits for GETFORCE.
    HaveData,
    /// Driver: sends energy, forces, virial and extras.
    ForceReady,
}

impl Header {
    const ALL: [Self; 9] = [
        Self::Status,
        Self::Init,
        Self::PosData,
        Self::GetForce,
        Self::Exit,
        Self::NeedInit,
        Self::Ready,
        Self::HaveData,
        Self::ForceReady,
    ];

    /// The header's bytes on the wire.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8; HEADER] {
        match self {
            Self::Status => b"STATUS      ",
            Self::Init => b"INIT        ",
            Self::PosData => b"POSDATA     ",
            Self::GetForce => b"GETFORCE    ",
            Self::Exit => b"EXIT        ",
            Self::NeedInit => b"NEEDINIT    ",
            Self::Ready => b"READY       ",
            Self::HaveData => b"HAVEDATA    ",
            Self::ForceReady => b"FORCEREADY  ",
        }
    }

    /// The word without its padding.
    #[must_use]
    pub fn name(self) -> &'static str {
        core::str::from_utf8(self.bytes())
            .unwrap_or_default()
            .trim_end()
    }

    /// Reads a header padded with blanks or NULs (some C drivers use NULs).
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        // No word contains a blank, so any NUL counts as a blank.
        let padded = bytes.map(|byte| if byte == 0 { b' ' } else { byte });
        Self::ALL
            .into_iter()
            .find(|header| *header.bytes() == padded)
    }
}

/// A header without its padding.
pub(crate) fn word(bytes: &[u8]) -> &[u8] {
    let padding = bytes
        .iter()
        .rev()
        .take_while(|&&byte| byte == b' ' || byte == 0)
        .count();
    bytes.get(..bytes.len() - padding).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_twelve_bytes_and_are_known_again() {
        for header in Header::ALL {
            assert_eq!(Header::parse(header.bytes()), Some(header));
        }
        assert_eq!(Header::ForceReady.name(), "FORCEREADY");
    }

    #[test]
    fn padding_may_be_nuls_and_nothing_else_may_differ() {
        assert_eq!(Header::parse(b"EXIT\0\0\0\0\0\0\0\0"), Some(Header::Exit));
        assert_eq!(Header::parse(b"EXIT \0      "), Some(Header::Exit));
        assert_eq!(Header::parse(b"exit        "), None);
        assert_eq!(Header::parse(b" EXIT       "), None);
        assert_eq!(Header::parse(b"EXITS       "), None);
        assert_eq!(Header::parse(&[0; 12]), None);
        assert_eq!(Header::parse(b"            "), None);
    }
}
