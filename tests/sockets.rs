//! Drivers over the operating system's sockets, TCP and unix, with peers that dribble, stall, or
//! close at any byte.

use forcewire_support::layout;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Address, ConnectOptions, Stream, connect_with};
use forcewire::{
    Cell, Deadlines, Driver, Error, Evaluation, Event, ProtocolError, Request, Server, Virial,
    blocking,
};
use layout::{EXIT, GETFORCE, HAVEDATA, READY, STATUS};

/// The limits are long where nothing should fail, and short where a test waits for them.
const QUICK: ConnectOptions = ConnectOptions::new()
    .connect(Duration::from_secs(5))
    .deadlines(
        Deadlines::NONE
            .message(MESSAGE)
            .evaluation(Duration::from_secs(20)),
    );
const MESSAGE: Duration = Duration::from_millis(200);

/// POSDATA of `natoms` atoms in a cube of 10 bohr; coordinate `i` is i/8.
fn posdata(natoms: usize) -> Vec<u8> {
    layout::posdata(&layout::cube(10.0), &layout::cube(0.1), &eighths(natoms))
}

fn eighths(natoms: usize) -> Vec<f64> {
    (0..3 * natoms).map(|i| i as f64 / 8.0).collect()
}

/// FORCEREADY with energy 1.5, the positions of [`posdata`] as forces, virial 0 and no extras.
fn forceready(natoms: usize) -> Vec<u8> {
    layout::forceready(&[1.5], &eighths(natoms), &[0.0; 9], &[b""])
}

/// Serves positions as forces until the server ends the conversation. Returns the number of
/// evaluations.
fn serve(stream: &mut Stream, natoms: usize) -> Result<usize, Error<std::io::Error>> {
    let mut driver = Driver::new();
    let mut positions = vec![[0.0_f64; 3]; natoms];
    let evaluation = Evaluation {
        energy: 1.5,
        virial: Virial::default(),
    };
    for count in 0.. {
        match blocking::run(stream, driver.receive(&mut positions))? {
            Event::Positions { natoms, .. } => {
                blocking::run(stream, driver.reply(&evaluation, &positions[..natoms], b""))?;
            }
            _ => return Ok(count),
        }
    }
    unreachable!()
}

/// A server's end of a connection, of either kind.
trait Peer: Read + Write + Send {}
impl<T: Read + Write + Send> Peer for T {}

/// Runs a server and a driver with each other, over TCP (IPv4 and IPv6) and over a unix socket.
fn over_each_transport(
    options: ConnectOptions,
    server: impl Fn(&mut dyn Peer) + Sync,
    driver: impl Fn(&mut Stream),
) {
    for host in [
        Ipv4Addr::LOCALHOST.to_string(),
        Ipv6Addr::LOCALHOST.to_string(),
    ] {
        let listener = TcpListener::bind((host.as_str(), 0)).expect("loopback");
        let address = Address::tcp(host, listener.local_addr().unwrap().port());
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut socket, _) = listener.accept().unwrap();
                socket.set_nodelay(true).unwrap();
                server(&mut socket);
            });
            driver(&mut connect_with(&address, options, |_, _| {}).unwrap());
        });
    }
    #[cfg(unix)]
    {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("ipi_").to_str().unwrap().to_owned();
        let listener = std::os::unix::net::UnixListener::bind(format!("{prefix}test")).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| server(&mut listener.accept().unwrap().0));
            driver(&mut connect_with(&Address::unix(&prefix, "test"), options, |_, _| {}).unwrap());
        });
    }
}

fn hear(peer: &mut dyn Peer, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard == expected, "{}", heard.escape_ascii());
}

#[test]
fn classic_and_consolidated_evaluations_of_any_size() {
    // Sizes below, at and above what one recv and one send can move.
    for natoms in [1, 64, 2723, 2730, 2731, 20_000] {
        over_each_transport(
            ConnectOptions::new(),
            |peer| {
                for _ in 0..3 {
                    peer.write_all(STATUS).unwrap();
                    hear(peer, READY);
                    peer.write_all(&[&posdata(natoms), STATUS].concat())
                        .unwrap();
                    hear(peer, HAVEDATA);
                    peer.write_all(GETFORCE).unwrap();
                    hear(peer, &forceready(natoms));
                    peer.write_all(&[&posdata(natoms), GETFORCE].concat())
                        .unwrap();
                    hear(peer, &forceready(natoms));
                }
                peer.write_all(EXIT).unwrap();
            },
            |stream| assert_eq!(serve(stream, natoms).unwrap(), 6),
        );
    }
}

