//! Exchanges over an `embedded-io-async` stream: the twin of [`blocking`](crate::blocking).

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use embedded_io_async::{ErrorKind, Read, Write};

use crate::deadlines::{DeadlineTimer, Deadlines};
use crate::error::Error;
use crate::exchange::{Exchange, Step, Wait};

pub use crate::serve::asynch as serve;

/// A connection for [`run`]. The twin of [`blocking::Transport`](crate::blocking::Transport), with
/// the same methods and errors.
///
/// Every stream that is [`embedded_io_async::Read`] and [`embedded_io_async::Write`] implements it.
/// The connection must hold as many bytes as required there.
///
/// # Cancel safety
///
/// An exchange can be dropped and run again only if dropping these futures loses no bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection for `forcewire::asynch`",
    label = "neither `forcewire::asynch::Transport` nor `Read + Write` of embedded-io-async 0.7",
    note = "a stream of Tokio or of the crate `futures` becomes one with the crate `embedded-io-adapters` 0.7",
    note = "a blocking `std::net::TcpStream` is for `forcewire::blocking`, with `forcewire::net::Stream::from_tcp` (feature `std`)",
    note = "a stream with the traits of another version of embedded-io-async than 0.7 does not count"
)]
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

    fn exchange_done(&mut self) {}
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

/// A clock that can wake a task: a board's timer, or an executor's.
#[allow(async_fn_in_trait, reason = "as `embedded-io-async`")]
pub trait Timer {
    /// Monotonic time since an arbitrary fixed epoch.
    fn now(&mut self) -> Duration;

    /// Waits until this time. It may return early; the caller then waits again.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped whenever the peer is faster.
    async fn until(&mut self, at: Duration);
}

/// A connection with [`Deadlines`] for its peer, and the caller's timer. The twin of
/// [`blocking::WithDeadlines`](crate::blocking::WithDeadlines), but exact: a call that is ready at
/// once is never late, and any other ends when the first deadline passes.
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
///     let deadlines = Deadlines::default().evaluation(Duration::from_secs(60));
///     let mut socket = WithDeadlines::new(socket, deadlines, Board);
///     let (cell, positions, mut forces) = (Cell::orthorhombic([20.0; 3]), [[0.0; 3]], [[0.0; 3]]);
///     let mut server = Server::new();
///     let request = Request::new(&cell, &positions);
///     let mut evaluate = server.evaluate(request, &mut forces, &mut []);
///     let energy = match run(&mut socket, &mut evaluate).await {
///         // Another minute.
///         Err(Error::TimedOut(_)) => run(&mut socket, &mut evaluate).await?.evaluation.energy,
///         result => result?.evaluation.energy,
///     };
///     drop(evaluate);
///     run(&mut socket, server.exit()).await?;
///     Ok(energy)
/// }
/// ```
#[derive(Debug)]
pub struct WithDeadlines<S, C> {
    socket: S,
    clock: C,
    timer: DeadlineTimer,
}

impl<S, C: Timer> WithDeadlines<S, C> {
    /// Wraps a new connection.
    pub const fn new(socket: S, deadlines: Deadlines, clock: C) -> Self {
        Self {
            socket,
            clock,
            timer: DeadlineTimer::new(deadlines),
        }
    }

    /// The connection, mutable.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Returns the connection.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

/// The result of `call`, if it is ready before a deadline passes.
async fn within<T, E>(
    (timer, clock): (&mut DeadlineTimer, &mut impl Timer),
    wait: &Wait,
    call: impl Future<Output = Result<T, Error<E>>>,
) -> Result<T, Error<E>> {
    let mut call = pin!(call);
    loop {
        // The time before the call counts: bytes that had arrived by then are not late, however
        // late this future is polled.
        let now = clock.now();
        timer.note(now, wait);
        timer.check_moving(now)?;
        let at = timer.due();
        let is_due = at.is_some_and(|at| at <= now);
        let mut alarm = pin!(at.map(|at| clock.until(at)));
        let first = poll_fn(|context| {
            if let Poll::Ready(result) = call.as_mut().poll(context) {
                return Poll::Ready(Some(result));
            }
            match alarm.as_mut().as_pin_mut() {
                _ if is_due => Poll::Ready(None),
                Some(alarm) => alarm.poll(context).map(|()| None),
                None => Poll::Pending,
            }
        });
        match first.await {
            Some(result) => return result,
            None => timer.check(now)?,
        }
    }
}

impl<S: Transport, C: Timer> Transport for WithDeadlines<S, C> {
    type Error = S::Error;

