//! A driver on a host: every atom on a spring.
//!
//! ```text
//! cargo run --example minimal_driver -- localhost:31415
//! ```

use forcewire::net;
use forcewire::potential::Harmonic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .ok_or("usage: minimal_driver HOST:PORT")?;
    let mut server = net::connect(&address.parse()?)?;
    let end = net::serve(&mut server, &mut Harmonic::<f64>::new(0.01))?;
    println!("the server ended it: {end:?}");
    Ok(())
}