#[test]
fn a_peer_that_dribbles_is_understood() {
    let options = QUICK.deadlines(QUICK.deadlines.message(Duration::from_secs(30)));
    over_each_transport(
        options,
        |peer| {
            for byte in [STATUS, &posdata(2), STATUS, GETFORCE, EXIT].concat() {
                peer.write_all(&[byte]).unwrap();
                thread::sleep(Duration::from_micros(100));
            }
            hear(peer, &[READY, HAVEDATA, &forceready(2)].concat());
        },
        |stream| assert_eq!(serve(stream, 2).unwrap(), 1),
    );
}

#[test]
fn a_peer_that_stalls_inside_a_message_runs_out_of_patience() {
    over_each_transport(
        QUICK,
        |peer| {
            peer.write_all(&posdata(2)[..100]).unwrap();
            // Wait until the driver gives up.
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        },
        |stream| {
            let start = Instant::now();
            let error = serve(stream, 2).unwrap_err();
            let text = error.to_string();
            let Error::TimedOut(late) = error else {
                panic!("{error}")
            };
            let what = "for the rest of POSDATA, 100 of 160 bytes have moved";
            assert!(text.contains(what), "{text}");
            assert!(late.is_midway() && late.limit == MESSAGE);
            assert!(start.elapsed() >= MESSAGE);
            stream.shutdown().unwrap();
        },
    );
}

#[test]
fn a_message_that_dribbles_has_one_deadline() {
    over_each_transport(
        QUICK,
        |peer| {
            for byte in posdata(2) {
                if peer.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(MESSAGE / 10);
            }
            panic!("the driver waited for all of it");
        },
        |stream| {
            let error = serve(stream, 2).unwrap_err();
            assert!(matches!(&error, Error::TimedOut(_)), "{error}");
            stream.shutdown().unwrap();
        },
    );
}

/// This is the only deadline: nothing else would end the wait for the first message.
#[test]
fn a_server_that_never_says_a_word_is_given_up() {
    let options = QUICK.deadlines(Deadlines::NONE.handshake(MESSAGE));
    over_each_transport(
        options,
        // Wait until the driver has gone.
        |peer| assert_eq!(peer.read(&mut [0]).unwrap_or(0), 0),
        |stream| {
            let start = Instant::now();
            let error = serve(stream, 2).unwrap_err();
            assert!(
                error.to_string().contains("for the server's first message"),
                "{error}"
            );
            assert!(start.elapsed() >= MESSAGE);
            stream.shutdown().unwrap();
        },
    );
}

#[test]
fn a_server_that_computes_between_two_messages_is_waited_for() {
    over_each_transport(
        QUICK,
        |peer| {
            peer.write_all(STATUS).unwrap();
            hear(peer, READY);
            thread::sleep(MESSAGE * 3);
            peer.write_all(EXIT).unwrap();
        },
        |stream| assert_eq!(serve(stream, 2).unwrap(), 0),
    );
}

#[test]
fn an_idle_limit_ends_the_wait_for_the_next_message() {
    let limit = Duration::from_millis(50);
    let options = QUICK.deadlines(QUICK.deadlines.evaluation(limit));
    over_each_transport(
        options,
        |peer| assert_eq!(peer.read(&mut [0]).unwrap(), 0),
        |stream| {
            let error = serve(stream, 2).unwrap_err();
            assert!(
                error.to_string().contains("the server's next message"),
                "{error}"
            );
            stream.shutdown().unwrap();
        },
    );
}

#[test]
fn an_exchange_that_timed_out_can_be_made_again() {
    over_each_transport(
        QUICK,
        |peer| {
            let message = [&posdata(2), GETFORCE].concat();
            peer.write_all(&message[..100]).unwrap();
            thread::sleep(MESSAGE * 3);
            peer.write_all(&message[100..]).unwrap();
            hear(peer, &forceready(2));
        },
        |stream| {
            let mut driver = Driver::new();
            let mut positions = [[0.0_f64; 3]; 2];
            let mut timeouts = 0;
            let event = loop {
                match blocking::run(stream, driver.receive(&mut positions)) {
                    Err(Error::TimedOut(_)) => timeouts += 1,
                    result => break result.unwrap(),
                }
            };
            assert!(timeouts > 0);
            assert!(matches!(event, Event::Positions { natoms: 2, .. }));
            assert_eq!(positions, [[0.0, 0.125, 0.25], [0.375, 0.5, 0.625]]);
            let evaluation = Evaluation {
                energy: 1.5,
                virial: Virial::default(),
            };
            blocking::run(stream, driver.reply(&evaluation, &positions, b"")).unwrap();
        },
    );
}

