//! One run: a server with requests, a driver with forces, and the events of both.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::Poll;

use forcewire::smoltcp::poll;
use forcewire::{
    Answer, Cell, Driver, Evaluation, Event, Initialize, Mode, Request, Server, Virial,
};
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use crate::cable::{Cable, Dice, Fates, Faults, Said};
use crate::host::{Hardware, Host};
use crate::layout::{FORCEREADY, ForceReady, HAVEDATA, HEADER, NEEDINIT, READY};

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The fault that was found, if any.
    pub fault: Option<String>,
    pub mode: Mode,
    pub initialize: Initialize,
    pub answered: usize,
    /// The number of connections after the first.
    pub reconnects: usize,
    pub restarts: usize,
    pub fates: Fates,
    /// The virtual duration.
    pub seconds: f64,
    /// A digest of all frames and their times.
    pub digest: u64,
}

/// Sums over many runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    runs: u64,
    answered: usize,
    reconnects: usize,
    restarts: usize,
    fates: Fates,
    seconds: f64,
}

impl Totals {
    pub fn add(&mut self, outcome: &Outcome) {
        self.join(Self {
            runs: 1,
            answered: outcome.answered,
            reconnects: outcome.reconnects,
            restarts: outcome.restarts,
            fates: outcome.fates,
            seconds: outcome.seconds,
        });
    }

    pub fn join(&mut self, other: Self) {
        self.runs += other.runs;
        self.answered += other.answered;
        self.reconnects += other.reconnects;
        self.restarts += other.restarts;
        self.seconds += other.seconds;
        self.fates.sent += other.fates.sent;
        self.fates.lost += other.fates.lost;
        self.fates.doubled += other.fates.doubled;
        self.fates.flipped += other.fates.flipped;
        self.fates.overtaken += other.fates.overtaken;
    }

    /// A simulation without faults would check nothing.
    pub fn check(&self, seeds: u64) {
        assert_eq!(self.runs, seeds);
        let Fates {
            lost,
            doubled,
            flipped,
            overtaken,
            ..
        } = self.fates;
        let counts = [
            lost,
            doubled,
            flipped,
            overtaken,
            self.reconnects as u64,
            self.restarts as u64,
        ];
        assert!(counts.iter().all(|&count| count >= seeds / 4), "{self:?}");
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fates {
            sent,
            lost,
            doubled,
            flipped,
            overtaken,
        } = self.fates;
        write!(
            f,
            "{} requests answered, {} restarts, {} reconnects; of {sent} frames {lost} lost, {doubled} doubled, \
             {flipped} flipped, {overtaken} overtaken; {:.1} virtual hours",
            self.answered,
            self.restarts,
            self.reconnects,
            self.seconds / 3600.0
        )
    }
}

/// The server's request: the structures of one batch, with unique numbers.
struct Work {
    cells: Vec<Cell>,
    positions: Vec<[f64; 3]>,
    replica: i32,
}

impl Work {
    fn new(natoms: usize, structures: usize, salt: u64) -> Self {
        let real = |i: usize| (salt as f64 + 1.0) / 3.0 + i as f64 / 7.0;
        Self {
            cells: vec![Cell::orthorhombic([20.0 + salt as f64, 21.0, 22.0]); structures],
            positions: (0..natoms * structures)
                .map(|i| [real(3 * i), -real(3 * i + 1), real(3 * i + 2)])
                .collect(),
            replica: salt as i32,
        }
    }
}

/// The forces on these atoms in this cell.
fn truth(cell: &Cell, positions: &[[f64; 3]]) -> (Evaluation, Vec<[f64; 3]>) {
    let edge = cell.h()[0][0];
    let forces: Vec<_> = positions
        .iter()
        .map(|&[x, y, z]| [y * edge, z - x, x / edge])
        .collect();
    let energy = positions.iter().map(|[x, y, z]| x * y + z * edge).sum();
    let virial = Virial::from_upper([energy, edge, 1.0, 2.0, 3.0, positions.len() as f64]);
    (Evaluation { energy, virial }, forces)
}

/// When the faults stop. After that a run must end within `GRACE`.
const FAULTS_END: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(600);

