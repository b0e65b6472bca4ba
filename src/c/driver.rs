//! The side that computes.

use core::ffi::{c_char, c_void};

use forcewire::{Driver, Evaluation, Event, Initialize, ProtocolError};

use crate::guard::guard;
use crate::handle::{
    self, FORCEWIRE_CHANGING_ATOMS, FORCEWIRE_NOT_FINITE_TOO, Handle, forcewire_driver_t,
};
use crate::link::forcewire_transport_t;
use crate::memory::{array, array_mut};
use crate::potential::{forcewire_cell_t, forcewire_evaluation_t};
use crate::status::Failure;
use crate::status::forcewire_status_t::{self, *};
use crate::unfinished::Task;

/// Ask the server for INIT once a connection.
pub const FORCEWIRE_INIT_ONCE: u32 = 1;
/// Ask the server for INIT before every structure.
pub const FORCEWIRE_INIT_EVERY_STEP: u32 = 2;
/// Accept the server's numbers even if all of them are subnormal, as integers sent in place of
/// doubles are, or are lengths only with their bytes reversed. Only a structure whose coordinates
/// are all below 1e-10 bohr needs this flag, which is very rare.
pub const FORCEWIRE_TRUST_NUMBER_FORMAT: u32 = 32;

/// What a driver has received.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum forcewire_event_kind_t {
    /// Positions have arrived: compute, then reply.
    FORCEWIRE_EVENT_POSITIONS = 0,
    /// INIT has arrived: forcewire_driver_init_text() returns its text. Receive again.
    FORCEWIRE_EVENT_INIT = 1,
    /// The server needs no more forces.
    FORCEWIRE_EVENT_EXIT = 2,
    /// The server closed the connection between two messages, as ASE's does at its end. i-PI drops
    /// a driver in the same way, so it may be worth connecting again.
    FORCEWIRE_EVENT_CLOSED = 3,
}

use forcewire_event_kind_t::*;

/// What a driver has received, with its counts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_event_t {
    pub kind: forcewire_event_kind_t,
    /// The replica (bead) that the last INIT named; 0 before any INIT.
    pub replica: i32,
    /// The number of atoms of the structure. With FORCEWIRE_NO_ROOM, the number that needs room.
    pub natoms: usize,
    pub cell: forcewire_cell_t,
}

