//! `forcewire check`: clumsy and hostile peers for any driver and any server of the protocol.
//!
//! A situation is a small script over a socket. Each begins with a control, which is a good
//! conversation. A driver has to return finite numbers, the same for the same structure and others
//! for another one. A server has to finish its run with a good driver, twice with the same result.
//! If the control fails, nothing is judged. Then the clumsy peer plays its part, and the kit checks
//! whether the program is still right.
//!
//! ```text
//! driver/    a driver under test, and the kit as its server
//! servers/   the situations that drivers are put in
//! physics/   whether forces and virial are derivatives of the energy
//! server/    a server under test, and the kit as its drivers
//! drivers/   the situations that servers are put in
//! play.rs    situations in parallel, and what they add up to
//! guard.rs   what ends all that a program has started
//! program.rs the program under test: its start, output and end
//! ending.rs  how a program ended, judged by its status and its last words
//! report.rs  verdicts as lines, JSON and tables
//! line.rs    a connection; listener.rs  where drivers find the kit
//! wire.rs    the bytes of messages, put together by hand
//! ```

mod driver;
mod drivers;
mod ending;
mod guard;
mod limits;
mod line;
mod listener;
mod physics;
mod play;
mod processes;
mod program;
mod report;
mod server;
mod servers;
mod situation;
mod structure;
mod wire;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::arguments::seconds;
use crate::say::{Failure, say};
use limits::Calibration;
use line::Address;
use server::Target;
use situation::About;

/// Play clumsy and hostile peers against a driver or a server
#[derive(Args, Debug)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Example: a driver, then a server that does the same five steps each time
  forcewire check driver --command 'my_driver --host {host} --port {port}'
  forcewire check server --command 'my_server --port {port} --steps 5'

Example: whether forces and virial are the derivatives of the energy, and nothing else
  forcewire check driver --only physics --command 'my_driver --host {host} --port {port}'

A situation is handled if the program went on and was right, or refused and said why. It
is not if the program hung, crashed, or was silently wrong. The manual's page on
conformance explains the verdicts.

Status: 0 when all is handled, 1 when something is not, 2 when a flag makes no sense or
the good conversation fails that comes first."
)]
pub struct Arguments {
    /// Print all situations, where they come from and what the protocol requires
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    Driver(OfDriver),
    Server(OfServer),
    Table(OfTable),
    #[command(hide = true, name = guard::NAME)]
    Guard(guard::Arguments),
}

/// Check a driver: forcewire is the server
#[derive(Args, Debug)]
#[command(after_help = "\
Example: forcewire check driver --command 'my_driver --host {host} --port {port}'

In COMMAND, {host} and {port} say where to connect, or with --unix {path}, which is
/tmp/ipi_{name}. {directory} is an empty directory, a new one for each start.")]
struct OfDriver {
    /// Shell command that starts the driver
    #[arg(long, required_unless_present = "list")]
    command: Option<String>,
    /// Use a unix socket
    #[arg(long)]
    unix: bool,
    /// Number of atoms of the structures
    #[arg(long, value_name = "N", default_value = "4", value_parser = at_least_one)]
    atoms: usize,
    /// The first structure: three cell vectors, then an atom a line, in bohr
    #[arg(long, value_name = "FILE", conflicts_with = "atoms")]
    structure: Option<PathBuf>,
    /// Also check whether forces and virial are the energy's derivatives: 43 evaluations
    #[arg(long)]
    physics: bool,
    /// The driver computes in single precision: physics uses larger steps
    #[arg(long)]
    single: bool,
    #[command(flatten)]
    common: Common,
}

/// Check a server: forcewire is its drivers
#[derive(Args, Debug)]
#[command(after_help = "\
Example: forcewire check server --command 'my_server --port {port} --steps 5'

