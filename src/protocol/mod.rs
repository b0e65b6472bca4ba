//! The vocabulary of the protocol: headers, the layout of messages, and the numbers and texts in
//! them. Nothing in this module has a state. The specification is `src/manual/protocol.md`.

pub(crate) mod detect;
mod error;
mod extras;
pub(crate) mod gather;
pub(crate) mod header;
pub(crate) mod init_text;
pub(crate) mod layout;
pub(crate) mod scalar;
mod status;

pub use error::{ProtocolError, Quantity};
pub use extras::{Extras, ExtrasError};
pub use header::Header;
pub use init_text::Parameters;
pub use scalar::Scalar;
pub use status::Status;
