//! What the application is told when it starts.

use core::fmt;
use core::net::Ipv4Addr;

use forcewire::Deadlines;
use forcewire::potential::Cutoff;
use smoltcp::time::Duration;

/// Where the server is and what to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<'a> {
    /// The server's address. QEMU's user network shows the host's loopback as 10.0.2.2.
    pub server: Ipv4Addr,
    /// The server's port.
    pub port: u16,
    /// σ, ε and the cutoff of Lennard-Jones's potential, in bohr and hartree; those of argon.
    pub lj: [f64; 3],
    /// What the potential does at the cutoff.
    pub cutoff: Cutoff,
    /// How long to try to reach the server.
    pub patience: Duration,
    /// How long to wait for it once it is reached. A server may well take its time before its first message and
    /// between two, and may not stop in the middle of one.
    pub deadlines: Deadlines,
    /// Who we are to a server that speaks TLS, if it does.
    pub psk: Option<Psk<'a>>,
}

/// An identity and the key that goes with it: a line of the file that stunnel calls `PSKsecrets`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Psk<'a> {
    /// The name by which the server finds the key.
    pub identity: &'a str,
    /// The key, which only the two of us know.
    pub key: [u8; 32],
}

impl fmt::Debug for Psk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Psk").field(&self.identity).finish() // and no key
    }
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            server: Ipv4Addr::new(10, 0, 2, 2),
            port: 31415,
            lj: [6.43452, 0.000379384, 16.0863],
            cutoff: Cutoff::Tail,
            patience: Duration::from_secs(30),
            deadlines: Deadlines::NONE.message(core::time::Duration::from_secs(60)),
            psk: None,
        }
    }
}

impl<'a> Options<'a> {
    /// What [`parse`](Self::parse) understands.
    pub const USAGE: &'static str = "server=ADDRESS port=PORT lj=SIGMA,EPSILON,RADIUS cutoff=tail|truncated|shifted \
        patience=SECONDS handshake=SECONDS message=SECONDS evaluation=SECONDS, and with the feature `tls` \
        tls=IDENTITY:KEY, a key of 64 hexadecimal digits";

    /// Reads options; what is not named keeps its default.
    ///
    /// # Errors
    ///
    /// The word that makes no sense; of one that may hold a key, its name.
    pub fn parse(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut options = Self::default();
        for word in words {
            let told = if word.starts_with("tls=") {
                "tls="
            } else {
                word
            };
            options.set(word).ok_or(told)?;
        }
        Ok(options)
    }

    fn set(&mut self, word: &'a str) -> Option<()> {
        match word.split_once('=')? {
            ("server", text) => self.server = text.parse().ok()?,
            ("port", text) => self.port = text.parse().ok()?,
            ("lj", text) => {
                let mut numbers = text.split(',');
                for parameter in &mut self.lj {
                    *parameter = numbers.next()?.parse().ok()?;
                }
                if numbers.next().is_some() {
                    return None;
                }
            }
            ("cutoff", "tail") => self.cutoff = Cutoff::Tail,
            ("cutoff", "truncated") => self.cutoff = Cutoff::Truncated,
            ("cutoff", "shifted") => self.cutoff = Cutoff::Shifted,
            ("patience", text) => self.patience = seconds(text)?,
            ("handshake", text) => self.deadlines.handshake = Some(seconds(text)?.into()),
            ("message", text) => self.deadlines.message = Some(seconds(text)?.into()),
            ("evaluation", text) => self.deadlines.evaluation = Some(seconds(text)?.into()),
            #[cfg(feature = "tls")]
            ("tls", text) => {
                let (identity, digits) = text.split_once(':')?;
                let mut key = [0; 32];
                let decoded = base16ct::mixed::decode(digits, &mut key).ok()?;
                (decoded.len() == key.len() && !identity.is_empty()).then_some(())?;
                self.psk = Some(Psk { identity, key });
            }
            _ => return None,
        }
        Some(())
    }
}

fn seconds(text: &str) -> Option<Duration> {
    // As many as a clock of microseconds can count.
    let seconds = text.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_keeps_its_default() {
        assert_eq!(Options::parse([]), Ok(Options::default()));
        let options = Options {
            port: 1,
            lj: [1.0, 2.0, 3.5],
            ..Options::default()
        };
        assert_eq!(Options::parse(["port=1", "lj=1,2,3.5"]), Ok(options));
        let mut options = Options::default();
        options.deadlines.handshake = Some(core::time::Duration::from_secs(7));
        assert_eq!(Options::parse(["handshake=7"]), Ok(options));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for word in [
            "31415",
            "port=",
            "port=65536",
            "lj=1,2",
            "lj=1,2,3,4",
            "server=localhost",
            "cutoff=",
            "message=-1",
            "patience=4294967296",
            "-v",
        ] {
            assert_eq!(Options::parse([word]), Err(word));
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_key_is_read_and_never_shown() {
        let word = "tls=water:000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        let options = Options::parse([word]).unwrap();
        let key = core::array::from_fn(|i| i as u8);
        let identity = "water";
        assert_eq!(options.psk, Some(Psk { identity, key }));
        struct Shown(bool);
        impl fmt::Write for Shown {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 |= text.contains("12");
                Ok(())
            }
        }
        let mut shown = Shown(false);
        fmt::write(&mut shown, format_args!("{:?}", options.psk)).unwrap();
        assert!(!shown.0);
        for end in [0, 4, 5, 10, word.len() - 1] {
            assert_eq!(Options::parse([&word[..end.max(4)]]), Err("tls="));
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn a_key_that_could_not_be_used_is_refused() {
        let word = "tls=water:000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        assert_eq!(Options::parse([word]), Err("tls="));
    }
}
