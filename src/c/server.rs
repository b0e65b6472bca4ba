//! A server: the side that asks for forces.

use core::ffi::{c_char, c_void};

use forcewire::{Answer, Cell, Mode, Request, Server, Status};

use crate::handle::{
    self, FORCEWIRE_CHANGING_ATOMS, FORCEWIRE_NOT_FINITE_TOO, Handle, forcewire_server_t,
};
use crate::link::forcewire_transport_t;
use crate::memory::{array, array_mut, overlap, span};
use crate::potential::forcewire_cell_t;
use crate::status::forcewire_status_t::{self, *};

/// Send STATUS, POSDATA, STATUS, GETFORCE, as i-PI before 3.2 and ASE do. By default POSDATA and
/// GETFORCE are sent together, as i-PI does today.
pub const FORCEWIRE_CLASSIC: u32 = 1;
/// Like FORCEWIRE_CLASSIC, without any other STATUS: ABINIT 9.6 and pysisyphus need that.
pub const FORCEWIRE_STRICT: u32 = 2;
/// Wrap atoms into the cell by whole lattice vectors before they are sent. LAMMPS needs this.
pub const FORCEWIRE_FOLD: u32 = 16;

/// The driver is connected.
pub const FORCEWIRE_UP: u32 = 1;
/// The driver waits for positions.
pub const FORCEWIRE_READY: u32 = 2;
/// The driver waits for INIT.
pub const FORCEWIRE_NEEDS_INIT: u32 = 4;
/// The driver has computed forces and waits until it is asked for them.
pub const FORCEWIRE_HAS_DATA: u32 = 8;
/// The driver owes an answer: it is computing, or has not answered STATUS yet.
pub const FORCEWIRE_BUSY: u32 = 16;

/// The results of a structure besides its forces.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_answer_t {
    /// Hartree.
    pub energy: f64,
    /// Hartree, made symmetric, not divided by the volume.
    pub virial: [[f64; 3]; 3],
    /// How many bytes of extras the driver sent. The buffer holds as many of them as it had room
    /// for when they arrived. A repeated call that continues in the middle of the extras needs a
    /// buffer of the same size.
    pub extras_size: usize,
}

