//! The mailbox: the job that core 0 requests, and the outcome of core 1's last job.
//!
//! Each job and each withdrawal has a number. Only core 0 writes `wanted`, only core 1 the other
//! two:
//!
//! ```text
//! core 0                                  core 1
//! post      job, wanted = 2, ring
//!                                         next      begun = 2, computes
//!                                         answer    ring, outcome, done = 2
//! take      done = 2: the outcome
//!
//! post      job, wanted = 4, ring
//!                                         next      begun = 4, computes
//! withdraw  wanted = 5, ring
//!                                         the doorbell ends the computation
//!                                         next      begun = 5
//! seen      begun = 5: all arrays are core 0's
//! ```
//!
//! A withdrawn job may still have an outcome, if core 1 finished it while core 0 withdrew it. The
//! outcome carries the unique number of its job, so it is never taken for another job's.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::job::{Job, Outcome};

/// The memory shared by the cores.
#[repr(C)]
pub struct Mailbox {
    /// The job that core 0 requests; an odd number means none.
    wanted: AtomicU32,
    /// The last number that core 1 has read: it no longer uses arrays of earlier jobs.
    begun: AtomicU32,
    /// The job to which `outcome` belongs; an odd number means none.
    done: AtomicU32,
    job: UnsafeCell<MaybeUninit<Job>>,
    outcome: UnsafeCell<MaybeUninit<Outcome>>,
}

// Safety: core 0 writes `job` only after core 1 has seen that no job is requested or has answered
// the last one. Core 1 writes `outcome` only between `begun` and `done`, when core 0 does not read
// it.
unsafe impl Sync for Mailbox {}

/// The number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(u32);

/// The address of the mailbox: the last KiB of the internal SRAM, at its secure address (see
/// memory.x).
const PLACE: *const Mailbox = 0x3001_fc00 as *const Mailbox;
const _: () = assert!(size_of::<Mailbox>() <= 1024);

