//! The driver's loop.

use core::ffi::c_void;

use forcewire::Driver;
#[cfg(feature = "std")]
use forcewire::{Cell, Evaluation, Event, ProtocolError};

use crate::driver::forcewire_event_kind_t::*;
use crate::driver::{forcewire_driver_receive, forcewire_driver_reply, forcewire_event_t};
use crate::handle::{self, Handle, forcewire_driver_t};
#[cfg(feature = "std")]
use crate::potential::forcewire_cell_t;
use crate::potential::{compute, forcewire_potential_t};
#[cfg(feature = "std")]
use crate::status::Failure;
use crate::status::forcewire_status_t::{self, *};

/// Computes what the server asks for until it has had enough: FORCEWIRE_OK after EXIT, FORCEWIRE_CLOSED if it only
/// closed the connection. Positions and forces have room for so many atoms; on a host they may be NULL, and the
/// library takes memory as it needs it and knows batches.
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
        #[cfg(feature = "std")]
        if positions.is_null() && forces.is_null() {
            // SAFETY: the caller's handle and function.
            return unsafe { serve(driver, potential, context) };
        }
        let mut event = forcewire_event_t::NONE;
        loop {
            // SAFETY: the caller's handle and memory.
            let status =
                unsafe { forcewire_driver_receive(driver, positions, capacity, &raw mut event) };
            match (status, event.kind) {
                (FORCEWIRE_OK, FORCEWIRE_EVENT_INIT) => continue,
                (FORCEWIRE_OK, FORCEWIRE_EVENT_EXIT) => return FORCEWIRE_OK,
                (FORCEWIRE_OK, FORCEWIRE_EVENT_CLOSED) => return FORCEWIRE_CLOSED,
                (FORCEWIRE_OK, FORCEWIRE_EVENT_POSITIONS) => {}
                (status, _) => return status,
            }
            // SAFETY: the caller's function and memory, with room for as many atoms as have come. No reference to the
            // handle is left: the function may look at it.
            let evaluation = unsafe {
                match compute(
                    potential,
                    context,
                    &event.cell,
                    positions,
                    forces,
                    event.natoms,
                ) {
                    Ok(evaluation) => evaluation,
                    Err(failure) => {
                        return Handle::<Driver>::of(driver)
                            .map_or(FORCEWIRE_INVALID_ARGUMENT, |handle| handle.fail(failure));
                    }
                }
            };
            // SAFETY: as above.
            let status = unsafe {
                forcewire_driver_reply(
                    driver,
                    &evaluation,
                    forces,
                    event.natoms,
                    core::ptr::null(),
                    0,
                )
            };
            if status != FORCEWIRE_OK {
                return status;
            }
        }
    };
    // SAFETY: the caller's handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// The most atoms and structures of one exchange, so that a stream out of step does not ask for all memory.
#[cfg(feature = "std")]
const MOST_ATOMS: usize = 10_000_000;
#[cfg(feature = "std")]
const MOST_STRUCTURES: usize = 10_000;

/// [`forcewire_driver_serve`] with arrays of the library's own.
///
/// # Safety
///
/// That of [`Handle::of`] and [`compute`].
#[cfg(feature = "std")]
unsafe fn serve(
    driver: *mut forcewire_driver_t,
    potential: forcewire_potential_t,
    context: *mut c_void,
) -> forcewire_status_t {
    let mut cells = vec![Cell::orthorhombic([0.0; 3])];
    let (mut positions, mut forces) = (Vec::<[f64; 3]>::new(), Vec::new());
    let mut evaluations = Vec::new();
    loop {
        // SAFETY: the caller's handle. The reference ends before the potential is called, which may look at it.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        let (natoms, structures) = match handle
            .run(|driver| driver.receive_batch(&mut cells, &mut positions))
        {
            Ok(Event::Positions {
                natoms, structures, ..
            }) => (natoms, structures),
            Ok(Event::Init { .. }) => continue,
            Ok(Event::Exit) => return FORCEWIRE_OK,
            Ok(_) => return handle.fail(Failure::Closed),
            // The exchange goes on once there is room.
            Err(status) => match handle.failure().protocol() {
                Some(ProtocolError::TooManyAtoms { announced, .. }) if announced <= MOST_ATOMS => {
                    positions.resize(announced, [0.0; 3]);
                    continue;
                }
                Some(ProtocolError::TooManyStructures { announced, .. })
                    if announced <= MOST_STRUCTURES =>
                {
                    cells.resize(announced, Cell::orthorhombic([0.0; 3]));
                    continue;
                }
                _ => return status,
            },
        };
        forces.resize(natoms * structures, [0.0; 3]);
        evaluations.clear();
        for (index, cell) in cells.iter().take(structures).enumerate() {
            let atoms = index * natoms..(index + 1) * natoms;
            let cell = forcewire_cell_t { h: *cell.h() };
            // As many as are there: `compute` takes no less than it is given.
            let positions = positions.get(atoms.clone()).unwrap_or_default().as_ptr();
            let forces = forces.get_mut(atoms).unwrap_or_default().as_mut_ptr();
            // SAFETY: the caller's function; the arrays are as long as we say.
            match unsafe { compute(potential, context, &cell, positions, forces, natoms) } {
                Ok(evaluation) => evaluations.push(Evaluation::from(evaluation)),
                Err(failure) => {
                    // SAFETY: the caller's handle.
                    return unsafe { Handle::<Driver>::of(driver) }
                        .map_or(FORCEWIRE_INVALID_ARGUMENT, |handle| handle.fail(failure));
                }
            }
        }
        // SAFETY: as above.
        let Some(handle) = (unsafe { Handle::<Driver>::of(driver) }) else {
            return FORCEWIRE_INVALID_ARGUMENT;
        };
        if let Err(status) = handle.run(|driver| driver.reply_batch(&evaluations, &forces, &[])) {
            return status;
        }
    }
}
