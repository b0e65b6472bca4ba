//! The process at the other end of a unix socket.

use core::fmt;
use std::format;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, geteuid};

/// The process that connected or listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials {
    /// The peer's process, where the system reports it.
    process: Option<i32>,
    user: Uid,
}

impl Credentials {
    pub(super) fn of(socket: &UnixStream) -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
            let peer = getsockopt(socket, PeerCredentials)?;
            Ok(Self {
                // The number is 0 for a process in another container.
                process: Some(peer.pid()).filter(|&process| process > 0),
                user: Uid::from_raw(peer.uid()),
            })
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let (user, _) = nix::unistd::getpeereid(socket)?;
            Ok(Self {
                process: None,
                user,
            })
        }
    }

    /// The user's numeric id.
    pub(super) fn user(self) -> u32 {
        self.user.as_raw()
    }

    /// Whether the process belongs to our user or to root.
    pub(super) fn is_ours(self) -> bool {
        self.user == geteuid() || self.user.is_root()
    }

    /// Refuses a process that is not [ours](Self::is_ours).
    pub(super) fn check(self) -> io::Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        let (user, ours) = (self.user, geteuid());
        let text = format!("it belongs to user {user}, and this process to user {ours}");
        Err(io::Error::new(ErrorKind::PermissionDenied, text))
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(process) = self.process {
            return write!(f, "process {process}");
        }
        write!(f, "user {}", self.user)
    }
}
