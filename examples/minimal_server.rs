//! A server that lets one driver compute one structure.
//!
//! ```text
//! cargo run --example minimal_server -- localhost:31415
//! ```

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use forcewire::blocking::run;
    use forcewire::net::{self, ConnectOptions};
    use forcewire::{Cell, Request, Server};

    let address = std::env::args()
        .nth(1)
        .ok_or("usage: minimal_server HOST:PORT")?;
    let mut driver = net::accept(&address.parse()?, ConnectOptions::new())?;
    let cell = Cell::orthorhombic([20.0; 3]);
    let positions = [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0]]; // bohr
    let (mut server, mut forces) = (Server::new(), [[0.0; 3]; 2]);
    let request = Request::new(&cell, &positions);
    let answer = run(&mut driver, server.evaluate(request, &mut forces, &mut []))?;
    println!("energy {} hartree", answer.evaluation.energy);
    println!("forces {forces:?} hartree/bohr");
    run(&mut driver, server.exit())?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("net::accept is for unix systems");
}
