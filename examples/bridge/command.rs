//! The command line: which lines, which server.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use forcewire::net::Address;

use crate::bridge::{Bridge, Options};
use crate::device::Device;

const HELP: &str = "\
Connects boards on serial lines to a server, each with a connection of its own.

usage: bridge --serial DEVICE... --to ADDRESS [--limit SECONDS] [-v]
       bridge --to ADDRESS [--limit SECONDS] [-v] COMMAND [ARGUMENTS]

  --serial DEVICE  a line, as /dev/ttyACM0 or /dev/ttyUSB0,9600 (default: 115200 baud), or
                   tcp:HOST:PORT or unix:PATH; once for each
  --to ADDRESS     where the server listens: HOST:PORT or unix:NAME
  --limit SECONDS  hang up if a board is silent for longer. Without it a board may compute
                   for ever, and one that is gone keeps its connection
  -v               say what happens
  COMMAND          its input and output are the line, as QEMU's with -serial stdio

With a command it ends when that does, with its status. Otherwise it never ends: a device that
goes away is opened again, a server that goes away is connected again when the board asks.
";

/// Before a device that has gone is tried again.
const PAUSE: Duration = Duration::from_secs(1);

struct Arguments {
    devices: Vec<Device>,
    command: Vec<std::ffi::OsString>,
    options: Options,
}

pub fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("bridge: {error} (--help lists the flags)");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("bridge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Arguments>, Box<dyn Error>> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};

    let (mut devices, mut command) = (Vec::new(), Vec::new());
    let (mut address, mut limit, mut is_verbose) = (None, None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("serial") => devices.push(parser.value()?.parse_with(str::parse::<Device>)?),
            Long("to") => address = Some(parser.value()?.parse_with(str::parse::<Address>)?),
            Long("limit") => {
                let seconds = parser.value()?.parse()?;
                limit = Some(Duration::try_from_secs_f64(seconds)?);
            }
            Short('v') => is_verbose = true,
            Short('h') | Long("help") => return Ok(None),
            Value(first) => {
                command.push(first);
                command.extend(parser.raw_args()?);
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let address = address.ok_or("--to ADDRESS is missing")?;
    if devices.is_empty() == command.is_empty() {
        return Err("either --serial DEVICE or a COMMAND is the line".into());
    }
    let options = Options {
        address,
        limit,
        is_verbose,
    };
    Ok(Some(Arguments {
        devices,
        command,
        options,
    }))
}

fn run(arguments: Arguments) -> io::Result<u8> {
    let Arguments {
        devices,
        command,
        options,
    } = arguments;
    if let [program, arguments @ ..] = &command[..] {
        let (line, input) = UnixStream::pair()?;
        let output = input.try_clone()?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(input)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .spawn()?;
        Bridge::new("the command", line.into(), &options)?.run()?;
        let status = child.wait()?.code().unwrap_or(1);
        return Ok(u8::try_from(status).unwrap_or(1));
    }
    thread::scope(|scope| {
        for device in &devices {
            scope.spawn(|| keep(device, &options));
        }
    });
    Ok(0)
}

/// Bridges one device, and opens it again when it has gone.
fn keep(device: &Device, options: &Options) {
    let name = device.to_string();
    let mut failed = None;
    loop {
        let ended = device
            .open()
            .and_then(|line| Bridge::new(&name, line, options)?.run());
        let error = match ended {
            Ok(()) => "it has gone".to_owned(),
            Err(error) => error.to_string(),
        };
        if failed.as_ref() != Some(&error) {
            eprintln!("bridge: {name}: {error}");
        }
        failed = Some(error);
        thread::sleep(PAUSE);
    }
}
