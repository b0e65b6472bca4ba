//! INIT, batches, parameters, errors, reset.

#![no_std]
#![no_main]

use forcewire::{Driver, Error, Event, Initialize, ProtocolError, Storage, blocking};
use images::{Echo, Fault, Wire, unforeseen};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let mut driver = Driver::new().initialize(Initialize::EveryStep);
    let mut storage = Storage::<f64, 64, 8>::new();
    loop {
        match connection(&mut driver, &mut storage) {
            Err(Error::Protocol(ProtocolError::UnannouncedBatch)) => return unforeseen(),
            _ => driver.reset(),
        }
    }
}

fn connection(driver: &mut Driver, storage: &mut Storage<f64, 64, 8>) -> Result<(), Error<Fault>> {
    loop {
        match blocking::run(&mut Wire, storage.receive(driver))? {
            Event::Positions {
                natoms, structures, ..
            } => {
                storage.evaluate(natoms, structures, &mut Echo)?;
                blocking::run(&mut Wire, storage.reply(driver))?;
            }
            Event::Init { .. } if driver.parameters().any(|(key, _)| key == "sigma") => {}
            Event::Init { .. } => {}
            _ => return Ok(()),
        }
    }
}
