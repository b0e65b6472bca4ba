//! `forcewire bridge`: the host's end of `forcewire::line`, for boards on serial lines.

mod device;
mod line;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::io::Errno;

use crate::arguments::seconds;
use crate::meet::Target;
use crate::say::{Failure, say};
use device::Device;
use line::{Bridge, Options};

/// Connect boards on serial lines to a server, with one connection each
#[derive(Args, Debug)]
#[command(
    override_usage = "forcewire bridge --serial <DEVICE>... --to <ADDRESS> [OPTIONS]
       forcewire bridge --to <ADDRESS> [OPTIONS] <COMMAND>...",
    after_help = "\
A server with --meet-only takes no answers of boards: they can't read its FILE.

With a COMMAND it ends when that does, with its status. Otherwise it never ends: a device that
goes away is opened again, a server that goes away is connected again when the board asks.

Example: forcewire bridge --serial /dev/ttyACM0 --serial /dev/ttyUSB0,9600 --to localhost:31415

Status: that of COMMAND, 1 when something fails, 2 when a flag makes no sense."
)]
pub struct Arguments {
    /// A line: /dev/ttyACM0, /dev/ttyUSB0,9600 (default: 115200 baud), tcp:HOST:PORT or unix:PATH;
    /// repeatable
    #[arg(long, value_name = "DEVICE", required_unless_present = "command")]
    serial: Vec<Device>,
    /// Where the server listens: HOST:PORT, unix:NAME, or meet:FILE, as the server's --meet has it
    #[arg(long, value_name = "ADDRESS")]
    to: Target,
    /// Hang up if a board is silent for longer [default: no limit; a lost board keeps its
    /// connection]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    limit: Option<Duration>,
    /// Log what happens
    #[arg(short, long)]
    verbose: bool,
    /// A program whose input and output are the line, such as QEMU with -serial stdio
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        conflicts_with = "serial"
    )]
    command: Vec<OsString>,
}

/// The pause before a lost device is reopened.
const PAUSE: Duration = Duration::from_secs(1);

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let options = Options {
        server: arguments.to,
        limit: arguments.limit,
        is_verbose: arguments.verbose,
    };
    if let [program, rest @ ..] = &arguments.command[..] {
        return match run_command(program, rest, &options)? {
            0 => Ok(()),
            status => Err(Failure::Command(status)),
        };
    }
    thread::scope(|scope| {
        for device in &arguments.serial {
            scope.spawn(|| keep(device, &options));
        }
    });
    Err(Failure::Run(
        "none of the devices is a serial line: /dev/ttyACM0, tcp:HOST:PORT".into(),
    ))
}

/// Bridges a program's input and output until it ends, and returns its status.
fn run_command(program: &OsString, arguments: &[OsString], options: &Options) -> io::Result<u8> {
    let (line, input) = UnixStream::pair()?;
    let output = input.try_clone()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    Bridge::new("the command", line.into(), options)?.run()?;
    let status = child.wait()?.code().unwrap_or(1);
    Ok(u8::try_from(status).unwrap_or(1))
}

/// Bridges one device and reopens it after a loss. Returns if it can't become a line.
fn keep(device: &Device, options: &Options) {
    let name = device.to_string();
    let mut failed = None;
    loop {
        let ended = device
            .open()
            .and_then(|line| Bridge::new(&name, line, options)?.run());
        let is_line =
            !matches!(&ended, Err(error) if Errno::from_io_error(error) == Some(Errno::NOTTY));
        let error = match ended {
            Ok(()) => "it has gone; waiting for it".to_owned(),
            Err(error) if is_line => format!("{error}; trying again"),
            Err(_) => "it is no serial line".to_owned(),
        };
        if failed.as_ref() != Some(&error) {
            say(format_args!("{name}: {error}"));
        }
        if !is_line {
            return;
        }
        failed = Some(error);
        thread::sleep(PAUSE);
    }
}
