//! The same for futures.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use embedded_io_async::{Read, Write};

use super::{Fault, Line, LineError, State, came_or_failed, left_or_failed};
use crate::asynch::Timer;

/// Time is judged this often.
const TICK: Duration = Duration::from_millis(250);

impl<S: Read + Write, C: Timer> Line<S, C> {
    /// Opens a connection. The twin of [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped. Calling again opens another connection.
    pub async fn open_async(&mut self, patience: Duration) -> Result<(), LineError<S::Error>> {
        self.framing.open(self.clock.now());
        self.wait_async(patience, |state| state == State::Open)
            .await
    }

    /// Waits until the board opens a connection, and accepts it. The twin of
    /// [`accept`](Self::accept).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, and the call made again.
    pub async fn accept_async(&mut self, patience: Duration) -> Result<(), LineError<S::Error>> {
        self.wait_async(patience, |state| state == State::Opening)
            .await?;
        self.framing.accept(self.clock.now());
        self.send_async().await
    }

    /// Ends the connection. The twin of [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped; call again to send CLOSE.
    pub async fn close_async(&mut self) -> Result<(), LineError<S::Error>> {
        self.framing.close();
        self.send_async().await?;
        self.stream.flush().await.map_err(LineError::Stream)
    }

    async fn wait_async(
        &mut self,
        patience: Duration,
        is_reached: impl Fn(State) -> bool,
    ) -> Result<(), LineError<S::Error>> {
        let start = self.clock.now();
        loop {
            self.send_async().await?;
            if is_reached(self.framing.state()) {
                return Ok(());
            }
            self.framing.consume(usize::MAX);
            let waited = self.clock.now().saturating_sub(start);
            if !self.receive_async().await? && waited >= patience {
                self.framing.close();
                return Err(Fault::Silent.into());
            }
        }
    }

    async fn send_async(&mut self) -> Result<(), LineError<S::Error>> {
        loop {
            let bytes = self.framing.outgoing();
            if bytes.is_empty() {
                return Ok(());
            }
            let left = self.stream.write(bytes).await;
            left_or_failed(&mut self.framing, left)?;
        }
    }

    /// Reads the line once. Returns whether something has come.
    async fn receive_async(&mut self) -> Result<bool, LineError<S::Error>> {
        // Not from now on: a future that is dropped and made again must not stop the clock.
        let at = self.framing.noted().saturating_add(TICK);
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
            Some(came) => came_or_failed(&mut self.framing, came, now).map(|()| true),
            None => {
                self.framing.elapsed(now);
                Ok(false)
            }
        }
    }
}

/// # Cancel safety
///
/// The future may be dropped if that of the stream may be: what has come of a frame is kept.
impl<S: Read + Write, C: Timer> Read for Line<S, C> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.take(buffer) {
                0 => {}
                n => return Ok(n),
            }
            if let Some(end) = self.ended() {
                let _ = self.send_async().await;
                return end;
            }
            self.send_async().await?;
            if let Err(error) = self.receive_async().await {
                let _ = self.send_async().await;
                return Err(error);
            }
        }
    }
}

/// # Cancel safety
///
/// The futures may be dropped if those of the stream may be. A write that was dropped has taken
/// nothing.
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
        self.send_async().await?;
        self.stream.flush().await.map_err(LineError::Stream)
    }
}
