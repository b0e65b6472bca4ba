//! The driver's loop.

use core::ffi::{c_int, c_void};
use core::ptr::null;

#[cfg(feature = "std")]
use forcewire::{Cell, Evaluation, Event};
use forcewire::{Driver, Error, ProtocolError};

use crate::driver::forcewire_event_kind_t::*;
use crate::driver::{forcewire_driver_receive, forcewire_driver_reply, forcewire_event_t};
use crate::handle::{self, Handle, forcewire_driver_t};
use crate::memory::{array, overlap, span};
#[cfg(feature = "std")]
use crate::potential::forcewire_cell_t;
use crate::potential::{compute, forcewire_potential_t};
use crate::status::Failure;
use crate::status::forcewire_status_t::{self, *};
#[cfg(feature = "std")]
use crate::unfinished::Arrays;
use crate::unfinished::{Task, digest};

/// Computes what the server asks for until the server ends it: FORCEWIRE_OK after EXIT,
/// FORCEWIRE_CLOSED if the server only closed the connection. Positions and forces have room for
/// `capacity` atoms each, in different memory. On a host both may be NULL: the library then
/// allocates its own arrays, as large as they need to be, and understands batches.
///
/// After FORCEWIRE_TIMED_OUT the same call goes on where this one stopped, with the same arrays and
/// what is in them; no structure is computed twice. With other arrays it is refused
/// (FORCEWIRE_OUT_OF_TURN).
///
/// After FORCEWIRE_NO_ROOM the same call with longer arrays continues. With the library's arrays it
/// means more than ten million atoms, or too little memory: close the connection.
///
/// After FORCEWIRE_POTENTIAL, and if numbers or messages were refused, close the connection. What
/// the server has sent with the positions has been read by then: i-PI 3.3.1 hangs if a driver
/// closes the connection with bytes unread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_serve(
    driver: *mut forcewire_driver_t,
    potential: forcewire_potential_t,
    context: *mut c_void,
    positions: *mut [f64; 3],
    forces: *mut [f64; 3],
    capacity: usize,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller's handle.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        if potential.is_none() {
            return handle.refuse("the potential is NULL");
        }
        #[cfg(feature = "std")]
        if positions.is_null() && forces.is_null() {
            let kept = handle.kept.arrays.take();
            let mut arrays = kept.unwrap_or_else(|| Box::new(Arrays::new()));
            // SAFETY: the caller's handle and function.
            let status = unsafe { serve_batches(driver, potential, context, &mut arrays) };
            // SAFETY: the caller's handle, and no reference to it exists.
            if let Some(handle) = unsafe { Handle::<Driver>::of(driver) } {
                handle.kept.arrays = Some(arrays);
            }
            return status;
        }
        // SAFETY: the caller's memory. No slice of it is used while the potential runs.
        if unsafe { array(positions, capacity).is_none() || array(forces, capacity).is_none() } {
            return handle.refuse("positions or forces is NULL, or longer than memory");
        }
        if overlap([span(positions, capacity), span(forces, capacity)]) {
            return handle.refuse("positions and forces share memory");
        }
        // SAFETY: the caller's handle, function and memory.
        unsafe { serve_one(driver, potential, context, positions, forces, capacity) }
    };
    // SAFETY: the caller's handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Serves with the caller's arrays, one structure at a time.