#[test]
fn a_stream_that_ends_at_any_byte_is_an_end_or_an_error_and_never_an_event() {
    let conversation = [STATUS, &posdata(2), STATUS, GETFORCE].concat();
    // The boundaries between messages.
    let boundaries = [0, 12, 12 + 208, 24 + 208, 36 + 208];
    for end in 0..=conversation.len() {
        over_each_transport(
            QUICK,
            |peer| peer.write_all(&conversation[..end]).unwrap(),
            |stream| match serve(stream, 2) {
                Ok(_) => assert!(boundaries.contains(&end), "byte {end}"),
                Err(Error::Protocol(ProtocolError::EndOfStream { .. })) => {
                    assert!(!boundaries.contains(&end), "byte {end}");
                }
                // The peer had gone before the answer was sent.
                Err(Error::Transport(error)) => {
                    assert!(end >= 12, "byte {end}: {error}");
                    let lost = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                    assert!(lost.contains(&error.kind()), "byte {end}: {error}");
                }
                Err(error) => panic!("byte {end}: {error}"),
            },
        );
    }
}

#[test]
fn a_server_that_starts_late_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    drop(listener);
    let address = Address::tcp("127.0.0.1", local.port());
    let mut attempts = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(150));
            let (mut socket, _) = TcpListener::bind(local).unwrap().accept().unwrap();
            socket.write_all(EXIT).unwrap();
        });
        let mut pauses = Vec::new();
        let mut stream = connect_with(&address, QUICK, |error, pause| {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            attempts += 1;
            pauses.push(pause);
        })
        .unwrap();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert_eq!(serve(&mut stream, 1).unwrap(), 0);
    });
    assert!(attempts > 0);
}

#[test]
fn a_server_that_never_starts_is_named() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let options = QUICK.connect(Duration::from_millis(100));
    let error = connect_with(&Address::tcp("127.0.0.1", port), options, |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(
        error
            .to_string()
            .contains(&format!("no connection to 127.0.0.1:{port}")),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_unix_path_that_is_too_long_is_refused_at_once() {
    let address = Address::unix("/tmp/ipi_", &"x".repeat(200));
    let error = connect_with(&address, QUICK, |error, _| panic!("{error}")).unwrap_err();
    assert!(
        error.to_string().contains("no connection to /tmp/ipi_xxx"),
        "{error}"
    );
}

/// The peer sends its pieces separately with Nagle's algorithm on, as ASE and LAMMPS 2021 do.
#[test]
fn a_peer_without_nodelay_does_not_wait_for_acknowledgements() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    const STEPS: usize = 40;
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (mut socket, _): (TcpStream, _) = listener.accept().unwrap();
            let message = posdata(64);
            let mut steps = Vec::new();
            for _ in 0..STEPS {
                let start = Instant::now();
                for piece in layout::pieces(&message) {
                    socket.write_all(piece).unwrap();
                }
                socket.write_all(GETFORCE).unwrap();
                hear(&mut socket, &forceready(64));
                steps.push(start.elapsed());
            }
            steps
        });
        let mut stream = connect_with(&address, QUICK, |_, _| {}).unwrap();
        assert_eq!(serve(&mut stream, 64).unwrap(), STEPS);
        // Delayed acknowledgements cost 40 ms in every step after a connection's first few. Without
        // them, even a busy machine needs less for at least one step.
        let steps = server.join().unwrap();
        let fastest = steps[STEPS / 2..].iter().min().unwrap();
        assert!(*fastest < Duration::from_millis(20), "{steps:?}");
    });
}

/// Structures large enough to be read directly into the array in which they are expected.
const LARGE: usize = 3000;

/// Serves like [`serve`], with a cleared array for each structure.
fn serve_anew(stream: &mut Stream, driver: &mut Driver) -> usize {
    let evaluation = Evaluation {
        energy: 1.5,
        virial: Virial::default(),
    };
    for count in 0.. {
        let mut positions = vec![[f64::NAN; 3]; LARGE];
        let event = loop {
            match blocking::run(stream, driver.receive(&mut positions)).unwrap() {
                Event::Init { .. } => positions = vec![[f64::NAN; 3]; LARGE],
                event => break event,
            }
        };
        let Event::Positions { natoms, .. } = event else {
            return count;
        };
        let forces = &positions[..natoms];
        blocking::run(stream, driver.reply(&evaluation, forces, b"")).unwrap();
    }
    unreachable!()
}

