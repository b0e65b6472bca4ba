//! Exchanges over an `embedded-io-async` stream. The twins of [`blocking`](crate::blocking).

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use embedded_io_async::{ErrorKind, Read, Write};

use crate::{DeadlineTimer, Deadlines, Error, Exchange, Step, Wait};

pub use crate::serve::asynch as serve;

/// A connection as [`run`] needs it. The twin of [`blocking::Transport`](crate::blocking::Transport), with its methods
/// and errors.
///
/// Every stream that is [`embedded_io_async::Read`] and [`embedded_io_async::Write`] is one.
///
/// # Cancel safety
///
/// An exchange can be dropped and made again only if dropping these futures loses no bytes.
#[allow(
    async_fn_in_trait,
    missing_docs,
    reason = "as the twin, and as `embedded-io-async`"
)]
pub trait Transport {
    type Error: embedded_io_async::Error;

    async fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    async fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    async fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>>;
}

impl<S: Read + Write> Transport for S {
    type Error = S::Error;

    async fn read(&mut self, buffer: &mut [u8], _: &Wait) -> Result<usize, Error<Self::Error>> {
        Read::read(self, buffer).await.map_err(Error::Transport)
    }

    async fn write(&mut self, bytes: &[u8], _: &Wait) -> Result<usize, Error<Self::Error>> {
        Write::write(self, bytes).await.map_err(Error::Transport)
    }

    async fn flush(&mut self, _: &Wait) -> Result<(), Error<Self::Error>> {
        Write::flush(self).await.map_err(Error::Transport)
    }
}

/// A clock that wakes: a board's timer, or an executor's.
#[allow(async_fn_in_trait, reason = "as `embedded-io-async`")]
pub trait Timer {
    /// The time since any moment that stays the same.
    fn now(&mut self) -> Duration;

    /// Waits until then, or shorter.
    ///
    /// # Cancel safety
    ///
    /// It is dropped whenever the peer is faster.
    async fn until(&mut self, at: Duration);
}

/// A connection whose peer has [`Deadlines`], on a timer of the caller's. The twin of
/// [`blocking::WithDeadlines`](crate::blocking::WithDeadlines).
///
/// ```
/// use core::time::Duration;
/// use forcewire::asynch::{WithDeadlines, Timer, run};
/// use forcewire::{Cell, Deadlines, Error, Request, Server};
/// use embedded_io_async::{Read, Write};
///
/// # mod embassy_time {
/// #     pub struct Instant;
/// #     impl Instant {
/// #         pub const MIN: Self = Self;
/// #         pub fn now() -> Self { Self }
/// #         pub fn as_micros(&self) -> u64 { 0 }
/// #         pub const fn from_micros(_: u64) -> Self { Self }
/// #     }
/// #     pub struct Timer;
/// #     impl Timer { pub async fn at(_: Instant) {} }
/// # }
/// /// Embassy's, for instance.
/// struct Board;
///
/// impl Timer for Board {
///     fn now(&mut self) -> Duration {
///         Duration::from_micros(embassy_time::Instant::now().as_micros())
///     }
///
///     async fn until(&mut self, at: Duration) {
///         let at = embassy_time::Instant::from_micros(at.as_micros() as u64);
///         embassy_time::Timer::at(at).await;
///     }
/// }
///
/// async fn ask<S: Read + Write>(socket: S) -> Result<f64, Error<S::Error>> {
///     let deadlines = Deadlines { evaluation: Some(Duration::from_secs(60)), ..Deadlines::default() };
///     let mut socket = WithDeadlines::new(socket, deadlines, Board);
///     let (cell, positions, mut forces) = (Cell::orthorhombic([20.0; 3]), [[0.0; 3]], [[0.0; 3]]);
///     let mut server = Server::new();
///     let request = Request::new(&cell, &positions);
///     let evaluate = server.evaluate(request, &mut forces, &mut []);
///     let energy = match run(&mut socket, evaluate).await {
///         // Another minute, unless the driver is in the middle of its answer.
///         Err(Error::TimedOut(late)) if !late.is_midway() => {
///             run(&mut socket, server.evaluate(request, &mut forces, &mut [])).await?.energy
///         }
///         result => result?.energy,
///     };
///     run(&mut socket, server.exit()).await?;
///     Ok(energy)
/// }
/// ```
#[derive(Debug)]
pub struct WithDeadlines<S, C> {
    socket: S,
    timer: C,
    watch: DeadlineTimer,
}

