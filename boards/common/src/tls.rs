//! TLS 1.3 with a pre-shared key, between the network connection and the protocol.
//!
//! No certificate is checked, and none is needed: all secrets of a connection come from the key
//! (RFC 8446, 7.1), so a server without the key can't finish the handshake.

use core::cell::RefCell;

use defmt::{info, warn};
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use embedded_tls::blocking::{Aes128GcmSha256, TlsConfig, TlsConnection, TlsContext};
use embedded_tls::{CryptoProvider, TlsError};
use forcewire::blocking::{self, Transport};
use forcewire::{Driver, Error, Event, Exchange, Wait};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{CryptoRngCore, SeedableRng};
use smoltcp::time::{Duration, Instant};

use crate::application::Ended;
use crate::network::{Link, Network};
use crate::{Board, Psk};

/// Room for one record in each direction. A server may send records of the maximal length (RFC
/// 8446, 5.2); ours can be shorter.
pub struct Records {
    received: [u8; 16_640],
    sent: [u8; 4096],
}

impl Records {
    pub const fn new() -> Self {
        Self {
            received: [0; 16_640],
            sent: [0; 4096],
        }
    }
}

/// The memory of TLS, reused for each connection.
pub struct Secret<'a> {
    psk: Psk<'a>,
    random: ChaCha20Rng,
    patience: Duration,
    records: &'a mut Records,
}

impl<'a> Secret<'a> {
    /// Sets the identity, the random seed, and the time limit for each handshake.
    pub fn new(psk: Psk<'a>, seed: [u8; 32], patience: Duration, records: &'a mut Records) -> Self {
        Self {
            psk,
            random: ChaCha20Rng::from_seed(seed),
            patience,
            records,
        }
    }
}

/// The time limit for TLS's closing message.
const GOODBYE: Duration = Duration::from_secs(1);

/// Makes the TLS handshake on a new connection, serves it, and closes TLS. Returns the error if the
/// handshake fails.
pub fn over<D: Board>(
    network: &mut Network<'_, D>,
    secret: &mut Secret<'_>,
    serve: impl FnOnce(&mut Tls<'_, '_, D>) -> Ended,
) -> Ended {
    let start = network.now();
    network.until(start + secret.patience);
    // TLS owns its connection, which still needs access to the time limit.
    let network = &RefCell::new(network);
    let Records { received, sent } = &mut *secret.records;
    let mut connection = TlsConnection::new(Socket(network), received, sent);
    let identity = [secret.psk.identity.as_bytes()];
    let config = TlsConfig::new().with_psk(&secret.psk.key, &identity);
    let provider = NoCertificates(&mut secret.random);
    if let Err(error) = connection.open(TlsContext::new(&config, provider)) {
        warn!("{}", Failed(error));
        return Ended {
            refused: matches!(error, TlsError::HandshakeAborted(..)),
            ..Ended::default()
        };
    }
    let mut tls = Tls {
        connection,
        network,
    };
    let time = tls.now() - start;
    info!(
        "TLS as {=str}, after {} us",
        secret.psk.identity,
        time.total_micros()
    );

    let ended = serve(&mut tls);
    if ended.exit {
        let until = tls.now() + GOODBYE;
        network.borrow_mut().until(until);
        let _ = tls.connection.close(); // the other side may have gone already
    }
    ended
}

type Connection<'a, 'n, D> = TlsConnection<'a, Socket<'a, 'n, D>, Aes128GcmSha256>;
type Shared<'a, 'n, D> = RefCell<&'a mut Network<'n, D>>;

/// A connection whose two sides have proved that they have the key.
pub struct Tls<'a, 'n, D: Board> {
    connection: Connection<'a, 'n, D>,
    network: &'a Shared<'a, 'n, D>,
}

impl<'a, 'n, D: Board> Tls<'a, 'n, D> {
    /// Runs a TLS operation that may have to wait, up to the server's deadline.
    fn patiently<T>(
        &mut self,
        wait: &Wait,
        call: impl FnOnce(&mut Connection<'a, 'n, D>) -> Result<T, TlsError>,
    ) -> Result<T, Error<TlsError>> {
        self.network.borrow_mut().watch(wait);
        match call(&mut self.connection) {
            // Unlike without TLS, this ends the connection: part of a record may have moved.
            Err(TlsError::Io(ErrorKind::TimedOut)) => {
                self.network.borrow_mut().check()?;
                Err(Error::Transport(TlsError::Io(ErrorKind::TimedOut)))
            }
            result => result.map_err(Error::Transport),
        }
    }
}

impl<D: Board> Link for Tls<'_, '_, D> {
    type Error = Failed;

    fn now(&self) -> Instant {
        self.network.borrow().now()
    }

    fn run<T: Exchange>(&mut self, transfer: T) -> Result<T::Output, Error<Failed>> {
        blocking::run(self, transfer).map_err(|error| error.map_transport(Failed))
    }

    /// TLS reads whole records and waits for them, so nothing is read before the forces are there.
    fn attend(&mut self, _: &mut Driver) -> Result<Option<Event>, Error<Failed>> {
        self.network.borrow_mut().doze();
        Ok(None)
    }
}

impl<D: Board> Transport for Tls<'_, '_, D> {
    type Error = TlsError;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<TlsError>> {
        match self.patiently(wait, |connection| connection.read(buffer)) {
            // The server has closed TLS properly. A connection that ends without that is an error.
            Err(Error::Transport(TlsError::ConnectionClosed)) => Ok(0),
            result => result,
        }
    }

    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<TlsError>> {
        self.patiently(wait, |connection| connection.write(bytes))
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<TlsError>> {
        self.patiently(wait, TlsConnection::flush)
    }
}

/// Supplies random numbers only. The certificate code is not linked.
struct NoCertificates<'a>(&'a mut ChaCha20Rng);

impl CryptoProvider for NoCertificates<'_> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = [u8; 0];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut *self.0
    }
}

/// The network, as a socket for TLS.
struct Socket<'a, 'n, D: Board>(&'a Shared<'a, 'n, D>);

impl<D: Board> ErrorType for Socket<'_, '_, D> {
    type Error = ErrorKind;
}

impl<D: Board> Read for Socket<'_, '_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.borrow_mut().receive(buffer)
    }
}

impl<D: Board> Write for Socket<'_, '_, D> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.borrow_mut().send(bytes)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.borrow_mut().flush();
        Ok(())
    }
}

/// The error of a TLS connection.
#[derive(Clone, Copy, Debug)]
pub struct Failed(TlsError);

impl defmt::Format for Failed {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self.0 {
            TlsError::HandshakeAborted(_, alert) => defmt::write!(
                f,
                "the server refused TLS ({}): does it know this identity, with this key?",
                defmt::Debug2Format(&alert)
            ),
            TlsError::CryptoError | TlsError::InvalidSignature => defmt::write!(
                f,
                "what the server sent was not made with our key: is it the right server?"
            ),
            TlsError::Io(ErrorKind::TimedOut) => {
                defmt::write!(f, "the server fell silent: does it speak TLS?")
            }
            TlsError::Io(_) | TlsError::IoError => {
                defmt::write!(
                    f,
                    "the connection ended without TLS's goodbye: connect again"
                )
            }
            error => defmt::write!(
                f,
                "the server does not speak TLS 1.3 as we do ({})",
                defmt::Debug2Format(&error)
            ),
        }
    }
}
