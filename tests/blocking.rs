//! The blocking shim over a stream that counts its calls, moves any number of bytes and fails on
//! demand.

use embedded_io::ErrorKind;
use forcewire::{
    Driver, Error, Evaluation, Event, Initialize, Potential, PotentialError, ProtocolError,
    Quantity, Storage, Virial, blocking, serve,
};
use forcewire_support::fake::{Call, Failure, Fake};
use forcewire_support::*;

/// A complete classic conversation, and its number of messages.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let heard = [
        STATUS,
        &init(0, " "),
        &[STATUS, &posdata(&golden()), STATUS, GETFORCE]
            .concat()
            .repeat(2),
        EXIT,
    ];
    let said = [
        NEEDINIT,
        &[READY, HAVEDATA, &hex(GOLDEN_FORCEREADY)]
            .concat()
            .repeat(2),
    ];
    (heard.concat(), said.concat())
}

/// Runs the conversation to its end; a failed exchange is recreated.
fn drive(fake: &mut Fake) -> (usize, usize) {
    let mut driver = Driver::new().initialize(Initialize::Once);
    let mut positions = [[0.0; 3]];
    let answer = golden_answer();
    let (mut inits, mut failures) = (0, 0);
    for _ in 0..10_000 {
        match blocking::run(fake, driver.receive(&mut positions)) {
            Ok(Event::Init { .. }) => inits += 1,
            Ok(Event::Positions { .. }) => loop {
                let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
                match blocking::run(fake, reply) {
                    Ok(()) => break,
                    Err(Error::Transport(_)) => failures += 1,
                    Err(error) => panic!("{error}"),
                }
            },
            Ok(Event::Exit) => return (inits, failures),
            Ok(event) => panic!("{event:?}"),
            Err(Error::Transport(_)) => failures += 1,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the conversation goes on for ever");
}

#[test]
fn a_conversation_over_a_stream_that_moves_a_little_at_a_time() {
    let (heard, said) = conversation();
    at_every_split(|split| {
        let mut fake = Fake::new(&heard).split(split);
        assert_eq!(drive(&mut fake), (1, 0));
        assert_eq!(fake.said(), said);
        assert!(!fake.owes());
    });
}

#[test]
fn an_interruption_is_retried() {
    let (heard, said) = conversation();
    at_every_split(|split| {
        let mut fake = Fake::new(&heard)
            .split(split)
            .fails_before_each(ErrorKind::Interrupted);
        assert_eq!(drive(&mut fake), (1, 0));
        assert_eq!(fake.said(), said);
        assert!(!fake.owes());
    });
}

#[test]
fn an_exchange_that_failed_goes_on_where_it_stopped() {
    let (heard, said) = conversation();
    at_every_split(|split| {
        let mut fake = Fake::new(&heard)
            .split(split)
            .fails_before_each(ErrorKind::TimedOut);
        let (inits, failures) = drive(&mut fake);
        assert_eq!(inits, 1);
        assert!(failures > 20, "{failures}");
        assert_eq!(fake.said(), said);
        assert!(!fake.owes());
    });
}

/// INIT between POSDATA and GETFORCE is reported after the reply was sent.
#[test]
fn init_is_not_lost_to_a_flush_that_failed() {
    let messages = [
        &init(0, " "),
        &*posdata(&golden()),
        &init(7, " "),
        GETFORCE,
        EXIT,
    ];
    let mut fake = Fake::new(&messages.concat()).fails_before_each(ErrorKind::TimedOut);
    assert_eq!(drive(&mut fake).0, 2);
    assert_eq!(fake.said(), hex(GOLDEN_FORCEREADY));
}

#[test]
fn a_write_of_zero_bytes_is_an_error() {
    let mut fake = Fake::new(STATUS);
    fake.takes_nothing = true;
    let mut driver = Driver::new();
    let result = blocking::run(&mut fake, driver.receive(&mut [[0.0; 3]; 1]));
    assert_eq!(result, Err(Error::WriteZero));
    let text = Error::<Failure>::WriteZero.to_string();
    assert!(text.contains("connect again"), "{text}");
    // The answer is still owed.
    fake.takes_nothing = false;
    let result = blocking::run(&mut fake, driver.receive(&mut [[0.0; 3]; 1]));
    assert_eq!(result, Ok(Event::Closed));
    assert_eq!(fake.said(), READY);
}

#[test]
fn an_error_is_the_streams_own() {
    let mut fake = Fake::new(STATUS).fails_before_each(ErrorKind::ConnectionReset);
    let mut driver = Driver::new();
    let result = blocking::run(&mut fake, driver.receive(&mut [[0.0; 3]; 1]));
    let reset = Failure(ErrorKind::ConnectionReset);
    assert_eq!(result, Err(Error::Transport(reset)));

    fake.failed = [false; 3];
    let result = serve::<1>(&mut fake, &mut fixed(golden_answer()));
    assert_eq!(result, Err(Error::Transport(ErrorKind::ConnectionReset)));
}

#[test]
fn a_stream_that_ends_inside_a_message_is_an_error() {
    let mut fake = Fake::new(&posdata(&golden())[..170]);
    let mut driver = Driver::new();
    let result = blocking::run(&mut fake, driver.receive(&mut [[0.0; 3]; 1]));
    assert_eq!(
        result,
        Err(Error::Protocol(ProtocolError::EndOfStream {
            within: Some(forcewire::Header::PosData),
            after: 170
        }))
    );
}

#[test]
fn each_answer_is_one_write_and_one_flush() {
    let (heard, _) = conversation();
    let mut fake = Fake::new(&heard);
    drive(&mut fake);
    let one = |bytes: &[u8]| [Call::Wrote(bytes.to_vec()), Call::Flushed];
    let reply = hex(GOLDEN_FORCEREADY);
    let answers = [NEEDINIT, READY, HAVEDATA, &reply, READY, HAVEDATA, &reply];
    let expected = answers.map(one);
    assert_eq!(fake.calls, expected.concat());
}

/// i-PI drops a driver that stalls inside a reply, so no call may come between its pieces.
#[test]
fn a_reply_is_one_write_up_to_27_atoms_and_always_one_flush() {
    for (natoms, extras, writes) in [
        (0, 0, 1),
        (1, 2, 1),
        (27, 0, 1),
        (27, 20, 1),
        // An array that does not fit into the scratch with the rest is sent after it, or alone.
        (27, 21, 2),
        (28, 0, 2),
        (31, 1000, 3),
        (32, 0, 3),
        (1000, 0, 3),
        (1000, 688, 3),
        (1000, 692, 3),
        (1000, 693, 4),
        (1000, 5000, 4),
    ] {
        // Arrays whose bytes have to be reversed are sent in pieces.
        if cfg!(target_endian = "big") && natoms > 27 {
            continue;
        }
        let (structure, answer) = (atoms(natoms), answer(natoms, 1.0, &vec![b'x'; extras]));
        let mut fake = Fake::new(&[&posdata(&structure), GETFORCE].concat());
        let mut driver = Driver::new();
        let mut positions = vec![[0.0; 3]; natoms];
        blocking::run(&mut fake, driver.receive(&mut positions)).unwrap();
        assert_eq!(fake.calls, []);
        let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
        blocking::run(&mut fake, reply).unwrap();
        assert_eq!(fake.said(), forceready(&answer));
        assert_eq!(
            fake.calls.len(),
            writes + 1,
            "{natoms} atoms, {extras} bytes"
        );
        assert_eq!(fake.calls.last(), Some(&Call::Flushed));
    }
}

// ---- serve ----

/// A potential that always returns the same numbers.
struct Fixed {
    answer: Answer,
    evaluations: usize,
}

fn fixed(answer: Answer) -> Fixed {
    Fixed {
        answer,
        evaluations: 0,
    }
}

impl Potential for Fixed {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &forcewire::Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        assert_eq!(positions.len(), forces.len());
        self.evaluations += 1;
        assert!(self.evaluations < 100, "this goes on for ever");
        if positions.len() != self.answer.forces.len() {
            return Err(PotentialError::LengthMismatch);
        }
        forces.copy_from_slice(&self.answer.forces);
        Ok(self.answer.evaluation)
    }
}

#[test]
fn serve_is_a_whole_driver() {
    let answer = answer(3, 1.0, b"");
    let steps = [STATUS, &posdata(&water()), STATUS, GETFORCE]
        .concat()
        .repeat(3);
    let said = [READY, HAVEDATA, &forceready(&answer)].concat().repeat(3);
    at_every_split(|split| {
        for last in [EXIT, b""] {
            let mut fake = Fake::new(&[&init(0, " "), &*steps, last].concat()).split(split);
            let result = serve::<3>(&mut fake, &mut fixed(answer.clone()));
            assert_eq!(result, Ok(()));
            assert_eq!(fake.said(), said);
        }
    });
}

#[test]
fn serve_says_what_went_wrong() {
    let mut fake = Fake::new(&posdata(&water()));
    let result = serve::<2>(&mut fake, &mut fixed(answer(3, 1.0, b"")));
    assert_eq!(
        result,
        Err(Error::Protocol(ProtocolError::TooManyAtoms {
            announced: 3,
            capacity: 2
        }))
    );

    let mut fake = Fake::new(&[&posdata(&water()), GETFORCE].concat());
    let result = serve::<3>(&mut fake, &mut fixed(answer(2, 1.0, b"")));
    assert_eq!(
        result,
        Err(Error::Potential(PotentialError::LengthMismatch))
    );
    assert_eq!(fake.calls, []);

    let mut broken = golden_answer();
    broken.evaluation.virial = Virial([[f64::NAN; 3]; 3]);
    let mut fake = Fake::new(&[&posdata(&golden()), GETFORCE].concat());
    let result = serve::<1>(&mut fake, &mut fixed(broken));
    let error = ProtocolError::NotFinite(forcewire::Quantity::Virial);
    assert_eq!(result, Err(Error::Protocol(error)));
    assert_eq!(fake.calls, []);
}

/// The loop that a firmware author writes for batches.
#[test]
fn a_loop_with_storage_serves_batches() {
    let answers = [golden_answer(), golden_answer()].map(|it| Answer {
        extras: Vec::new(),
        ..it
    });
    let heard = [
        STATUS,
        &init(0, "  batch_size:2"),
        STATUS,
        &posdata_batch(&[golden(), golden()]),
        GETFORCE,
        STATUS,
        EXIT,
    ];
    at_every_split(|split| {
        let mut fake = Fake::new(&heard.concat()).split(split);
        let mut driver = Driver::new().initialize(Initialize::Once);
        let mut storage = Storage::<f64, 2, 2>::new();
        let mut potential = fixed(golden_answer());
        loop {
            match blocking::run(&mut fake, storage.receive(&mut driver)).unwrap() {
                Event::Positions {
                    natoms, structures, ..
                } => {
                    storage
                        .evaluate(natoms, structures, &mut potential)
                        .unwrap();
                    blocking::run(&mut fake, storage.reply(&mut driver)).unwrap();
                }
                Event::Init { .. } => {}
                _ => break,
            }
        }
        let said = [NEEDINIT, READY, &forceready_batch(&answers), READY];
        assert_eq!(fake.said(), said.concat());
    });
}

/// A connection that accepts everything. Its peer reads nothing, so flushes fail after the first
/// write.
struct Stuck<'a> {
    heard: &'a [u8],
    written: bool,
}

