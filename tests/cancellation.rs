//! Asynchronous exchanges that are dropped at every await and recreated.

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use forcewire::{
    Driver, Error, Evaluation, Event, Initialize, Potential, PotentialError, ProtocolError, asynch,
};
use forcewire_support::slow::{Slow, polled};
use forcewire_support::*;

/// Runs a conversation to its end, dropping each future after this many polls. Returns its events.
fn drive(slow: &mut Slow, structures: usize, patience: usize) -> Vec<Event> {
    let mut driver = Driver::new().initialize(Initialize::Once);
    let mut positions = vec![[0.0; 3]; 40];
    let mut cells = [UNTOUCHED_CELL; 2];
    let answers = answers(structures);
    let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
    let forces: Vec<_> = answers.iter().flat_map(|it| it.forces.clone()).collect();
    let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
    let mut events = Vec::new();
    for _ in 0..20_000 {
        let receive = driver.receive_batch(&mut cells, &mut positions);
        let Some(event) = polled(asynch::run(slow, receive), patience) else {
            continue;
        };
        let event = event.unwrap();
        events.push(event);
        match event {
            Event::Positions { .. } => loop {
                let reply = driver.reply_batch(&evaluations, &forces, &extras);
                if let Some(result) = polled(asynch::run(slow, reply), patience) {
                    result.unwrap();
                    break;
                }
            },
            Event::Exit | Event::Closed => return events,
            _ => {}
        }
    }
    panic!("no end after {events:?}");
}

fn answers(structures: usize) -> Vec<Answer> {
    let answer = |i| answer(20, i as f64, b"{\"dipole\":[1.0,2.0,3.0]}");
    (0..structures).map(answer).collect()
}

#[test]
fn a_future_may_be_dropped_at_every_await() {
    let batch = [atoms(20), atoms(20)];
    let classic = [
        STATUS,
        &init(-3, "k : 1 , "),
        STATUS,
        &posdata(&batch[0]),
        STATUS,
        GETFORCE,
        &posdata(&batch[0]),
        GETFORCE,
        STATUS,
        EXIT,
    ];
    let batched = [
        STATUS,
        &init(-3, "  batch_size:2"),
        STATUS,
        &posdata_batch(&batch),
        GETFORCE,
        &posdata_batch(&batch),
        GETFORCE,
        STATUS,
    ];
    let said = |structures, asked: &[u8]| {
        let reply = forceready_batch(&answers(structures));
        [NEEDINIT, READY, asked, &reply, &reply, READY].concat()
    };
    let conversations = [
        (1, classic.concat(), said(1, HAVEDATA), Event::Exit),
        (2, batched.concat(), said(2, b""), Event::Closed),
    ];
    for (structures, heard, said, last) in conversations {
        at_every_split(|split| {
            // First every future is dropped, then every other one, and so on; in the end none.
            let mut patience = 1;
            while patience < 4000 {
                let mut slow = Slow::new(&heard, split);
                let events = drive(&mut slow, structures, patience);
                let positions = Event::Positions {
                    natoms: 20,
                    structures,
                    cell: batch[0].cell(),
                };
                let expected = [Event::Init { replica: -3 }, positions, positions, last];
                assert_eq!(events, expected, "{split:?}, {patience} polls");
                assert_eq!(slow.outbox, said, "{split:?}, {patience} polls");
                assert_eq!(slow.kept, 0, "{split:?}, {patience} polls");
                patience += if patience < 40 { 1 } else { patience / 3 };
            }
        });
    }
}

/// One future is dropped, after every possible number of polls.
#[test]
fn the_positions_that_were_half_there_are_gone_on_with() {
    let structure = atoms(40);
    let message = posdata(&structure);
    for polls in 0..2 * message.len() + 10 {
        let mut slow = Slow::new(&message, Split::Bytes);
        let mut driver = Driver::new();
        let mut positions = [[0.0; 3]; 40];
        let first = polled(
            asynch::run(&mut slow, driver.receive(&mut positions)),
            polls,
        );
        let second = polled(
            asynch::run(&mut slow, driver.receive(&mut positions)),
            usize::MAX,
        );
        match first {
            None => assert_eq!(second, Some(Ok(structure.event()))),
            // An event that was returned is not returned again.
            Some(event) => {
                assert_eq!(event, Ok(structure.event()));
                assert_eq!(second, Some(Err(ProtocolError::ReplyDue.into())));
            }
        }
        assert_eq!(positions, *structure.positions);
    }
}

