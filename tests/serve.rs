//! Drivers that give up, over the system's TCP sockets, as seen by their server.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use embedded_io::ErrorKind;
use embedded_io_adapters::std::FromStd;
use forcewire::net::Stream;
use forcewire::{
    Cell, Error, Evaluation, Potential, PotentialError, ProtocolError, Quantity, Virial, asynch,
    serve,
};
use forcewire_support::*;

/// The potential's result for each structure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// The potential returns forces of zero.
    Zero,
    /// The potential returns NaN forces.
    Nan,
    /// It fails.
    Fails,
}

impl Potential for Does {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &Cell,
        _: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        let force = match self {
            Self::Zero => 0.0,
            Self::Nan => f64::NAN,
            Self::Fails => return Err(PotentialError::Failed("the accelerator is too hot")),
        };
        forces.fill([force; 3]);
        Ok(Evaluation {
            energy: 0.0,
            virial: Virial::ZERO,
        })
    }
}

/// How the driver is connected.
#[derive(Clone, Copy, Debug)]
enum Over {
    /// Over a plain socket with an adapter.
    Bare,
    /// Over the host's stream, which reads ahead.
    Stream,
    /// Over a plain socket in a future.
    Async,
}

/// A blocking socket inside a future.
struct Awaited(TcpStream);

impl embedded_io::ErrorType for Awaited {
    type Error = io::Error;
}

impl embedded_io_async::Read for Awaited {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl embedded_io_async::Write for Awaited {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves with room for 64 atoms, then closes.
fn drive(socket: TcpStream, over: Over, mut potential: Does) -> Result<(), Error<ErrorKind>> {
    match over {
        Over::Bare => serve::<64>(&mut FromStd::new(socket), &mut potential),
        Over::Stream => {
            let mut stream = Stream::from_tcp(socket, forcewire::Deadlines::default()).unwrap();
            serve::<64>(&mut stream, &mut potential)
        }
        Over::Async => {
            let mut socket = Awaited(socket);
            let mut future = pin!(asynch::serve::<64>(&mut socket, &mut potential));
            // The socket blocks, so pending only means that other tasks have a turn.
            loop {
                let polled = future
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(result) = polled {
                    break result;
                }
            }
        }
    }
}

/// Sends these pieces to a driver over each kind of connection. The driver sends nothing, and its
/// server gets a clean end. Returns why the driver gave up.
fn gives_up(pieces: &[&[u8]], potential: Does) -> Error<ErrorKind> {
    let mut error = None;
    for over in [Over::Bare, Over::Stream, Over::Async] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let driver = thread::spawn(move || {
            let socket = TcpStream::connect(address).unwrap();
            drive(socket, over, potential).unwrap_err()
        });
        let (mut server, _) = listener.accept().unwrap();
        server.set_nodelay(true).unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                thread::sleep(Duration::from_millis(20));
            }
            server
                .write_all(piece)
                .unwrap_or_else(|error| panic!("{over:?}: {error}"));
        }
        let mut said = Vec::new();
        // A reset would be an error here; i-PI hangs after one.
        server
            .read_to_end(&mut said)
            .unwrap_or_else(|error| panic!("{over:?}: {error}"));
        assert_eq!(said, b"", "{over:?}");
        error = Some(driver.join().unwrap());
    }
    error.unwrap()
}

/// The potential fails or returns NaN, or the positions are refused. With the positions, each kind
/// of server sends its usual command.
///
/// If that command were unread on close, the socket would be reset, and `read_to_end` would fail
/// with `ECONNRESET`.
#[test]
fn a_server_sees_a_clean_end() {
    let failed = PotentialError::Failed("the accelerator is too hot");
    let mut nan = golden();
    nan.positions[0][1] = f64::NAN;
    let mut nan_cell = golden();
    nan_cell.h[4] = f64::NAN;
    let mut negative = posdata(&golden());
    put_integer(&mut negative, Posdata::of(1).atoms(), -1);
    let cases = [
        (posdata(&golden()), Does::Fails, Error::Potential(failed)),
        (
            posdata(&golden()),
            Does::Nan,
            ProtocolError::NotFinite(Quantity::Forces).into(),
        ),
        (
            posdata(&atoms(65)),
            Does::Zero,
            ProtocolError::TooManyAtoms {
                announced: 65,
                capacity: 64,
            }
            .into(),
        ),
        // More than all of the system's buffers hold.
        (
            posdata(&atoms(400_000)),
            Does::Zero,
            ProtocolError::TooManyAtoms {
                announced: 400_000,
                capacity: 64,
            }
            .into(),
        ),
        (
            posdata(&nan),
            Does::Zero,
            ProtocolError::NotFinite(Quantity::Positions).into(),
        ),
        (
            posdata(&nan_cell),
            Does::Zero,
            ProtocolError::NotFinite(Quantity::Cell).into(),
        ),
        (
            negative,
            Does::Zero,
            ProtocolError::NegativeAtoms(-1).into(),
        ),
        (
            posdata_batch(&[water(), water(), water()]),
            Does::Zero,
            ProtocolError::UnannouncedBatch.into(),
        ),
    ];
    for (positions, does, expected) in cases {
        let whole = |after: &[&[u8]]| [&positions, &*after.concat()].concat();
        // i-PI's consolidated messages, the classic ones, our own server's, and those of a server
        // that pads with NULs.
        let consolidated = whole(&[GETFORCE]);
        let error = gives_up(&[&consolidated], does);
        assert_eq!(error, expected);
        if positions.len() > 1_000_000 {
            continue;
        }
        for message in [
            whole(&[STATUS]),
            whole(&[GETFORCE, STATUS]),
            whole(&[b"GETFORCE\0\0\0\0"]),
        ] {
            assert_eq!(gives_up(&[&message], does), expected);
        }
        // The command arrives later than the positions, and in two pieces.
        let (first, second) = consolidated.split_at(consolidated.len() - 5);
        assert_eq!(gives_up(&[first, second], does), expected);
        let (first, second) = consolidated.split_at(consolidated.len() - 12);
        assert_eq!(gives_up(&[first, second], does), expected);
    }
}

/// The log messages.
struct Journal(Mutex<Vec<String>>);

impl log::Log for Journal {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = format!("{} {}", record.level(), record.args());
        self.0.lock().unwrap().push(text);
    }

    fn flush(&self) {}
}

static JOURNAL: Journal = Journal(Mutex::new(Vec::new()));

#[test]
fn the_log_has_the_reason_of_a_potential() {
    log::set_logger(&JOURNAL).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    gives_up(&[&posdata(&golden()), GETFORCE], Does::Fails);
    let journal = JOURNAL.0.lock().unwrap();
    let text = "DEBUG the potential failed: the accelerator is too hot";
    assert!(journal.iter().any(|line| line == text), "{journal:?}");
}
