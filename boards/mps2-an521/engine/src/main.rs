//! The image of core 1: computes jobs for core 0, and sleeps.
//!
//! The doorbell interrupts the core at any point, and its handler does not return there. The core
//! abandons its computation and looks into the mailbox again, with an empty stack. A withdrawn job
//! therefore ends at once, and so does the sleep after a fault or a panic. A job owns nothing but
//! its arrays, so nothing has to be dropped.

#![no_std]
#![no_main]

use core::arch::global_asm;
use core::panic::PanicInfo;

use cortex_m::peripheral::NVIC;
use mps2_an521_engine::{Doorbell, Mailbox, Number, Outcome};

#[cortex_m_rt::entry]
fn main() -> ! {
    if let Some(core) = cortex_m::Peripherals::take() {
        // Safety: interrupted code is never resumed, so the FPU's registers need not be saved, and
        // a stack overflow is a fault.
        unsafe {
            core.FPU.fpccr.modify(|control| control & !(ASPEN | LSPEN));
            cortex_m::register::msplim::write((&raw const _stack_end).addr() as u32);
            NVIC::unmask(Line);
        }
    }
    serve()
}

/// Bits of FPCCR (Armv8-M ARM): an exception saves the FPU's registers, or may do so later.
const ASPEN: u32 = 1 << 31;
const LSPEN: u32 = 1 << 30;

unsafe extern "C" {
    static _stack_end: u32;
}

/// Does the current job, then sleeps until the doorbell starts this function again.
extern "C" fn serve() -> ! {
    // Safety: this is core 1.
    if let Some((number, job)) = unsafe { Mailbox::shared() }.next() {
        // Safety: core 0 leaves the arrays alone until it has the outcome or the doorbell has rung.
        let outcome = match unsafe { job.run() } {
            Ok(evaluation) => Outcome::success(&evaluation),
            Err(error) => Outcome::failure(error),
        };
        answer(number, outcome)
    }
    sleep()
}

/// Wakes core 0 for an outcome. The order matters: core 0 silences its doorbell after taking the
/// outcome, and would not sleep again if the doorbell rang later.
fn answer(number: Number, outcome: Outcome) {
    Doorbell::CORE_0.ring();
    // Safety: this is core 1.
    unsafe { Mailbox::shared() }.answer(number, outcome);
}

/// Fails the requested job.
fn fail(reason: impl core::fmt::Display) -> ! {
    // Safety: this is core 1.
    if let Some((number, _)) = unsafe { Mailbox::shared() }.next() {
        answer(number, Outcome::failure(reason));
    }
    sleep()
}

extern "C" fn faulted() -> ! {
    fail("core 1 has a fault, or its stack has overflowed")
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("core 1 {}", info))
}

fn sleep() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}

// Neither handler returns to the interrupted code. They discard the whole stack, including the
// exception's frame, and push a frame that returns to a function. Only its last two words matter,
// the function and EPSR.T (Armv8-M ARM, RETPSR). Bit 4 of the link register marks a frame without
// FPU registers (EXC_RETURN.FType).
global_asm!(
    ".section .text.handlers, \"ax\"",
    ".global DefaultHandler, HardFault",
    ".type DefaultHandler, %function",
    ".type HardFault, %function",
    ".thumb_func",
    "DefaultHandler:",
    "ldr r0, =_stack_start",
    "mov sp, r0",
    "push {{r0, lr}}",
    "bl {silence}",
    "pop {{r0, lr}}",
    "ldr r1, ={serve}",
    "b 0f",
    ".thumb_func",
    "HardFault:",
    "ldr r1, ={faulted}",
    "0:",
    "ldr r0, =_stack_start",
    "subs r0, #32",
    "mov sp, r0",
    "bic r1, #1",
    "str r1, [r0, #24]",
    "mov r1, #1 << 24",
    "str r1, [r0, #28]",
    "orr lr, #1 << 4",
    "bx lr",
    ".ltorg",
    silence = sym silence,
    serve = sym serve,
    faulted = sym faulted,
);

/// Silence the doorbell before looking into the mailbox: a later request rings it again.
extern "C" fn silence() {
    Doorbell::CORE_1.silence();
}

/// The doorbell's interrupt.
#[derive(Clone, Copy)]
struct Line;

// Safety: the machine has an interrupt with this number.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        Doorbell::LINE
    }
}
