//! The Ethernet controller of TI's Stellaris, polled, for smoltcp. LM3S6965 data sheet, chapter 15.

use forcewire_boards::Ethernet;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest frame without its checksum.
const FRAME: usize = 1514;
/// A frame in the FIFO's format, in whole words: its length in two bytes, the frame, its checksum.
type Buffer = [u8; 1520];
const LENGTH: usize = 2;
const CHECKSUM: usize = 4;
/// The size of Ethernet's header, which does not count in the length of an outgoing frame.
const HEADER: usize = 14;

/// The controller.
pub struct Stellaris {
    registers: Registers,
    received: Buffer,
    sent: Buffer,
}

/// The base address of the controller's registers.
#[derive(Clone, Copy)]
struct Registers(*mut u32);

/// Offsets of registers, in bytes.
mod register {
    pub const STATUS: usize = 0x00;
    pub const INTERRUPT_MASK: usize = 0x04;
    pub const RX_CONTROL: usize = 0x08;
    pub const TX_CONTROL: usize = 0x0c;
    pub const DATA: usize = 0x10;
    pub const ADDRESS: [usize; 2] = [0x14, 0x18];
    pub const WAITING: usize = 0x34;
    pub const TX_REQUEST: usize = 0x38;
}

impl Registers {
    fn read(self, offset: usize) -> u32 {
        // Safety: the caller of `Stellaris::new` passed the registers, and all offsets are the
        // controller's.
        unsafe { self.0.byte_add(offset).read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        // Safety: as above.
        unsafe { self.0.byte_add(offset).write_volatile(value) }
    }

    /// Takes the next frame out of the FIFO. Returns its length, or None if it is too long.
    fn take(self, buffer: &mut Buffer) -> Option<usize> {
        let first = self.read(register::DATA).to_le_bytes();
        let [low, high, ..] = first;
        let whole = usize::from(u16::from_le_bytes([low, high]));
        let (words, _) = buffer.as_chunks_mut::<4>();
        let mut room = words.iter_mut();
        if let Some(word) = room.next() {
            *word = first;
        }
        for _ in 1..whole.div_ceil(4) {
            let word = self.read(register::DATA).to_le_bytes();
            if let Some(room) = room.next() {
                *room = word;
            }
        }
        let len = whole.checked_sub(LENGTH + CHECKSUM)?;
        (len <= FRAME).then_some(len)
    }

    fn can_send(self) -> bool {
        self.read(register::TX_REQUEST) & 1 == 0
    }

    /// Sends the frame in the buffer, which begins after the place for its length.
    fn send(self, buffer: &mut Buffer, len: usize) {
        let (words, _) = buffer.as_chunks_mut::<4>();
        if let Some([low, high, ..]) = words.first_mut() {
            [*low, *high] = (len.saturating_sub(HEADER) as u16).to_le_bytes();
        }
        for word in words.iter().take((LENGTH + len).div_ceil(4)) {
            self.write(register::DATA, u32::from_le_bytes(*word));
        }
        self.write(register::TX_REQUEST, 1);
    }
}

impl Stellaris {
    /// Enables both directions.
    ///
    /// # Safety
    ///
    /// `registers` must be the controller's registers, and nothing else may use them.
    pub unsafe fn new(registers: *mut u32) -> Self {
        let registers = Registers(registers);
        registers.write(register::RX_CONTROL, 1 << 4); // empties the FIFO
        registers.write(register::RX_CONTROL, 1 << 3 | 1); // damaged frames are dropped
        // Full duplex, checksum, padding, enabled.
        registers.write(register::TX_CONTROL, 1 << 4 | 1 << 2 | 1 << 1 | 1);
        registers.write(register::INTERRUPT_MASK, 1); // a frame has come
        Self {
            registers,
            received: [0; 1520],
            sent: [0; 1520],
        }
    }
}

impl Ethernet for Stellaris {
    fn address(&self) -> [u8; 6] {
        let [low, high] = register::ADDRESS.map(|offset| self.registers.read(offset));
        let ([a, b, c, d], [e, f, ..]) = (low.to_le_bytes(), high.to_le_bytes());
        [a, b, c, d, e, f]
    }

    fn idle(&mut self) -> bool {
        self.registers.write(register::STATUS, !0);
        self.registers.read(register::WAITING) == 0
    }
}

impl Device for Stellaris {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        let registers = self.registers;
        while registers.read(register::WAITING) > 0 && registers.can_send() {
            if let Some(len) = registers.take(&mut self.received) {
                let frame = self.received.get(LENGTH..LENGTH + len)?;
                return Some((Received(frame), Sender(registers, &mut self.sent)));
            }
        }
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        let registers = self.registers;
        registers
            .can_send()
            .then_some(Sender(registers, &mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A received frame.
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A frame to send, and the buffer in which it is written.
pub struct Sender<'a>(Registers, &'a mut Buffer);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self(registers, buffer) = self;
        let len = len.min(FRAME);
        let frame = buffer.get_mut(LENGTH..LENGTH + len);
        let result = f(frame.unwrap_or_default());
        registers.send(buffer, len);
        result
    }
}
