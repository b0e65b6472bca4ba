//! The common part of the images: a panic handler that can't be linked, a wire that the compiler
//! knows nothing about, and a potential without cost, so that an image holds little else than the
//! driver or the server.

#![no_std]

use core::task::Poll;

use forcewire::{Cell, Evaluation, Potential, PotentialError, Scalar, Sink, Source};

unsafe extern "C" {
    /// This symbol is defined nowhere: if the linker keeps the panic handler, it reports the name.
    fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe { a_panic_is_reachable() }
}

/// A device's registers.
const WIRE: *mut u32 = 0x4000_0000 as *mut u32;

/// A number that the compiler can't predict.
pub fn unforeseen() -> u32 {
    unsafe { WIRE.read_volatile() }
}

/// Contains a line that can panic if the feature `panic` is enabled.
pub fn may_panic<T: Scalar>(forces: &mut [[T; 3]]) {
    let _ = &forces;
    #[cfg(feature = "panic")]
    {
        forces[unforeseen() as usize] = [T::ZERO; 3];
    }
}

/// A stream whose every answer is unpredictable.
pub struct Wire;

/// The wire's errors, of an unpredictable kind.
#[derive(Debug)]
pub struct Fault;

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("fault")
    }
}

impl core::error::Error for Fault {}

impl embedded_io::Error for Fault {
    fn kind(&self) -> embedded_io::ErrorKind {
        match unforeseen() {
            0 => embedded_io::ErrorKind::Interrupted,
            1 => embedded_io::ErrorKind::TimedOut,
            _ => embedded_io::ErrorKind::Other,
        }
    }
}

impl embedded_io::ErrorType for Wire {
    type Error = Fault;
}

/// Some of `len` bytes, or a fault.
fn some(len: usize) -> Result<usize, Fault> {
    match unforeseen() as usize {
        n if n <= len => Ok(n),
        _ => Err(Fault),
    }
}

impl embedded_io::Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        for byte in buffer.iter_mut() {
            *byte = unforeseen() as u8;
        }
        some(buffer.len())
    }
}

impl embedded_io::Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        for &byte in bytes {
            unsafe { WIRE.write_volatile(byte.into()) }
        }
        some(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        some(0).map(|_| ())
    }
}

/// The available bytes, or a wait.
async fn in_time<T>(mut now: impl FnMut() -> T) -> T {
    core::future::poll_fn(|_| match unforeseen() {
        0 => Poll::Ready(now()),
        _ => Poll::Pending,
    })
    .await
}

impl embedded_io_async::Read for Wire {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        in_time(|| embedded_io::Read::read(self, buffer)).await
    }
}

impl embedded_io_async::Write for Wire {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        in_time(|| embedded_io::Write::write(self, bytes)).await
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        in_time(|| embedded_io::Write::flush(self)).await
    }
}

/// A potential whose forces are the positions.
pub struct Echo;

impl Potential for Echo {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        for (force, position) in forces.iter_mut().zip(positions) {
            *force = *position;
        }
        may_panic(forces);
        Ok(Evaluation::default())
    }
}

/// An accelerator's window into its own memory, which holds any number of atoms.
pub struct Window<T>(*mut [T; 3]);

impl<T: Scalar> Sink for Window<T> {
    type Real = T;

    fn begin(&mut self, _: usize) -> bool {
        unforeseen() > 0
    }

    fn put(&mut self, _: usize, atoms: &[[T; 3]]) {
        for atom in atoms {
            unsafe { self.0.write_volatile(*atom) }
        }
    }
}

impl<T: Scalar> Source for Window<T> {
    type Real = T;

    fn natoms(&self) -> usize {
        unforeseen() as usize
    }

    fn get(&mut self, _: usize, atoms: &mut [[T; 3]]) {
        for atom in atoms {
            *atom = unsafe { self.0.read_volatile() };
        }
    }
}
