//! The evaluations of a walk. No number occurs twice in all of them, so any mixture is detected.

use forcewire::{Answer, Cell, Evaluation, Virial};

use crate::walk::Plan;

/// The number of structures in the largest request.
pub const STRUCTURES: usize = 2;

/// Two requests without a common number; and the first one with another last position, with another
/// last number in its last cell, and with NaN as its last position.
pub const FIRST: usize = 0;
pub const SECOND: usize = 1;
pub const OTHER_POSITION: usize = 2;
pub const OTHER_CELL: usize = 3;
pub const NOT_FINITE: usize = 4;
const QUESTIONS: usize = 5;

/// A server's request.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub replica: i32,
    pub text: Vec<u8>,
    pub cells: Vec<Cell>,
    pub positions: Vec<[f64; 3]>,
}

/// A driver's reply, for as many structures as a message may have, including copies.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub evaluations: Vec<Evaluation>,
    pub forces: Vec<[f64; 3]>,
    pub extras: Vec<&'static [u8]>,
}

/// All evaluations.
pub struct Book {
    pub questions: Vec<Question>,
    pub truths: Vec<Truth>,
}

impl Book {
    pub fn new(plan: &Plan) -> Self {
        Self {
            questions: (0..QUESTIONS).map(|it| question(plan, it)).collect(),
            truths: (0..QUESTIONS).map(|it| truth(plan, it)).collect(),
        }
    }

    /// The evaluation to which these structures belong.
    pub fn which(&self, cells: &[Cell], positions: &[[f64; 3]]) -> Option<usize> {
        let is = |question: &Question| {
            let natoms = question.positions.len() / question.cells.len();
            let last = (question.cells.len() - 1) * natoms;
            let (own, copies) = cells.split_at(question.cells.len().min(cells.len()));
            let atoms = positions.split_at(question.positions.len().min(positions.len()));
            // Copies of the last structure follow the structures of the request.
            own == question.cells
                && copies.iter().all(|it| Some(it) == own.last())
                && atoms.0 == question.positions
                && natoms * copies.len() == atoms.1.len()
                && atoms
                    .1
                    .chunks(natoms.max(1))
                    .all(|it| it == &question.positions[last..])
        };
        self.questions.iter().position(is)
    }
}

/// A number that is unique to these indices.
fn number(kind: usize, which: usize, structure: usize, atom: usize, axis: usize) -> f64 {
    let index = (((kind * QUESTIONS + which) * STRUCTURES + structure) * 64 + atom) * 9 + axis;
    // All eight bytes are used, so a truncated number is detected as well.
    ((2 + index) as f64 * 0.739_085_133_215_160_7).sqrt()
}

const POSITION: usize = 0;
const CELL: usize = 1;
const FORCE: usize = 2;
const VIRIAL: usize = 3;
const ENERGY: usize = 4;
const UNTOUCHED: usize = 5;

fn atoms(plan: &Plan, kind: usize, which: usize, structures: usize) -> Vec<[f64; 3]> {
    let atom = |index: usize| {
        let (structure, atom) = (index / plan.natoms, index % plan.natoms);
        [0, 1, 2].map(|axis| number(kind, which, structure, atom, axis))
    };
    (0..structures * plan.natoms).map(atom).collect()
}

fn cell(which: usize, structure: usize) -> Cell {
    let x = |axis| number(CELL, which, structure, 0, axis).fract();
    Cell::from_rows([
        [10.0 + x(0), x(1), x(2)],
        [0.0, 9.0 + x(3), x(4)],
        [0.0, 0.0, 8.0 + x(5)],
    ])
}

fn question(plan: &Plan, which: usize) -> Question {
    if which > SECOND {
        let mut question = question(plan, FIRST);
        let last = question.positions.last_mut().expect("an atom");
        match which {
            OTHER_POSITION => last[2] = number(POSITION, which, 0, 0, 0),
            NOT_FINITE => last[2] = f64::NAN,
            _ => {
                let last = question.cells.last_mut().expect("a cell");
                let mut rows = *last.h();
                rows[2][2] = 8.0 + number(CELL, which, 0, 0, 5).fract();
                *last = Cell::from_rows(rows);
            }
        }
        return question;
    }
    // The second request leaves a structure of a batch free.
    let structures = if plan.batches() && which == FIRST {
        2
    } else {
        1
    };
    Question {
        replica: which as i32,
        text: vec![b'a' + which as u8],
        cells: (0..structures).map(|it| cell(which, it)).collect(),
        positions: atoms(plan, POSITION, which, structures),
    }
}

