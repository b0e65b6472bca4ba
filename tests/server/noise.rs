//! Random conversations, in any legal order and in no order.

use forcewire::{Answer, Mode, Request, Server};

use super::{has_data, needs_init, ready};
use forcewire_support::server::{Script, script};
use forcewire_support::*;

const MODES: [Mode; 4] = [
    Mode::Classic,
    Mode::Consolidated,
    Mode::Strict,
    Mode::Batched(3),
];

/// An evaluation some of whose steps are made by separate calls; `evaluate` makes the others.
struct Evaluation<'s> {
    script: Script<'s, f64>,
    structures: Vec<Structure>,
    /// The number of steps before `evaluate` is called, and whether it has been called.
    single: usize,
    whole: bool,
}

impl<'s> Evaluation<'s> {
    /// A step: the separate call for it, what happens, and the result of that call.
    fn step(
        mut self,
        call: impl FnOnce(Script<'s, f64>) -> Script<'s, f64>,
        conversation: impl FnOnce(Script<'s, f64>) -> Script<'s, f64>,
        end: impl FnOnce(Script<'s, f64>) -> Script<'s, f64>,
    ) -> Self {
        if self.single > 0 {
            self.single -= 1;
            self.script = end(conversation(call(self.script)));
            return self;
        }
        if !self.whole {
            self.script = self.script.evaluates_batch(&self.structures);
            self.whole = true;
        }
        self.script = conversation(self.script);
        self
    }
}

#[test]
fn conversations_in_any_legal_order() {
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let mode = MODES[dice.below(4)];
        let in_one_go = matches!(mode, Mode::Consolidated | Mode::Batched(_));
        let text = match mode {
            Mode::Batched(_) => "  batch_size:3",
            _ => " ",
        };
        let mut server = Server::new().mode(mode).allow_changing_atoms();
        let mut script = script(&mut server, Split::Anew(seed));
        // The number of unanswered STATUS, and of structures in a batch.
        let (mut open, mut size) = (false, 1);
        for _ in 0..6 {
            let asks_for_init = dice.below(3) == 0;
            if asks_for_init && mode == Mode::Batched(3) {
                size = 3;
            }
            let (natoms, count) = (dice.below(40), 1 + dice.below(size));
            let structures = vec![atoms(natoms); count];
            let message = match size {
                1 => posdata(&structures[0]),
                size => posdata_batch(&vec![atoms(natoms); size]),
            };
            let answers: Vec<_> = (0..size)
                .map(|i| answer(natoms, i as f64, &b"############"[..dice.below(13)]))
                .collect();

            let mut evaluation = Evaluation {
                script,
                structures: structures.clone(),
                single: dice.below(6),
                whole: false,
            };
            let question = if open { b"" } else { STATUS };
            evaluation = if asks_for_init {
                evaluation
                    .step(
                        |it| it.asks(),
                        |it| it.says(question).hears(NEEDINIT),
                        |it| it.learns(needs_init()),
                    )
                    .step(
                        |it| it.initializes(),
                        |it| it.says([&init(0, text), STATUS].concat()),
                        |it| it.ends(),
                    )
                    .step(
                        |it| it.asks(),
                        |it| it.hears(READY),
                        |it| it.learns(ready()),
                    )
            } else {
                evaluation.step(
                    |it| it.asks(),
                    |it| it.says(question).hears(READY),
                    |it| it.learns(ready()),
                )
            };
            let behind = match in_one_go {
                true => [GETFORCE, STATUS].concat(),
                false => STATUS.to_vec(),
            };
            evaluation = evaluation.step(
                |it| it.sends_batch(&structures),
                |it| it.says([message, behind].concat()),
                |it| it.ends(),
            );
            if !evaluation.whole {
                // The forces for separately sent positions are received separately.
                evaluation.single = usize::MAX;
            }
            if !in_one_go {
                evaluation = evaluation.step(
                    |it| it.asks(),
                    |it| it.hears(HAVEDATA),
                    |it| it.learns(has_data()),
                );
            }
            let request = match mode {
                Mode::Classic => [GETFORCE, STATUS].concat(),
                Mode::Strict => GETFORCE.to_vec(),
                _ => vec![],
            };
            let taken = evaluation.step(
                |it| it.takes(),
                |it| it.says(request).hears(forceready_batch(&answers)),
                |it| it,
            );
            script = taken.script.gets_batch(&answers[..count]);
            open = mode != Mode::Strict;
        }
        script.exits().says(EXIT).hears_the_end().ends();
    }
}

/// For any bytes, an exchange ends with its result or with an error, and never with a panic.
#[test]
fn noise_is_refused() {
    let words: [&[u8]; 9] = [
        READY,
        NEEDINIT,
        HAVEDATA,
        FORCEREADY,
        STATUS,
        &[0; 4],
        &[1, 0, 0, 0],
        &[0; 24],
        &[0xff; 5],
    ];
    let (cells, positions) = ([golden().cell(); 2], [[1.0_f32, -30.0, 500.0]; 2]);
    for seed in 0..3000 {
        let mut dice = Dice::new(seed);
        let mut noise = Vec::new();
        for _ in 0..dice.below(40) {
            match dice.below(12) {
                9 => noise.extend(hex(GOLDEN_FORCEREADY)),
                10 => noise.extend(forceready_batch(&vec![golden_answer(); 3])),
                11 => noise.extend(dice.roll().to_le_bytes()),
                word => noise.extend(words[word]),
            }
        }
        let mode = MODES[dice.below(4)];
        let mut server = Server::new().mode(mode);
        if seed % 2 == 0 {
            server = server
                .allow_changing_atoms()
                .allow_not_finite()
                .fold_positions();
        }
        let mut inbox = noise.as_slice();
        for _ in 0..30 {
            let count = server.capacity().min(1 + dice.below(2));
            let request = Request::batch(&cells[..count], &positions[..count]);
            let mut answers = [Answer::default(); 2];
            let (mut forces, mut extras) = ([[0.0; 3]; 2], [0; 3]);
            let (answers, forces) = (&mut answers[..count], &mut forces[..count]);
            let _ = match dice.below(9) {
                0 => pour(server.status(), &mut inbox).0.map(drop),
                1 => pour(server.initialize(3, b"k"), &mut inbox).0,
                2 => pour(server.send_positions(request), &mut inbox).0,
                3 => {
                    let take = server.get_forces_batch(answers, forces, &mut extras);
                    pour(take, &mut inbox).0.map(drop)
                }
                4 => {
                    // Moves a part, and then something else.
                    let moved = dice.below(300);
                    let take = server.evaluate_batch(request, answers, forces, &mut extras);
                    pour_at_most(take, &mut inbox, moved);
                    Ok(())
                }
                _ => {
                    let take = server.evaluate_batch(request, answers, forces, &mut extras);
                    pour(take, &mut inbox).0.map(drop)
                }
            };
        }
        assert_eq!(
            server.traffic().received as usize,
            noise.len() - inbox.len(),
            "seed {seed}"
        );
        server.reset();
        script(&mut server, Split::Whole)
            .asks()
            .says(STATUS)
            .hears(READY)
            .learns(ready());
    }
}
