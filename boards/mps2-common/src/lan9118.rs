//! SMSC's LAN9118 Ethernet controller, polled, for smoltcp.
//!
//! Register numbers and bits: SMSC LAN9118 datasheet, chapter 5. QEMU 7.2's model
//! (`hw/net/lan9118.c`) has a receive FIFO of about 10 KiB and drops what doesn't fit: keep TCP's
//! receive window under 8 KiB.

use forcewire_boards::Ethernet;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The longest frame without its checksum, and room for one with it, because the FIFOs use whole
/// words.
const FRAME: usize = 1514;
type Frame = [u8; 1520];

/// The controller.
pub struct Lan9118 {
    registers: Registers,
    received: Frame,
    sent: Frame,
}

/// The base address of the controller's registers.
#[derive(Clone, Copy)]
struct Registers(*mut u32);

/// Offsets of registers, in bytes.
mod register {
    pub const RX_DATA: usize = 0x00;
    pub const TX_DATA: usize = 0x20;
    pub const RX_STATUS: usize = 0x40;
    pub const TX_STATUS: usize = 0x48;
    pub const IRQ_CFG: usize = 0x54;
    pub const INT_STS: usize = 0x58;
    pub const INT_EN: usize = 0x5c;
    pub const BYTE_TEST: usize = 0x64;
    pub const FIFO_INT: usize = 0x68;
    pub const TX_CFG: usize = 0x70;
    pub const HW_CFG: usize = 0x74;
    pub const RX_FIFO_INF: usize = 0x7c;
    pub const TX_FIFO_INF: usize = 0x80;
    pub const MAC_CSR_CMD: usize = 0xa4;
    pub const MAC_CSR_DATA: usize = 0xa8;
}

/// Numbers of the MAC's registers.
mod mac {
    pub const CR: u32 = 1;
    pub const ADDRH: u32 = 2;
    pub const ADDRL: u32 = 3;
}

impl Registers {
    fn read(self, offset: usize) -> u32 {
        // Safety: the caller of `Lan9118::new` passed the registers, and all offsets are the
        // controller's.
        unsafe { self.0.byte_add(offset).read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        // Safety: as above.
        unsafe { self.0.byte_add(offset).write_volatile(value) }
    }

    fn read_mac(self, number: u32) -> u32 {
        self.write(register::MAC_CSR_CMD, 1 << 31 | 1 << 30 | number);
        while self.read(register::MAC_CSR_CMD) & 1 << 31 != 0 {}
        self.read(register::MAC_CSR_DATA)
    }

    fn write_mac(self, number: u32, value: u32) {
        self.write(register::MAC_CSR_DATA, value);
        self.write(register::MAC_CSR_CMD, 1 << 31 | number);
        while self.read(register::MAC_CSR_CMD) & 1 << 31 != 0 {}
    }

    /// The number of received frames.
    fn waiting(self) -> u32 {
        self.read(register::RX_FIFO_INF) >> 16 & 0xff
    }

    /// Takes the next frame out of the FIFO. Returns its length, or None if it is damaged or too
    /// long.
    fn take(self, frame: &mut Frame) -> Option<usize> {
        let status = self.read(register::RX_STATUS);
        let with_checksum = (status >> 16 & 0x3fff) as usize;
        let mut room = frame.chunks_exact_mut(4);
        for _ in 0..with_checksum.div_ceil(4) {
            let word = self.read(register::RX_DATA).to_le_bytes();
            if let Some(bytes) = room.next() {
                bytes.copy_from_slice(&word);
            }
        }
        let len = with_checksum.checked_sub(4)?;
        (status & 1 << 15 == 0 && len <= FRAME).then_some(len)
    }

    /// Whether a frame of any size can be sent.
    fn can_send(self) -> bool {
        while self.read(register::TX_FIFO_INF) >> 16 & 0xff != 0 {
            self.read(register::TX_STATUS);
        }
        self.read(register::TX_FIFO_INF) & 0xffff >= FRAME as u32 + 16
    }

    /// Sends the first `len` bytes of the buffer as a frame.
    fn send(self, frame: &Frame, len: usize) {
        self.write(register::TX_DATA, 1 << 13 | 1 << 12 | len as u32); // one segment is all of it
        self.write(register::TX_DATA, len as u32);
        let (words, _) = frame.as_chunks();
        for word in words.iter().take(len.div_ceil(4)) {
            self.write(register::TX_DATA, u32::from_le_bytes(*word));
        }
    }
}

impl Lan9118 {
    /// Resets the controller and enables both directions. `None` if there is no such device.
    ///
    /// # Safety
    ///
    /// `registers` must be the controller's registers, and nothing else may use them.
    pub unsafe fn new(registers: *mut u32) -> Option<Self> {
        let registers = Registers(registers);
        if registers.read(register::BYTE_TEST) != 0x8765_4321 {
            return None;
        }
        registers.write(register::HW_CFG, 1); // soft reset
        while registers.read(register::HW_CFG) & 1 != 0 {}
        registers.write(register::HW_CFG, 1 << 20 | 5 << 16); // store and forward; 5 KiB to transmit
        registers.write(register::FIFO_INT, 0); // any frame interrupts
        registers.write(register::INT_EN, 1 << 3); // RX status FIFO above its level
        registers.write(register::IRQ_CFG, 1 << 8 | 1 << 4 | 1); // enabled, active high, push-pull
        registers.write(register::TX_CFG, 1 << 1);
        let control = registers.read_mac(mac::CR);
        registers.write_mac(mac::CR, control | 1 << 3 | 1 << 2); // transmitter and receiver on
        Some(Self {
            registers,
            received: [0; 1520],
            sent: [0; 1520],
        })
    }
}

impl Ethernet for Lan9118 {
    /// The address from the EEPROM or the emulator.
    fn address(&self) -> [u8; 6] {
        let [a, b, c, d] = self.registers.read_mac(mac::ADDRL).to_le_bytes();
        let [e, f, ..] = self.registers.read_mac(mac::ADDRH).to_le_bytes();
        [a, b, c, d, e, f]
    }

    fn idle(&mut self) -> bool {
        self.registers.write(register::INT_STS, !0);
        self.registers.waiting() == 0
    }
}

impl Device for Lan9118 {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        let registers = self.registers;
        while registers.waiting() > 0 && registers.can_send() {
            if let Some(len) = registers.take(&mut self.received) {
                let frame = self.received.get_mut(..len)?;
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
pub struct Received<'a>(&'a mut [u8]);

impl<'a> Received<'a> {
    /// The frame's bytes, for a network stack that needs to write to them.
    #[must_use]
    pub fn into_bytes(self) -> &'a mut [u8] {
        self.0
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A frame to send, and the buffer in which it is written.
pub struct Sender<'a>(Registers, &'a mut Frame);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self(registers, frame) = self;
        let len = len.min(FRAME);
        let result = f(frame.get_mut(..len).unwrap_or_default());
        registers.send(frame, len);
        result
    }
}
