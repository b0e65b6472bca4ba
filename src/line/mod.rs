//! The protocol over a serial line: frames with a checksum, and connections that open and close.
//!
//! A UART moves bytes and may lose or change some. It has no connection and no end of a message,
//! and this protocol has no checksum: one flipped bit in a count changes the meaning of all later
//! bytes. A [`Line`] around an `embedded-io` stream adds what is missing. It is itself such a
//! stream, so [`serve`](crate::serve()) and [`blocking::run`](crate::blocking::run()) work over it.
//! The other end is a `Line` too, or the firmware in C of `boards/mps2-an385-c`, or `forcewire
//! bridge`, which connects lines to a server.
//!
//! ```
//! use core::time::Duration;
//! use forcewire::line::Line;
//! use forcewire::potential::Harmonic;
//! use forcewire::serve;
//!
//! /// `uart` times out every 100 ms; `milliseconds` is the board's counter.
//! fn firmware<S>(uart: S, milliseconds: impl Fn() -> u64) -> !
//! where
//!     S: embedded_io::Read + embedded_io::Write,
//! {
//!     let mut line = Line::board(uart, || Duration::from_millis(milliseconds()));
//!     loop {
//!         if line.open(Duration::from_secs(60)).is_ok() {
//!             let _ = serve::<64>(&mut line, &mut Harmonic::<f64>::new(0.01));
//!             let _ = line.close();
//!         }
//!     }
//! }
//! ```
//!
//! # Frames
//!
//! ```text
//! bytes  1          1     1        1       0 to 240  4         1
//!        COBS code  kind  session  number  data      CRC-32C   00
//!                   |<------------ checked ------->|
//!                   |<--- no zero on the wire: each is a distance --->|
//!
//! kind  1 OPEN    from the board: connect to a server; number: which opening
//!       2 OPENED  from the host: connected; number: that of OPEN; session: counted by the host
//!       3 CLOSE   from either, with one byte: 0 as the end was wanted, 1 because of a fault
//!       4 PROBE   from the host after a silence
//!       5 ANSWER  from the board to PROBE
//!       6 PART    data, and the message goes on
//!       7 LAST    data, and the message is complete: the host may pass it on
//! ```
//!
//! - **An end that can't be data.** Consistent overhead byte stuffing (COBS, Cheshire and Baker
//!   1997) removes zeros from a frame at the cost of one byte, for any data. Escapes, as in SLIP
//!   (RFC 1055), cost up to 100 %.
//! - **Overhead** is 9 bytes a frame: 3.75 % of long messages, 75 % of a header alone. A classic
//!   evaluation of 64 atoms is 3572 bytes on the wire instead of 3392, 5.3 % more
//!   (`tests/line/damage.rs` measures it).
//! - **CRC-32C** finds every error of up to five bits in this many bytes. COBS spreads an error,
//!   and bytes may be lost or added: it misses one in 4 billion of such errors. CRC-16 would miss
//!   one in 65 536 and save 0.8 %. There is no table, which would take 1 KiB of flash.
//! - **240 bytes of data** are ten atoms. A frame is buffered until its checksum has been verified,
//!   so longer frames would cost RAM. A `Line` takes 0.7 kB including all buffers.
//! - **Numbers.** Data frames are numbered in each direction from the beginning of the connection,
//!   modulo 256, so a lost frame is noticed at the next one. CLOSE, PROBE and ANSWER carry the
//!   number of data frames sent so far. They reveal a lost frame that no other frame follows.
//! - **Nothing is repeated.** A fault ends the connection. A server of this protocol must be able
//!   to send a structure again anyway.
//!
//! A checksum finds accidental errors. It does not protect against someone who forges frames.
//!
//! # Connections
//!
//! ```text
//!  board              host
//!  OPEN n  --------->            again every second until there is an answer
//!                     connects to the server
//!          <---------  OPENED n, session s
//!  PART, LAST <----->  PART, LAST         data of session s, numbered from 0
//!          <---------  PROBE              after 1 s without a frame; then 3, 7, 15 s …
//!  ANSWER  --------->                     if the board reads; one that computes does not
//!  CLOSE   <-------->  CLOSE
//! ```
//!
//! [`Role::Board`] opens and [`Role::Host`] accepts. An empty frame (a zero) precedes OPEN, OPENED
//! and CLOSE. The empty frame ends a frame that was sent only in part.
//!
//! - **A board that restarts**, in the middle of a frame too, opens a new connection. The host
//!   drops the data of the previous one, and its reader gets [`Fault::Restarted`] or `Damaged`.
//! - **A host that restarts** sends CLOSE when it starts. The board's reader gets
//!   [`Fault::Reported`].
//! - **An end without a connection** that receives data or PROBE answers CLOSE, at most once a
//!   second.
//! - **Frames of another session** are never data.
//!
//! # Faults and time
//!
//! A [`Fault`] ends the connection. At this end the call that found it and all later calls report
//! it, and CLOSE is sent. The other end gets [`Fault::Reported`] when it reads. Data that were read
//! before are correct.
//!
//! | lost or damaged | noticed | by |
//! |---|---|---|
//! | bytes within a frame | at the end of the frame | the checksum |
//! | the end of the last frame, or more of it | after 1 s | [`Fault::Cut`] |
//! | a frame | at the next one, or 1 s later by PROBE, if the board reads | [`Fault::Lost`] |
//! | OPEN or OPENED | after 1 s | OPEN is sent again |
//! | the host | after 10 s, if the board reads | [`Fault::Silent`] |
//! | the board | never, unless [`Framing::set_silence`] says when: it may be computing | |
//!
//! The clock is the caller's. A blocking stream must time out at least once a second, every 100 ms
//! for instance, with an error of the kind [`TimedOut`](embedded_io::ErrorKind). The time limits
//! are checked at these errors, after each read of the line, and when a signal has interrupted a
//! read. More than a second between two readings of the clock counts as one: the program was busy,
//! and the peer need not have been silent. [`WithDeadlines`](crate::blocking::WithDeadlines) around
//! a `Line` works as around other streams.
//!
//! Every call ends even if the stream is always ready. Opening and accepting then take a second
//! longer than requested. A read that receives bytes but no data for a second ends with
//! [`LineError::NoData`], as after a time-out. Futures yield to their executor instead, so that a
//! deadline around them holds.
//!
//! # Flow control
//!
//! There is none. A board that computes or writes does not read, so the interrupt of its UART must
//! buffer incoming bytes. In this protocol these are STATUS or GETFORCE and EXIT, two frames of 21
//! bytes, and 17 probes of 9 bytes in a day of computing: a ring of 256 bytes is enough. While a
//! message arrives the board reads all the time, and a ring of 512 bytes bridges 44 ms of other
//! work at 115200 baud. If bytes are lost anyway, the connection ends, whether or not the UART
//! reports an overrun. RTS and CTS work where they are connected. Credits were rejected: they need
//! a ring of the same size, a frame in the other direction for every one or two frames, and a
//! sender that reads while it writes.

