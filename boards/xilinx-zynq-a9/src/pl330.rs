//! The DMA controller of the Zynq-7000, Arm's PL330: UG585 chapter 9; Arm DDI 0424D, chapters 3
//! and 4, for registers and instructions. Channel 0 copies, by a program that is written for each
//! copy.

use core::arch::asm;

/// Bytes that one load or store moves: 16 beats of 8.
pub const BURST: usize = 128;
/// Bytes that one copy moves at most: a loop counter of 8 bits.
pub const LONGEST: usize = 256 * BURST;

/// A program: 28 bytes of it are used. It must be in memory that is not cached.
#[repr(C, align(32))]
pub struct Program([u8; 32]);

impl Program {
    /// Unused memory; `const`, for a `static`.
    pub const fn new() -> Self {
        Self([0; 32])
    }
}

/// Offsets of registers, in bytes.
mod register {
    pub const CHANNEL_STATUS: usize = 0x100;
    pub const CHANNEL_FAULT: usize = 0x040;
    pub const DEBUG_STATUS: usize = 0xd00;
    pub const DEBUG_COMMAND: usize = 0xd04;
    pub const DEBUG_INSTRUCTIONS: [usize; 2] = [0xd08, 0xd0c];
}

/// States of a channel, in the lowest bits of its status.
const STATE: u32 = 0xf;
const STOPPED: u32 = 0x0;
const FAULTING: u32 = 0xf;

/// What DMAMOV moves to.
const SOURCE: u8 = 0;
const CONTROL: u8 = 1;
const DESTINATION: u8 = 2;

/// The channel's control register: addresses grow, 8 bytes a beat, 16 beats a burst; each of them
/// for the source, then for the destination.
const INCREMENTING: u32 = 1 | 3 << 1 | 15 << 4 | (1 | 3 << 1 | 15 << 4) << 14;

/// The controller.
pub struct Pl330 {
    registers: *mut u32,
    program: *mut Program,
}

impl Pl330 {
    /// # Safety
    ///
    /// `registers` must be where a PL330 is that works in this core's state of security, and no one
    /// else may use it or the program.
    pub unsafe fn new(registers: *mut u32, program: *mut Program) -> Self {
        Self { registers, program }
    }

    /// Begins a copy, when the one before it has ended. Copies whole bursts, of which the last may
    /// go beyond `bytes`.
    ///
    /// # Safety
    ///
    /// Both places must be this core's, in memory that is not cached, until [`wait`](Self::wait)
    /// returns.
    pub unsafe fn copy(&mut self, from: usize, to: usize, bytes: usize) {
        self.wait();
        let bursts = bytes.min(LONGEST).div_ceil(BURST).max(1);
        let [a, b, c, d] = (from as u32).to_le_bytes();
        let [e, f, g, h] = (to as u32).to_le_bytes();
        let [i, j, k, l] = INCREMENTING.to_le_bytes();
        #[rustfmt::skip]
        let program = [
            0xbc, SOURCE, a, b, c, d, // DMAMOV
            0xbc, DESTINATION, e, f, g, h, // DMAMOV
            0xbc, CONTROL, i, j, k, l, // DMAMOV
            0x20, (bursts - 1) as u8, // DMALP
            0x04, // DMALD
            0x08, // DMAST
            0x38, 2, // DMALPEND, two bytes back
            0x13, // DMAWMB: until all is written
            0x00, // DMAEND
            0, 0, 0, 0, 0, 0,
        ];
        // Safety: the program is ours, and nothing runs.
        unsafe { self.program.write_volatile(Program(program)) };
        while self.read(register::DEBUG_STATUS) & 1 != 0 {}
        // DMAGO for channel 0, in a secure state, from the manager's thread.
        let [first, second] = register::DEBUG_INSTRUCTIONS;
        self.write(first, 0xa0 << 16);
        self.write(second, self.program.addr() as u32);
        self.write(register::DEBUG_COMMAND, 0);
    }

    /// Waits for the end of the copy. A place that does not exist is a fault.
    pub fn wait(&self) {
        loop {
            match self.read(register::CHANNEL_STATUS) & STATE {
                STOPPED => break,
                FAULTING => {
                    let fault = self.read(register::CHANNEL_FAULT);
                    defmt::error!("DMA has failed: {:#010x}", fault);
                    forcewire_semihosted::fault()
                }
                _ => {}
            }
        }
        // Safety: a barrier; what was copied is read after it.
        unsafe { asm!("dsb") };
    }

    fn read(&self, offset: usize) -> u32 {
        // Safety: the caller of `new` gave us the registers, and all offsets are the controller's.
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    fn write(&mut self, offset: usize, value: u32) {
        // Safety: as above. The program and what it copies are written before.
        unsafe {
            asm!("dsb");
            self.registers.byte_add(offset).write_volatile(value);
        }
    }
}
