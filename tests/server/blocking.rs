//! The server over a blocking stream that counts its calls, moves any number of bytes and fails on
//! demand.

use embedded_io::ErrorKind;
use forcewire::{
    Answer, Cell, Coalesced, Error, Exchange, Mode, ProtocolError, Quantity, Request, Scalar,
    Server, Status, Step, blocking,
};

use super::{MODES, at_ready, positions, request, server};
use forcewire_support::fake::{Call, Failure, Fake};
use forcewire_support::*;

/// The messages of a driver and its server in a conversation of two evaluations with INIT.
fn conversation(mode: Mode) -> (Vec<u8>, Vec<u8>) {
    let reply = hex(GOLDEN_FORCEREADY);
    let (have_data, get_force) = match mode {
        Mode::Consolidated => (&b""[..], vec![]),
        _ => (HAVEDATA, request(mode)),
    };
    let evaluation = [READY, have_data, &reply].concat();
    let asked = match mode {
        Mode::Strict => STATUS,
        _ => b"",
    };
    let sent = [positions(mode, &golden()), get_force].concat();
    (
        [NEEDINIT, &evaluation, &evaluation].concat(),
        [
            STATUS,
            &init(-1, "k : 1 , "),
            STATUS,
            &sent,
            asked,
            &sent,
            EXIT,
        ]
        .concat(),
    )
}

