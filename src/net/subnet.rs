//! A part of the address space.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::fmt::debug_as_display;

/// Addresses that begin alike: `192.168.1.0/24`, `fd00::/8`, or one alone.
///
/// ```
/// use forcewire::net::Subnet;
///
/// let subnet: Subnet = "10.0.2.0/24".parse()?;
/// assert!(subnet.contains("10.0.2.15".parse()?));
/// assert!(!subnet.contains("10.0.3.15".parse()?));
/// assert!("::1".parse::<Subnet>()?.contains("::1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet(IpNet);

impl Subnet {
    /// Whether an address is one of them. An IPv4 address that comes in IPv6's clothes (`::ffff:10.0.2.15`) is the
    /// IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl From<IpAddr> for Subnet {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

/// A text is no [`Subnet`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubnetError;

impl fmt::Display for SubnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a subnet is an address, alone or with the length of its prefix: 10.0.2.0/24")
    }
}

debug_as_display!(SubnetError);

impl core::error::Error for SubnetError {}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let alone = text.parse::<IpAddr>().map(IpNet::from);
        alone
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| SubnetError)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
