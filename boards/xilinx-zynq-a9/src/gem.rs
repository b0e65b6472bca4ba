//! The Ethernet controller of the Zynq-7000, Cadence's GEM, for smoltcp: UG585 chapter 16, and
//! appendix B for the registers.

use core::arch::asm;

use forcewire_boards::Ethernet;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest frame without its checksum, and room for one. The controller counts the size of a
/// buffer in units of 64 bytes.
const FRAME: usize = 1514;
const UNIT: usize = 64;
type Buffer = [u8; 24 * UNIT];

/// The numbers of buffers. Those for received frames hold more than the receive ring of TCP.
const RECEIVED: usize = 8;
const SENT: usize = 2;

/// The address of a buffer, and its state (UG585, tables 16-2 and 16-3).
type Descriptor = [u32; 2];
/// First word of a receive descriptor: the buffer is ours and holds a frame; the ring ends here.
const FILLED: u32 = 1 << 0;
const LAST: u32 = 1 << 1;
/// Second word of a receive descriptor: the length of the frame.
const LENGTH: u32 = 0x1fff;
/// Second word of a transmit descriptor: the buffer is ours; the ring ends here; the frame ends in
/// this buffer.
const FREE: u32 = 1 << 31;
const WRAP: u32 = 1 << 30;
const END: u32 = 1 << 15;

/// The memory that the controller reads and writes. It must not be cached; zeros are valid.
#[repr(C, align(64))]
pub struct Rings {
    receive: [Descriptor; RECEIVED],
    transmit: [Descriptor; SENT],
    received: [Buffer; RECEIVED],
    sent: [Buffer; SENT],
}

/// Offsets of registers, in bytes.
mod register {
    pub const NET_CTRL: usize = 0x00;
    pub const NET_CFG: usize = 0x04;
    pub const DMA_CFG: usize = 0x10;
    pub const RX_QBAR: usize = 0x18;
    pub const TX_QBAR: usize = 0x1c;
    pub const RX_STATUS: usize = 0x20;
    pub const INTR_STATUS: usize = 0x24;
    pub const INTR_EN: usize = 0x28;
    pub const SPEC_ADDR1: [usize; 2] = [0x88, 0x8c];
}

/// Bits of NET_CTRL: both directions are enabled; queued frames are to be sent.
const ON: u32 = 1 << 3 | 1 << 2;
const START: u32 = 1 << 9;

/// The controller, and the indices of its next descriptors.
pub struct Gem {
    shared: Shared,
    receive: usize,
    transmit: usize,
}

/// The controller's registers and rings.
#[derive(Clone, Copy)]
struct Shared {
    registers: *mut u32,
    rings: *mut Rings,
}

// Safety, here and below: the caller of `Gem::new` passed the registers and the rings, and a buffer
// is used only while its descriptor marks it as ours.
impl Shared {
    fn read(self, offset: usize) -> u32 {
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        barrier(); // the controller reads the rings afterwards
        unsafe { self.registers.byte_add(offset).write_volatile(value) }
    }

    /// The received frame in this buffer, if there is one.
    fn received<'a>(self, index: usize) -> Option<&'a [u8]> {
        let descriptor = unsafe { &raw const (*self.rings).receive[index] };
        let [first, second] = unsafe { descriptor.read_volatile() };
        barrier(); // the frame is read afterwards
        let buffer = unsafe { &(*self.rings).received[index] };
        (first & FILLED != 0).then(|| &buffer[..(second & LENGTH) as usize])
    }

    /// Returns a buffer to the controller. QEMU 7.2 reads the ring again only after a write to
    /// NET_CTRL.
    fn release(self, index: usize) {
        barrier(); // the frame has been read
        unsafe {
            let first = &raw mut (*self.rings).receive[index][0];
            first.write_volatile(first.read_volatile() & !FILLED);
        }
        self.write(register::NET_CTRL, ON);
    }

    fn can_send(self, index: usize) -> bool {
        let state = unsafe { (&raw const (*self.rings).transmit[index][1]).read_volatile() };
        state & FREE != 0
    }

