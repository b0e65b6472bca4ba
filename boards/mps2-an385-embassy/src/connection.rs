//! TCP connections, one after another, and the clock for their deadlines.

use core::time;

use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use forcewire::{Backoff, asynch};
use forcewire_boards::Options;

/// The shortest and the longest pause after failed attempts to connect.
const PAUSES: [time::Duration; 2] = [
    time::Duration::from_millis(50),
    time::Duration::from_secs(2),
];

/// The time limit for an attempt to connect, and for closing.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Connects, retrying until `patience` is over. Returns whether it succeeded.
pub async fn connect(socket: &mut TcpSocket<'_>, options: &Options<'_>) -> bool {
    let patience = Duration::from_micros(options.patience.total_micros());
    let (start, mut backoff) = (Instant::now(), Backoff::new(PAUSES[0], PAUSES[1]));
    loop {
        let connect = socket.connect((options.server, options.port));
        if let Ok(Ok(())) = with_timeout(ATTEMPT, connect).await {
            return true;
        }
        abort(socket).await;
        if start.elapsed() >= patience {
            return false;
        }
        pause(backoff.failed()).await;
    }
}

/// Closes the connection and waits until the peer has acknowledged that.
pub async fn close(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = with_timeout(ATTEMPT, socket.flush()).await;
}

/// Closes the connection and waits for the peer to close too, which shows that it has read
/// everything. If a reset arrived before that, the peer would read the reset first.
pub async fn part(socket: &mut TcpSocket<'_>) {
    socket.close();
    let closed = async { while let Ok(1..) = socket.read(&mut [0; 64]).await {} };
    let _ = with_timeout(ATTEMPT, closed).await;
}

/// Resets the connection at once.
pub async fn abort(socket: &mut TcpSocket<'_>) {
    socket.abort();
    let _ = with_timeout(ATTEMPT, socket.flush()).await;
}

/// Waits for this long, and lets other tasks run.
pub async fn pause(time: time::Duration) {
    Timer::after_micros(time.as_micros() as u64).await;
}

/// embassy's clock, for the deadlines.
pub struct Clock;

impl asynch::Timer for Clock {
    fn now(&mut self) -> time::Duration {
        Instant::now().duration_since(Instant::MIN).into()
    }

    async fn until(&mut self, at: time::Duration) {
        Timer::at(Instant::from_micros(at.as_micros() as u64)).await;
    }
}
