//! The part of smoltcp 0.14 that `forcewire::smoltcp` uses, with the same signatures and every
//! possible answer.
//!
//! The real `recv_slice` and `send_slice` can't be linked without a panic handler: their ring
//! buffer indexes slices and asserts, and `TcpSeqNumber` refuses to overflow (smoltcp 0.14.0
//! `storage/ring_buffer.rs`, `wire/tcp.rs`). smoltcp's invariants rule these panics out. The images
//! prove that the shim adds none, whatever the socket answers within its signatures and its
//! guarantee to move at most a slice's length.

#![no_std]

pub mod socket {
    //! As in smoltcp.
    pub mod tcp {
        //! As in smoltcp.
        use core::marker::PhantomData;

        /// A device's register, as in the images.
        const WIRE: *mut u32 = 0x4000_0000 as *mut u32;

        /// The transmit ring.
        const MEMORY: *mut u8 = 0x2001_0000 as *mut u8;
        const RING: usize = 4096;

        fn unforeseen() -> usize {
            unsafe { WIRE.read_volatile() as usize }
        }

        /// The states that the shim distinguishes.
        pub enum State {
            /// As in smoltcp.
            Listen,
            /// As in smoltcp.
            SynSent,
            /// As in smoltcp.
            SynReceived,
            /// As in smoltcp.
            Established,
        }

        /// As in smoltcp.
        pub enum RecvError {
            /// As in smoltcp.
            InvalidState,
            /// As in smoltcp.
            Finished,
        }

        /// As in smoltcp.
        pub enum SendError {
            /// As in smoltcp.
            InvalidState,
        }

        /// A socket in an unpredictable state.
        pub struct Socket<'a>(PhantomData<&'a mut [u8]>);

        impl Socket<'_> {
            /// A socket in an unpredictable state.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(PhantomData)
            }

            /// As in smoltcp.
            pub fn send_queue(&self) -> usize {
                unforeseen()
            }

            /// As in smoltcp.
            pub fn send_capacity(&self) -> usize {
                unforeseen()
            }

            /// As in smoltcp.
            pub fn state(&self) -> State {
                match unforeseen() {
                    0 => State::Listen,
                    1 => State::SynSent,
                    2 => State::SynReceived,
                    _ => State::Established,
                }
            }

            /// As in smoltcp. There is room up to the end of the ring.
            pub fn send<R>(
                &mut self,
                f: impl FnOnce(&mut [u8]) -> (usize, R),
            ) -> Result<R, SendError> {
                // The ring is in static memory, not on the stack.
                let room = match unforeseen() {
                    n if n <= RING => unsafe { core::slice::from_raw_parts_mut(MEMORY, n) },
                    _ => return Err(SendError::InvalidState),
                };
                let (n, result) = f(room);
                unsafe { WIRE.write_volatile(n as u32) }
                Ok(result)
            }

            /// As in smoltcp.
            pub fn send_slice(&mut self, data: &[u8]) -> Result<usize, SendError> {
                for &byte in data {
                    unsafe { WIRE.write_volatile(byte.into()) }
                }
                match unforeseen() {
                    n if n <= data.len() => Ok(n),
                    _ => Err(SendError::InvalidState),
                }
            }

            /// As in smoltcp.
            pub fn recv_slice(&mut self, data: &mut [u8]) -> Result<usize, RecvError> {
                for byte in data.iter_mut() {
                    *byte = unforeseen() as u8;
                }
                match unforeseen() {
                    n if n <= data.len() => Ok(n),
                    n if n % 2 == 0 => Err(RecvError::Finished),
                    _ => Err(RecvError::InvalidState),
                }
            }
        }
    }
}