#[test]
fn a_driver_hears_other_messages_than_it_expects() {
    over_each_transport(
        ConnectOptions::new().deadlines(Deadlines::NONE),
        |peer| {
            let whole = |natoms| [&posdata(natoms)[..], GETFORCE].concat();
            peer.write_all(&whole(LARGE)).unwrap();
            hear(peer, &forceready(LARGE));
            // With the expected number of atoms, with fewer, with none, and after messages whose
            // answers nothing waits for.
            for natoms in [LARGE, LARGE - 1, 7, 0, LARGE] {
                peer.write_all(&whole(natoms)).unwrap();
                hear(peer, &forceready(natoms));
                let asked = [STATUS, STATUS, &posdata(natoms)[..], STATUS, GETFORCE];
                peer.write_all(&asked.concat()).unwrap();
                hear(peer, &[READY, READY, HAVEDATA].concat());
                hear(peer, &forceready(natoms));
                // The stream ends before the part that is read into the array, and inside it.
                for len in [4, 200] {
                    let init = layout::init(3, "x".repeat(len));
                    peer.write_all(&[init, whole(natoms)].concat()).unwrap();
                    hear(peer, &forceready(natoms));
                }
            }
            peer.write_all(&[STATUS, EXIT].concat()).unwrap();
            hear(peer, READY);
        },
        |stream| {
            let mut driver = Driver::new().allow_changing_atoms();
            assert_eq!(serve_anew(stream, &mut driver), 21);
        },
    );
}

#[test]
fn positions_that_came_in_part_go_on_in_another_array() {
    for come in [5, 100, 160, 161, 12_345] {
        over_each_transport(
            ConnectOptions::new().deadlines(Deadlines::NONE.message(MESSAGE)),
            |peer| {
                let whole = [&posdata(LARGE)[..], GETFORCE].concat();
                peer.write_all(&whole).unwrap();
                hear(peer, &forceready(LARGE));
                let (first, rest) = whole.split_at(come);
                peer.write_all(first).unwrap();
                thread::sleep(3 * MESSAGE);
                peer.write_all(rest).unwrap();
                hear(peer, &forceready(LARGE));
                peer.write_all(EXIT).unwrap();
            },
            |stream| {
                let mut driver = Driver::new();
                let evaluation = Evaluation {
                    energy: 1.5,
                    virial: Virial::default(),
                };
                let mut positions = vec![[0.0_f64; 3]; LARGE];
                blocking::run(stream, driver.receive(&mut positions)).unwrap();
                blocking::run(stream, driver.reply(&evaluation, &positions, b"")).unwrap();
                positions.fill([0.0; 3]);
                let late = blocking::run(stream, driver.receive(&mut positions));
                assert!(matches!(late, Err(Error::TimedOut(_))), "{late:?}");
                let mut other = positions.clone();
                positions.fill([f64::NAN; 3]);
                while let Err(late) = blocking::run(stream, driver.receive(&mut other)) {
                    assert!(matches!(late, Error::TimedOut(_)), "{late:?}");
                }
                blocking::run(stream, driver.reply(&evaluation, &other, b"")).unwrap();
                assert_eq!(serve_anew(stream, &mut driver), 0);
            },
        );
    }
}

#[test]
fn a_server_hears_other_answers_than_it_expects() {
    for natoms in [0, 1, LARGE - 1, LARGE, LARGE + 1] {
        over_each_transport(
            ConnectOptions::new().deadlines(Deadlines::NONE),
            |peer| {
                hear(peer, STATUS);
                peer.write_all(READY).unwrap();
                let mut request = vec![0; posdata(LARGE).len() + 24];
                for natoms in [LARGE, natoms] {
                    peer.read_exact(&mut request).unwrap();
                    let answer = [&forceready(natoms)[..], READY].concat();
                    // The server may have refused it and closed.
                    let _ = peer.write_all(&answer);
                }
            },
            |stream| {
                let (cell, positions) = (Cell::orthorhombic([10.0; 3]), vec![[1.0; 3]; LARGE]);
                let (mut server, mut forces) = (Server::new(), vec![[f64::NAN; 3]; LARGE]);
                for asked in [LARGE, natoms] {
                    let request = Request::new(&cell, &positions);
                    let answer =
                        blocking::run(stream, server.evaluate(request, &mut forces, &mut []));
                    if asked == LARGE {
                        assert_eq!(answer.unwrap().evaluation.energy, 1.5);
                        assert!(*forces.as_flattened() == *eighths(LARGE));
                        forces.fill([f64::NAN; 3]);
                        continue;
                    }
                    let wrong = ProtocolError::WrongAtoms {
                        announced: asked as i32,
                        expected: LARGE,
                    };
                    assert!(
                        matches!(&answer, Err(Error::Protocol(error)) if *error == wrong),
                        "{answer:?}"
                    );
                }
            },
        );
    }
}
