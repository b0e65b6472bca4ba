//! Where a peer is: a host and port, or a unix socket.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;
use std::string::String;

use crate::fmt::debug_as_display;

/// Where a server listens.
///
/// As text, `HOST:PORT` (an IPv6 address in brackets) or `unix:NAME`; a name without a slash means
/// i-PI's `/tmp/ipi_NAME`.
///
/// ```
/// use forcewire::net::Address;
///
/// assert_eq!("[::1]:31415".parse::<Address>()?, Address::tcp("::1", 31415));
/// assert_eq!("unix:driver".parse::<Address>()?.to_string(), "/tmp/ipi_driver");
/// assert_eq!(Address::unix("/run/ipi_", "water").to_string(), "/run/ipi_water");
/// # Ok::<(), forcewire::net::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP, over IPv4 or IPv6.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// What i-PI puts before a unix socket's name (3.3.1, `ipi/interfaces/sockets.py`, `sockets_prefix`).
    pub const PREFIX: &'static str = "/tmp/ipi_";

    /// A host by name or address, and a port.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// The unix socket `prefix` + `name`; [`PREFIX`](Self::PREFIX) unless the server's input says otherwise.
    #[must_use]
    pub fn unix(prefix: &str, name: &str) -> Self {
        Self::Unix([prefix, name].concat().into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A text is no [`Address`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address is HOST:PORT, [IPV6]:PORT or unix:NAME")
    }
}

debug_as_display!(AddressError);

impl core::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(name) = text.strip_prefix("unix:") {
            let prefix = if name.contains('/') { "" } else { Self::PREFIX };
            return if name.is_empty() {
                Err(AddressError)
            } else {
                Ok(Self::unix(prefix, name))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or(AddressError)?,
            None if host.contains(':') => return Err(AddressError),
            None => host,
        };
        let port = port.parse().map_err(|_| AddressError)?;
        if host.is_empty() {
            Err(AddressError)
        } else {
            Ok(Self::tcp(host, port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":1",
            "host",
            "host:",
            "host:65536",
            "::1:31415",
            "[::1]",
            "[::1:31415",
            "unix:",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn an_address_is_read_back_as_it_is_printed() {
        for address in [
            Address::tcp("localhost", 0),
            Address::tcp("::1", 31415),
            Address::tcp("10.0.2.2", 1),
        ] {
            assert_eq!(
                std::string::ToString::to_string(&address).parse(),
                Ok(address)
            );
        }
    }
}
