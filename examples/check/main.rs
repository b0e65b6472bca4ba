//! Clumsy and hostile peers for any driver and any server of the i-PI socket protocol.
//!
//! ```text
//! cargo run --example check -- driver --command 'my_driver --host {host} --port {port}'
//! cargo run --example check -- server --command 'my_server --port {port} --steps 5'
//! ```
//!
//! # How to read the table
//!
//! A situation is a small script over a socket. Each begins with a good conversation, its control: a driver has to
//! find finite numbers, the same for the same structure, others for another; a server has to do its run to the end with a
//! good driver, twice the same. If the control fails nothing is said. Then comes the clumsy thing, and then the
//! question whether the program is still right. What can be found:
//!
//! | | |
//! |---|---|
//! | handled | it went on and its numbers are right, or it refused: it ended or closed by itself |
//! | hung | it neither ended, nor closed, nor answered within `--patience`; a server: the good driver beside the clumsy one got no work, or the run did not end |
//! | crashed | a signal ended it, an exception that nobody foresaw, an assertion or a panic, or a status other than 0 without a word |
//! | silently wrong | a driver computed what it was never fully given, or what has no answer (a NaN), or gave wrong numbers; a server went on with such a reply: its run asked for other structures than the control's, or ended well without a right answer for each |
//!
//! The words behind it say how it is known. `carried on`: the numbers are right. `refused`: it ended with a status and a
//! message. `ended`: with status 0. `closed`: the connection only. `came back`: it connected again, and was right.
//! `recovered`: it let the message drop, said so, and was right afterwards.
//!
//! Where a Python program ends with a traceback, its end decides: a `raise`, or the system's word on the connection
//! (timed out, reset), means that somebody foresaw this and left a message: `refused (exception)`. A call that was not
//! expected to fail means that nobody did: `crashed (exception)`. An `assert` stands between: it stops the program in
//! time, and tells its authors rather than its users: `crashed (assertion)`. The explanation always has the message.
//!
//! A driver that is given a NaN and answers with one is silent, too, but its server can see it: `NaN in, NaN out`.
//!
//! Not everything that is handled is good manners: a driver may refuse a header that comes in two segments, and no wrong
//! number comes of it. And not everything that hangs is the program's fault: `--patience` has to be longer than its own
//! time limits, and a server without one will wait for a driver for ever because it was told to.
//!
//! `--list` says of each situation where it comes from and what the protocol says about it; `--json` is for programs;
//! `table` puts what `--json` wrote side by side.

#[cfg(unix)]
mod command;
#[cfg(unix)]
mod driver;
#[cfg(unix)]
mod drivers;
#[cfg(unix)]
mod line;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod servers;
#[cfg(unix)]
mod situation;
#[cfg(unix)]
mod subject;
#[cfg(unix)]
mod wire;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("check: it starts programs as unix systems do, and only there");
    std::process::ExitCode::FAILURE
}