    fn send(self, index: usize, len: usize) {
        let wrap = if index + 1 == SENT { WRAP } else { 0 };
        barrier(); // the frame has been written
        unsafe {
            let state = &raw mut (*self.rings).transmit[index][1];
            state.write_volatile(wrap | END | len as u32);
        }
        self.write(register::NET_CTRL, ON | START);
    }
}

/// Orders accesses to memory that is not cached.
fn barrier() {
    unsafe { asm!("dsb") };
}

impl Gem {
    /// Sets up the rings and enables both directions. Clock, PHY and hardware address stay as the
    /// boot loader or QEMU has set them.
    ///
    /// # Safety
    ///
    /// `registers` must be the registers of a GEM, and nothing else may use them or the rings.
    pub unsafe fn new(registers: *mut u32, rings: *mut Rings) -> Self {
        let shared = Shared { registers, rings };
        shared.write(register::NET_CTRL, 0);
        // Safety: the caller ensures this, and the controller is disabled.
        let rings = unsafe { &mut *rings };
        for (descriptor, buffer) in rings.receive.iter_mut().zip(&rings.received) {
            *descriptor = [buffer.as_ptr().addr() as u32, 0];
        }
        for (descriptor, buffer) in rings.transmit.iter_mut().zip(&rings.sent) {
            *descriptor = [buffer.as_ptr().addr() as u32, FREE];
        }
        rings.receive[RECEIVED - 1][0] |= LAST;
        rings.transmit[SENT - 1][1] |= WRAP;
        // Without the checksums of received frames; gigabit, full duplex.
        shared.write(register::NET_CFG, 1 << 17 | 1 << 10 | 1 << 1);
        // The size of a receive buffer; all internal memory for packets; bursts of 16.
        let units = (size_of::<Buffer>() / UNIT) as u32;
        shared.write(register::DMA_CFG, units << 16 | 1 << 10 | 3 << 8 | 16);
        shared.write(register::RX_QBAR, rings.receive.as_ptr().addr() as u32);
        shared.write(register::TX_QBAR, rings.transmit.as_ptr().addr() as u32);
        // Writing the upper half enables the address.
        for offset in register::SPEC_ADDR1 {
            shared.write(offset, shared.read(offset));
        }
        shared.write(register::INTR_EN, 1 << 1); // a frame has come
        shared.write(register::NET_CTRL, ON);
        Self {
            shared,
            receive: 0,
            transmit: 0,
        }
    }
}

impl Ethernet for Gem {
    fn address(&self) -> [u8; 6] {
        let [low, high] = register::SPEC_ADDR1.map(|offset| self.shared.read(offset));
        let ([a, b, c, d], [e, f, ..]) = (low.to_le_bytes(), high.to_le_bytes());
        [a, b, c, d, e, f]
    }

    fn idle(&mut self) -> bool {
        for status in [register::INTR_STATUS, register::RX_STATUS] {
            self.shared.write(status, self.shared.read(status));
        }
        self.shared.received(self.receive).is_none()
    }
}

impl Device for Gem {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        let (shared, index) = (self.shared, self.receive);
        if !shared.can_send(self.transmit) {
            return None;
        }
        let frame = shared.received(index)?;
        self.receive = (index + 1) % RECEIVED;
        Some((Received(shared, index, frame), self.transmit(now)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        let free = self.shared.can_send(self.transmit);
        free.then_some(Sender(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A received frame, in its buffer.
pub struct Received<'a>(Shared, usize, &'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let Self(shared, index, frame) = self;
        let result = f(frame);
        shared.release(index);
        result
    }
}

/// Permission to send a frame.
pub struct Sender<'a>(&'a mut Gem);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let (shared, index) = (self.0.shared, self.0.transmit);
        let len = len.min(FRAME);
        // Safety: the descriptor marks the buffer as ours.
        let result = f(unsafe { &mut (&mut (*shared.rings).sent[index])[..len] });
        shared.send(index, len);
        self.0.transmit = (index + 1) % SENT;
        result
    }
}
