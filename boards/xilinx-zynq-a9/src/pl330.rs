//! The DMA controller of the Zynq-7000, Arm's PL330: UG585 chapter 9; Arm DDI 0424D, chapters 3
//! and 4, for registers and instructions. Channel 0 runs a program that is written for each copy.

use core::arch::asm;

/// The bytes of one load or store: 16 beats of 8.
pub const BURST: usize = 128;
/// The most bytes of one copy: a loop counter has 8 bits.
pub const LONGEST: usize = 256 * BURST;

/// Memory for a program. It must not be cached; zeros are valid.
#[repr(C, align(32))]
pub struct Program([u8; 32]);

/// Offsets of registers, in bytes.
mod register {
    pub const CHANNEL_STATUS: usize = 0x100;
    pub const CHANNEL_FAULT: usize = 0x040;
    pub const DEBUG_STATUS: usize = 0xd00;
    pub const DEBUG_COMMAND: usize = 0xd04;
    pub const DEBUG_INSTRUCTIONS: [usize; 2] = [0xd08, 0xd0c];
}

/// The state of a channel, in the low bits of its status.
const STATE: u32 = 0xf;
const STOPPED: u32 = 0x0;
const FAULTING: u32 = 0xf;

/// Registers of a channel, as DMAMOV numbers them.
const SOURCE: u8 = 0;
const CONTROL: u8 = 1;
const DESTINATION: u8 = 2;

/// The control register of a channel: rising addresses, 8 bytes a beat, 16 beats a burst, for the
/// source and for the destination.
const INCREMENTING: u32 = 1 | 3 << 1 | 15 << 4 | (1 | 3 << 1 | 15 << 4) << 14;

/// The controller.
pub struct Pl330 {
    registers: *mut u32,
    program: *mut Program,
}

impl Pl330 {
    /// # Safety
    ///
    /// `registers` must be the registers of a PL330 for this core's security state. Nothing else
    /// may use them or the program.
    pub unsafe fn new(registers: *mut u32, program: *mut Program) -> Self {
        Self { registers, program }
    }

    /// Starts a copy, after the previous one has ended. It copies whole bursts, so the last one may
    /// go beyond `bytes`.
    ///
    /// # Safety
    ///
    /// The copy may read and write both places until [`wait`](Self::wait) returns. This core must
    /// not cache them.
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
            0x13, // DMAWMB: waits for all stores
            0x00, // DMAEND
            0, 0, 0, 0, 0, 0,
        ];
        // Safety: the program is ours, and it is not running.
        unsafe { self.program.write_volatile(Program(program)) };
        while self.read(register::DEBUG_STATUS) & 1 != 0 {}
        // The manager executes DMAGO for channel 0, in the secure state.
        let [first, second] = register::DEBUG_INSTRUCTIONS;
        self.write(first, 0xa0 << 16);
        self.write(second, self.program.addr() as u32);
        self.write(register::DEBUG_COMMAND, 0);
    }

    /// Waits for the end of the copy. An address that does not exist is a fault.
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
        // Safety: a barrier; the copy is read afterwards.
        unsafe { asm!("dsb") };
    }

    fn read(&self, offset: usize) -> u32 {
        // Safety: the caller of `new` passed the registers, and all offsets are the controller's.
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    fn write(&mut self, offset: usize, value: u32) {
        // Safety: as above. The barrier completes writes to the program and the source.
        unsafe {
            asm!("dsb");
            self.registers.byte_add(offset).write_volatile(value);
        }
    }
}
