//! The server's exchanges as futures, dropped at every await and recreated.

use forcewire::{Answer, Cell, Mode, Request, Server, Status, asynch};

use super::{MODES, positions, request};
use forcewire_support::slow::{Slow, polled};
use forcewire_support::*;

const SPLITS: [Split; 3] = [Split::Whole, Split::Bytes, Split::Random(1)];

/// How many polls before a future is dropped: one, two and so on, and in the end no limit.
fn patience() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(if *n < 12 { n + 1 } else { 2 * n }))
        .take_while(|n| *n < 5000)
}

/// Recreates the future until one completes.
fn persist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    (0..20_000)
        .find_map(|_| attempt())
        .expect("this goes on for ever")
}

/// The messages of a driver and its server in two evaluations with INIT.
fn conversation(mode: Mode, structures: &[Structure], answers: &[Answers]) -> (Vec<u8>, Vec<u8>) {
    let (text, sent) = match (mode, structures) {
        (Mode::Batched(_), _) => (
            "  batch_size:2",
            [&posdata_batch(structures), GETFORCE, STATUS].concat(),
        ),
        (_, [structure]) => (" ", positions(mode, structure)),
        _ => panic!("a batch"),
    };
    let (have_data, get_force) = match mode {
        Mode::Classic | Mode::Strict => (HAVEDATA, request(mode)),
        _ => (&b""[..], vec![]),
    };
    let asked = if mode == Mode::Strict { STATUS } else { b"" };
    let heard = [READY, have_data, &forceready_batch(answers)].concat();
    (
        [NEEDINIT, &heard, &heard].concat(),
        [
            STATUS,
            &init(-3, text),
            STATUS,
            &sent,
            &get_force,
            asked,
            &sent,
            &get_force,
            EXIT,
        ]
        .concat(),
    )
}

type Answers = forcewire_support::Answer;

/// The result of an evaluation.
#[derive(Default)]
struct Got {
    answers: Vec<Answer>,
    forces: Vec<[f64; 3]>,
    extras: Vec<u8>,
}

impl Got {
    fn check(&self, answers: &[Answers]) {
        assert_eq!(self.answers.len(), answers.len());
        for (got, expected) in self.answers.iter().zip(answers) {
            assert_eq!(got.evaluation, expected.evaluation);
            assert_eq!(got.extras(&self.extras), expected.extras);
        }
        let forces: Vec<_> = answers.iter().flat_map(|it| it.forces.clone()).collect();
        assert_eq!(self.forces, forces);
    }
}

#[test]
fn a_future_may_be_dropped_at_every_await() {
    for mode in MODES.into_iter().chain([Mode::Batched(2)]) {
        let count = if mode == Mode::Batched(2) { 2 } else { 1 };
        let structures = vec![atoms(20); count];
        let cells: Vec<Cell> = structures.iter().map(Structure::cell).collect();
        let positions: Vec<_> = structures
            .iter()
            .flat_map(|it| it.positions.clone())
            .collect();
        let answers: Vec<_> = (0..count)
            .map(|i| answer(20, i as f64, b"{\"dipole\":[1.0,2.0,3.0]}"))
            .collect();
        let (heard, said) = conversation(mode, &structures, &answers);
        for (split, patience) in SPLITS
            .into_iter()
            .flat_map(|it| patience().map(move |n| (it, n)))
        {
            let mut slow = Slow::new(&heard, split);
            let mut server = Server::new().mode(mode);
            for _ in 0..2 {
                let mut got = Got {
                    answers: vec![Answer::default(); count],
                    forces: vec![[0.0; 3]; 20 * count],
                    extras: vec![0; 64],
                };
                let request = Request::batch(&cells, &positions).replica(-3);
                persist(|| {
                    let (answers, forces) = (&mut got.answers, &mut got.forces);
                    let evaluate = server.evaluate_batch(request, answers, forces, &mut got.extras);
                    polled(asynch::run(&mut slow, evaluate), patience)
                })
                .unwrap();
                got.check(&answers);
            }
            persist(|| polled(asynch::run(&mut slow, server.exit()), patience)).unwrap();
            assert!(slow.outbox == said, "{mode:?}, {split:?}, {patience} polls");
            assert_eq!(slow.kept, 0, "{mode:?}, {split:?}, {patience} polls");
        }
    }
}

/// Every call of a classic conversation, with dropped futures.
#[test]
fn each_calls_future_may_be_dropped() {
    let (structure, expected) = (atoms(20), [answer(20, 1.0, b"{}")]);
    let cell = structure.cell();
    let (heard, said) = conversation(Mode::Classic, std::slice::from_ref(&structure), &expected);
    for (split, patience) in SPLITS
        .into_iter()
        .flat_map(|it| patience().map(move |n| (it, n)))
    {
        let mut slow = Slow::new(&heard, split);
        let mut server = Server::new().mode(Mode::Classic);
        let status = |slow: &mut Slow, server: &mut Server, expected| {
            let status = persist(|| polled(asynch::run(slow, server.status()), patience));
            assert_eq!(status, Ok(Status::UP | expected));
        };
        status(&mut slow, &mut server, Status::NEEDS_INIT);
        persist(|| polled(asynch::run(&mut slow, server.initialize(-3, b"")), patience)).unwrap();
        for _ in 0..2 {
            status(&mut slow, &mut server, Status::READY);
            persist(|| {
                let request = Request::new(&cell, &structure.positions);
                polled(
                    asynch::run(&mut slow, server.send_positions(request)),
                    patience,
                )
            })
            .unwrap();
            status(&mut slow, &mut server, Status::HAS_DATA);
            let (mut forces, mut extras) = (vec![[0.0; 3]; 20], vec![0; 2]);
            let answer = persist(|| {
                let take = server.get_forces(&mut forces, &mut extras);
                polled(asynch::run(&mut slow, take), patience)
            });
            let got = Got {
                answers: vec![answer.unwrap()],
                forces,
                extras,
            };
            got.check(&expected);
        }
        persist(|| polled(asynch::run(&mut slow, server.exit()), patience)).unwrap();
        assert!(slow.outbox == said, "{split:?}, {patience} polls");
        assert_eq!(slow.kept, 0, "{split:?}, {patience} polls");
    }
}

/// One future is dropped, after every possible number of polls.
#[test]
fn the_answer_that_was_half_there_is_gone_on_with() {
    let (structure, expected) = (atoms(33), answer(33, 1.0, b"{}"));
    let cell = structure.cell();
    let heard = [READY, &forceready(&expected)].concat();
    let polls = 2 * (12 + positions(Mode::Consolidated, &structure).len() + heard.len()) + 10;
    for polls in (0..polls).step_by(3) {
        let mut slow = Slow::new(&heard, Split::Bytes);
        let mut server = Server::new();
        let (mut forces, mut extras) = (vec![[0.0; 3]; 33], vec![0; 2]);
        let request = Request::new(&cell, &structure.positions);
        let mut run = |polls| {
            let evaluate = server.evaluate(request, &mut forces, &mut extras);
            polled(asynch::run(&mut slow, evaluate), polls)
        };
        let answer = run(polls).or_else(|| run(usize::MAX)).unwrap();
        let got = Got {
            answers: vec![answer.unwrap()],
            forces,
            extras,
        };
        got.check(std::slice::from_ref(&expected));
    }
}