/// Initializes a server without a connection. Flags are 0, or a sum of FORCEWIRE_CLASSIC,
/// FORCEWIRE_FOLD, FORCEWIRE_CHANGING_ATOMS and the like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_init(
    server: *mut forcewire_server_t,
    flags: u32,
) -> forcewire_status_t {
    let call = || {
        const MODES: u32 = FORCEWIRE_CLASSIC | FORCEWIRE_STRICT;
        let known = MODES | FORCEWIRE_FOLD | FORCEWIRE_CHANGING_ATOMS | FORCEWIRE_NOT_FINITE_TOO;
        let mut machine = Server::new().mode(match flags & MODES {
            0 => Mode::Consolidated,
            FORCEWIRE_CLASSIC => Mode::Classic,
            FORCEWIRE_STRICT => Mode::Strict,
            _ => return FORCEWIRE_INVALID_ARGUMENT,
        });
        if flags & !known != 0 {
            return FORCEWIRE_INVALID_ARGUMENT;
        }
        if flags & FORCEWIRE_FOLD != 0 {
            machine = machine.fold_positions();
        }
        if flags & FORCEWIRE_CHANGING_ATOMS != 0 {
            machine = machine.allow_changing_atoms();
        }
        if flags & FORCEWIRE_NOT_FINITE_TOO != 0 {
            machine = machine.allow_not_finite();
        }
        // SAFETY: the caller passes valid memory.
        unsafe { Handle::put(server, machine) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Connects the server through the caller's functions. Nothing may have been sent to the driver
/// yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_attach(
    server: *mut forcewire_server_t,
    transport: *const forcewire_transport_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and a valid transport.
        unsafe { handle::attach::<Server, _>(server, transport) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Lets the driver compute one structure. The call asks for the driver's status, sends INIT
/// (replica 0, one blank) if the driver needs it, sends the cell (upper triangular) and the
/// positions in bohr, and receives the forces in hartree/bohr. Extras may be NULL and 0. The arrays
/// must not share memory. Forces and answer are only valid if the call returns FORCEWIRE_OK.
///
/// After FORCEWIRE_TIMED_OUT repeat the call with the same structure, or call
/// forcewire_server_discard() before evaluating another one. Otherwise the call returns
/// FORCEWIRE_OUT_OF_TURN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_evaluate(
    server: *mut forcewire_server_t,
    cell: *const forcewire_cell_t,
    positions: *const [f64; 3],
    forces: *mut [f64; 3],
    natoms: usize,
    answer: *mut forcewire_answer_t,
    extras: *mut c_void,
    extras_size: usize,
) -> forcewire_status_t {
    let call = || {
        let spans = [
            span(positions, natoms),
            span(forces, natoms),
            span(extras.cast::<u8>(), extras_size),
        ];
        if overlap(spans) {
            // SAFETY: the caller passes a valid handle.
            return match unsafe { Handle::<Server>::of(server) } {
                Some(handle) => handle.refuse("positions, forces and extras share memory"),
                None => FORCEWIRE_INVALID_ARGUMENT,
            };
        }
        // SAFETY: the caller passes a valid handle and valid memory.
        let (handle, cell, positions, forces, extras) = unsafe {
            (
                Handle::<Server>::of(server),
                cell.as_ref(),
                array(positions, natoms),
                array_mut(forces, natoms),
                array_mut(extras.cast::<u8>(), extras_size),
            )
        };
        let Some(handle) = handle else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let (Some(cell), Some(positions), Some(forces), Some(extras)) =
            (cell, positions, forces, extras)
        else {
            return handle
                .refuse("cell, positions, forces or extras is NULL, or longer than memory");
        };
        let cell = Cell::from(*cell);
        let request = Request::new(&cell, positions);
        let result = handle.run(|server| server.evaluate(request, forces, extras));
        // SAFETY: the caller passes valid memory.
        unsafe { hand_over(result, answer) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Asks the driver for its status, or waits for the answer to an earlier request. The status is a
/// sum of FORCEWIRE_UP and the like, or 0 if the driver has gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_status(
    server: *mut forcewire_server_t,
    status: *mut u32,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        let (Some(handle), status) = (unsafe { (Handle::<Server>::of(server), status.as_mut()) })
        else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let Some(status) = status else {
            return handle.refuse("status is NULL");
        };
        match handle.run(Server::status) {
            Ok(known) => {
                let flags = [
                    (Status::UP, FORCEWIRE_UP),
                    (Status::READY, FORCEWIRE_READY),
                    (Status::NEEDS_INIT, FORCEWIRE_NEEDS_INIT),
                    (Status::HAS_DATA, FORCEWIRE_HAS_DATA),
                    (Status::BUSY, FORCEWIRE_BUSY),
                ];
                let set = flags.into_iter().filter(|(fact, _)| known.contains(*fact));
                *status = set.fold(0, |all, (_, flag)| all | flag);
                FORCEWIRE_OK
            }
            Err(status) => status,
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Sends INIT to a driver that needs it, with the replica's number and a text. NULL and 0 mean a
/// text of one blank.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_initialize(
    server: *mut forcewire_server_t,
    replica: i32,
    text: *const c_char,
    size: usize,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        let (Some(handle), text) =
            (unsafe { (Handle::<Server>::of(server), array(text.cast::<u8>(), size)) })
        else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let Some(text) = text else {
            return handle.refuse("text is NULL");
        };
        match handle.run(|server| server.initialize(replica, text)) {
            Ok(()) => FORCEWIRE_OK,
            Err(status) => status,
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Sends one structure to a driver that is ready: the cell (upper triangular) and the positions,
/// both in bohr.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_send_positions(
    server: *mut forcewire_server_t,
    cell: *const forcewire_cell_t,
    positions: *const [f64; 3],
    natoms: usize,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        let (handle, cell, positions) = unsafe {
            (
                Handle::<Server>::of(server),
                cell.as_ref(),
                array(positions, natoms),
            )
        };
        let Some(handle) = handle else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let (Some(cell), Some(positions)) = (cell, positions) else {
            return handle.refuse("cell or positions is NULL");
        };
        let cell = Cell::from(*cell);
        match handle.run(|server| server.send_positions(Request::new(&cell, positions))) {
            Ok(()) => FORCEWIRE_OK,
            Err(status) => status,
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Waits until the driver has computed, and receives its answer as forcewire_server_evaluate()
/// does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_get_forces(
    server: *mut forcewire_server_t,
    forces: *mut [f64; 3],
    natoms: usize,
    answer: *mut forcewire_answer_t,
    extras: *mut c_void,
    extras_size: usize,
) -> forcewire_status_t {
    let call = || {
        if overlap([span(forces, natoms), span(extras.cast::<u8>(), extras_size)]) {
            // SAFETY: the caller passes a valid handle.
            return match unsafe { Handle::<Server>::of(server) } {
                Some(handle) => handle.refuse("forces and extras share memory"),
                None => FORCEWIRE_INVALID_ARGUMENT,
            };
        }
        // SAFETY: the caller passes a valid handle and valid memory.
        let (handle, forces, extras) = unsafe {
            (
                Handle::<Server>::of(server),
                array_mut(forces, natoms),
                array_mut(extras.cast::<u8>(), extras_size),
            )
        };
        let Some(handle) = handle else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let (Some(forces), Some(extras)) = (forces, extras) else {
            return handle.refuse("forces or extras is NULL");
        };
        let result = handle.run(|server| server.get_forces(forces, extras));
        // SAFETY: the caller passes valid memory.
        unsafe { hand_over(result, answer) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Waits for the forces that the driver owes and drops them. Does nothing if it owes none. After a
/// time-out of forcewire_server_evaluate(), this call allows another structure to be evaluated.
/// Returns FORCEWIRE_OUT_OF_TURN if the structure has been sent only in part: evaluate the same one
/// again, or close the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_discard(
    server: *mut forcewire_server_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle.
        let Some(handle) = (unsafe { Handle::<Server>::of(server) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        match handle.run(Server::discard) {
            Ok(()) => FORCEWIRE_OK,
            Err(status) => status,
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Sends EXIT to the driver and waits until it has closed the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_exit(
    server: *mut forcewire_server_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle.
        let Some(handle) = (unsafe { Handle::<Server>::of(server) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        match handle.run(Server::exit) {
            Ok(()) => FORCEWIRE_OK,
            Err(status) => status,
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Describes the last error, with the peer's name and what to do about it. Writes at most `size`
/// bytes to `text`, including the NUL, and returns `text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_error(
    server: *const forcewire_server_t,
    text: *mut c_char,
    size: usize,
) -> *const c_char {
    // SAFETY: the caller passes a valid handle and valid memory.
    unsafe { handle::error::<Server, _>(server, text, size) }
}

/// Ends the connection, frees its memory and clears the last error. The server can be connected to
/// another driver.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_close(
    server: *mut forcewire_server_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle.
        unsafe { handle::close::<Server, _>(server) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Writes the answer to the caller's memory, unless `answer` is NULL.
///
/// # Safety
///
/// `answer` is NULL or writable.
unsafe fn hand_over(
    result: Result<Answer, forcewire_status_t>,
    answer: *mut forcewire_answer_t,
) -> forcewire_status_t {
    match result {
        Ok(received) => {
            if !answer.is_null() {
                // SAFETY: the caller keeps to the conditions above.
                unsafe {
                    answer.write(forcewire_answer_t {
                        energy: received.evaluation.energy,
                        virial: received.evaluation.virial.0,
                        extras_size: received.extras_sent(),
                    });
                }
            }
            FORCEWIRE_OK
        }
        Err(status) => status,
    }
}
