//! The async methods of [`Line`](super::Line).

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use embedded_io_async::{Read, Write};

use super::{
    Fault, Framing, Line, LineError, State, came_or_failed, done_or_failed, is_over, is_time_out,
    written_or_failed,
};
use crate::asynch::{Timer, Turn};

/// How often the time limits are checked.
const TICK: Duration = Duration::from_millis(250);

impl<S: Read + Write, C: Timer> Line<S, C> {
    /// Opens a connection: the `async` form of [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped. Another call opens a new connection.
    pub async fn open_async(&mut self, patience: Duration) -> Result<(), LineError<S::Error>> {
        self.framing.open(self.clock.now());
        self.wait_async(patience, |framing| framing.state() == State::Open)
            .await
    }

    /// Waits until the board opens a connection, and accepts it. The twin of
    /// [`accept`](Self::accept).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped; call again to continue waiting.
    pub async fn accept_async(&mut self, patience: Duration) -> Result<(), LineError<S::Error>> {
        self.framing.leave();
        self.wait_async(patience, Framing::may_accept).await?;
        self.framing.accept(self.clock.now());
        self.deliver_async().await
    }

    /// Ends the connection: the `async` form of [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped; call again to send CLOSE.
    pub async fn close_async(&mut self) -> Result<(), LineError<S::Error>> {
        self.framing.close();
        self.unflushed = true;
        self.deliver_async().await
    }

    async fn wait_async(
        &mut self,
        patience: Duration,
        is_reached: impl Fn(&Framing) -> bool,
    ) -> Result<(), LineError<S::Error>> {
        let start = self.clock.now();
        let mut turn = Turn::new();
        loop {
            turn.count().await;
            self.deliver_async().await?;
            if is_reached(&self.framing) {
                return Ok(());
            }
            self.framing.drop_data();
            let waited = self.clock.now().saturating_sub(start);
            let is_over = match self.receive_async().await {
                Ok(false) => waited >= patience,
                came => is_over(waited, patience, came.map(drop))?,
            };
            if is_over && !is_reached(&self.framing) {
                self.framing.close();
                return Err(Fault::Silent.into());
            }
        }
    }

    async fn deliver_async(&mut self) -> Result<(), LineError<S::Error>> {
        self.send_async().await?;
        if self.unflushed {
            let flushed = self.stream.flush().await;
            done_or_failed(&mut self.framing, flushed)?;
            self.unflushed = false;
        }
        Ok(())
    }

    async fn send_async(&mut self) -> Result<(), LineError<S::Error>> {
        loop {
            let bytes = self.framing.outgoing();
            if bytes.is_empty() {
                return Ok(());
            }
            self.unflushed = true;
            let written = self.stream.write(bytes).await;
            written_or_failed(&mut self.framing, written)?;
        }
    }

    /// Reads the line once. Returns whether bytes have arrived.
    async fn receive_async(&mut self) -> Result<bool, LineError<S::Error>> {
        // Count from the last look at the clock: a future that is dropped and made again must not
        // stop it.
        let at = self.framing.noted().saturating_add(TICK);
        let before = self.clock.now();
        let came = {
            let mut read = pin!(self.stream.read(self.framing.space()));
            let mut alarm = pin!(self.clock.until(at));
            poll_fn(|context| match read.as_mut().poll(context) {
                Poll::Ready(came) => Poll::Ready(Some(came)),
                Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
            })
            .await
        };
        let now = self.clock.now();
        match came {
            Some(came) => came_or_failed(&mut self.framing, came, before, now).map(|()| true),
            None => {
                self.framing.elapsed(now);
                Ok(false)
            }
        }
    }
}

/// # Cancel safety
///
/// The future may be dropped if the stream's own may be: the received part of a frame is kept.
impl<S: Read + Write, C: Timer> Read for Line<S, C> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut turn = Turn::new();
        loop {
            match self.take(buffer) {
                0 => {}
                n => return Ok(n),
            }
            if let Some(end) = self.ended() {
                let _ = self.deliver_async().await;
                return end;
            }
            turn.count().await;
            self.deliver_async().await?;
            match self.receive_async().await {
                Err(error) if is_time_out(&error) && self.framing.state() != State::Open => {}
                Err(error) => {
                    let _ = self.deliver_async().await;
                    return Err(error);
                }
                Ok(_) => {}
            }
        }
    }
}

/// # Cancel safety
///
/// The futures may be dropped if the stream's own may be. A dropped write has accepted no bytes.
impl<S: Read + Write, C: Timer> Write for Line<S, C> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while self.framing.state() == State::Open {
            match self.framing.put(bytes) {
                0 => self.send_async().await?,
                n => return Ok(n),
            }
        }
        Err(self.not_open().into())
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.may_flush()?;
        self.unflushed = true;
        self.deliver_async().await
    }
}