    async fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        let time = (&mut self.timer, &mut self.clock);
        within(time, wait, self.socket.read(buffer, wait)).await
    }

    async fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        let time = (&mut self.timer, &mut self.clock);
        within(time, wait, self.socket.write(bytes, wait)).await
    }

    async fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>> {
        self.timer.note_flush(self.clock.now(), wait);
        let mut flush = pin!(self.socket.flush(wait));
        let first = poll_fn(|context| Poll::Ready(flush.as_mut().poll(context))).await;
        if let Poll::Ready(result) = first {
            return result;
        }
        let time = (&mut self.timer, &mut self.clock);
        within(time, wait, flush).await
    }

    fn exchange_done(&mut self) {
        self.timer.end_exchange();
        self.socket.exchange_done();
    }
}

/// Counts calls of a connection, so that a connection that is always ready does not block the
/// executor.
pub(crate) struct Turn(u8);

impl Turn {
    /// How many calls to make before other tasks have their turn.
    const CALLS: u8 = 64;

    pub(crate) const fn new() -> Self {
        Self(0)
    }

    /// Counts a call, and yields to the executor when the turn is used up.
    pub(crate) async fn count(&mut self) {
        if self.0 == Self::CALLS {
            self.0 = 0;
            yield_now().await;
        }
        self.0 += 1;
    }
}

/// Runs an exchange to its end over `socket`.
///
/// The future yields to the executor after 64 calls of the connection. Other tasks, and a time-out
/// around it, have their turn even if the connection is always ready.
///
/// # Errors
///
/// Returns the errors of [`blocking::run`](crate::blocking::run).
///
/// # Cancel safety
///
/// The future may be dropped at every await if dropping the stream's own `read` and `write` loses
/// no bytes. To be able to continue, pass `&mut exchange` and keep the exchange. Over a
/// [`WithDeadlines`] connection the exchange keeps its time.
pub async fn run<S: Transport, T: Exchange>(
    socket: &mut S,
    mut exchange: T,
) -> Result<T::Output, Error<S::Error>> {
    if let Err(error) = exchange.enter() {
        socket.exchange_done();
        return Err(error.into());
    }
    // An earlier run may have been dropped between a write and its flush.
    let mut flushed = false;
    let mut turn = Turn::new();
    loop {
        turn.count().await;
        let wait = exchange.waits_for();
        // Flush before the step that may be the last one: an event that a step returns must not be
        // lost.
        if !flushed && !exchange.midway() {
            flushed = passing(socket.flush(&wait.taken()).await)?.is_some();
            continue;
        }
        match exchange.step() {
            Ok(Step::Write(bytes)) => {
                match passing(socket.write(bytes, &wait.taken()).await)? {
                    Some(0) => return Err(Error::WriteZero),
                    moved => exchange.advance(moved.unwrap_or(0)),
                }
                flushed = false;
            }
            Ok(Step::Read(bytes)) => match passing(socket.read(bytes, &wait).await)? {
                Some(0) => exchange.end(),
                moved => exchange.advance(moved.unwrap_or(0)),
            },
            Ok(Step::Done(output)) => {
                socket.exchange_done();
                return Ok(output);
            }
            Err(error) => {
                socket.exchange_done();
                return Err(error.into());
            }
        }
    }
}

/// Lets the executor's other tasks run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Returns `None` for an interruption, after which the call is repeated.
fn passing<T, E: embedded_io_async::Error>(
    result: Result<T, Error<E>>,
) -> Result<Option<T>, Error<E>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Transport(error)) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
