//! The options of the application.

use core::fmt;
use core::net::Ipv4Addr;
use core::num::NonZeroU16;

use forcewire::Deadlines;
use forcewire::potential::Cutoff;
use smoltcp::time::Duration;

/// The address of the server, and the parameters of the potential.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options<'a> {
    /// The server's address. QEMU's user network maps the host's loopback to 10.0.2.2.
    pub server: Ipv4Addr,
    /// The server's port.
    pub port: u16,
    /// σ, ε and the cutoff of the Lennard-Jones potential, in bohr and hartree. The default is
    /// argon.
    pub lj: [f64; 3],
    /// The treatment of the cutoff.
    pub cutoff: Cutoff,
    /// How long to try to reach the server.
    pub patience: Duration,
    /// Time limits for a connected server. It may take its time before its first message and
    /// between two messages, but not in the middle of one.
    pub deadlines: Deadlines,
    /// The identity and the key for TLS, if used.
    pub psk: Option<Psk<'a>>,
    /// Random bytes for an emulated board, which has no hardware source.
    pub seed: Option<[u8; 32]>,
}

/// An identity and its key: a line of the file that stunnel calls `PSKsecrets`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Psk<'a> {
    /// The name by which the server finds the key.
    pub identity: &'a str,
    /// The key, a secret shared with the server.
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
            seed: None,
        }
    }
}

impl<'a> Options<'a> {
    /// The options that [`parse`](Self::parse) understands.
    pub const USAGE: &'static str = "server=ADDRESS port=PORT lj=SIGMA,EPSILON,RADIUS cutoff=tail|truncated|shifted \
        patience=SECONDS handshake=SECONDS message=SECONDS evaluation=SECONDS, and with the feature `tls` \
        tls=IDENTITY:KEY seed=RANDOM, both of 64 hexadecimal digits";

    /// Parses options; an omitted option keeps its default.
    ///
    /// # Errors
    ///
    /// The invalid word. For a word that may hold a secret, only its name.
    pub fn parse(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut options = Self::default();
        for word in words {
            let shown = ["tls=", "seed="]
                .into_iter()
                .find(|name| word.starts_with(name));
            options.set(word).ok_or(shown.unwrap_or(word))?;
        }
        Ok(options)
    }

    fn set(&mut self, word: &'a str) -> Option<()> {
        match word.split_once('=')? {
            ("server", text) => self.server = text.parse().ok()?,
            // Nothing listens on port 0: when binding it means "any port".
            ("port", text) => self.port = text.parse::<NonZeroU16>().ok()?.get(),
            ("lj", text) => {
                let mut numbers = text.split(',');
                for parameter in &mut self.lj {
                    *parameter = numbers.next()?.parse().ok()?;
                }
                let valid = |number: &f64| number.is_finite() && *number > 0.0;
                if numbers.next().is_some() || !self.lj.iter().all(valid) {
                    return None;
                }
            }
            ("cutoff", "tail") => self.cutoff = Cutoff::Tail,
            ("cutoff", "truncated") => self.cutoff = Cutoff::Truncated,
            ("cutoff", "shifted") => self.cutoff = Cutoff::Shifted,
            ("patience", text) => self.patience = seconds(text)?,
            ("handshake", text) => self.deadlines.handshake = Some(limit(text)?),
            ("message", text) => self.deadlines.message = Some(limit(text)?),
            ("evaluation", text) => self.deadlines.evaluation = Some(limit(text)?),
            #[cfg(feature = "tls")]
            ("tls", text) => {
                let (identity, digits) = text.split_once(':')?;
                (!identity.is_empty()).then_some(())?;
                let key = secret(digits)?;
                self.psk = Some(Psk { identity, key });
            }
            #[cfg(feature = "tls")]
            ("seed", digits) => self.seed = Some(secret(digits)?),
            _ => return None,
        }
        Some(())
    }
}

fn seconds(text: &str) -> Option<Duration> {
    // The longest time that a clock in microseconds can represent.
    let seconds = text.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// Parses a deadline. Zero is invalid: it would pass before any byte can arrive.
fn limit(text: &str) -> Option<core::time::Duration> {
    let limit = seconds(text)?;
    (limit > Duration::ZERO).then_some(limit.into())
}

/// Parses 64 hexadecimal digits into 32 bytes. All zeros are refused as an unfilled placeholder.
#[cfg(feature = "tls")]
fn secret(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let decoded = base16ct::mixed::decode(digits, &mut bytes).ok()?;
    (decoded.len() == 32 && bytes != [0; 32]).then_some(bytes)
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
            "port=0",
            "port=65536",
            "lj=1,2",
            "lj=1,2,3,4",
            "lj=-1,-1,-1",
            "lj=0,1,1",
            "lj=1,1,0",
            "lj=NaN,1,1",
            "lj=1,inf,1",
            "lj=1,1,1e999",
            "server=localhost",
            "cutoff=",
            "message=-1",
            "message=0",
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
    #[cfg(feature = "tls")]
    fn zeros_are_neither_a_key_nor_a_seed() {
        let zeros = [
            "tls=water:0000000000000000000000000000000000000000000000000000000000000000",
            "seed=0000000000000000000000000000000000000000000000000000000000000000",
        ];
        assert_eq!(Options::parse([zeros[0]]), Err("tls="));
        assert_eq!(Options::parse([zeros[1]]), Err("seed="));
        let seed = "seed=0000000000000000000000000000000000000000000000000000000000000001";
        let mut expected = [0; 32];
        expected[31] = 1;
        assert_eq!(Options::parse([seed]).unwrap().seed, Some(expected));
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn a_key_that_could_not_be_used_is_refused() {
        let word = "tls=water:000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        assert_eq!(Options::parse([word]), Err("tls="));
    }
}
