//! The protocol over a serial line that damages bytes: what was sent is read, or there is an error
//! in time.

#[cfg(unix)]
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
