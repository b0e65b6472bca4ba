//! forcewire over embassy-net, for every board with embassy.
//!
//! [`serve`] is a whole driver. A program that wants more than that, as `mps2-an385-embassy` does,
//! has its parts: [`socket`], [`connect`], [`leave`], and the [`Clock`] of its deadlines.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use core::net::SocketAddrV4;
use core::time;

use defmt::{info, warn};
use embassy_net::Stack;
use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use forcewire::asynch::{self, WithDeadlines};
use forcewire::{Backoff, Deadlines, Potential};

/// The server may be silent in the middle of a message for this long.
const MESSAGE: time::Duration = time::Duration::from_secs(60);

/// Pauses after failed attempts to connect, from the first to the longest.
const PAUSES: [time::Duration; 2] = [
    time::Duration::from_millis(50),
    time::Duration::from_secs(2),
];

/// How long an attempt to connect, or the end of a connection, may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How often a silent server is asked for a sign of life, and how long it may owe one.
const PROBE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

/// Serves a potential with room for `N` atoms: connects, computes until the server ends the
/// connection, and connects again a second later. The arrays are in the future.
pub async fn serve<const N: usize>(
    stack: Stack<'_>,
    server: SocketAddrV4,
    rings: [&mut [u8]; 2],
    potential: &mut impl Potential,
) -> ! {
    let mut socket = socket(stack, rings);
    loop {
        connect(&mut socket, server, time::Duration::MAX).await;
        info!("connected to {} port {}", server.ip(), server.port());
        let deadlines = Deadlines::NONE.message(MESSAGE);
        let mut link = WithDeadlines::new(&mut socket, deadlines, Clock);
        match asynch::serve::<N>(&mut link, potential).await {
            Ok(()) => info!("the server said EXIT, or closed"),
            Err(error) => warn!("{}", error),
        }
        leave(&mut socket).await;
        Timer::after_secs(1).await;
    }
}

/// A socket with these rings, receive and transmit, that sends small messages at once and notices
/// a server whose host is unreachable.
pub fn socket<'a>(stack: Stack<'a>, [receive, transmit]: [&'a mut [u8]; 2]) -> TcpSocket<'a> {
    let mut socket = TcpSocket::new(stack, receive, transmit);
    socket.set_nagle_enabled(false);
    socket.set_keep_alive(Some(PROBE));
    socket.set_timeout(Some(SILENCE));
    socket
}

/// Connects, trying again until `patience` is over; returns whether that led to a connection.
///
/// # Cancel safety
///
/// The future may be dropped; the socket may be connecting then.
pub async fn connect(
    socket: &mut TcpSocket<'_>,
    server: SocketAddrV4,
    patience: time::Duration,
) -> bool {
    let (start, mut backoff) = (Instant::now(), Backoff::new(PAUSES[0], PAUSES[1]));
    loop {
        if let Ok(Ok(())) = with_timeout(ATTEMPT, socket.connect(server)).await {
            return true;
        }
        abort(socket).await;
        if time::Duration::from(start.elapsed()) >= patience {
            return false;
        }
        pause(backoff.failed()).await;
    }
}

/// Ends a connection over which the server has sent its last message: closes it and waits for the
/// server to do the same, which shows that it has read the end. A reset before that would be the
/// first thing that it reads.
///
/// # Cancel safety
///
/// The future may be dropped; the connection may be open then.
pub async fn leave(socket: &mut TcpSocket<'_>) {
    socket.close();
    let closed = async { while let Ok(1..) = socket.read(&mut [0; 64]).await {} };
    let _ = with_timeout(ATTEMPT, closed).await;
    abort(socket).await;
}

/// Resets the connection at once.
///
/// # Cancel safety
///
/// The future may be dropped; the reset may not have been sent then.
pub async fn abort(socket: &mut TcpSocket<'_>) {
    socket.abort();
    let _ = with_timeout(ATTEMPT, socket.flush()).await;
}

/// Lets this much time pass, and other tasks run.
///
/// # Cancel safety
///
/// The future may be dropped.
pub async fn pause(time: time::Duration) {
    Timer::after_micros(time.as_micros() as u64).await;
}

/// embassy's clock, for deadlines.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl asynch::Timer for Clock {
    fn now(&mut self) -> time::Duration {
        Instant::now().duration_since(Instant::MIN).into()
    }

    async fn until(&mut self, at: time::Duration) {
        Timer::at(Instant::from_micros(at.as_micros() as u64)).await;
    }
}
