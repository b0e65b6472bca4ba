//! Where a peer is: a host and port, or a unix socket.

use core::fmt;
use core::str::FromStr;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

use crate::fmt::debug_as_display;

/// The address at which a server listens.
///
/// As text, `HOST:PORT` (an IPv6 address in brackets, with its interface if it is link-local:
/// `[fe80::1%eth0]:31415`) or `unix:NAME`. A name without a slash means i-PI's `/tmp/ipi_NAME`. A
/// text with a slash is the path of a unix socket, with or without `unix:` before it.
///
/// ```
/// use forcewire::net::Address;
///
/// assert_eq!("[::1]:31415".parse::<Address>()?, Address::tcp("::1", 31415));
/// assert_eq!("unix:driver".parse::<Address>()?.to_string(), "/tmp/ipi_driver");
/// assert_eq!("/tmp/ipi_driver".parse::<Address>()?, Address::unix("/tmp/ipi_", "driver"));
/// assert_eq!(Address::unix("/run/ipi_", "water").to_string(), "/run/ipi_water");
/// # Ok::<(), forcewire::net::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP, over IPv4 or IPv6.
    Tcp {
        /// A name or an address, without brackets. A link-local address needs its interface, by
        /// name or number: `fe80::1%eth0`.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// i-PI's prefix for the name of a unix socket (3.3.1, `ipi/interfaces/sockets.py`,
    /// `sockets_prefix`).
    pub const PREFIX: &'static str = "/tmp/ipi_";

    /// A host by name or address, and a port.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// The unix socket `prefix` + `name`; [`PREFIX`](Self::PREFIX) unless the server's input says
    /// otherwise.
    #[must_use]
    pub fn unix(prefix: &str, name: &str) -> Self {
        Self::Unix([prefix, name].concat().into())
    }
}

impl From<SocketAddr> for Address {
    /// An IPv4 address mapped into IPv6 is the IPv4 address, as in [`Subnet`](super::Subnet).
    fn from(address: SocketAddr) -> Self {
        let mut host = address.ip().to_canonical().to_string();
        if let SocketAddr::V6(address) = address
            && address.scope_id() != 0
        {
            host = std::format!("{host}%{}", address.scope_id());
        }
        Self::tcp(host, address.port())
    }
}

/// The addresses of a host, each once.
///
/// # Errors
///
/// The error kind is `HostUnreachable` if the name server has no address now but may have one
/// later.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(|error| match error.kind() {
        LookupErrorKind::Again => {
            io::Error::new(ErrorKind::HostUnreachable, io::Error::from(error))
        }
        _ => io::Error::from(error),
    })?;
    let mut addresses = Vec::new();
    for found in found {
        let mut address = found?.sockaddr;
        // An IPv4-mapped address is the same host as its IPv4 address, which also works without
        // IPv6.
        if let ip @ IpAddr::V4(_) = address.ip().to_canonical() {
            address = SocketAddr::new(ip, port);
        }
        address.set_port(port);
        // A hosts file may list the same address twice.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            // The prefix distinguishes a relative name from a host.
            Self::Unix(path) if path.is_relative() && path.components().count() == 1 => {
                write!(f, "./{}", path.display())
            }
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The error of a text that is not an [`Address`].
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
        if text.contains('/') {
            return Ok(Self::unix("", text));
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host
                .strip_suffix(']')
                .filter(|host| host.contains(':'))
                .ok_or(AddressError)?,
            None if host.contains([':', ']']) => return Err(AddressError),
            None => host,
        };
        // `u16::from_str` would also accept `+80`.
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(AddressError);
        }
        let port = port.parse().map_err(|_| AddressError)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
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
            "host:+80",
            "host :80",
            "two hosts:80",
            "[host]:80",
            "host]:80",
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
            Address::tcp("fe80::1%eth0", 31415),
            Address::unix(Address::PREFIX, "water"),
            Address::unix("", "water"),
            Address::unix("run/", "water:1"),
        ] {
            let text = address.to_string();
            let read = text.parse::<Address>().map(|read| read.to_string());
            assert_eq!(read, Ok(text));
        }
    }

    #[test]
    fn a_peer_keeps_its_scope_and_loses_its_mapping() {
        let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 7);
        assert_eq!(
            Address::from(SocketAddr::V6(scoped)).to_string(),
            "[fe80::1%7]:1"
        );
        let mapped: SocketAddr = "[::ffff:10.0.2.15]:1".parse().unwrap();
        assert_eq!(Address::from(mapped).to_string(), "10.0.2.15:1");
    }
}