mod error;
mod frame;
mod framing;
mod incoming;
mod outgoing;

#[cfg(feature = "async")]
mod asynch;

use core::time::Duration;

use embedded_io::{Error as _, ErrorKind, ErrorType, Read, Write};

pub use error::{Fault, LineError};
pub use framing::{Framing, Role, State};

/// How long a line may bring bytes without a pause and without the expected frame.
const BUSY: Duration = Duration::from_secs(1);

/// A connection over a serial line: a stream that delivers exactly the bytes that were sent, or an
/// error.
///
/// `clock` returns monotonic time since an arbitrary fixed epoch, as for
/// [`blocking::WithDeadlines`](crate::blocking::WithDeadlines). For futures it is an
/// `asynch::Timer`, and the methods that wait are `open_async`, `accept_async` and `close_async`.
///
/// A flush ends a message. Until then data wait until a frame is full.
///
/// # Errors
///
/// Reading, writing and flushing return [`LineError`]. After a time-out of the stream the call may
/// be repeated; any other error has ended the connection. Reading returns 0 after the peer has
/// closed the connection. Bytes written after the peer has closed are lost without an error, as
/// over TCP.
#[derive(Debug)]
pub struct Line<S, C> {
    stream: S,
    clock: C,
    framing: Framing,
    /// The stream may hold bytes until it is flushed.
    unflushed: bool,
}

impl<S, C> Line<S, C> {
    /// Makes the board's end.
    pub const fn board(stream: S, clock: C) -> Self {
        Self::new(stream, clock, Role::Board)
    }

    /// Makes the host's end.
    pub const fn host(stream: S, clock: C) -> Self {
        Self::new(stream, clock, Role::Host)
    }

