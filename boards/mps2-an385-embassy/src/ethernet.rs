//! The LAN9118 as a driver for embassy-net.
//!
//! `forcewire-mps2` implements it for smoltcp 0.14, whereas embassy-net 0.9 needs 0.13. Only frames
//! pass from one to the other.

use core::task::Context;

use cortex_m::peripheral::NVIC;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_sync::waitqueue::AtomicWaker;
use forcewire_boards::Ethernet;
use forcewire_mps2::lan9118::{self, Lan9118};
use smoltcp::phy::{self, Device as _};
use smoltcp::time::Instant;

use crate::vectors::Line;

/// The controller's interrupt (Arm DAI 0385D, table 3-5).
pub const LINE: Line = Line(13);

/// The waker of the task that moves frames.
static MOVER: AtomicWaker = AtomicWaker::new();

/// Signals that a frame was received or sent since the last wait.
pub static FRAME: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// The controller's interrupt handler. The interrupt stays masked until all frames have been read,
/// so the handler needs no access to the controller.
pub extern "C" fn interrupt() {
    NVIC::mask(LINE);
    MOVER.wake();
    FRAME.signal(());
}

/// The controller.
pub struct Wire(pub Lan9118);

impl Driver for Wire {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Sender<'_>)> {
        MOVER.register(context.waker());
        if self.0.idle() {
            // Safety: the handler is `interrupt`. It runs at once if a frame arrived after the
            // check.
            unsafe { NVIC::unmask(LINE) };
            return None;
        }
        match self.0.receive(Instant::ZERO) {
            Some((received, sender)) => Some((Received(received), Sender(sender))),
            None => {
                // There is no room for an answer, or the frame was damaged. Neither lasts long.
                context.waker().wake_by_ref();
                None
            }
        }
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Sender<'_>> {
        let sender = self.0.transmit(Instant::ZERO);
        if sender.is_none() {
            // There is room again once a frame has been sent, within 0.2 ms at 100 Mbit/s.
            context.waker().wake_by_ref();
        }
        sender.map(Sender)
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = self.0.capabilities().max_transmission_unit;
        capabilities
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.0.address())
    }
}

/// A received frame.
pub struct Received<'a>(lan9118::Received<'a>);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0.into_bytes())
    }
}

/// A frame to send.
pub struct Sender<'a>(lan9118::Sender<'a>);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        FRAME.signal(());
        phy::TxToken::consume(self.0, len, f)
    }
}