/// INIT between POSDATA and GETFORCE is reported after the reply was sent.
#[test]
fn init_is_not_lost_with_a_future_that_is_dropped() {
    let messages = [
        &init(0, " "),
        &*posdata(&atoms(20)),
        &init(7, " "),
        GETFORCE,
        EXIT,
    ];
    for patience in 1..20 {
        let mut slow = Slow::new(&messages.concat(), Split::Whole);
        let events = drive(&mut slow, 1, patience);
        let init = |replica| Event::Init { replica };
        let expected = [init(0), atoms(20).event(), init(7), Event::Exit];
        assert_eq!(events, expected, "{patience} polls");
        assert_eq!(slow.outbox, forceready_batch(&answers(1)));
    }
}

/// A stream that fails before every successful call.
struct Interrupted(Slow, [bool; 3], ErrorKind);

impl Interrupted {
    fn fail(&mut self, to: usize) -> Result<(), ErrorKind> {
        self.1[to] = !self.1[to];
        if self.1[to] { Err(self.2) } else { Ok(()) }
    }
}

impl ErrorType for Interrupted {
    type Error = ErrorKind;
}

impl Read for Interrupted {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.fail(0)?;
        Ok(self.0.read(buffer).await.unwrap_or_default())
    }
}

impl Write for Interrupted {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.fail(1)?;
        Ok(self.0.write(bytes).await.unwrap_or_default())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.fail(2)?;
        self.0.flush().await.map_err(|never| match never {})
    }
}

/// A potential that returns the same numbers, for a limited number of calls.
struct Golden(usize);

impl Potential for Golden {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &forcewire::Cell,
        _: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        self.0 = self.0.checked_sub(1).expect("this goes on for ever");
        forces.copy_from_slice(&golden_answer().forces);
        Ok(golden_answer().evaluation)
    }
}

async fn serve(stream: &mut (impl Read + Write)) -> Result<(), Error<ErrorKind>> {
    asynch::serve::<1>(stream, &mut Golden(100)).await
}

#[test]
fn serve_is_a_whole_driver_and_an_interruption_is_retried() {
    let answer = Answer {
        extras: Vec::new(),
        ..golden_answer()
    };
    let steps = [STATUS, &posdata(&golden()), STATUS, GETFORCE].concat();
    let heard = [&init(0, " "), &*steps.repeat(3), EXIT].concat();
    at_every_split(|split| {
        let slow = Slow::new(&heard, split);
        let mut stream = Interrupted(slow, [false; 3], ErrorKind::Interrupted);
        let served = serve(&mut stream);
        assert_eq!(polled(served, usize::MAX), Some(Ok(())));
        let said = [READY, HAVEDATA, &forceready(&answer)].concat().repeat(3);
        assert_eq!(stream.0.outbox, said);
        assert_eq!(stream.0.kept, 0);
    });
}

#[test]
fn what_is_no_interruption_is_an_error() {
    let slow = Slow::new(STATUS, Split::Whole);
    let mut stream = Interrupted(slow, [false; 3], ErrorKind::ConnectionReset);
    let served = serve(&mut stream);
    let reset = Error::Transport(ErrorKind::ConnectionReset);
    assert_eq!(polled(served, usize::MAX), Some(Err(reset)));

    let mut slow = Slow::new(&STATUS[..3], Split::Whole);
    let served = serve(&mut slow);
    let ended = Error::Protocol(ProtocolError::EndOfStream {
        within: None,
        after: 3,
    });
    assert_eq!(polled(served, usize::MAX), Some(Err(ended)));
}
