//! A driver over TLS 1.3 with a pre-shared key. Without TLS the protocol accepts anyone who can
//! reach the port.
//!
//! i-PI has no TLS. stunnel in front of it does, and refuses everyone without the key:
//!
//! ```text
//! # stunnel.conf                   # keys: identity, colon, key in hexadecimal digits
//! [i-pi]                           water:5f0c1b...
//! accept = 0.0.0.0:31416
//! connect = 127.0.0.1:31415
//! ciphers = PSK
//! sslVersionMin = TLSv1.3
//! PSKsecrets = keys
//! ```
//!
//! ```text
//! cargo run --release --example tls -- -a HOST -p 31416 --identity water --key KEYFILE -o 0.01
//! ```
//!
//! Every stream that implements `embedded-io` can carry the protocol, so a board does the same with
//! embedded-tls over its own socket (`boards/common/src/tls.rs`). Only the two record buffers are
//! allocated here; a board has them in a `static`.

use std::error::Error;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use embedded_io_adapters::std::FromStd;
use embedded_tls::blocking::{Aes128GcmSha256, TlsConfig, TlsConnection, TlsContext};
use embedded_tls::{TlsError, UnsecureProvider};
use forcewire::potential::Harmonic;
use forcewire::{Driver, Event, Storage, blocking};
use rand_core::OsRng;

const HELP: &str = "\
A driver behind TLS 1.3 with a pre-shared key: a spring on every atom.

usage: tls [-a HOST] [-p PORT] --identity NAME --key FILE [-o K] [--patience S]

  -a HOST           where the TLS server listens, in front of i-PI (default: localhost)
  -p PORT           its port (default: 31416)
  --identity NAME   which of its keys is used
  --key FILE        the key, at least 16 bytes in hexadecimal digits; keep the file to yourself (mode 0600)
  -o K              the spring, hartree/bohr^2 (default: 0.01)
  --patience S      seconds for each step of the handshake (default: 60)
  -h, --help        this text

It ends with 0 when the server says EXIT, with 1 and the reason when it goes away without,
with 2 when a flag makes no sense.
";

/// The most atoms of a structure.
const ATOMS: usize = 1024;

/// The longest record of TLS 1.3, with its overhead (RFC 8446, 5.2).
const RECORD: usize = 16_640;

struct Arguments {
    host: String,
    port: u16,
    identity: String,
    key: PathBuf,
    spring: f64,
    patience: Duration,
}

fn main() -> ExitCode {
    let result = match arguments() {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("tls: {error} (--help lists the flags)");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(evaluations) => {
            println!("tls: {evaluations} evaluations");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<usize, Box<dyn Error>> {
    let key = key(&arguments.key)?;
    let address = (arguments.host.as_str(), arguments.port);
    let socket = TcpStream::connect(address)
        .map_err(|error| format!("no connection to {}:{}: {error}", address.0, address.1))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(arguments.patience))?;
    let plain = socket.try_clone()?;
    let identity = [arguments.identity.as_bytes()];
    let config = TlsConfig::new().with_psk(&key, &identity);
    let (mut received, mut sent) = (vec![0; RECORD], vec![0; RECORD]);
    let mut tls: TlsConnection<'_, _, Aes128GcmSha256> =
        TlsConnection::new(FromStd::new(socket), &mut received, &mut sent);
    // No certificate is checked, and none is needed: all secrets come from the key (RFC 8446, 7.1),
    // so a server without the key can't complete the handshake.
    tls.open(TlsContext::new(&config, UnsecureProvider::new(OsRng)))
        .map_err(|error| {
            let identity = &arguments.identity;
            format!(
                "no TLS with {}:{}: {error:?}; does it know {identity:?}, with this key?",
                address.0, address.1
            )
        })?;
    // From here on a server may compute between two messages for any time.
    plain.set_read_timeout(None)?;

    let mut driver = Driver::new();
    let mut storage = Box::new(Storage::<f64, ATOMS>::new());
    let mut potential = Harmonic::new(arguments.spring);
    let mut evaluations = 0;
    let error = loop {
        match blocking::run(&mut tls, storage.receive(&mut driver)) {
            Ok(Event::Positions {
                natoms, structures, ..
            }) => {
                let evaluated = storage.evaluate(natoms, structures, &mut potential);
                let replied = evaluated
                    .map_err(forcewire::Error::Potential)
                    .and_then(|()| blocking::run(&mut tls, storage.reply(&mut driver)));
                match replied {
                    Ok(()) => evaluations += 1,
                    Err(error) => break error,
                }
            }
            Ok(Event::Init { .. }) => {}
            Ok(Event::Exit) => {
                let _ = tls.close(); // the other side has gone already
                return Ok(evaluations);
            }
            Ok(_) | Err(forcewire::Error::Transport(TlsError::ConnectionClosed)) => {
                return Err("the server closed the connection without EXIT".into());
            }
            Err(error) => break error,
        }
    };
    // i-PI hangs if a connection is closed with bytes unread.
    if let forcewire::Error::Protocol(_) | forcewire::Error::Potential(_) = error {
        let _ = blocking::run(&mut tls, driver.drain());
    }
    Err(told(error).into())
}

/// [`TlsError`] has no `Display`.
fn told(error: forcewire::Error<TlsError>) -> String {
    error
        .map_transport(|error| format!("the connection was lost: {error:?}"))
        .to_string()
}

/// Reads a key in hexadecimal digits.
fn key(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("no key in {}: {error}", path.display()))?;
    let wrong = || {
        format!(
            "{} is no key: it takes at least 32 hexadecimal digits",
            path.display()
        )
    };
    let digits: Option<Vec<u8>> = text
        .trim()
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    match digits.ok_or_else(wrong)?.as_chunks::<2>() {
        (pairs, []) if pairs.len() >= 16 => {
            Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
        }
        _ => Err(wrong()),
    }
}

/// Parses the command line; returns nothing if it asks for help.
fn arguments() -> Result<Option<Arguments>, Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut host, mut port, mut spring) = (String::from("localhost"), 31416, 0.01);
    let (mut identity, mut key) = (None, None);
    let mut patience = Duration::from_secs(60);
    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            Short('a') => host = flags.value()?.string()?,
            Short('p') => port = flags.value()?.parse()?,
            Short('o') => spring = flags.value()?.parse()?,
            Long("identity") => identity = Some(flags.value()?.string()?),
            Long("key") => key = Some(flags.value()?.into()),
            Long("patience") => {
                let seconds = flags.value()?.parse()?;
                patience = Duration::try_from_secs_f64(seconds)?.max(Duration::from_millis(1));
            }
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(Arguments {
        host,
        port,
        identity: identity.ok_or("--identity NAME is missing")?,
        key: key.ok_or("--key FILE is missing")?,
        spring,
        patience,
    }))
}