///
/// # Safety
///
/// That of [`Handle::of`] and [`compute`]; both arrays have room for `capacity` atoms.
unsafe fn serve_one(
    driver: *mut forcewire_driver_t,
    potential: forcewire_potential_t,
    context: *mut c_void,
    positions: *mut [f64; 3],
    forces: *mut [f64; 3],
    capacity: usize,
) -> forcewire_status_t {
    let mut event = forcewire_event_t::NONE;
    loop {
        // SAFETY: the caller's handle. No reference to the handle exists while the potential runs.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        match handle.kept.current() {
            Task::Nothing => {}
            Task::Reply {
                evaluation,
                forces: begun,
                natoms,
                digest: of,
            } if core::ptr::eq(begun, forces) && natoms <= capacity => {
                // SAFETY: the caller's memory, with room for as many atoms as have come.
                let digest = || unsafe { array(forces, natoms) }.map(digest);
                if of.is_some() && of != digest() {
                    return handle.fail(Failure::OtherArrays);
                }
                // SAFETY: the caller's handle and memory.
                let status = unsafe {
                    forcewire_driver_reply(driver, &evaluation, forces, natoms, null(), 0)
                };
                // SAFETY: the caller's handle.
                let handle = unsafe { Handle::<Driver>::of(driver) };
                let Some(handle) = handle else {
                    return FORCEWIRE_INVALID_ARGUMENT;
                };
                if status == FORCEWIRE_OK || handle.has_left() {
                    continue;
                }
                if let Task::Reply { digest: of, .. } = &mut handle.kept.task {
                    *of = digest();
                }
                // SAFETY: the caller's handle.
                return unsafe { end(driver, status) };
            }
            Task::Report(code) => return report(handle, code),
            _ => return handle.fail(Failure::OtherArrays),
        }
        // SAFETY: the caller's handle and memory.
        let status =
            unsafe { forcewire_driver_receive(driver, positions, capacity, &raw mut event) };
        match (status, event.kind) {
            (FORCEWIRE_OK, FORCEWIRE_EVENT_POSITIONS) => {}
            (FORCEWIRE_OK, FORCEWIRE_EVENT_INIT) => continue,
            (FORCEWIRE_OK, FORCEWIRE_EVENT_CLOSED) => return FORCEWIRE_CLOSED,
            // SAFETY: the caller's handle.
            (status, _) => return unsafe { end(driver, status) },
        }
        let (cell, natoms) = (&event.cell, event.natoms);
        // SAFETY: the caller's handle.
        let of = unsafe { Handle::<Driver>::of(driver) }.map(|handle| handle.kept.received);
        // SAFETY: the caller's function and memory, with room for as many atoms as have come.
        let result = unsafe { compute(potential, context, cell, positions, forces, natoms) };
        // SAFETY: the caller's handle.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let task = match result {
            Ok(evaluation) => Task::Reply {
                evaluation,
                forces,
                natoms,
                digest: None,
            },
            Err(code) => Task::Report(code),
        };
        if !handle.kept.set(task, of) {
            let error = Error::Protocol(ProtocolError::NothingToReplyTo);
            return handle.fail(Failure::Exchange(error));
        }
    }
}

/// Serves with the library's arrays.
///
/// # Safety
///
/// That of [`Handle::of`] and [`compute`].
#[cfg(feature = "std")]
unsafe fn serve_batches(
    driver: *mut forcewire_driver_t,
    potential: forcewire_potential_t,
    context: *mut c_void,
    arrays: &mut Arrays,
) -> forcewire_status_t {
    loop {
        // SAFETY: the caller's handle. No reference to the handle exists while the potential runs.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        match handle.kept.current() {
            Task::Nothing => {}
            Task::Replies => {
                let Arrays {
                    evaluations,
                    forces,
                    ..
                } = &*arrays;
                let sent = handle.run(|driver| driver.reply_batch(evaluations, forces, &[]));
                match sent {
                    Ok(()) => handle.kept.task = Task::Nothing,
                    Err(_) if handle.has_left() => {}
                    // SAFETY: the caller's handle.
                    Err(status) => return unsafe { end(driver, status) },
                }
                continue;
            }
            Task::Report(code) => return report(handle, code),
            Task::Reply { .. } => return handle.fail(Failure::OtherArrays),
        }
        let Arrays {
            cells, positions, ..
        } = &mut *arrays;
        let (natoms, structures) = match handle.run(|driver| driver.receive_batch(cells, positions))
        {
            Ok(Event::Positions {
                natoms, structures, ..
            }) => (natoms, structures),
            Ok(Event::Init { .. }) => continue,
            Ok(Event::Exit) => return FORCEWIRE_OK,
            Ok(_) => return handle.fail(Failure::Closed),
            // No byte of the array has come yet: the exchange goes on once there is room.
            Err(status) => match handle.failure().protocol() {
                Some(ProtocolError::TooManyAtoms { announced, .. })
                    if announced <= MOST_ATOMS && grow(positions, announced, [0.0; 3]) =>
                {
                    continue;
                }
                Some(ProtocolError::TooManyStructures { announced, .. })
                    if announced <= MOST_STRUCTURES
                        && grow(cells, announced, Cell::orthorhombic([0.0; 3])) =>
                {
                    continue;
                }
                // The library's arrays can't be longer: the call can't be made again.
                _ if status == FORCEWIRE_NO_ROOM => {
                    handle.drain();
                    return status;
                }
                // SAFETY: the caller's handle.
                _ => return unsafe { end(driver, status) },
            },
        };
        handle.kept.received += 1;
        let of = Some(handle.kept.received);
        // SAFETY: the caller's function.
        let result = unsafe { compute_all(potential, context, arrays, natoms, structures) };
        // SAFETY: the caller's handle.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let task = match result {
            Ok(()) => Task::Replies,
            Err(code) => Task::Report(code),
        };
        if !handle.kept.set(task, of) {
            let error = Error::Protocol(ProtocolError::NothingToReplyTo);
            return handle.fail(Failure::Exchange(error));
        }
    }
}

