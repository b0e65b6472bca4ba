//! A driver for structures that don't fit into its arrays: atoms pass through a [`Sink`] 32 at a
//! time, and forces through a [`Source`]. Each force is a spring to the centre of all atoms.
//!
//! ```text
//! cargo run --example windows -- localhost:31415
//! ```

use forcewire::blocking::run;
use forcewire::{Cell, Driver, Evaluation, Event, Sink, Source, net};

const K: f64 = 0.01;

/// In place of an accelerator's memory: single precision, one array per axis.
#[derive(Default)]
struct Device {
    axes: [Vec<f32>; 3],
}

impl Sink for Device {
    type Real = f32;

    fn begin(&mut self, natoms: usize) -> bool {
        self.axes.iter_mut().for_each(Vec::clear);
        natoms <= 10_000_000
    }

    fn put(&mut self, _first: usize, atoms: &[[f32; 3]]) {
        for (axis, numbers) in self.axes.iter_mut().enumerate() {
            numbers.extend(atoms.iter().map(|r| r[axis]));
        }
    }
}

/// Forces are computed as they are sent.
struct Springs<'a>(&'a Device, [f64; 3]);

impl Source for Springs<'_> {
    type Real = f32;

    fn natoms(&self) -> usize {
        self.0.axes[0].len()
    }

    fn get(&mut self, first: usize, atoms: &mut [[f32; 3]]) {
        for (axis, numbers) in self.0.axes.iter().enumerate() {
            for (force, x) in atoms.iter_mut().zip(&numbers[first..]) {
                force[axis] = (K * (self.1[axis] - f64::from(*x))) as f32;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: windows HOST:PORT")?;
    let mut server = net::connect(&address.parse()?)?;
    let (mut driver, mut device) = (Driver::new(), Device::default());
    let mut cells = [Cell::orthorhombic([0.0; 3])];
    loop {
        let event = run(&mut server, driver.receive_into(&mut cells, &mut device))?;
        let Event::Positions { natoms, .. } = event else {
            println!("the server ended it: {event:?}");
            return Ok(());
        };
        let sum = |axis: usize| device.axes[axis].iter().map(|x| f64::from(*x)).sum::<f64>();
        let centre = [0, 1, 2].map(|axis| sum(axis) / natoms as f64);
        let mut evaluation = Evaluation::default();
        for (numbers, centre) in device.axes.iter().zip(centre) {
            let squares = numbers.iter().map(|x| (f64::from(*x) - centre).powi(2));
            evaluation.energy += 0.5 * K * squares.sum::<f64>();
        }
        let mut forces = Springs(&device, centre);
        run(
            &mut server,
            driver.reply_from(&[evaluation], &mut forces, &[]),
        )?;
    }
}
