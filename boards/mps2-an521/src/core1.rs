//! Core 1 as seen by core 0: an engine that computes the Lennard-Jones potential.

use core::ops::ControlFlow;

use forcewire::{Cell, Evaluation, PotentialError};
use forcewire_boards::{Engine, Options};
use forcewire_cortex_m::clock;
use mps2_an521_engine::{Doorbell, Job, Mailbox, Parameters};

/// The interrupt with which core 1 reports that a job is finished.
pub const LINE: u16 = Doorbell::LINE;

/// INITSVTOR1 holds the address of core 1's vectors, and CPUWAIT a bit for each core that is not
/// started (Arm 101104, "System control register block").
const INITSVTOR1: *mut u32 = 0x5002_1114 as *mut u32;
const CPUWAIT: *mut u32 = 0x5002_1118 as *mut u32;

/// The address of core 1's image (engine/memory.x).
const IMAGE: u32 = 0x1020_0000;

/// How long core 1 may take to look into the mailbox, in ticks: 5 s. It takes microseconds, but an
/// emulator may be busy.
const LIMIT: u64 = 100_000_000;

/// The other core, which uses the arrays in place, without a copy.
pub struct Core1<'m> {
    mailbox: &'static Mailbox,
    parameters: Parameters,
    boxes: &'m mut [u32],
}

impl<'m> Core1<'m> {
    /// Starts the core.
    ///
    /// # Safety
    ///
    /// The program must run on core 0 of an AN521 and call this once.
    pub unsafe fn start(options: &Options<'_>, boxes: &'m mut [u32]) -> Self {
        // Safety: the caller ensures this.
        let mailbox = unsafe { Mailbox::shared() };
        mailbox.reset();
        Doorbell::CORE_0.silence();
        // Safety: the registers exist, and the image is linked for this address.
        unsafe {
            INITSVTOR1.write_volatile(IMAGE);
            CPUWAIT.write_volatile(0);
        }
        Self {
            mailbox,
            parameters: Parameters::new(options.lj, options.cutoff),
            boxes,
        }
    }

    /// Rings core 1. Returns the time in ticks.
    fn ring(&self) -> u64 {
        Doorbell::CORE_1.ring();
        clock::ticks()
    }

    /// Whether core 1 has looked into the mailbox since it was rung. If it is late, it may still be
    /// using the arrays, so the board ends.
    fn has_looked(&self, rung: u64) -> bool {
        let seen = self.mailbox.seen();
        if !seen && clock::ticks() - rung > LIMIT {
            defmt::error!("core 1 does not answer: is its image at {=u32:#x}?", IMAGE);
            forcewire_semihosted::fault()
        }
        seen
    }
}

impl Engine for Core1<'_> {
    type Real = f64;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Evaluation>, PotentialError> {
        let job = Job::new(self.parameters, cell, positions, forces, self.boxes)
            .ok_or(PotentialError::LengthMismatch)?;
        // Safety: the arrays are borrowed until this function returns. By then core 1 has answered,
        // or has seen that the job is withdrawn.
        let number = unsafe { self.mailbox.post(job) }.ok_or(PotentialError::Failed(
            "core 1 is not done with the last job",
        ))?;
        let rung = self.ring();
        loop {
            if let Some(outcome) = self.mailbox.take(number) {
                Doorbell::CORE_0.silence();
                return outcome.evaluation().map(Some).map_err(|reason| {
                    defmt::warn!("core 1: {=str}", reason);
                    PotentialError::Failed("core 1 has no forces for these positions")
                });
            }
            self.has_looked(rung);
            if meanwhile().is_break() {
                self.mailbox.withdraw();
                let rung = self.ring();
                // This loop must be short: with -icount QEMU 7.2 hardly runs core 1 while core 0
                // spins.
                while !self.has_looked(rung) {}
                Doorbell::CORE_0.silence();
                return Ok(None);
            }
        }
    }
}