/// The server's side.
struct Asking {
    host: Host,
    machine: Server,
    work: Vec<Work>,
    /// The index of the next request in `work`; after the last, EXIT follows.
    at: usize,
    answers: Vec<Answer>,
    forces: Vec<[f64; 3]>,
    over: bool,
    /// The number of bytes after which it restarts.
    restart: Option<u64>,
}

/// The driver's side.
struct Computing {
    host: Host,
    machine: Driver,
    cells: Vec<Cell>,
    positions: Vec<[f64; 3]>,
    reply: Option<(Vec<Evaluation>, Vec<[f64; 3]>)>,
    /// The time until which it computes.
    busy: Instant,
    /// The most microseconds that a structure takes.
    pace: u64,
    over: bool,
    restart: Option<u64>,
}

pub fn run(seed: u64, verbose: bool) -> Outcome {
    let mut dice = Dice::new(seed);
    // A third of the runs have one kind of fault, a third all kinds, and a third almost none.
    let kinds = dice.below(3);
    let mut percent = |most: u64| match kinds {
        0 => dice.below(2) * dice.below(most + 1),
        1 => dice.below(most + 1),
        _ => dice.below(3),
    };
    let faults = Faults {
        loss: percent(30),
        doubles: percent(50),
        flips: percent(10),
        overtaken: percent(40),
    };
    let latency = dice.range(10, 5_000);
    let cable = Rc::new(RefCell::new(Cable::new(dice.next(), faults, latency)));
    let mut hardware = || Hardware {
        mtu: dice.size(68, 1500),
        receive: dice.size(24, 65_535),
        transmit: dice.size(24, 65_535),
        nap: dice.range(1, 3_000),
    };
    let hardware = [hardware(), hardware()];
    let mode = match dice.below(4) {
        0 => Mode::Classic,
        1 => Mode::Consolidated,
        2 => Mode::Strict,
        _ => Mode::Batched(dice.range(2, 4) as usize),
    };
    let initialize = match dice.below(3) {
        0 => Initialize::Never,
        1 => Initialize::Once,
        _ => Initialize::EveryStep,
    };
    let natoms = dice.below(3) as usize * dice.below(20) as usize;
    let structures = match mode {
        Mode::Batched(size) if initialize != Initialize::Never => dice.range(1, size as u64),
        _ => 1,
    } as usize;
    let count = dice.range(2, 6);
    let mut restart = || dice.hits(30).then(|| dice.below(3_000));
    let restarts = [restart(), restart()];
    let cuts: Vec<(Instant, Instant)> = (0..dice.below(3))
        .map(|_| {
            let from = dice.below(20_000_000) as i64;
            let to = from + dice.below(25_000_000) as i64;
            (Instant::from_micros(from), Instant::from_micros(to))
        })
        .collect();

    let mut now = Instant::ZERO;
    let mut host = |end: usize| Host::new(&cable, end, hardware[end], dice.next(), now);
    let mut asking = Asking {
        host: host(0),
        machine: Server::new().mode(mode),
        work: (0..count)
            .map(|salt| Work::new(natoms, structures, salt))
            .collect(),
        at: 0,
        answers: vec![Answer::default(); structures],
        forces: vec![[f64::NAN; 3]; natoms * structures],
        over: false,
        restart: restarts[0],
    };
    let mut computing = Computing {
        host: host(1),
        machine: Driver::new().initialize(initialize),
        cells: vec![Cell::orthorhombic([0.0; 3]); 4],
        positions: vec![[f64::NAN; 3]; 4 * natoms],
        reply: None,
        busy: now,
        pace: dice.below(3) * dice.below(100_000),
        over: false,
        restart: restarts[1],
    };
    let mut outcome = Outcome {
        fault: None,
        mode,
        initialize,
        answered: 0,
        reconnects: 0,
        restarts: 0,
        fates: Fates::default(),
        seconds: 0.0,
        digest: 0,
    };
    if verbose {
        println!("{faults:?}, latency {latency} us, {hardware:?}, {mode:?}, {initialize:?}");
        println!(
            "{count} requests of {structures} structures of {natoms} atoms, cuts {cuts:?}, {restarts:?}"
        );
    }
    asking.host.listen();
    computing.host.connect();

    let limit = Instant::ZERO + FAULTS_END + GRACE;
    while !asking.over && outcome.fault.is_none() {
        {
            let mut cable = cable.borrow_mut();
            cable.mended = now >= Instant::ZERO + FAULTS_END;
            cable.cut = !cable.mended && cuts.iter().any(|(from, to)| (*from..*to).contains(&now));
        }
        let next_frame = cable.borrow_mut().deliver(now);
        if now >= asking.host.wakes {
            asking.host.poll(now);
            asking.turn(&mut outcome, verbose, now);
            asking.host.poll(now);
        }
        if now >= computing.host.wakes {
            computing.host.poll(now);
            computing.turn(&mut outcome, &mut dice, verbose, now);
            computing.host.poll(now);
        }
        if now > limit {
            let (at, server, driver) = (asking.at, &asking.machine, &computing.machine);
            outcome.fault = Some(format!(
                "nothing moves any more: request {at}, {server:?}, {driver:?}, sockets {} and {}",
                asking.host.socket().state(),
                computing.host.socket().state(),
            ));
        }
        // Sleeping until the next possible event misses nothing.
        let arrived = |end: usize| cable.borrow().has_arrived(end);
        let mut next = [next_frame, asking.host.due(now), computing.host.due(now)]
            .into_iter()
            .flatten()
            .chain(arrived(0).then_some(asking.host.wakes))
            .chain(arrived(1).then_some(computing.host.wakes))
            .chain((computing.busy > now).then_some(computing.busy))
            .chain(cuts.iter().map(|(_, to)| *to).filter(|to| *to > now))
            .min()
            .unwrap_or(now + Duration::from_millis(10));
        // A frame that was just sent arrives after the poll.
        next = next.min(now + Duration::from_millis(50));
        now = next.max(now + Duration::from_micros(1));
    }
    let cable = cable.borrow();
    let [server, _] = hardware;
    // If the window is smaller than an answer, this can't be avoided. If a server sends a request
    // before it has read the answer to the previous one, it gets the answer in pieces: the end of a
    // full segment may split an answer that joins the bytes in transit. i-PI and ASE, like a strict
    // server, send requests only after they have read everything.
    if server.receive >= 4096 && mode == Mode::Strict && outcome.fault.is_none() {
        outcome.fault = cable
            .said
            .values()
            .find_map(|said| split_status(said, ForceReady::of(natoms).end()));
    }
    outcome.fates = cable.fates;
    outcome.seconds = now.total_micros() as f64 / 1e6;
    outcome.digest = cable.result();
    outcome
}