fn truth(plan: &Plan, which: usize) -> Truth {
    let evaluation = |structure| {
        let x = |axis| number(VIRIAL, which, structure, 0, axis);
        Evaluation {
            energy: -number(ENERGY, which, structure, 0, 0),
            virial: Virial([[x(0), x(1), x(2)], [x(1), x(3), x(4)], [x(2), x(4), x(5)]]),
        }
    };
    const EXTRAS: [[&[u8]; STRUCTURES]; QUESTIONS] = [
        [b"abc", b"defg"],
        [b"hij", b"klmn"],
        [b"opq", b"rstu"],
        [b"vwx", b"yzAB"],
        [b"CDE", b"FGHI"],
    ];
    Truth {
        evaluations: (0..STRUCTURES).map(evaluation).collect(),
        forces: atoms(plan, FORCE, which, STRUCTURES),
        extras: EXTRAS[which].to_vec(),
    }
}

/// The contents of a driver's arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    pub cells: Vec<Cell>,
    pub positions: Vec<[f64; 3]>,
}

/// The contents of a server's arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub answers: Vec<Answer>,
    pub forces: Vec<[f64; 3]>,
    pub extras: Vec<u8>,
}

/// Selects one of two sets of arrays that no message has written to.
#[derive(Clone, Copy, Debug)]
pub enum Untouched {
    Usual,
    Other,
}

impl Untouched {
    pub fn number(self) -> f64 {
        -1e77 * number(UNTOUCHED, self as usize, 0, 0, 0)
    }

    pub fn atoms(self, plan: &Plan) -> Vec<[f64; 3]> {
        vec![[self.number(); 3]; STRUCTURES * plan.natoms]
    }

    pub fn cells(self) -> Vec<Cell> {
        vec![Cell::from_rows([[self.number(); 3]; 3]); STRUCTURES]
    }

    pub fn answers(self) -> Vec<Answer> {
        let mut answer = Answer::default();
        answer.evaluation.energy = self.number();
        answer.evaluation.virial = Virial([[self.number(); 3]; 3]);
        vec![answer; STRUCTURES]
    }

    pub fn extras(self) -> Vec<u8> {
        let byte = match self {
            Self::Usual => b'#',
            Self::Other => b'%',
        };
        vec![byte; 9]
    }

    pub fn received(self, plan: &Plan) -> Received {
        Received {
            cells: self.cells(),
            positions: self.atoms(plan),
        }
    }

    pub fn taken(self, plan: &Plan) -> Taken {
        Taken {
            answers: self.answers(),
            forces: self.atoms(plan),
            extras: self.extras(),
        }
    }
}

#[test]
fn no_number_occurs_twice() {
    use std::collections::HashSet;

    let plan = Plan {
        natoms: 28,
        ..crate::plan(forcewire::Mode::Batched(2), forcewire::Initialize::Once)
    };
    let book = Book::new(&plan);
    let mut all = Vec::new();
    for question in &book.questions[..=SECOND] {
        all.extend(question.positions.as_flattened());
        for cell in &question.cells {
            let h = cell.h();
            all.extend([h[0][0], h[0][1], h[0][2], h[1][1], h[1][2], h[2][2]]);
        }
    }
    all.push(
        book.questions[OTHER_POSITION]
            .positions
            .last()
            .expect("an atom")[2],
    );
    all.push(book.questions[OTHER_CELL].cells[1].h()[2][2]);
    for truth in &book.truths {
        all.extend(truth.forces.as_flattened());
        for Evaluation { energy, virial } in &truth.evaluations {
            let v = virial.0;
            all.extend([
                *energy, v[0][0], v[0][1], v[0][2], v[1][1], v[1][2], v[2][2],
            ]);
        }
    }
    all.extend([Untouched::Usual.number(), Untouched::Other.number()]);
    let different: HashSet<_> = all.iter().map(|it| it.to_bits()).collect();
    assert_eq!(different.len(), all.len());
}
