//! The device of a line: a serial port, or a socket in place of one.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use forcewire::net::{Address, ConnectOptions, connect_with};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, QueueSelector};
use rustix::{fs, termios};

const BAUD: u32 = 115_200;

#[derive(Clone, Debug)]
pub enum Device {
    Serial { path: PathBuf, baud: u32 },
    Socket(Address),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") || text.starts_with("tcp:") {
            let address = text.strip_prefix("tcp:").unwrap_or(text);
            return match address.parse() {
                Ok(address) => Ok(Self::Socket(address)),
                Err(error) => Err(format!("{error}")),
            };
        }
        let (path, baud) = match text.split_once(',') {
            Some((path, baud)) => (path, baud.parse().map_err(|_| format!("{baud} baud"))?),
            None => (text, BAUD),
        };
        let path = path.into();
        Ok(Self::Serial { path, baud })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { path, .. } => path.display().fmt(f),
            Self::Socket(address) => address.fmt(f),
        }
    }
}

impl Device {
    pub fn open(&self) -> io::Result<OwnedFd> {
        let (path, baud) = match self {
            Self::Serial { path, baud } => (path, *baud),
            Self::Socket(address) => return connect(address),
        };
        // The modem's control lines don't matter, so the open must not wait for them.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = fs::open(path, flags, Mode::empty())?;
        // Other terminal programs take this lock too. With two programs, each would receive only
        // some of the bytes.
        match fs::flock(&device, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another program uses it")),
            other => other?,
        }
        let mut settings = termios::tcgetattr(&device)?;
        settings.make_raw();
        settings.set_speed(baud)?;
        settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        termios::tcsetattr(&device, OptionalActions::Now, &settings)?;
        // Drop bytes that arrived before the device was opened.
        termios::tcflush(&device, QueueSelector::IOFlush)?;
        Ok(device)
    }
}

/// Makes one attempt to connect. A unix socket must belong to a process of the same user or of
/// root.
fn connect(address: &Address) -> io::Result<OwnedFd> {
    let once = ConnectOptions::new().connect(Duration::ZERO);
    Ok(connect_with(address, once, |_, _| {})?.into())
}
