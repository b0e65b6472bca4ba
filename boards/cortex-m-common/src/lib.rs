//! The common part of boards with a Cortex-M: start, clock, sleep, handlers of faults and panics,
//! and the use of the stack.
//!
//! SysTick is the [clock]. A board adds a one-shot timer ([`Alarm`]), a network device, and the
//! numbers of their interrupts. Its `memory.x` places the stack below the data (see [`stack`]).

#![no_std]
#![warn(missing_docs)]

pub mod clock;
mod fault;
pub mod stack;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
pub use cortex_m_rt::entry;
use forcewire::potential::Real;
use forcewire_boards::{Board, Engine, Ethernet, Memory, Options, Outcome, lennard_jones};
use smoltcp::time::Instant;

/// A timer that interrupts once.
pub trait Alarm {
    /// Replaces the last alarm with an interrupt after this many microseconds.
    fn set(&mut self, microseconds: u32);
}

/// The longest sleep. SysTick ends it earlier.
const LONGEST: u32 = 1_000_000;

/// A Cortex-M with a network device and a timer.
pub struct Machine<E, A> {
    /// The network device.
    pub ethernet: E,
    /// The timer that ends a sleep.
    pub alarm: A,
    /// The numbers of the interrupts that end a sleep: of the device, the timer, and an engine.
    pub lines: &'static [u16],
    /// Cycles of the core per second.
    pub hertz: u32,
}

/// Serves the Lennard-Jones potential on this machine, or ends at once if there is no machine.
/// Never returns.
pub fn run<E: Ethernet, A: Alarm, T: Real, const N: usize, const B: usize, const R: usize>(
    machine: Option<Machine<E, A>>,
    memory: &mut Memory<T, N, B, R>,
) -> ! {
    run_with(machine, memory, lennard_jones)
}

/// [`run`] with another potential, as in [`forcewire_boards::run_with`].
pub fn run_with<'m, E, A, P, const N: usize, const B: usize, const R: usize>(
    machine: Option<Machine<E, A>>,
    memory: &'m mut Memory<P::Real, N, B, R>,
    potential: impl FnOnce(&Options<'_>, &'m mut [u32]) -> P,
) -> !
where
    E: Ethernet,
    A: Alarm,
    P: Engine,
{
    start();
    let Some(machine) = machine else {
        defmt::error!("the board has no such network device");
        forcewire_semihosted::end(Outcome::NoServer)
    };
    forcewire_semihosted::run_with(machine, memory, potential, stack::used)
}

/// Starts the clock and guards the stack; later calls do nothing.
pub fn start() {
    if let Some(mut core) = cortex_m::Peripherals::take() {
        start_with(&mut core);
    }
}

/// [`start`] for a program that already has the core's peripherals: RTIC takes them before `init`.
pub fn start_with(core: &mut cortex_m::Peripherals) {
    clock::start(&mut core.SYST);
    #[cfg(armv8m)]
    stack::guard();
    #[cfg(not(armv8m))]
    stack::guard(&mut core.MPU);
}

impl<E: Ethernet, A: Alarm> Board for Machine<E, A> {
    type Ethernet = E;

    fn ethernet(&mut self) -> &mut E {
        &mut self.ethernet
    }

    fn now(&self) -> Instant {
        let (ticks, second) = (clock::ticks(), u64::from(self.hertz));
        // The product with all ticks would overflow after a week.
        let micros = ticks / second * 1_000_000 + ticks % second * 1_000_000 / second;
        Instant::from_micros(micros as i64)
    }

    /// An interrupt after `idle` is pending and ends the sleep. It is taken once interrupts are
    /// enabled again.
    fn wait(&mut self, until: Instant) {
        let left = until - self.now();
        let sleep = u32::try_from(left.total_micros()).unwrap_or(LONGEST);
        cortex_m::interrupt::disable();
        self.alarm.set(sleep.min(LONGEST));
        for line in self.lines.iter().copied().map(Line) {
            NVIC::unpend(line);
            // Safety: the handler masks it again, see below.
            unsafe { NVIC::unmask(line) };
        }
        if self.ethernet.idle() {
            cortex_m::asm::wfi();
        }
        // Safety: interrupts were enabled.
        unsafe { cortex_m::interrupt::enable() };
    }
}

/// The number of an interrupt.
#[derive(Clone, Copy)]
struct Line(u16);

// Safety: the machine has an interrupt with this number.
unsafe impl InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

/// The only purpose of an interrupt is to end a sleep. It stays masked until the next one.
#[cortex_m_rt::exception]
unsafe fn DefaultHandler(number: i16) {
    if let Ok(line) = u16::try_from(number) {
        NVIC::mask(Line(line));
    }
}
