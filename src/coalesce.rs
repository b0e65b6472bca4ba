//! A stream that sends each message in one write, around a stream that would send each piece
//! separately.

use core::fmt;

use embedded_io::{ErrorKind, ErrorType, Read, Write};

use crate::fmt::debug_as_display;

/// A stream that keeps written bytes, up to `N`, until it is flushed.
///
/// A driver's answers to STATUS and its replies of up to 27 atoms are a single write anyway. Longer
/// replies are at least three writes, each a separate packet on a socket without Nagle's algorithm.
/// With room for 100 bytes plus 24 per atom plus the extras they are one. A piece larger than `N`
/// is written without a copy.
///
/// Works for [`embedded_io`] and, with the feature `async`, for `embedded-io-async`. Dropping a
/// future loses only what the inner stream itself loses. On a host, `net::Stream` does this and
/// more.
///
/// ```no_run
/// # fn main_loop(
/// #     socket: impl embedded_io::Read + embedded_io::Write,
/// #     mut potential: impl forcewire::Potential,
/// # ) {
/// let mut socket = forcewire::Coalesced::<_, 1636>::new(socket); // 64 atoms
/// let _ = forcewire::serve::<64>(&mut socket, &mut potential);
/// # }
/// ```
#[derive(Debug)]
pub struct Coalesced<S, const N: usize> {
    socket: S,
    output: heapless::Vec<u8, N>,
    /// How much of `output` has been written to the stream.
    sent: usize,
}

impl<S, const N: usize> Coalesced<S, N> {
    /// Wraps a stream.
    pub const fn new(socket: S) -> Self {
        Self {
            socket,
            output: heapless::Vec::new(),
            sent: 0,
        }
    }

    /// Returns the stream. Bytes that were not flushed are lost.
    pub fn into_inner(self) -> S {
        self.socket
    }

    /// Keeps all of `bytes`, if there is room.
    fn keep(&mut self, bytes: &[u8]) -> bool {
        self.output.extend_from_slice(bytes).is_ok()
    }

    /// Counts bytes that the stream has accepted.
    fn departed(&mut self, n: usize) {
        self.sent += n;
        if self.sent >= self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
    }
}

/// The error of a [`Coalesced`] stream.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CoalesceError<E> {
    /// The stream failed.
    Stream(E),
    /// The stream accepted none of the bytes offered.
    WriteZero,
}

impl<E: fmt::Display> fmt::Display for CoalesceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::WriteZero => {
                f.write_str("the stream takes no more bytes: it is closed, connect again")
            }
        }
    }
}

debug_as_display!(CoalesceError<E>);

impl<E: fmt::Display> core::error::Error for CoalesceError<E> {}

impl<E: embedded_io::Error> embedded_io::Error for CoalesceError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Stream(error) => error.kind(),
            Self::WriteZero => ErrorKind::WriteZero,
        }
    }
}

impl<S: ErrorType, const N: usize> ErrorType for Coalesced<S, N> {
    type Error = CoalesceError<S::Error>;
}

impl<S: Read, const N: usize> Read for Coalesced<S, N> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        self.socket.read(buffer).map_err(CoalesceError::Stream)
    }
}

impl<S: Write, const N: usize> Coalesced<S, N> {
    fn send(&mut self) -> Result<(), CoalesceError<S::Error>> {
        while !self.output.is_empty() {
            let kept = self.output.get(self.sent..).unwrap_or_default();
            match self.socket.write(kept).map_err(CoalesceError::Stream)? {
                0 => return Err(CoalesceError::WriteZero),
                n => self.departed(n),
            }
        }
        Ok(())
    }
}

impl<S: Write, const N: usize> Write for Coalesced<S, N> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        if self.keep(bytes) {
            return Ok(bytes.len());
        }
        self.send()?;
        if self.keep(bytes) {
            return Ok(bytes.len());
        }
        self.socket.write(bytes).map_err(CoalesceError::Stream)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.send()?;
        self.socket.flush().map_err(CoalesceError::Stream)
    }
}

#[cfg(feature = "async")]
mod asynch {
    use embedded_io_async::{Read, Write};

    use super::{CoalesceError, Coalesced};

    impl<S: Read, const N: usize> Read for Coalesced<S, N> {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            self.socket
                .read(buffer)
                .await
                .map_err(CoalesceError::Stream)
        }
    }

    impl<S: Write, const N: usize> Coalesced<S, N> {
        async fn send_async(&mut self) -> Result<(), CoalesceError<S::Error>> {
            while !self.output.is_empty() {
                let kept = self.output.get(self.sent..).unwrap_or_default();
                match self
                    .socket
                    .write(kept)
                    .await
                    .map_err(CoalesceError::Stream)?
                {
                    0 => return Err(CoalesceError::WriteZero),
                    n => self.departed(n),
                }
            }
            Ok(())
        }
    }

    impl<S: Write, const N: usize> Write for Coalesced<S, N> {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
            if self.keep(bytes) {
                return Ok(bytes.len());
            }
            self.send_async().await?;
            if self.keep(bytes) {
                return Ok(bytes.len());
            }
            self.socket
                .write(bytes)
                .await
                .map_err(CoalesceError::Stream)
        }

        async fn flush(&mut self) -> Result<(), Self::Error> {
            self.send_async().await?;
            self.socket.flush().await.map_err(CoalesceError::Stream)
        }
    }
}