    const fn new(stream: S, clock: C, role: Role) -> Self {
        Self {
            stream,
            clock,
            framing: Framing::new(role),
            unflushed: false,
        }
    }

    /// The state of the connection and its limits.
    pub const fn framing(&mut self) -> &mut Framing {
        &mut self.framing
    }

    /// The stream, mutable.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the stream. Bytes that were not flushed or not read are lost.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Copies received data, if there are any.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let mut n = 0;
        for (to, from) in buffer.iter_mut().zip(self.framing.data()) {
            *to = *from;
            n += 1;
        }
        self.framing.consume(n);
        n
    }

    /// The result of reading once no data can follow: 0 bytes, or a fault.
    fn ended<E>(&self) -> Option<Result<usize, LineError<E>>> {
        match self.framing.state() {
            State::Open => None,
            // The last request may have failed before it opened a connection, so the state is
            // closed although an earlier connection ended with a fault.
            State::Closed if self.framing.session() > 0 => match self.framing.last_fault() {
                None => Some(Ok(0)),
                Some(fault) => Some(Err(fault.into())),
            },
            _ => Some(Err(self.not_open().into())),
        }
    }

    /// The reason why the connection is not open.
    const fn not_open(&self) -> Fault {
        match (self.framing.state(), self.framing.role()) {
            (State::Failed(fault), _) => fault,
            (State::Opening, Role::Host) => Fault::Restarted,
            _ => Fault::NotOpen,
        }
    }

    /// Ends the message, which requires an open connection if there is anything to send.
    fn may_flush(&mut self) -> Result<(), Fault> {
        match self.framing.state() {
            State::Open => {
                self.framing.end_message();
                Ok(())
            }
            // A program may flush an empty message.
            State::Closed if !self.framing.is_in_message() => Ok(()),
            _ => Err(self.not_open()),
        }
    }
}

impl<S: ErrorType, C> ErrorType for Line<S, C> {
    type Error = LineError<S::Error>;
}

impl<S: Read + Write, C: FnMut() -> Duration> Line<S, C> {
    /// Opens a connection, which takes as long as the host needs to reach the server. An existing
    /// connection ends first. For boards.
    ///
    /// # Errors
    ///
    /// [`Fault::Silent`] if the host has not accepted within `patience`, or one second later if
    /// bytes arrive without a pause. [`Fault::Gone`] if the stream has ended. Also
    /// [`LineError::Stream`] and [`LineError::WriteZero`].
    pub fn open(&mut self, patience: Duration) -> Result<(), LineError<S::Error>> {
        self.framing.open((self.clock)());
        self.wait(patience, |framing| framing.state() == State::Open)?;
        Ok(())
    }

    /// Waits until the board opens a connection, and accepts it. An existing connection ends if
    /// data have moved over it. For hosts.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open), if the board has not opened a connection within
    /// `patience`.
    pub fn accept(&mut self, patience: Duration) -> Result<(), LineError<S::Error>> {
        self.framing.leave();
        self.wait(patience, Framing::may_accept)?;
        self.framing.accept((self.clock)());
        self.deliver()
    }

    /// Ends the connection. The peer reads the flushed data, then the end.
    ///
    /// # Errors
    ///
    /// [`LineError::Stream`] and [`LineError::WriteZero`]. The connection has ended in any case.
    pub fn close(&mut self) -> Result<(), LineError<S::Error>> {
        self.framing.close();
        self.unflushed = true;
        self.deliver()
    }

    /// Reads the line until the expected state is reached, and drops data.
    fn wait(
        &mut self,
        patience: Duration,
        is_reached: impl Fn(&Framing) -> bool,
    ) -> Result<(), LineError<S::Error>> {
        let start = (self.clock)();
        loop {
            self.deliver()?;
            if is_reached(&self.framing) {
                return Ok(());
            }
            self.framing.drop_data();
            let waited = (self.clock)().saturating_sub(start);
            let came = self.receive();
            if is_over(waited, patience, came)? && !is_reached(&self.framing) {
                self.framing.close();
                return Err(Fault::Silent.into());
            }
        }
    }

