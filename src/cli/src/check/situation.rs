//! The description of a situation, for both sides.

/// A situation in which a program under test is put.
pub struct About {
    pub name: &'static str,
    /// What happens, in a line.
    pub does: &'static str,
    /// How this arises in practice.
    pub why: &'static str,
    /// The protocol's rule for it.
    pub reference: &'static str,
}

impl About {
    pub const fn new(
        name: &'static str,
        does: &'static str,
        why: &'static str,
        reference: &'static str,
    ) -> Self {
        Self {
            name,
            does,
            why,
            reference,
        }
    }
}

/// The situation without a clumsy act.
pub const CONTROL: &str = "control";

// The protocol's rules for both sides.
pub const STREAM: &str =
    "TCP is a stream: it keeps bytes and their order, not where writes began (RFC 9293, 3.7)";
pub const WORDS: &str =
    "12 bytes of upper-case ASCII, padded with blanks (i-PI sockets.py, `Message`)";
pub const FINITE: &str = "nothing in the protocol makes sense of a number that is infinite or none";
