//! One TCP connection after the other, and the clock of its deadlines.

use core::time;

use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use forcewire::{Backoff, asynch};
use forcewire_boards::Options;

/// Pauses after failed attempts to connect, from the first to the longest.
const PAUSES: [time::Duration; 2] = [
    time::Duration::from_millis(50),
    time::Duration::from_secs(2),
];

/// How long an attempt to connect, or a goodbye, may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Connects, trying again until patience is over; whether that led to a connection.
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

/// Closes the connection and sees the peer acknowledge that.
pub async fn close(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = with_timeout(ATTEMPT, socket.flush()).await;
}

/// Closes the connection and waits for the peer to do the same, which shows that it has read the
/// end of it. A reset before that would be the first thing that it reads.
pub async fn part(socket: &mut TcpSocket<'_>) {
    socket.close();
    let closed = async { while let Ok(1..) = socket.read(&mut [0; 64]).await {} };
    let _ = with_timeout(ATTEMPT, closed).await;
}

/// Gives the connection up at once, and says so to the peer.
pub async fn abort(socket: &mut TcpSocket<'_>) {
    socket.abort();
    let _ = with_timeout(ATTEMPT, socket.flush()).await;
}

/// Lets this much time pass, and other tasks run.
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
