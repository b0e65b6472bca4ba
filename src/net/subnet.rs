//! A range of IP addresses.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::fmt::debug_as_display;

/// A range of addresses with a common prefix (`192.168.1.0/24`, `fd00::/8`), or a single address.
///
/// An IPv4 address mapped into IPv6 (`::ffff:10.0.2.15`), which a server that listens on `::` sees,
/// counts as an IPv4 address. The same applies to the text of a subnet: `::ffff:10.0.2.0/120` is
/// `10.0.2.0/24`. No larger IPv6 subnet contains IPv4 addresses, not even `::/0`.
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
    /// Whether the subnet contains an address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The subnet itself, without the bits after its prefix.
    fn new(net: IpNet) -> Self {
        let mapped = match (net.addr().to_canonical(), net) {
            (IpAddr::V4(address), IpNet::V6(_)) => mapped(address, net.prefix_len()),
            _ => None,
        };
        Self(mapped.unwrap_or(net).trunc())
    }
}

/// The IPv4 subnet for a mapped address and its prefix.
fn mapped(address: Ipv4Addr, prefix: u8) -> Option<IpNet> {
    let prefix = prefix.checked_sub(96)?;
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

impl From<IpAddr> for Subnet {
    fn from(address: IpAddr) -> Self {
        Self::new(address.into())
    }
}

/// The error of a text that is not a [`Subnet`].
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
            .map(Self::new)
            .map_err(|_| SubnetError)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_on_either_side() {
        let plain: IpAddr = "10.0.2.15".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.2.15".parse().unwrap();
        for text in [
            "10.0.2.15",
            "10.0.2.0/24",
            "0.0.0.0/0",
            "::ffff:10.0.2.15",
            "::ffff:10.0.2.0/120",
            "::ffff:0:0/96",
        ] {
            assert!(subnet(text).contains(plain), "{text}");
            assert!(subnet(text).contains(mapped), "{text}");
        }
        assert!(Subnet::from(mapped).contains(plain));
        assert!(!subnet("::/0").contains(mapped));
        assert!(!subnet("::ffff:10.0.3.0/120").contains(plain));
    }

    #[test]
    fn equal_subnets_are_equal() {
        assert_eq!(subnet("10.0.2.15/24"), subnet("10.0.2.0/24"));
        assert_eq!(subnet("::ffff:10.0.2.15/120").to_string(), "10.0.2.0/24");
        assert_eq!(subnet("fd00::1/8").to_string(), "fd00::/8");
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in ["", "10.0.2", "10.0.2.0/33", "::/129", "host", "10.0.2.0/"] {
            assert_eq!(text.parse::<Subnet>(), Err(SubnetError), "{text}");
        }
    }
}
