//! The protocol over a serial line that damages bytes: what was sent is read, or there is an error
//! in time.

#[path = "../common/mod.rs"]
mod common;
#[cfg(unix)]
#[path = "../common/example.rs"]
mod example;

mod damage;
mod kept_alive;
mod quiet;
mod restarts;
mod stream;
mod world;

#[cfg(unix)]
mod c;
#[cfg(unix)]
mod pty;
