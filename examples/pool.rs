//! A server for any number of drivers: the energy of a dimer at sixteen distances.
//!
//! ```text
//! cargo run --example pool -- localhost:31415
//! ```

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::time::Duration;

    use forcewire::Cell;
    use forcewire::net::{Job, Pool, PoolOptions};

    let address = std::env::args().nth(1).ok_or("usage: pool HOST:PORT")?;
    let mut pool = Pool::new(PoolOptions::default())?;
    pool.listen(&address.parse()?)?;
    let cell = Cell::orthorhombic([20.0; 3]);
    let distances = (4..20).map(|i| 0.5 * f64::from(i));
    let jobs = distances.map(|d| Job::new(cell, vec![[0.0; 3], [d, 0.0, 0.0]]));
    // Waits for drivers, and passes a lost driver's work to another one.
    let answers = pool.evaluate(jobs, None, |event| eprintln!("{event:?}"))?;
    for answer in answers {
        let distance = answer.job.positions[1][0];
        println!("{distance} bohr: {} hartree", answer.evaluation.energy);
    }
    pool.close(Duration::from_secs(5))?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("net::Pool is for unix systems");
}