/// Computes the structures that have come, until one fails.
///
/// # Safety
///
/// That of [`compute`].
#[cfg(feature = "std")]
unsafe fn compute_all(
    potential: forcewire_potential_t,
    context: *mut c_void,
    arrays: &mut Arrays,
    natoms: usize,
    structures: usize,
) -> Result<(), c_int> {
    let Arrays {
        cells,
        positions,
        forces,
        evaluations,
    } = arrays;
    forces.resize(natoms * structures, [0.0; 3]);
    evaluations.clear();
    for (index, cell) in cells.iter().take(structures).enumerate() {
        let atoms = index * natoms..(index + 1) * natoms;
        // Both are there: the structures have been received into these arrays.
        let positions = positions.get(atoms.clone()).unwrap_or_default();
        let forces = forces.get_mut(atoms).unwrap_or_default();
        let cell = forcewire_cell_t { h: *cell.h() };
        let natoms = forces.len().min(positions.len());
        let (positions, forces) = (positions.as_ptr(), forces.as_mut_ptr());
        // SAFETY: the caller's function, and arrays of this length.
        let result = unsafe { compute(potential, context, &cell, positions, forces, natoms) };
        evaluations.push(Evaluation::from(result?));
    }
    Ok(())
}

impl Handle<Driver> {
    /// Whether a reply has failed because it was sent before. Forgets it then.
    fn has_left(&mut self) -> bool {
        let left = self.failure().protocol() == Some(ProtocolError::NothingToReplyTo);
        if left {
            self.kept.task = Task::Nothing;
        }
        left
    }
}

/// Ends serving with a status. If that is for the driver to close the connection, what the server
/// has sent with the positions is read first.
///
/// # Safety
///
/// That of [`Handle::of`].
unsafe fn end(driver: *mut forcewire_driver_t, status: forcewire_status_t) -> forcewire_status_t {
    // SAFETY: the caller's word.
    if let Some(handle) = unsafe { Handle::<Driver>::of(driver) }
        && let FORCEWIRE_NOT_FINITE | FORCEWIRE_ATOMS_CHANGED | FORCEWIRE_PROTOCOL = status
    {
        handle.drain();
    }
    status
}

/// The potential has failed.
fn report(handle: &mut Handle<Driver>, code: c_int) -> forcewire_status_t {
    handle.drain();
    handle.fail(Failure::Potential(code))
}

/// Makes an array longer, if there is memory for that.
#[cfg(feature = "std")]
fn grow<T: Clone>(array: &mut Vec<T>, len: usize, value: T) -> bool {
    let fits = array
        .try_reserve_exact(len.saturating_sub(array.len()))
        .is_ok();
    if fits {
        array.resize(len, value);
    }
    fits
}

/// The most atoms and structures of one exchange: an invalid count must not allocate all memory.
#[cfg(feature = "std")]
const MOST_ATOMS: usize = 10_000_000;
#[cfg(feature = "std")]
const MOST_STRUCTURES: usize = 10_000;