    /// Sends all pending bytes and flushes the stream.
    fn deliver(&mut self) -> Result<(), LineError<S::Error>> {
        self.send()?;
        if self.unflushed {
            let flushed = self.stream.flush();
            done_or_failed(&mut self.framing, flushed)?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Sends all pending bytes.
    fn send(&mut self) -> Result<(), LineError<S::Error>> {
        loop {
            let bytes = self.framing.outgoing();
            if bytes.is_empty() {
                return Ok(());
            }
            self.unflushed = true;
            let written = self.stream.write(bytes);
            written_or_failed(&mut self.framing, written)?;
        }
    }

    /// Reads the line once. A time-out of the stream advances the clock and is returned.
    fn receive(&mut self) -> Result<(), LineError<S::Error>> {
        let before = (self.clock)();
        let came = self.stream.read(self.framing.space());
        came_or_failed(&mut self.framing, came, before, (self.clock)())
    }
}

/// Whether a wait ends after this read, which began when the wait had lasted for `waited`. Bytes
/// that had arrived by the deadline are read first, but a line that never pauses gets only one more
/// second.
fn is_over<E: embedded_io::Error>(
    waited: Duration,
    patience: Duration,
    came: Result<(), LineError<E>>,
) -> Result<bool, LineError<E>> {
    match came {
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(waited >= patience),
        Err(error) if !is_time_out(&error) => Err(error),
        _ => Ok(waited.saturating_sub(patience) >= BUSY),
    }
}

/// Passes on the result of a read, which lasted from `before` until `now`.
fn came_or_failed<E: embedded_io::Error>(
    framing: &mut Framing,
    came: Result<usize, E>,
    before: Duration,
    now: Duration,
) -> Result<(), LineError<E>> {
    match came {
        Ok(0) => {
            framing.fail(Fault::Gone);
            return Err(Fault::Gone.into());
        }
        Ok(n) => framing.received(n, now),
        Err(error) => {
            match error.kind() {
                ErrorKind::TimedOut => framing.elapsed(now),
                // Bytes that had arrived by then would have been read; more may have arrived since.
                ErrorKind::Interrupted => framing.elapsed(before),
                kind => framing.fail(fault_of(kind)),
            }
            return Err(LineError::Stream(error));
        }
    }
    Ok(())
}

/// Passes on the result of a write.
fn written_or_failed<E: embedded_io::Error>(
    framing: &mut Framing,
    written: Result<usize, E>,
) -> Result<(), LineError<E>> {
    match done_or_failed(framing, written)? {
        0 => {
            framing.fail(Fault::Gone);
            Err(LineError::WriteZero)
        }
        n => {
            framing.sent(n);
            Ok(())
        }
    }
}

/// Passes on the result of a write or a flush, ignoring time-outs.
fn done_or_failed<T, E: embedded_io::Error>(
    framing: &mut Framing,
    done: Result<T, E>,
) -> Result<T, LineError<E>> {
    done.map_err(|error| {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::Interrupted => {}
            kind => framing.fail(fault_of(kind)),
        }
        LineError::Stream(error)
    })
}

/// The fault that an error of the stream causes.
const fn fault_of(kind: ErrorKind) -> Fault {
    match kind {
        ErrorKind::BrokenPipe
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::NotConnected => Fault::Gone,
        _ => Fault::Stream,
    }
}

fn is_time_out<E: embedded_io::Error>(error: &LineError<E>) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl<S: Read + Write, C: FnMut() -> Duration> Read for Line<S, C> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut limit = None;
        loop {
            match self.take(buffer) {
                0 => {}
                n => return Ok(n),
            }
            if let Some(end) = self.ended() {
                // Send CLOSE, so that the peer ends too. If the peer can't be reached, the fault is
                // still the cause.
                let _ = self.deliver();
                return end;
            }
            self.deliver()?;
            match self.receive() {
                // Report the fault that the silence has caused, because it explains more.
                Err(error) if is_time_out(&error) && self.framing.state() != State::Open => {}
                Err(error) => {
                    let _ = self.deliver();
                    return Err(error);
                }
                Ok(()) => {
                    let now = self.framing.noted();
                    let limit = *limit.get_or_insert(now.saturating_add(BUSY));
                    if now >= limit && self.framing.has_no_data() {
                        return Err(LineError::NoData);
                    }
                }
            }
        }
    }
}

impl<S: Read + Write, C: FnMut() -> Duration> Write for Line<S, C> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while self.framing.state() == State::Open {
            match self.framing.put(bytes) {
                0 => self.send()?,
                n => return Ok(n),
            }
        }
        Err(self.not_open().into())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.may_flush()?;
        self.unflushed = true;
        self.deliver()
    }
}