/// Finds an answer to STATUS that was sent in two segments; i-PI drops a driver for that. `reply`
/// is the length of FORCEREADY.
fn split_status(said: &Said, reply: usize) -> Option<String> {
    let mut at = 0;
    while let Some(header) = said.bytes.get(at..at + HEADER) {
        if header == FORCEREADY {
            at += reply;
            continue;
        }
        assert!(
            [READY, NEEDINIT, HAVEDATA].contains(&header),
            "{}",
            header.escape_ascii()
        );
        if let Some(cut) = said.cuts.range(at + 1..at + HEADER).next() {
            let header = header.escape_ascii();
            return Some(format!(
                "{header} at byte {at} is cut at {cut}: {:?}",
                said.cuts
            ));
        }
        at += 12;
    }
    None
}

impl Asking {
    fn turn(&mut self, outcome: &mut Outcome, verbose: bool, now: Instant) {
        if self
            .restart
            .is_some_and(|at| self.machine.traffic().received >= at)
        {
            self.restart = None;
            outcome.restarts += 1;
            if verbose {
                println!("{now}: the server restarts");
            }
            // The peer is not notified, as in a power failure.
            self.machine.reset();
            self.host.socket().abort();
        }
        if self.host.socket().state() == State::Closed {
            if self.at == self.work.len() {
                self.over = true; // all that was left is to say so
                return;
            }
            outcome.reconnects += usize::from(now > Instant::ZERO);
            self.machine.reset();
            self.host.listen();
        }
        if !self.host.socket().may_send() && !self.host.socket().may_recv() {
            return;
        }
        while let Some(work) = self.work.get(self.at) {
            let request = Request::batch(&work.cells, &work.positions)
                .replica(work.replica)
                .init(b"sigma : 1 ");
            let mut extras = [0; 8];
            let evaluate = self.machine.evaluate_batch(
                request,
                &mut self.answers,
                &mut self.forces,
                &mut extras,
            );
            match poll(self.host.socket(), evaluate) {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(first)) => {
                    let natoms = work.positions.len() / work.cells.len();
                    for (index, cell) in work.cells.iter().enumerate() {
                        let atoms = index * natoms..(index + 1) * natoms;
                        let (evaluation, forces) = truth(cell, &work.positions[atoms.clone()]);
                        let answer = if index == 0 {
                            first
                        } else {
                            self.answers[index]
                        };
                        if answer.evaluation.energy != evaluation.energy
                            || answer.evaluation.virial != evaluation.virial
                            || self.forces[atoms] != forces
                        {
                            outcome.fault = Some(format!("request {} has wrong forces", self.at));
                            return;
                        }
                    }
                    if verbose {
                        println!("{now}: request {} is answered", self.at);
                    }
                    // The rest of this answer must not be taken for the next one.
                    self.forces.fill([f64::NAN; 3]);
                    self.answers.fill(Answer::default());
                    outcome.answered += 1;
                    self.at += 1;
                }
                Err(error) => {
                    if verbose {
                        println!("{now}: server: {error}");
                    }
                    outcome.reconnects += 1;
                    self.machine.reset();
                    self.host.listen();
                    return;
                }
            }
        }
        match poll(self.host.socket(), self.machine.exit()) {
            Ok(Poll::Pending) => {}
            // A driver that was lost after its last answer does not count.
            Ok(Poll::Ready(())) | Err(_) => self.over = true,
        }
    }
}

