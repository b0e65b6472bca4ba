//! The loop that serves as a driver.

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
/// allocates arrays of the right size itself, and accepts batches.
///
/// After FORCEWIRE_TIMED_OUT repeat the call with the same arrays and unchanged contents: it
/// continues where it stopped and computes no structure twice. With other arrays it is refused
/// (FORCEWIRE_OUT_OF_TURN).
///
/// After FORCEWIRE_NO_ROOM repeat the call with longer arrays. With the library's arrays it means
/// more than ten million atoms, or too little memory: close the connection.
///
/// After FORCEWIRE_POTENTIAL, or if numbers or messages were refused, close the connection. All
/// bytes that the server sent with the positions have been read by then: i-PI 3.3.1 hangs if a
/// driver closes the connection with bytes unread.
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
        // SAFETY: the caller passes a valid handle.
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
            // SAFETY: the caller passes a valid handle and a valid function.
            let status = unsafe { serve_batches(driver, potential, context, &mut arrays) };
            // SAFETY: the caller passes a valid handle, and no reference to it exists.
            if let Some(handle) = unsafe { Handle::<Driver>::of(driver) } {
                handle.kept.arrays = Some(arrays);
            }
            return status;
        }
        // SAFETY: the caller passes valid memory. No slice of it is used while the potential runs.
        if unsafe { array(positions, capacity).is_none() || array(forces, capacity).is_none() } {
            return handle.refuse("positions or forces is NULL, or longer than memory");
        }
        if overlap([span(positions, capacity), span(forces, capacity)]) {
            return handle.refuse("positions and forces share memory");
        }
        // SAFETY: the caller passes a valid handle, function and memory.
        unsafe { serve_one(driver, potential, context, positions, forces, capacity) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Serves with the caller's arrays, one structure at a time.
///
/// # Safety
///
/// The conditions of [`Handle::of`] and [`compute`] hold; both arrays have room for `capacity`
/// atoms.
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
        // SAFETY: the caller passes a valid handle, to which no reference exists during the call.
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
                // SAFETY: the caller's memory has room for all atoms received.
                let digest = || unsafe { array(forces, natoms) }.map(digest);
                if of.is_some() && of != digest() {
                    return handle.fail(Failure::OtherArrays);
                }
                // SAFETY: the caller passes a valid handle and valid memory.
                let status = unsafe {
                    forcewire_driver_reply(driver, &evaluation, forces, natoms, null(), 0)
                };
                // SAFETY: the caller passes a valid handle.
                let handle = unsafe { Handle::<Driver>::of(driver) };
                let Some(handle) = handle else {
                    return FORCEWIRE_INVALID_ARGUMENT;
                };
                if status == FORCEWIRE_OK || handle.was_sent() {
                    continue;
                }
                if let Task::Reply { digest: of, .. } = &mut handle.kept.task {
                    *of = digest();
                }
                // SAFETY: the caller passes a valid handle.
                return unsafe { end(driver, status) };
            }
            Task::Report(code) => return report(handle, code),
            _ => return handle.fail(Failure::OtherArrays),
        }
        // SAFETY: the caller passes a valid handle and valid memory.
        let status =
            unsafe { forcewire_driver_receive(driver, positions, capacity, &raw mut event) };
        match (status, event.kind) {
            (FORCEWIRE_OK, FORCEWIRE_EVENT_POSITIONS) => {}
            (FORCEWIRE_OK, FORCEWIRE_EVENT_INIT) => continue,
            (FORCEWIRE_OK, FORCEWIRE_EVENT_CLOSED) => return FORCEWIRE_CLOSED,
            // SAFETY: the caller passes a valid handle.
            (status, _) => return unsafe { end(driver, status) },
        }
        let (cell, natoms) = (&event.cell, event.natoms);
        // SAFETY: the caller passes a valid handle.
        let of = unsafe { Handle::<Driver>::of(driver) }.map(|handle| handle.kept.received);
        // SAFETY: the caller's function is valid, and the memory has room for all atoms received.
        let result = unsafe { compute(potential, context, cell, positions, forces, natoms) };
        // SAFETY: the caller passes a valid handle.
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
/// The conditions of [`Handle::of`] and [`compute`] hold.
#[cfg(feature = "std")]
unsafe fn serve_batches(
    driver: *mut forcewire_driver_t,
    potential: forcewire_potential_t,
    context: *mut c_void,
    arrays: &mut Arrays,
) -> forcewire_status_t {
    loop {
        // SAFETY: the caller passes a valid handle, to which no reference exists during the call.
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
                    Err(_) if handle.was_sent() => {}
                    // SAFETY: the caller passes a valid handle.
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
            // No byte of the array has been read yet: the exchange continues once there is room.
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
                // The library's arrays can't grow further, so repeating the call would not help.
                _ if status == FORCEWIRE_NO_ROOM => {
                    handle.drain();
                    return status;
                }
                // SAFETY: the caller passes a valid handle.
                _ => return unsafe { end(driver, status) },
            },
        };
        handle.kept.received += 1;
        let of = Some(handle.kept.received);
        // SAFETY: the caller passes a valid function.
        let result = unsafe { compute_all(potential, context, arrays, natoms, structures) };
        // SAFETY: the caller passes a valid handle.
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

/// Computes the received structures in order, and stops at the first failure.
///
/// # Safety
///
/// The conditions of [`compute`] hold.
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
        // Neither slice is empty: the structures were received into these arrays.
        let positions = positions.get(atoms.clone()).unwrap_or_default();
        let forces = forces.get_mut(atoms).unwrap_or_default();
        let cell = forcewire_cell_t { h: *cell.h() };
        let natoms = forces.len().min(positions.len());
        let (positions, forces) = (positions.as_ptr(), forces.as_mut_ptr());
        // SAFETY: the caller's function is valid, and both arrays have this length.
        let result = unsafe { compute(potential, context, &cell, positions, forces, natoms) };
        evaluations.push(Evaluation::from(result?));
    }
    Ok(())
}

impl Handle<Driver> {
    /// Whether a reply has failed because it was already sent. Clears the reply in that case.
    fn was_sent(&mut self) -> bool {
        let was_sent = self.failure().protocol() == Some(ProtocolError::NothingToReplyTo);
        if was_sent {
            self.kept.task = Task::Nothing;
        }
        was_sent
    }
}

/// Ends serving with a status. If the driver has to close the connection after this status, what
/// the server sent with the positions is read first.
///
/// # Safety
///
/// The conditions of [`Handle::of`] hold.
unsafe fn end(driver: *mut forcewire_driver_t, status: forcewire_status_t) -> forcewire_status_t {
    // SAFETY: the caller keeps to the conditions above.
    if let Some(handle) = unsafe { Handle::<Driver>::of(driver) }
        && let FORCEWIRE_NOT_FINITE | FORCEWIRE_ATOMS_CHANGED | FORCEWIRE_PROTOCOL = status
    {
        handle.drain();
    }
    status
}

/// Reports that the potential has failed.
fn report(handle: &mut Handle<Driver>, code: c_int) -> forcewire_status_t {
    handle.drain();
    handle.fail(Failure::Potential(code))
}

/// Lengthens an array if there is enough memory.
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

/// The most atoms and structures of one exchange: a server can announce any count.
#[cfg(feature = "std")]
const MOST_ATOMS: usize = 10_000_000;
#[cfg(feature = "std")]
const MOST_STRUCTURES: usize = 10_000;