impl embedded_io::ErrorType for Stuck<'_> {
    type Error = ErrorKind;
}

impl embedded_io::Read for Stuck<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        embedded_io::Read::read(&mut self.heard, buffer).map_err(|error| match error {})
    }
}

impl embedded_io::Write for Stuck<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.written = true;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        if self.written {
            return Err(ErrorKind::TimedOut);
        }
        Ok(())
    }
}

/// If the call returned a time-out instead, the caller would make the same mistake again and again.
#[test]
fn a_call_out_of_turn_is_refused_before_the_flush_of_what_was_in_turn() {
    let messages = [&*posdata(&golden()), STATUS, GETFORCE].concat();
    let mut socket = Stuck {
        heard: &messages,
        written: false,
    };
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]];
    let answer = golden_answer();
    let reply = |driver: &mut Driver, socket: &mut Stuck<'_>, energy| {
        let evaluation = Evaluation {
            energy,
            ..answer.evaluation
        };
        let reply = driver.reply(&evaluation, &answer.forces, &answer.extras);
        blocking::run(socket, reply)
    };
    let stuck = Error::Transport(ErrorKind::TimedOut);
    let due = Error::Protocol(ProtocolError::ReplyDue);
    let not_finite = Error::Protocol(ProtocolError::NotFinite(Quantity::Energy));
    let nothing = Error::Protocol(ProtocolError::NothingToReplyTo);

    let came = blocking::run(&mut socket, driver.receive(&mut positions));
    assert!(matches!(came, Ok(Event::Positions { .. })), "{came:?}");
    let early = blocking::run(&mut socket, driver.await_getforce());
    assert_eq!(early, Err(stuck), "HAVEDATA is on its way");
    let again = blocking::run(&mut socket, driver.receive(&mut positions));
    assert_eq!(again, Err(due));
    assert_eq!(reply(&mut driver, &mut socket, f64::NAN), Err(not_finite));
    assert_eq!(reply(&mut driver, &mut socket, 1.0), Err(stuck));

    // GETFORCE arrives, and the reply is written; the next flush gets stuck as well.
    socket.written = false;
    assert_eq!(reply(&mut driver, &mut socket, 1.0), Err(stuck));
    assert_eq!(reply(&mut driver, &mut socket, 2.0), Err(nothing));
    let late = blocking::run(&mut socket, driver.await_getforce());
    assert_eq!(late, Err(nothing));
    assert_eq!(reply(&mut driver, &mut socket, 1.0), Err(stuck));
}