/// Runs an exchange to its end, recreated as often as needed. Returns how often it failed.
fn persist<T>(mut run: impl FnMut() -> Result<T, Error<Failure>>) -> (T, usize) {
    for failures in 0..10_000 {
        match run() {
            Ok(output) => return (output, failures),
            Err(Error::Transport(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("this goes on for ever");
}

/// Evaluates twice and sends EXIT. Returns how many runs failed.
fn evaluate_twice(fake: &mut Fake, mode: Mode) -> usize {
    let (cell, positions) = (golden().cell(), golden().positions);
    let request = Request::new(&cell, &positions)
        .replica(-1)
        .init(b"k : 1 , ");
    let mut server = server(mode);
    let mut all = 0;
    for _ in 0..2 {
        let (mut forces, mut extras) = ([[0.0; 3]], [0; 8]);
        let (answer, failures) = persist(|| {
            let evaluate = server.evaluate(request, &mut forces, &mut extras);
            blocking::run(fake, evaluate)
        });
        all += failures;
        let expected = golden_answer();
        assert_eq!(answer.evaluation, expected.evaluation);
        assert_eq!(forces[..], expected.forces);
        assert_eq!(answer.extras(&extras), expected.extras);
    }
    all + persist(|| blocking::run(fake, server.exit())).1
}

#[test]
fn a_conversation_over_a_stream_that_moves_a_little_at_a_time() {
    for mode in MODES {
        let (heard, said) = conversation(mode);
        at_every_split(|split| {
            let mut fake = Fake::new(&heard).split(split);
            assert_eq!(evaluate_twice(&mut fake, mode), 0);
            assert_eq!(fake.said(), said);
            assert!(!fake.owes());

            // An interruption is not reported, but a time-out is; then the exchange continues where
            // it stopped.
            let mut fake = Fake::new(&heard)
                .split(split)
                .fails_before_each(ErrorKind::Interrupted);
            assert_eq!(evaluate_twice(&mut fake, mode), 0);
            assert_eq!(fake.said(), said);

            let mut fake = Fake::new(&heard)
                .split(split)
                .fails_before_each(ErrorKind::TimedOut);
            let failures = evaluate_twice(&mut fake, mode);
            assert!(failures > 10, "{failures}");
            assert_eq!(fake.said(), said);
            assert!(!fake.owes());
        });
    }
}

#[test]
fn call_by_call_over_a_stream_that_fails() {
    let (heard, said) = conversation(Mode::Classic);
    at_every_split(|split| {
        let mut fake = Fake::new(&heard)
            .split(split)
            .fails_before_each(ErrorKind::TimedOut);
        let (cell, positions) = (golden().cell(), golden().positions);
        let mut server = server(Mode::Classic);
        let (mut forces, mut extras) = ([[0.0; 3]], [0; 8]);
        persist(|| blocking::run(&mut fake, server.status()));
        persist(|| blocking::run(&mut fake, server.initialize(-1, b"k : 1 , ")));
        for _ in 0..2 {
            persist(|| blocking::run(&mut fake, server.status()));
            persist(|| {
                let send = server.send_positions(Request::new(&cell, &positions));
                blocking::run(&mut fake, send)
            });
            persist(|| blocking::run(&mut fake, server.status()));
            persist(|| {
                let take = server.get_forces(&mut forces, &mut extras);
                blocking::run(&mut fake, take)
            });
        }
        persist(|| blocking::run(&mut fake, server.exit()));
        assert_eq!(fake.said(), said);
        assert!(!fake.owes());
    });
}

/// Everything is written and the flush fails. A new exchange flushes, and writes nothing twice.
#[test]
fn a_flush_that_fails_is_made_again_and_nothing_else() {
    let (cell, atoms) = (golden().cell(), golden().positions);
    let request = Request::new(&cell, &atoms);
    let failure = Err(Error::Transport(Failure(ErrorKind::TimedOut)));
    for mode in MODES {
        let mut fake = Fake::new(&[NEEDINIT, READY].concat());
        let mut server = server(mode);
        assert!(blocking::run(&mut fake, server.status()).is_ok());
        let failing = |fake: &mut Fake| {
            fake.calls.clear();
            fake.before_each = Some(ErrorKind::TimedOut);
            // The flush before the first step succeeds, then the write; the flush after it fails.
            fake.failed = [true; 3];
        };
        failing(&mut fake);
        let sent = blocking::run(&mut fake, server.initialize(0, b""));
        assert_eq!(sent, failure);
        assert_eq!(fake.calls, [Call::Wrote([&init(0, " "), STATUS].concat())]);
        fake.before_each = None;
        assert_eq!(blocking::run(&mut fake, server.initialize(0, b"")), Ok(()));
        assert_eq!(fake.calls.len(), 2);
        assert_eq!(fake.calls[1], Call::Flushed);

        assert!(blocking::run(&mut fake, server.status()).is_ok());
        failing(&mut fake);
        let sent = blocking::run(&mut fake, server.send_positions(request));
        assert_eq!(sent, failure);
        assert_eq!(fake.calls, [Call::Wrote(positions(mode, &golden()))]);
        fake.before_each = None;
        let sent = blocking::run(&mut fake, server.send_positions(request));
        assert_eq!(sent, Ok(()));
        assert_eq!(fake.calls.len(), 2);
        assert_eq!(fake.calls[1], Call::Flushed);

        failing(&mut fake);
        assert_eq!(blocking::run(&mut fake, server.exit()), failure);
        assert_eq!(fake.calls, [Call::Wrote(EXIT.to_vec())]);
        fake.before_each = None;
        assert_eq!(blocking::run(&mut fake, server.exit()), Ok(()));
        assert_eq!(fake.calls.len(), 2);
        assert_eq!(fake.calls[1], Call::Flushed);
    }
}

#[test]
fn what_stands_together_is_one_write_and_one_flush() {
    let one_each = |messages: &[&[u8]]| {
        let calls = messages
            .iter()
            .flat_map(|it| [Call::Wrote(it.to_vec()), Call::Flushed]);
        calls.collect::<Vec<_>>()
    };
    let init = [&init(-1, "k : 1 , "), STATUS].concat();
    for mode in MODES {
        let (heard, _) = conversation(mode);
        let mut fake = Fake::new(&heard);
        evaluate_twice(&mut fake, mode);
        let (posdata, get_force) = (positions(mode, &golden()), request(mode));
        let expected = match mode {
            Mode::Classic => one_each(&[
                STATUS, &init, &posdata, &get_force, &posdata, &get_force, EXIT,
            ]),
            Mode::Strict => one_each(&[
                STATUS, &init, &posdata, &get_force, STATUS, &posdata, &get_force, EXIT,
            ]),
            _ => one_each(&[STATUS, &init, &posdata, &posdata, EXIT]),
        };
        assert_eq!(fake.calls, expected, "{mode:?}");
    }
}

/// The number of writes for the positions of this many atoms, before the only flush.
fn writes<T: Scalar>(mut server: Server, natoms: usize, structures: usize) -> usize {
    let mut fake = Fake::new(&[NEEDINIT, READY].concat());
    blocking::run(&mut fake, server.status()).unwrap();
    blocking::run(&mut fake, server.initialize(0, b"")).unwrap();
    blocking::run(&mut fake, server.status()).unwrap();
    fake.calls.clear();
    let cells = vec![Cell::orthorhombic([20.0; 3]); structures];
    let positions = vec![[T::ONE; 3]; natoms * structures];
    let request = Request::batch(&cells, &positions);
    blocking::run(&mut fake, server.send_positions(request)).unwrap();
    assert_eq!(fake.calls.last(), Some(&Call::Flushed));
    fake.calls.len() - 1
}

/// Up to 24 atoms are one write, together with the fields after them.
#[test]
fn many_atoms_leave_straight_from_the_callers_array() {
    // Converted numbers are sent from the scratch: 608 bytes after the header, then 768 at a time.
    for (natoms, expected) in [(0, 1), (24, 1), (25, 2), (56, 2), (57, 3), (1000, 32)] {
        let (plain, folding) = (Server::new(), Server::new().fold_positions());
        assert_eq!(writes::<f32>(plain, natoms, 1), expected, "{natoms}");
        assert_eq!(writes::<f64>(folding, natoms, 1), expected, "{natoms}");
    }
    if cfg!(target_endian = "big") {
        return;
    }
    for (natoms, structures, expected) in [
        (0, 1, 1),
        (24, 1, 1),
        (25, 1, 2),
        (31, 1, 2),
        (32, 1, 3),
        (33, 1, 3),
        (1000, 1, 3),
        // The positions of a batch are contiguous.
        (1, 2, 1),
        (1, 4, 1),
        (1, 5, 2),
        (33, 2, 3),
        (33, 4, 3),
    ] {
        let server = server(Mode::Batched(structures));
        let writes = writes::<f64>(server, natoms, structures);
        assert_eq!(writes, expected, "{natoms}, {structures}");
    }
}

/// Any number of forces is read in one piece, unless their bytes have to be reversed.
#[test]
fn forces_come_straight_into_the_callers_array() {
    let structure = atoms(1000);
    let (cell, positions) = (structure.cell(), structure.positions);
    let mut server = at_ready(Server::new());
    let sent = pour(
        server.send_positions(Request::new(&cell, &positions)),
        &mut &b""[..],
    );
    assert_eq!(sent.0, Ok(()));
    let mut forces = [[0.0; 3]; 1000];
    let array = forces.as_ptr().addr();
    let reply = forceready(&answer(1000, 1.0, b""));
    pour_some(
        server.get_forces(&mut forces, &mut []),
        &mut &reply[..24],
        24,
    );
    let mut taking = server.get_forces(&mut forces, &mut []);
    let Ok(Step::Read(bytes)) = taking.step() else {
        panic!("forces are to be read");
    };
    let straight = (bytes.as_ptr().addr(), bytes.len()) == (array, 24_000);
    assert_eq!(straight, cfg!(target_endian = "little"));
}

/// A stream that collects pieces sends everything at once.
#[test]
fn a_gathering_stream_makes_one_write_of_it() {
    let structure = atoms(100);
    let cell = structure.cell();
    let mut server = at_ready(Server::new());
    let mut stream = Coalesced::<_, 2584>::new(Fake::new(b""));
    let request = Request::new(&cell, &structure.positions);
    blocking::run(&mut stream, server.send_positions(request)).unwrap();
    let message = positions(Mode::Consolidated, &structure);
    let calls = [Call::Wrote(message), Call::Flushed];
    assert_eq!(stream.into_inner().calls, calls);
}

#[test]
fn a_write_of_zero_bytes_is_an_error() {
    let mut fake = Fake::new(READY);
    fake.takes_nothing = true;
    let mut server = Server::new();
    let result = blocking::run(&mut fake, server.status());
    assert_eq!(result, Err(Error::WriteZero));
    // The STATUS is still to be sent.
    fake.takes_nothing = false;
    let result = blocking::run(&mut fake, server.status());
    assert_eq!(result, Ok(Status::UP | Status::READY));
    assert_eq!(fake.said(), STATUS);
}

/// A connection that the driver resets after EXIT has ended, too: the error is the stream's.
#[test]
fn errors_are_the_streams_own_and_the_drivers() {
    let mut fake = Fake::new(READY).fails_before_each(ErrorKind::ConnectionReset);
    let reset = Err(Error::Transport(Failure(ErrorKind::ConnectionReset)));
    assert_eq!(blocking::run(&mut fake, Server::new().status()), reset);

    let mut fake = Fake::new(&READY[..5]);
    let ended = ProtocolError::EndOfStream {
        within: None,
        after: 5,
    };
    let result = blocking::run(&mut fake, Server::new().status());
    assert_eq!(result, Err(Error::Protocol(ended)));
}

#[test]
fn a_batch_over_a_stream_that_fails() {
    let batch = [golden(), golden()];
    let answers = [
        answer(1, 1.0, b"{}"),
        answer(1, 2.0, b"1234567"),
        answer(1, 3.0, b"?"),
    ];
    let heard = [NEEDINIT, READY, &forceready_batch(&answers)].concat();
    let said = [
        STATUS,
        &init(0, "  batch_size:3"),
        STATUS,
        &posdata_batch(&[golden(), golden(), golden()]),
        GETFORCE,
        STATUS,
    ];
    let cells = batch.each_ref().map(Structure::cell);
    let positions = batch.each_ref().map(|it| it.positions[0]);
    at_every_split(|split| {
        let mut fake = Fake::new(&heard)
            .split(split)
            .fails_before_each(ErrorKind::TimedOut);
        let mut server = server(Mode::Batched(3));
        let (mut got, mut forces, mut extras) = ([Answer::default(); 2], [[0.0; 3]; 2], [0; 64]);
        let (first, _) = persist(|| {
            let request = Request::batch(&cells, &positions);
            let evaluate = server.evaluate_batch(request, &mut got, &mut forces, &mut extras);
            blocking::run(&mut fake, evaluate)
        });
        assert_eq!(first, got[0]);
        for ((got, forces), expected) in got.iter().zip(&forces).zip(&answers) {
            assert_eq!(got.evaluation.energy, expected.evaluation.energy);
            assert_eq!(got.extras(&extras), expected.extras);
            assert_eq!(forces[..], expected.forces[0]);
        }
        assert_eq!(fake.said(), said.concat());
    });
}

/// A connection that receives READY, and whose flush fails while it keeps positions.
struct Full {
    heard: &'static [u8],
    said: Vec<u8>,
}

impl embedded_io::ErrorType for Full {
    type Error = ErrorKind;
}

impl embedded_io::Read for Full {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        embedded_io::Read::read(&mut self.heard, buffer).map_err(|error| match error {})
    }
}

impl embedded_io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.said.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        if self.said.windows(HEADER).any(|word| word == POSDATA) {
            return Err(ErrorKind::TimedOut);
        }
        Ok(())
    }
}

/// If the call returned a time-out instead, the caller would take the answer to A for that to B.
#[test]
fn another_request_is_refused_before_the_flush_of_the_first() {
    let mut socket = Full {
        heard: READY,
        said: vec![],
    };
    let cell = golden().cell();
    let (a, b) = ([[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]);
    let mut forces = [[0.0; 3]];
    let mut server = Server::new();
    let mut evaluate = |positions| {
        let request = Request::new(&cell, positions);
        blocking::run(&mut socket, server.evaluate(request, &mut forces, &mut []))
    };
    let stuck = Err(Error::Transport(ErrorKind::TimedOut));
    assert_eq!(evaluate(&a), stuck);
    assert_eq!(evaluate(&b), Err(ProtocolError::AnswerDue.into()));
    assert_eq!(evaluate(&a), stuck);

    // Whatever else the next step would refuse.
    let busy = blocking::run(&mut socket, server.initialize(0, b" "));
    assert!(
        matches!(
            busy,
            Err(Error::Protocol(ProtocolError::InvalidStatus { .. }))
        ),
        "{busy:?}"
    );
    let short = Error::Protocol(ProtocolError::WrongLength {
        quantity: Quantity::Forces,
        given: 0,
        expected: 1,
    });
    let none: &mut [[f64; 3]] = &mut [];
    let got = blocking::run(&mut socket, server.get_forces(none, &mut []));
    assert_eq!(got, Err(short));
    let request = Request::new(&cell, &a);
    let got = blocking::run(&mut socket, server.evaluate(request, &mut [], &mut []));
    assert_eq!(got, Err(short));
}