/// Initializes a driver without a connection. Flags are 0, or a sum of FORCEWIRE_INIT_ONCE and the
/// like.
///
/// Without FORCEWIRE_INIT_ONCE or FORCEWIRE_INIT_EVERY_STEP a server sends neither INIT nor
/// batches. All servers support such drivers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_init(
    driver: *mut forcewire_driver_t,
    flags: u32,
) -> forcewire_status_t {
    let call = || {
        const BOTH: u32 = FORCEWIRE_INIT_ONCE | FORCEWIRE_INIT_EVERY_STEP;
        const OTHERS: u32 =
            FORCEWIRE_CHANGING_ATOMS | FORCEWIRE_NOT_FINITE_TOO | FORCEWIRE_TRUST_NUMBER_FORMAT;
        let mut machine = Driver::new().initialize(match flags & BOTH {
            0 => Initialize::Never,
            FORCEWIRE_INIT_ONCE => Initialize::Once,
            FORCEWIRE_INIT_EVERY_STEP => Initialize::EveryStep,
            _ => return FORCEWIRE_INVALID_ARGUMENT,
        });
        if flags & !(BOTH | OTHERS) != 0 {
            return FORCEWIRE_INVALID_ARGUMENT;
        }
        if flags & FORCEWIRE_CHANGING_ATOMS != 0 {
            machine = machine.allow_changing_atoms();
        }
        if flags & FORCEWIRE_NOT_FINITE_TOO != 0 {
            machine = machine.allow_not_finite();
        }
        if flags & FORCEWIRE_TRUST_NUMBER_FORMAT != 0 {
            machine = machine.trust_number_format();
        }
        // SAFETY: the caller passes valid memory.
        unsafe { Handle::put(driver, machine) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Connects the driver through the caller's functions. Nothing may have been sent to the server
/// yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_attach(
    driver: *mut forcewire_driver_t,
    transport: *const forcewire_transport_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and a valid transport.
        unsafe { handle::attach::<Driver, _>(driver, transport) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Answers the server until there is an event. Positions are in bohr, x y z of one atom after the
/// other, with room for `capacity` atoms. Either all of them have arrived or the call fails. A
/// second call before the reply fails with FORCEWIRE_OUT_OF_TURN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_receive(
    driver: *mut forcewire_driver_t,
    positions: *mut [f64; 3],
    capacity: usize,
    event: *mut forcewire_event_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        let (handle, positions) =
            unsafe { (Handle::<Driver>::of(driver), array_mut(positions, capacity)) };
        let Some(handle) = handle else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let (Some(positions), false) = (positions, event.is_null()) else {
            return handle.refuse("positions or event is NULL, or longer than memory");
        };
        let mut received = forcewire_event_t::NONE;
        let status = match handle.run(|driver| driver.receive(positions)) {
            Ok(arrived) => {
                match arrived {
                    Event::Positions { natoms, cell, .. } => {
                        handle.kept.received += 1;
                        received.natoms = natoms;
                        received.cell = forcewire_cell_t { h: *cell.h() };
                    }
                    Event::Init { .. } => received.kind = FORCEWIRE_EVENT_INIT,
                    Event::Exit => received.kind = FORCEWIRE_EVENT_EXIT,
                    _ => {
                        received.kind = FORCEWIRE_EVENT_CLOSED;
                        handle.fail(Failure::Closed);
                    }
                }
                FORCEWIRE_OK
            }
            Err(status) => {
                if let Some(ProtocolError::TooManyAtoms { announced, .. }) =
                    handle.failure().protocol()
                {
                    received.natoms = announced;
                }
                status
            }
        };
        received.replica = handle.machine.replica().unwrap_or(0);
        // SAFETY: the caller passes valid memory, and it is not NULL.
        unsafe { event.write(received) };
        status
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Replies to the positions received last: one force per atom, hartree/bohr, and extras, which may
/// be NULL and 0. i-PI hangs on extras that are not a JSON object. The call waits until the server
/// asks for the forces. The whole reply is checked before any byte is sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_reply(
    driver: *mut forcewire_driver_t,
    evaluation: *const forcewire_evaluation_t,
    forces: *const [f64; 3],
    natoms: usize,
    extras: *const c_void,
    extras_size: usize,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        let (handle, evaluation, forces, extras) = unsafe {
            (
                Handle::<Driver>::of(driver),
                evaluation.as_ref(),
                array(forces, natoms),
                array(extras.cast::<u8>(), extras_size),
            )
        };
        let Some(handle) = handle else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let (Some(evaluation), Some(forces), Some(extras)) = (evaluation, forces, extras) else {
            return handle.refuse("evaluation, forces or extras is NULL, or longer than memory");
        };
        let evaluation = Evaluation::from(*evaluation);
        match handle.run(|driver| driver.reply(&evaluation, forces, extras)) {
            Ok(()) => {
                handle.kept.task = Task::Nothing;
                FORCEWIRE_OK
            }
            Err(status) => status,
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// The text of the last INIT and its size in bytes, without a NUL; at most 256 bytes are kept.
/// Valid until the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_init_text(
    driver: *const forcewire_driver_t,
    size: *mut usize,
) -> *const c_char {
    let text = || {
        // SAFETY: the caller passes a valid handle.
        let handle = unsafe { Handle::<Driver>::of(driver.cast_mut()) };
        handle.map_or(&[][..], |handle| handle.machine.init_text())
    };
    let text = guard(text, || &[]);
    // SAFETY: the caller passes valid memory or NULL.
    if let Some(size) = unsafe { size.as_mut() } {
        *size = text.len();
    }
    text.as_ptr().cast()
}

/// Describes the last error, with the peer's name and what to do about it. Writes at most `size`
/// bytes to `text`, including the NUL, and returns `text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_error(
    driver: *const forcewire_driver_t,
    text: *mut c_char,
    size: usize,
) -> *const c_char {
    // SAFETY: the caller passes a valid handle and valid memory.
    unsafe { handle::error::<Driver, _>(driver, text, size) }
}

/// Ends the connection, frees its memory and clears the last error. The driver can be connected
/// again.
///
/// If positions got no reply, the call first reads everything that the server sent with them, up to
/// the next command: i-PI 3.3.1 hangs if a driver closes the connection with bytes unread. It waits
/// for that command, which the server sends together with the positions, as long as for a message,
/// but does not wait after FORCEWIRE_TIMED_OUT. It may call `recv` of the caller's transport.
/// Connecting or adopting another socket closes the previous one in the same way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_close(
    driver: *mut forcewire_driver_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle.
        unsafe { handle::close::<Driver, _>(driver) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

impl forcewire_event_t {
    pub const NONE: Self = Self {
        kind: FORCEWIRE_EVENT_POSITIONS,
        replica: 0,
        natoms: 0,
        cell: forcewire_cell_t { h: [[0.0; 3]; 3] },
    };
}
