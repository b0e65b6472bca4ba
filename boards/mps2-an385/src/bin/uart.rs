//! Argon's forces over the board's UART: `forcewire::line` at this end, `forcewire bridge` at the
//! other.
//!
//! Each message has one structure. Options and the final status are the same as on the other
//! boards. The log goes to the debugger's error output, because with `-serial stdio` the UART uses
//! standard output.

#![no_std]
#![no_main]

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};
use core::time::Duration;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, Peripherals, SCB, SYST};
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use forcewire::line::Line;
use forcewire::potential::LennardJones;
use forcewire::{Driver, Error, Event, Header, Potential, Storage, blocking};
use forcewire_boards::{Attempts, Options};
use semihosting::eprintln;
use semihosting::experimental::env;

/// The core's clock (QEMU 7.2, hw/arm/mps2.c).
const CLOCK: u32 = 25_000_000;
const BAUD: u32 = 115_200;

const ATOMS: usize = 256;

/// A tick ends each sleep. Twenty ticks a second cost an emulated board 0.2 % of its host's core.
const TICK_MS: u32 = 50;
const TICK: u32 = CLOCK / 1000 * TICK_MS;
static TICKS: AtomicU32 = AtomicU32::new(0);

/// The time since the start. Don't call it while interrupts are masked.
fn milliseconds() -> u32 {
    loop {
        let (before, current) = (TICKS.load(Relaxed), SYST::get_current());
        // Read again if a tick occurred in between, or has occurred and has not been counted.
        if !SCB::is_pendst_pending() && TICKS.load(Relaxed) == before {
            return before.wrapping_mul(TICK_MS) + (TICK - 1 - current) / (CLOCK / 1000);
        }
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut ARRAYS: Storage<f64, ATOMS, 1> = Storage::new();
    static mut NEIGHBOURS: [[u32; 2]; ATOMS] = [[0; 2]; ATOMS];

    let Some(mut core) = Peripherals::take() else {
        semihosting::process::exit(2);
    };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(TICK - 1);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    core.SYST.enable_interrupt();
    // The counter starts at 0, which is also the end of a tick.
    while SYST::get_current() == 0 {}

    let Ok(words) = env::args::<256>() else {
        semihosting::process::exit(2);
    };
    // The first word is the image's name. The bridge knows the server's address.
    let Ok(options) = Options::parse((&words).skip(1).flatten()) else {
        eprintln!("options are {}", Options::USAGE);
        semihosting::process::exit(2);
    };
    let [sigma, epsilon, cutoff] = options.lj;
    let mut potential = LennardJones::new(sigma, epsilon, cutoff)
        .with_cutoff(options.cutoff)
        .with_storage(NEIGHBOURS.as_flattened_mut());
    let mut driver = Driver::new();
    let clock = || Duration::from_millis(milliseconds().into());
    let mut line = Line::board(Uart::new(), clock);
    let mut attempts = Attempts::new();
    while line.open(options.patience.into()).is_ok() {
        let mut timed = blocking::WithDeadlines::new(&mut line, options.deadlines, clock);
        let mut replies = 0;
        let ended = serve(
            &mut timed,
            &mut driver,
            ARRAYS,
            &mut potential,
            &mut replies,
        );
        let _ = line.close();
        let moved = driver.traffic();
        eprintln!("{} bytes received, {} sent", moved.received, moved.sent);
        match ended {
            Ok(Event::Exit) => {
                eprintln!("the server said EXIT");
                semihosting::process::exit(0);
            }
            Ok(_) => eprintln!("the server closed the connection"),
            Err(error) => eprintln!("{error}"),
        }
        driver.reset();
        let Some(pause) = attempts.ended(replies > 0) else {
            semihosting::process::exit(3);
        };
        let until = clock() + pause;
        while clock() < until {
            cortex_m::asm::wfi();
        }
    }
    semihosting::process::exit(1)
}

/// Serves one connection to its end, and counts the replies that the server received.
fn serve<S: blocking::Transport>(
    line: &mut S,
    driver: &mut Driver,
    arrays: &mut Storage<f64, ATOMS, 1>,
    potential: &mut impl Potential<Real = f64>,
    replies: &mut u64,
) -> Result<Event, Error<S::Error>> {
    loop {
        match blocking::run(line, arrays.receive(driver))? {
            Event::Positions {
                natoms, structures, ..
            } => {
                arrays.evaluate(natoms, structures, potential)?;
                blocking::run(line, arrays.reply(driver))?;
                // A server that has closed without asking for the forces has not received them.
                *replies += u64::from(driver.status() != Header::HaveData);
            }
            Event::Init { .. } => {}
            end => return Ok(end),
        }
    }
}

/// CMSDK APB UART 0 (Arm DDI 0479D, 4.3). Its interrupt puts received bytes into a ring.
struct Uart;

const UART: *mut u32 = 0x4000_4000 as *mut u32;
/// The registers of the UART, as word offsets.
const DATA: usize = 0;
const STATE: usize = 1;
const CONTROL: usize = 2;
const INTERRUPT: usize = 3;
const DIVIDER: usize = 4;
/// Bits of the registers STATE, CONTROL and INTERRUPT.
const TX_FULL: u32 = 1;
const RX_FULL: u32 = 2;
const RX_OVERRUN: u32 = 8;
const TX_ENABLE: u32 = 1;
const RX_ENABLE: u32 = 2;
const RX_INTERRUPT: u32 = 8;
const RX_PENDING: u32 = 2;

/// Room for bytes that arrive while the core computes; `forcewire::line` explains the number.
const ROOM: usize = 512;
static RING: [AtomicU8; ROOM] = [const { AtomicU8::new(0) }; ROOM];
/// Only the interrupt changes `HEAD`, only the reader `TAIL`. Both count up and wrap.
static HEAD: AtomicUsize = AtomicUsize::new(0);
static TAIL: AtomicUsize = AtomicUsize::new(0);
static OVERRUN: AtomicBool = AtomicBool::new(false);

/// The number of the interrupt (Arm DAI 0385D, table 3-5).
#[derive(Clone, Copy)]
struct Received;

// Safety: the machine has an interrupt with this number.
unsafe impl cortex_m::interrupt::InterruptNumber for Received {
    fn number(self) -> u16 {
        0
    }
}

fn register(at: usize) -> u32 {
    // Safety: the register exists, and may be read at any time.
    unsafe { UART.add(at).read_volatile() }
}

fn set(at: usize, value: u32) {
    // Safety: as above; the interrupt and the reader write CONTROL, each always with the same bits.
    unsafe { UART.add(at).write_volatile(value) }
}

impl Uart {
    fn new() -> Self {
        set(DIVIDER, CLOCK / BAUD);
        set(CONTROL, TX_ENABLE | RX_ENABLE | RX_INTERRUPT);
        // Safety: the handler is defined below.
        unsafe { NVIC::unmask(Received) };
        Self
    }
}

impl ErrorType for Uart {
    type Error = ErrorKind;
}

impl Read for Uart {
    /// Reads some bytes; times out after 100 ms.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let start = milliseconds();
        loop {
            if OVERRUN.swap(false, Relaxed) {
                return Err(ErrorKind::Other);
            }
            let tail = TAIL.load(Relaxed);
            let here = HEAD.load(Acquire).wrapping_sub(tail);
            let n = here.min(buffer.len());
            for (i, byte) in buffer.iter_mut().take(n).enumerate() {
                *byte = RING[tail.wrapping_add(i) % ROOM].load(Relaxed);
            }
            TAIL.store(tail.wrapping_add(n), Release);
            if register(CONTROL) & RX_INTERRUPT == 0 {
                set(CONTROL, TX_ENABLE | RX_ENABLE | RX_INTERRUPT);
                // The interrupt for the byte that waits in the UART has already occurred.
                NVIC::pend(Received);
            }
            if n > 0 {
                return Ok(n);
            }
            if milliseconds().wrapping_sub(start) >= 100 {
                return Err(ErrorKind::TimedOut);
            }
            // A byte that arrives after this check is pending and ends the sleep.
            cortex_m::interrupt::free(|_| {
                if HEAD.load(Acquire) == TAIL.load(Relaxed) {
                    cortex_m::asm::wfi();
                }
            });
        }
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        for byte in bytes {
            while register(STATE) & TX_FULL != 0 {}
            set(DATA, u32::from(*byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// The handler of the UART's interrupt, the only one.
#[cortex_m_rt::exception]
unsafe fn DefaultHandler(_: i16) {
    set(INTERRUPT, RX_PENDING);
    while register(STATE) & RX_FULL != 0 {
        let head = HEAD.load(Relaxed);
        if head.wrapping_sub(TAIL.load(Acquire)) == ROOM {
            // The byte stays in the UART until there is room. QEMU sends no other byte before that;
            // on a cable without RTS the next one is an overrun.
            set(CONTROL, TX_ENABLE | RX_ENABLE);
            break;
        }
        RING[head % ROOM].store(register(DATA) as u8, Relaxed);
        HEAD.store(head.wrapping_add(1), Release);
    }
    if register(STATE) & RX_OVERRUN != 0 {
        set(STATE, RX_OVERRUN);
        OVERRUN.store(true, Relaxed);
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    TICKS.fetch_add(1, Relaxed);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    semihosting::process::exit(101)
}

#[cortex_m_rt::exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    semihosting::process::exit(102)
}