impl<S, C: Timer> WithDeadlines<S, C> {
    /// A new connection, about which nothing is known yet.
    pub const fn new(socket: S, deadlines: Deadlines, timer: C) -> Self {
        Self {
            socket,
            timer,
            watch: DeadlineTimer::new(deadlines),
        }
    }

    /// The connection, to change it.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The connection, without deadlines.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

/// What `call` comes to, if it does before a deadline passes.
async fn within<T, E>(
    (watch, timer): (&mut DeadlineTimer, &mut impl Timer),
    wait: &Wait,
    call: impl Future<Output = Result<T, Error<E>>>,
) -> Result<T, Error<E>> {
    let mut call = pin!(call);
    loop {
        let now = timer.now();
        watch.note(now, wait);
        watch.check(now)?;
        let Some(at) = watch.due() else {
            return call.await;
        };
        let mut time = pin!(timer.until(at));
        let first = poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => time.as_mut().poll(context).map(|()| None),
        });
        if let Some(result) = first.await {
            return result;
        }
    }
}

impl<S: Transport, C: Timer> Transport for WithDeadlines<S, C> {
    type Error = S::Error;

    async fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        let time = (&mut self.watch, &mut self.timer);
        within(time, wait, self.socket.read(buffer, wait)).await
    }

    async fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        let time = (&mut self.watch, &mut self.timer);
        within(time, wait, self.socket.write(bytes, wait)).await
    }

    async fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>> {
        let time = (&mut self.watch, &mut self.timer);
        within(time, wait, self.socket.flush(wait)).await
    }
}

/// Carries an exchange through, moving its bytes over `socket`.
///
/// # Errors
///
/// As [`blocking::run`](crate::blocking::run).
///
/// # Cancel safety
///
/// The future may be dropped at every await, provided that dropping the stream's own `read` and `write`
/// loses no bytes: make the exchange again with the same arguments to go on. Over a [`WithDeadlines`] connection it has the time
/// then that it had left.
pub async fn run<S: Transport, T: Exchange>(
    socket: &mut S,
    mut transfer: T,
) -> Result<T::Output, Error<S::Error>> {
    // An earlier run may have been dropped between a write and its flush. Before the first step, because an event
    // that it gives must not be lost.
    let wait = transfer.waits_for();
    while passing(socket.flush(&wait).await)?.is_none() {}
    let mut flushed = true;
    loop {
        // Before the step that may be the last one, for the same reason.
        let wait = transfer.waits_for();
        if !flushed && !transfer.midway() {
            flushed = passing(socket.flush(&wait.taken()).await)?.is_some();
            continue;
        }
        match transfer.step()? {
            Step::Write(bytes) => {
                match passing(socket.write(bytes, &wait.taken()).await)? {
                    Some(0) => return Err(Error::WriteZero),
                    moved => transfer.advance(moved.unwrap_or(0)),
                }
                flushed = false;
            }
            Step::Read(bytes) => match passing(socket.read(bytes, &wait).await)? {
                Some(0) => transfer.end(),
                moved => transfer.advance(moved.unwrap_or(0)),
            },
            Step::Done(output) => return Ok(output),
        }
    }
}

/// Nothing, instead of an interruption that is worth another try.
fn passing<T, E: embedded_io_async::Error>(
    result: Result<T, Error<E>>,
) -> Result<Option<T>, Error<E>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Transport(error)) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
