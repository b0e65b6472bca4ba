//! forcewire on Arm's MPS2 with a Cortex-M3 (AN385), as QEMU emulates it: clock, network, log, and the
//! application that all boards share.

#![no_std]
#![no_main]

mod lan9118;
mod stack;

use core::cell::Cell;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, SCB, SYST};
use defmt_semihosting as _;
use forcewire_boards::{Board, Memory, Outcome};
use lan9118::Lan9118;
use semihosting::experimental::env;
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;

/// Where the LAN9118 is (Arm DAI 0385D, table 3-1) and its interrupt (table 3-5).
const LAN9118: *mut u32 = 0x4020_0000 as *mut u32;
const INTERRUPT: Line = Line(13);

/// The core's clock (QEMU 7.2, hw/arm/mps2.c).
const CLOCK: u32 = 25_000_000;

/// Atoms, structures of a batch, and bytes of each ring of TCP; the receiving one fits the LAN9118's FIFO.
type Application = Memory<4096, 64, 7168>;

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut MEMORY: Application = Application::new();
    let outcome = start(MEMORY);
    defmt::info!("{} bytes of stack used", stack::used());
    if outcome == Outcome::Exit {
        defmt::info!("done");
    } else {
        defmt::error!("{}", outcome);
    }
    semihosting::process::exit(outcome as i32)
}

fn start(memory: &mut Application) -> Outcome {
    let Some(mut core) = cortex_m::Peripherals::take() else {
        return Outcome::BadOptions;
    };
    // Safety: the registers are there, and this is the only one who takes them.
    let Some(ethernet) = (unsafe { Lan9118::new(LAN9118) }) else {
        defmt::error!("no LAN9118 at {}", LAN9118);
        return Outcome::NoServer;
    };
    // A tick each millisecond: an interrupt may be missed, and timers of TCP want to run.
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(CLOCK / 1000 - 1);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    core.SYST.enable_interrupt();
    // Interrupts wake the core and are never taken: it sleeps with them masked.
    cortex_m::interrupt::disable();
    // Safety: no handler runs, see above.
    unsafe { NVIC::unmask(INTERRUPT) };

    let machine = Machine {
        ethernet,
        _tick: core.SYST,
        time: Cell::new((0, 0)),
    };
    let Ok(arguments) = env::args::<512>() else {
        defmt::error!("no options, or more than 512 bytes of them and the image's path");
        return Outcome::BadOptions;
    };
    // The first word is the name of the image.
    let words = (&arguments).skip(1).flatten();
    #[cfg(feature = "tls")]
    let words = words.filter(|word| !word.starts_with(SEED));
    forcewire_boards::run(machine, memory, words)
}

/// What this machine, which has no source of random numbers, is given instead: as 64 hexadecimal digits.
#[cfg(feature = "tls")]
const SEED: &str = "seed=";

/// An interrupt of the external kind, by number.
#[derive(Clone, Copy)]
struct Line(u16);

// Safety: the number is the machine's.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

struct Machine {
    ethernet: Lan9118,
    _tick: SYST,
    /// Ticks of 40 ns since the start, and the counter's last reading.
    time: Cell<(u64, u32)>,
}

impl Board for Machine {
    fn address(&self) -> [u8; 6] {
        self.ethernet.address()
    }

    /// From the LAN9118's counter: ticks of SysTick get lost when the emulator is busy.
    fn now(&self) -> Instant {
        let (ticks, last) = self.time.get();
        let reading = self.ethernet.ticks();
        // It wraps in three minutes, and is read each millisecond.
        let ticks = ticks + u64::from(reading.wrapping_sub(last));
        self.time.set((ticks, reading));
        Instant::from_micros((ticks / 25) as i64)
    }

    fn wait(&mut self) {
        if self.ethernet.idle() {
            cortex_m::asm::wfi();
        }
        NVIC::unpend(INTERRUPT);
        SCB::clear_pendst();
    }

    #[cfg(feature = "tls")]
    fn seed(&mut self) -> Option<[u8; 32]> {
        let arguments = env::args::<512>().ok()?;
        let digits = (&arguments)
            .flatten()
            .find_map(|word| word.strip_prefix(SEED))?;
        let mut seed = [0; 32];
        let decoded = base16ct::mixed::decode(digits, &mut seed).ok()?;
        (decoded.len() == 32).then_some(seed)
    }
}

impl Device for Machine {
    type RxToken<'a> = <Lan9118 as Device>::RxToken<'a>;
    type TxToken<'a> = <Lan9118 as Device>::TxToken<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.ethernet.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.ethernet.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.ethernet.capabilities()
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    semihosting::process::exit(101)
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    defmt::error!("hard fault at {:#010x}", frame.pc());
    semihosting::process::exit(102)
}
