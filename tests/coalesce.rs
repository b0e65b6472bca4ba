//! A stream that collects pieces: pieces in one write, pieces that bypass the buffer, and no lost
//! bytes.

use std::convert::Infallible;

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use forcewire::{CoalesceError, Coalesced, Driver, Error, Event, blocking};
use forcewire_support::*;

/// A stream that records each write and accepts at most this many bytes at once.
struct Paper {
    inbox: Vec<u8>,
    writes: Vec<Vec<u8>>,
    most: usize,
}

impl Paper {
    fn new(inbox: Vec<u8>, most: usize) -> Self {
        Self {
            inbox,
            writes: Vec::new(),
            most,
        }
    }
}

impl ErrorType for Paper {
    type Error = Infallible;
}

impl Read for Paper {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let n = buffer.len().min(self.inbox.len());
        for (to, from) in buffer.iter_mut().zip(self.inbox.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let taken = &bytes[..bytes.len().min(self.most)];
        self.writes.push(taken.to_vec());
        Ok(taken.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Serves one classic evaluation over a stream that collects `N` bytes. Returns the writes below
/// it.
fn serve<const N: usize>(natoms: usize, most: usize) -> Vec<Vec<u8>> {
    let structure = atoms(natoms);
    let answer = answer(natoms, 1.0, b"{}");
    let inbox = [STATUS, &posdata(&structure), STATUS, GETFORCE].concat();
    let mut socket = Coalesced::<_, N>::new(Paper::new(inbox, most));
    let mut driver = Driver::new();
    let mut positions = vec![[0.0; 3]; natoms];
    let event = blocking::run(&mut socket, driver.receive(&mut positions)).unwrap();
    assert!(matches!(event, Event::Positions { .. }));
    let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    blocking::run(&mut socket, reply).unwrap();
    let writes = socket.into_inner().writes;
    let expected = [READY, HAVEDATA, &forceready(&answer)].concat();
    assert!(writes.concat() == expected, "{natoms} atoms, {N} bytes");
    writes
}

#[test]
fn a_reply_is_one_write_where_the_buffer_holds_it() {
    // 100 bytes plus 24 per atom, and two bytes of extras.
    for natoms in [0, 1, 27, 28, 31, 32, 33, 64] {
        assert_eq!(serve::<1638>(natoms, usize::MAX).len(), 3, "{natoms} atoms");
    }
    assert!(serve::<1637>(64, usize::MAX).len() > 3);
}

#[test]
#[cfg_attr(
    target_endian = "big",
    ignore = "arrays are turned round, piece by piece"
)]
fn an_array_larger_than_the_buffer_goes_past_it() {
    let writes = serve::<128>(1000, usize::MAX);
    let sizes: Vec<_> = writes.iter().map(Vec::len).collect();
    assert_eq!(sizes, [12, 12, 24, 24_000, 78]);
}

#[test]
fn a_stream_that_takes_little_at_once_gets_it_all() {
    for most in [1, 2, 7, 100] {
        serve::<64>(40, most);
        serve::<1638>(40, most);
    }
}

#[test]
fn a_stream_that_takes_nothing_is_an_error() {
    let mut socket = Coalesced::<_, 64>::new(Paper::new(STATUS.to_vec(), 0));
    let result = blocking::run(&mut socket, Driver::new().receive(&mut [[0.0; 3]; 1]));
    assert_eq!(result, Err(Error::Transport(CoalesceError::WriteZero)));
    let error: CoalesceError<Infallible> = CoalesceError::WriteZero;
    assert_eq!(embedded_io::Error::kind(&error), ErrorKind::WriteZero);
}

mod asynch {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use embedded_io_async::{Read, Write};
    use forcewire::asynch;

    use super::*;

    /// Pending once before each call.
    async fn hesitate() {
        let mut hesitated = false;
        poll_fn(|_| {
            if std::mem::replace(&mut hesitated, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    impl Read for Paper {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
            hesitate().await;
            embedded_io::Read::read(self, buffer)
        }
    }

    impl Write for Paper {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            hesitate().await;
            embedded_io::Write::write(self, bytes)
        }

        async fn flush(&mut self) -> Result<(), Infallible> {
            hesitate().await;
            Ok(())
        }
    }

    /// Polls a future this many times before it is dropped.
    fn poll_for<F: Future>(future: F, polls: usize) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    }

    /// Each run flushes first. It needs a poll for that, one for the kept bytes, and one for the
    /// bytes that it moves.
    #[test]
    fn nothing_is_lost_or_repeated_when_futures_are_dropped() {
        let answer = answer(40, 1.0, b"{}");
        let expected = [READY, HAVEDATA, &forceready(&answer)].concat();
        for polls in 4..40 {
            for most in [300, 500, usize::MAX] {
                let inbox = [STATUS, &posdata(&atoms(40)), STATUS, GETFORCE].concat();
                let mut socket = Coalesced::<_, 1062>::new(Paper::new(inbox, most));
                let mut driver = Driver::new();
                let mut positions = [[0.0; 3]; 40];
                while poll_for(
                    asynch::run(&mut socket, driver.receive(&mut positions)),
                    polls,
                )
                .is_none()
                {}
                let replied = loop {
                    let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
                    if let Some(result) = poll_for(asynch::run(&mut socket, reply), polls) {
                        break result;
                    }
                };
                assert_eq!(replied, Ok(()));
                let writes = socket.into_inner().writes;
                assert!(
                    writes.concat() == expected,
                    "{polls} polls, {most} bytes at once"
                );
                assert!(most < 1062 || writes.len() == 3, "{} writes", writes.len());
            }
        }
    }
}
