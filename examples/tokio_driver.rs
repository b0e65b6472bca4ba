//! A driver as a Tokio task, with a time limit, which Ctrl-C may end at any byte.
//!
//! ```text
//! cargo run --example tokio_driver -- localhost:31415
//! ```

use std::time::Duration;

use embedded_io_adapters::tokio_1::FromTokio;
use forcewire::asynch::run;
use forcewire::potential::Harmonic;
use forcewire::{Driver, Event, Potential};
use tokio::{net::TcpStream, select, signal::ctrl_c, time::timeout};

/// How long the server may take from one structure to the next.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .ok_or("usage: tokio_driver HOST:PORT")?;
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut server = FromTokio::new(socket);
    select! {
        // Polled in this order, so that Ctrl-C is handled from the first byte on.
        biased;
        stop = ctrl_c() => {
            println!("stopped");
            Ok(stop?)
        }
        served = serve(&mut server) => served,
    }
}

async fn serve(server: &mut FromTokio<TcpStream>) -> Result<(), Box<dyn std::error::Error>> {
    let (mut driver, mut potential) = (Driver::new(), Harmonic::<f64>::new(0.01));
    let (mut positions, mut forces) = ([[0.0; 3]; 64], [[0.0; 3]; 64]);
    loop {
        // Bytes that arrived before the time-out are not lost: another receive would continue
        // there.
        let receive = run(server, driver.receive(&mut positions));
        let Ok(event) = timeout(LIMIT, receive).await else {
            return Err(format!("nothing within {LIMIT:?}").into());
        };
        match event? {
            Event::Positions { natoms, cell, .. } => {
                let (positions, forces) = (&positions[..natoms], &mut forces[..natoms]);
                let evaluation = potential.evaluate(&cell, positions, forces)?;
                run(server, driver.reply(&evaluation, forces, b"")).await?;
            }
            Event::Init { .. } => {}
            end => {
                println!("the server ended it: {end:?}");
                return Ok(());
            }
        }
    }
}