In COMMAND, {host} and {port} say where to listen, or with --unix {path}, which is
/tmp/ipi_{name}. {directory} is an empty directory, a new one for each start. The server
has to do the same run each time, with at least 3 structures, and end by itself.")]
struct OfServer {
    /// Shell command that starts the server
    #[arg(long, required_unless_present_any = ["list", "address"])]
    command: Option<String>,
    /// Use a unix socket
    #[arg(long)]
    unix: bool,
    /// A server that is already running: HOST:PORT, or the path of a unix socket
    #[arg(long, value_name = "WHERE", conflicts_with = "command", value_parser = place)]
    address: Option<Address>,
    /// The server's first structure as it should be: three cell vectors, then an atom a line, in
    /// bohr
    #[arg(long, value_name = "FILE")]
    structure: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Print results of --json for several programs side by side, as Markdown
#[derive(Args, Debug)]
#[command(after_help = "\
Example: forcewire check table mine.jsonl another.jsonl")]
struct OfTable {
    /// Files with the output of --json
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
struct Common {
    /// Play this situation; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print the situations, where they come from and what the protocol requires
    #[arg(long)]
    list: bool,
    /// Print a line of JSON for each situation
    #[arg(long)]
    json: bool,
    /// Name of the program in JSON [default: the command]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Seconds without activity after which the program counts as hung; must exceed the program's
    /// own limits
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    patience: Duration,
    /// Seconds for the program to start
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    start: Duration,
    /// Situations to play at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = at_least_one)]
    jobs: usize,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments {
        Arguments { list: true, .. } => print(&(list("driver") + &list("server"))),
        Arguments { what: None, .. } => Err(Failure::Usage(
            "check needs to know what: driver, server or table".into(),
        )),
        Arguments {
            what: Some(what), ..
        } => match what {
            What::Driver(OfDriver { common, .. }) if common.list => print(&list("driver")),
            What::Server(OfServer { common, .. }) if common.list => print(&list("server")),
            What::Table(OfTable { files }) => table(&files).and_then(|text| print(&text)),
            What::Guard(arguments) => {
                return guard::run(arguments).unwrap_or(ExitCode::FAILURE);
            }
            What::Driver(of) => driver(of),
            What::Server(of) => server(of),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Run(text)) => {
            say(text);
            ExitCode::from(2)
        }
        Err(failure) => failure.report(),
    }
}

fn driver(of: OfDriver) -> Result<bool, Failure> {
    let command = of.command.unwrap_or_default();
    program::places(&command, of.unix).map_err(Failure::Usage)?;
    let structures = structure::two(of.atoms, of.structure.as_deref()).map_err(Failure::Usage)?;
    let plan = driver::Plan {
        unix: of.unix,
        physics: match (&of.structure, of.atoms) {
            (None, 4) => physics::four_atoms(),
            _ => structures[0].clone(),
        },
        precision: physics::Precision { single: of.single },
        structures,
        calibration: of.common.calibration(),
        right: OnceLock::new(),
        command: command.clone(),
    };
    let plays = servers::all().map(|situation| {
        let run = |times| plan.play(situation, plan.calibration.limits(times));
        play::Play::new(&situation.about, run)
    });
    let choice = play::Choice {
        physics: of.physics,
        ..of.common.choice(command)
    };
    play::all("driver", plays.collect(), &choice)
}

fn server(of: OfServer) -> Result<bool, Failure> {
    let (target, title, jobs) = match (of.command, of.address) {
        (Some(line), _) => {
            let unix = of.unix;
            program::places(&line, unix).map_err(Failure::Usage)?;
            (
                Target::Command {
                    line: line.clone(),
                    unix,
                },
                line,
                of.common.jobs,
            )
        }
        (None, Some(address)) => (Target::Running(address.clone()), address.to_string(), 1),
        (None, None) => return Err(Failure::Usage("--command is missing".into())),
    };
    let expected = of.structure.as_deref().map(structure::read).transpose();
    let expected = expected.map_err(Failure::Usage)?;
    let mut plan = server::Plan {
        target,
        calibration: of.common.calibration(),
        expected,
        control: None,
    };
    let choice = play::Choice {
        jobs,
        ..of.common.choice(title)
    };
    choice.known(drivers::all().map(|situation| &situation.about))?;
    plan.control()
        .map_err(|what| format!("the control failed: {what}"))?;
    let plays = drivers::all().map(|situation| {
        let run = |times| plan.play(situation, plan.calibration.limits(times));
        play::Play::new(&situation.about, run)
    });
    play::all("server", plays.collect(), &choice)
}

impl Common {
    fn calibration(&self) -> Calibration {
        Calibration::new(self.patience, self.start)
    }

    fn choice(&self, program: String) -> play::Choice {
        play::Choice {
            only: self.only.clone(),
            physics: false,
            json: self.json,
            title: self.title.clone().unwrap_or(program),
            jobs: self.jobs,
        }
    }
}

fn table(files: &[PathBuf]) -> Result<String, Failure> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let texts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(report::tables(&texts)?)
}

/// Lists the situations with their reasons and the protocol's rules.
fn list(role: &str) -> String {
    let (abouts, peer): (Vec<&About>, _) = match role {
        "driver" => (servers::all().map(|it| &it.about).collect(), "server"),
        _ => (
            drivers::all().map(|situation| &situation.about).collect(),
            "driver",
        ),
    };
    let mut text = String::new();
    for about in abouts {
        let About {
            name,
            does,
            why,
            reference,
        } = about;
        text += &format!("{name}\n    the {peer} {does}\n    why: {why}\n    see: {reference}\n");
    }
    text
}

fn print(text: &str) -> Result<bool, Failure> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(true)
}

fn place(text: &str) -> Result<Address, String> {
    if text.contains('/') {
        return Ok(Address::Unix(text.into()));
    }
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok()?;
        Some(Address::Tcp(host.into(), port))
    });
    parts.ok_or_else(|| "it is neither HOST:PORT nor a path".into())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("it is not a whole number".into()),
    }
}
