//! The first twelve bytes of every message.

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;
/// The first twelve bytes of every message: upper-case ASCII, padded with blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Header {
    /// Server: what state are you in?
    Status,
    /// Server: the replica that you will compute, and a text of parameters.
    Init,
    /// Server: a cell and positions.
    PosData,
    /// Server: send the forces.
    GetForce,
    /// Server: that was all.
    Exit,
    /// Driver's answer to STATUS: send INIT first.
    NeedInit,
    /// Driver's answer to STATUS: send positions.
    Ready,
    /// Driver's answer to STATUS: ask for the forces.
    HaveData,
    /// Driver: energy, forces, virial and extras.
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

    /// The header as it is sent.
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

    /// Reads a header; trailing blanks and NULs (C drivers pad with them) are all the same.
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        // No word has a blank in it, so a NUL may stand for any.
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
