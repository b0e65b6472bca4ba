//! What the application is told when it starts.

use core::net::Ipv4Addr;

use forcewire::Deadlines;
use forcewire::potential::Cutoff;
use smoltcp::time::Duration;

/// Where the server is and what to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: Ipv4Addr::new(10, 0, 2, 2),
            port: 31415,
            lj: [6.43452, 0.000379384, 16.0863],
            cutoff: Cutoff::Tail,
            patience: Duration::from_secs(30),
            deadlines: Deadlines {
                message: Deadlines::default().message,
                ..Deadlines::NONE
            },
        }
    }
}

impl Options {
    /// What [`parse`](Self::parse) understands.
    pub const USAGE: &str = "server=ADDRESS port=PORT lj=SIGMA,EPSILON,RADIUS cutoff=tail|truncated|shifted patience=SECONDS \
        handshake=SECONDS message=SECONDS evaluation=SECONDS";

    /// Reads options; what is not named keeps its default.
    ///
    /// # Errors
    ///
    /// The word that makes no sense.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut options = Self::default();
        for word in words {
            options.set(word).ok_or(word)?;
        }
        Ok(options)
    }

    fn set(&mut self, word: &str) -> Option<()> {
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
}