impl Computing {
    fn turn(&mut self, outcome: &mut Outcome, dice: &mut Dice, verbose: bool, now: Instant) {
        if self.over {
            return;
        }
        if self
            .restart
            .is_some_and(|at| self.machine.traffic().received >= at)
        {
            self.restart = None;
            outcome.restarts += 1;
            if verbose {
                println!("{now}: the driver restarts");
            }
            self.start_anew();
            return;
        }
        if self.host.socket().state() == State::Closed {
            self.start_anew();
        }
        if now < self.busy || !self.host.socket().may_send() && !self.host.socket().may_recv() {
            return;
        }
        loop {
            let result = match &self.reply {
                Some((evaluations, forces)) => {
                    let reply = self.machine.reply_batch(evaluations, forces, &[]);
                    poll(self.host.socket(), reply).map(|it| it.map(|()| None))
                }
                None => {
                    let receive = self
                        .machine
                        .receive_batch(&mut self.cells, &mut self.positions);
                    poll(self.host.socket(), receive).map(|it| it.map(Some))
                }
            };
            match result {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(None)) => self.reply = None,
                Ok(Poll::Ready(Some(Event::Positions {
                    natoms, structures, ..
                }))) => {
                    let each = |index: usize| {
                        truth(
                            &self.cells[index],
                            &self.positions[index * natoms..][..natoms],
                        )
                    };
                    let (evaluations, forces): (Vec<_>, Vec<_>) = (0..structures).map(each).unzip();
                    self.reply = Some((evaluations, forces.concat()));
                    // No number of this structure may appear in the next one.
                    self.positions.fill([f64::NAN; 3]);
                    self.busy = now + Duration::from_micros(dice.below(self.pace + 1));
                    return;
                }
                Ok(Poll::Ready(Some(Event::Init { .. }))) => {}
                Ok(Poll::Ready(Some(Event::Exit))) => {
                    self.over = true;
                    self.host.socket().close();
                    return;
                }
                Ok(Poll::Ready(Some(event))) => {
                    if verbose {
                        println!("{now}: driver: {event:?}");
                    }
                    self.start_anew();
                    return;
                }
                Err(error) => {
                    if verbose {
                        println!("{now}: driver: {error}");
                    }
                    self.start_anew();
                    return;
                }
            }
        }
    }

    fn start_anew(&mut self) {
        self.machine.reset();
        self.reply = None;
        self.host.connect();
    }
}