impl Mailbox {
    /// The mailbox of this board.
    ///
    /// # Safety
    ///
    /// The program must run on an AN521. Core 0 must call `reset` before core 1 starts. Afterwards
    /// each core may call only its own functions, from one thread.
    #[must_use]
    pub unsafe fn shared() -> &'static Self {
        // Safety: nothing else uses this memory, and any bytes are a valid mailbox.
        unsafe { &*PLACE }
    }

    /// A mailbox without a job.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wanted: AtomicU32::new(1),
            begun: AtomicU32::new(1),
            done: AtomicU32::new(1),
            job: UnsafeCell::new(MaybeUninit::uninit()),
            outcome: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Called by core 0: clears the memory, whose content after power-on is arbitrary.
    pub fn reset(&self) {
        self.wanted.store(1, Relaxed);
        self.begun.store(1, Relaxed);
        self.done.store(1, Release);
    }

    /// Core 0: requests a job; ring core 1 afterwards. Returns None while another one is in
    /// progress.
    ///
    /// # Safety
    ///
    /// The job's arrays must not be used until `take` returns the outcome, or until the job is
    /// withdrawn and core 1 has [seen](Self::seen) that.
    pub unsafe fn post(&self, job: Job) -> Option<Number> {
        let last = self.wanted.load(Relaxed);
        if !self.seen() || last.is_multiple_of(2) && self.done.load(Acquire) != last {
            return None;
        }
        // Safety: core 1 is waiting.
        unsafe { (*self.job.get()).write(job) };
        let number = (last | 1).wrapping_add(1);
        self.wanted.store(number, Release);
        Some(Number(number))
    }

    /// Core 0: the outcome of this job, once core 1 has finished it.
    pub fn take(&self, Number(number): Number) -> Option<Outcome> {
        if self.done.load(Acquire) != number || self.wanted.load(Relaxed) != number {
            return None;
        }
        // Safety: core 1 wrote it before `done`, and writes another one only after it gets another
        // job.
        Some(unsafe { (*self.outcome.get()).assume_init() })
    }

    /// Core 0: withdraws the job; ring core 1 afterwards.
    pub fn withdraw(&self) {
        let number = self.wanted.load(Relaxed) | 1;
        self.wanted.store(number, Release);
    }

    /// Core 0: whether core 1 has seen the current request.
    #[must_use]
    pub fn seen(&self) -> bool {
        self.begun.load(Acquire) == self.wanted.load(Relaxed)
    }

    /// Core 1: the requested job, unless it is finished.
    pub fn next(&self) -> Option<(Number, Job)> {
        let number = self.wanted.load(Acquire);
        self.begun.store(number, Release);
        if !number.is_multiple_of(2) || self.done.load(Relaxed) == number {
            return None;
        }
        // Safety: core 0 wrote it before `wanted`, and writes another one only after this one is
        // finished or withdrawn.
        Some((Number(number), unsafe { (*self.job.get()).assume_init() }))
    }

    /// Core 1: stores the outcome of a job. Ring core 0 first, so that it can take the outcome and
    /// silence its doorbell.
    pub fn answer(&self, Number(number): Number, outcome: Outcome) {
        // Safety: core 0 reads it only after `done`.
        unsafe { (*self.outcome.get()).write(outcome) };
        self.done.store(number, Release);
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use forcewire::potential::{Cutoff, LennardJones};
    use forcewire::{Cell, Evaluation, Potential, Virial};

    use super::*;
    use crate::job::Parameters;

    /// A job that differs from all others in the edge of its cell.
    fn job(edge: u32) -> Job {
        let parameters = Parameters::new([1.0; 3], Cutoff::Tail);
        let cell = Cell::orthorhombic([f64::from(edge); 3]);
        Job::new(parameters, &cell, &[], &mut [], &mut []).expect("no atom, no force")
    }

    /// An outcome that identifies its job.
    fn outcome(job: &Job) -> Outcome {
        Outcome::success(&Evaluation {
            energy: job.cell[0][0],
            virial: Virial::ZERO,
        })
    }

    /// Both cores, and their memory outside the mailbox.
    struct Cores {
        mailbox: Mailbox,
        posted: u32,
        /// The job for which core 0 waits.
        waiting: Option<Number>,
        /// The job whose arrays core 1 uses.
        computing: Option<(Number, Job)>,
    }

    impl Cores {
        fn new() -> Self {
            Self {
                mailbox: Mailbox::new(),
                posted: 0,
                waiting: None,
                computing: None,
            }
        }

        fn step(&mut self, what: u32) {
            match what {
                0 => self.post(),
                1 => self.withdraw(),
                2 => self.take(),
                3 => self.doorbell(),
                _ => self.finish(),
            }
        }

        fn post(&mut self) {
            if self.waiting.is_some() {
                return;
            }
            // Safety: the job has no arrays.
            if let Some(number) = unsafe { self.mailbox.post(job(self.posted + 1)) } {
                assert!(
                    self.computing.is_none(),
                    "core 1 uses arrays of a job that is over"
                );
                self.posted += 1;
                self.waiting = Some(number);
            }
        }

        fn withdraw(&mut self) {
            if self.waiting.take().is_some() {
                self.mailbox.withdraw();
            }
        }

        fn take(&mut self) {
            let Some(outcome) = self.waiting.and_then(|number| self.mailbox.take(number)) else {
                return;
            };
            let energy = outcome.evaluation().expect("a success").energy;
            assert_eq!(
                energy,
                f64::from(self.posted),
                "the outcome is another job's"
            );
            assert!(
                self.computing.is_none(),
                "core 1 uses arrays of a job that is done"
            );
            self.waiting = None;
        }

        /// Ends any computation. The doorbell may ring twice for one reason.
        fn doorbell(&mut self) {
            self.computing = self.mailbox.next();
        }

        fn finish(&mut self) {
            if let Some((number, job)) = self.computing.take() {
                self.mailbox.answer(number, outcome(&job));
            }
        }
    }

    #[test]
    fn an_outcome_is_that_of_the_job_in_every_order_of_eight_steps() {
        const STEPS: u32 = 8;
        let mut taken = 0;
        for order in 0..5_u32.pow(STEPS) {
            let mut cores = Cores::new();
            for step in 0..STEPS {
                cores.step(order / 5_u32.pow(step) % 5);
            }
            // Whatever happened before, the next job is done.
            cores.withdraw();
            cores.doorbell();
            cores.post();
            assert!(cores.waiting.is_some(), "core 1 waits, and takes no job");
            cores.doorbell();
            cores.finish();
            cores.take();
            assert!(cores.waiting.is_none(), "a job has no outcome");
            taken += 1;
        }
        assert_eq!(taken, 5_u32.pow(STEPS));
    }

    #[test]
    fn numbers_start_over() {
        let mut cores = Cores::new();
        cores.mailbox.wanted.store(u32::MAX, Relaxed);
        cores.mailbox.begun.store(u32::MAX, Relaxed);
        for _ in 0..2 {
            cores.post();
            cores.doorbell();
            cores.finish();
            cores.take();
            assert!(cores.waiting.is_none());
        }
    }

    #[test]
    fn the_job_in_the_mailbox_computes_what_its_potential_does() {
        let (lj, edge) = ([6.43452, 0.000379384, 16.0863], 40.0);
        let positions = [[0.0; 3], [7.0, 1.0, -2.0], [1.0, 8.0, 3.0]];
        for cutoff in [Cutoff::Truncated, Cutoff::Shifted, Cutoff::Tail] {
            let cell = Cell::orthorhombic([edge; 3]);
            let [mut ours, mut theirs] = [[[0.0; 3]; 3]; 2];
            let [sigma, epsilon, radius] = lj;
            let expected = LennardJones::new(sigma, epsilon, radius)
                .with_cutoff(cutoff)
                .evaluate(&cell, &positions, &mut theirs);
            let parameters = Parameters::new(lj, cutoff);
            let job = Job::new(parameters, &cell, &positions, &mut ours, &mut []);
            // Safety: the arrays live until the job has run.
            let result = unsafe { job.expect("as many forces as positions").run() };
            assert_eq!(result, expected);
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn a_reason_arrives_and_is_cut_between_letters() {
        assert_eq!(Outcome::failure("no").evaluation(), Err("no"));
        let long = "é".repeat(99);
        assert_eq!(Outcome::failure(&long).evaluation(), Err(&*"é".repeat(50)));
        assert_eq!(
            Outcome::failure("x".to_owned() + &long).evaluation(),
            Err(&*("x".to_owned() + &"é".repeat(49)))
        );
    }
}
