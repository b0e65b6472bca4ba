//! A server's single steps, batches, f32, folding.
//!
//! Every mode, with separate calls, INIT, batches, extras, folding, both precisions, errors, reset.

#![no_std]
#![no_main]

use forcewire::{
    Answer, Cell, Error, Mode, ProtocolError, Request, Scalar, Server, Status, blocking,
};
use images::{Fault, Wire, may_panic, unforeseen};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let mode = match unforeseen() {
        0 => Mode::Classic,
        1 => Mode::Strict,
        2 => Mode::Batched(unforeseen() as usize),
        _ => Mode::Consolidated,
    };
    let mut server = Server::new().mode(mode);
    if unforeseen() > 0 {
        server = server.fold_positions();
    }
    if unforeseen() > 0 {
        server = server.allow_changing_atoms().allow_not_finite();
    }
    loop {
        let result = if unforeseen() > 0 {
            connection::<f64>(&mut server)
        } else {
            connection::<f32>(&mut server)
        };
        match result {
            Err(Error::Protocol(ProtocolError::WrongAtoms { .. })) => return unforeseen(),
            Err(Error::TimedOut(_) | Error::Transport(_)) => server.mark_timed_out(),
            _ => server.reset(),
        }
    }
}

/// A cell, or an invalid one.
fn cell() -> Cell {
    Cell::from_rows([[0; 3]; 3].map(|row| row.map(|_: i32| unforeseen().into())))
}

fn connection<T: Scalar>(server: &mut Server) -> Result<(), Error<Fault>> {
    let cells = [cell(), cell()];
    let mut positions = [[T::ZERO; 3]; 128];
    let (mut forces, mut extras) = ([[T::ZERO; 3]; 128], [0; 64]);
    let mut answers = [Answer::default(); 2];
    loop {
        // Lengths that may fit or not.
        let few = |len| (unforeseen() as usize).min(len);
        let cells = cells.get(..few(2)).unwrap_or_default();
        let given = positions.get(..few(128)).unwrap_or_default();
        let taken = forces.get_mut(..few(128)).unwrap_or_default();
        let answers = answers.get_mut(..few(2)).unwrap_or_default();
        let request = Request::batch(cells, given).replica(unforeseen() as i32);
        let answer = match unforeseen() {
            0 => {
                if blocking::run(&mut Wire, server.status())?.contains(Status::HAS_DATA) {
                    continue;
                }
                Answer::default()
            }
            1 => {
                blocking::run(&mut Wire, server.initialize(-1, &extras))?;
                continue;
            }
            2 => {
                blocking::run(&mut Wire, server.send_positions(request))?;
                continue;
            }
            3 => blocking::run(
                &mut Wire,
                server.get_forces_batch(answers, taken, &mut extras),
            )?,
            4 => return blocking::run(&mut Wire, server.exit()),
            _ => {
                let evaluate = server.evaluate_batch(request, answers, taken, &mut extras);
                blocking::run(&mut Wire, evaluate)?
            }
        };
        may_panic(taken);
        if answer.extras(&extras).len() < answer.extras_sent()
            || !answer.evaluation.virial.is_finite()
        {
            return Ok(());
        }
        for (position, force) in positions.iter_mut().zip(&forces) {
            *position = *force;
        }
    }
}
