//! The command line, and the situations played in parallel.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::driver;
use crate::drivers::DRIVERS;
use crate::line::Address;
use crate::report::{Finding, Row, Verdict, tables};
use crate::server::{self, Target};
use crate::servers::SERVERS;
use crate::situation::{About, CONTROL};
use crate::wire::Structure;

const HELP: &str = "\
Plays clumsy and hostile peers of the i-PI socket protocol against a program, and tells how it takes them.

usage: check driver --command COMMAND [flags]     the kit is the server, the command a driver
       check server --command COMMAND [flags]     the kit is the drivers, the command a server
       check server --address WHERE [flags]       a server that runs: HOST:PORT or the path of a unix socket
       check table FILE...                        what --json wrote for some programs, side by side in Markdown

  --command COMMAND   for the shell; {host} and {port} say where to connect or listen, or with --unix {path},
                      which is /tmp/ipi_{name}; {directory} is an empty directory of this start's own
  --unix              over a unix socket
  --only NAME         this situation; may be repeated
  --list              say what there is, and why
  --json              a line of JSON for each situation
  --title TEXT        what JSON calls the program (default: the command)
  --patience S        seconds without a sign of life before something hangs (default: 5); has to be longer
                      than the program's own time limits
  --start S           seconds for the program to start (default: 30)
  --jobs N            situations at the same time (default: 4)

for drivers:
  --atoms N           of the structures (default: 4)
  --structure FILE    the first structure: three lines with the cell's vectors, then one line for each
                      atom, three numbers each, bohr

A server under test has to do the same run each time, with at least 3 structures, and end by itself.
It ends with 0 if all was handled, with 1 if not, with 2 if a flag makes no sense or the control failed.
";

struct Arguments {
    role: Role,
    only: Vec<String>,
    json: bool,
    title: String,
    jobs: usize,
}

enum Role {
    Driver(driver::Plan),
    Server(server::Plan),
}

enum Task {
    Play(Box<Arguments>),
    Print(String),
}

pub fn main() -> ExitCode {
    let task = match task() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("check: {error} (--help lists the flags)");
            return ExitCode::from(2);
        }
    };
    let result = match task {
        Task::Print(text) => io::stdout()
            .write_all(text.as_bytes())
            .map(|()| true)
            .map_err(Into::into),
        Task::Play(arguments) => play(*arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("check: {error}");
            ExitCode::from(2)
        }
    }
}

/// A situation with all that it needs.
type Play<'a> = Box<dyn Fn() -> Result<Finding, String> + Sync + 'a>;

fn play(arguments: Arguments) -> Result<bool, Box<dyn Error>> {
    let Arguments {
        mut role,
        only,
        json,
        title,
        jobs,
    } = arguments;
    if let Role::Server(plan) = &mut role {
        plan.control()
            .map_err(|what| format!("the control failed: {what}"))?;
    }
    let (name, plays): (_, Vec<(&'static About, Play)>) = match &role {
        Role::Driver(plan) => {
            let play = |it: &'static driver::Situation| {
                (&it.about, Box::new(move || plan.play(it)) as Play)
            };
            ("driver", SERVERS.iter().map(play).collect())
        }
        Role::Server(plan) => {
            let play = |it: &'static server::Situation| {
                (&it.about, Box::new(move || plan.play(it)) as Play)
            };
            ("server", DRIVERS.iter().map(play).collect())
        }
    };
    let known = |name: &String| plays.iter().any(|(about, _)| about.name == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        return Err(
            format!("--only {unknown}: there is no such situation; --list names them").into(),
        );
    }
    let wanted = |about: &About| only.is_empty() || only.iter().any(|name| name == about.name);
    let plays: Vec<_> = plays
        .into_iter()
        .filter(|(about, _)| wanted(about))
        .collect();
    let width = plays
        .iter()
        .map(|(about, _)| about.name.len())
        .max()
        .unwrap_or_default();

    let mut rows = Vec::new();
    // The first one goes alone: without it, nothing can be said of the others.
    let (first, others) = plays.split_at(plays.len().min(1));
    for (some, jobs) in [(first, 1), (others, jobs)] {
        in_parallel(some, jobs, |row| {
            let text = match json {
                true => row.json(&title, name).to_string(),
                false => row.line(width),
            };
            rows.push(row);
            writeln!(io::stdout().lock(), "{text}").map_err(|error| format!("can't print: {error}"))
        })?;
    }
    rows.retain(|row| row.about.name != CONTROL);
    let count = |verdict| {
        let rows = rows.iter().filter(|row| row.finding.verdict == verdict);
        rows.count()
    };
    let handled = count(Verdict::Handled);
    eprintln!(
        "check: {handled} of {} handled, {} hung, {} crashed, {} silently wrong",
        rows.len(),
        count(Verdict::Hung),
        count(Verdict::Crashed),
        count(Verdict::SilentlyWrong)
    );
    Ok(handled == rows.len())
}

/// Plays them, `jobs` at a time, and tells of each in their order. Stops when a control fails.
fn in_parallel(
    plays: &[(&'static About, Play)],
    jobs: usize,
    mut tell: impl FnMut(Row) -> Result<(), String>,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(plays.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((index, (about, play))) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    plays.get(index).map(|play| (index, play))
                } {
                    let start = Instant::now();
                    let row = play().map(|finding| Row {
                        about,
                        finding,
                        seconds: start.elapsed().as_secs_f64(),
                    });
                    let row =
                        row.map_err(|what| format!("{}: the control failed: {what}", about.name));
                    if sender.send((index, row)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut told) = (BTreeMap::new(), 0);
        let result = receiver.iter().try_for_each(|(index, row)| {
            early.insert(index, row?);
            while let Some(row) = early.remove(&told) {
                tell(row)?;
                told += 1;
            }
            Ok(())
        });
        // Nobody begins another.
        next.store(plays.len(), Ordering::Relaxed);
        result
    })
}

fn task() -> Result<Task, Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut flags = lexopt::Parser::from_env();
    let what = match flags.next()? {
        Some(Short('h') | Long("help")) => return Ok(Task::Print(HELP.into())),
        Some(Value(what)) => what.string()?,
        Some(other) => return Err(other.unexpected().into()),
        None => return Err("driver, server or table is missing".into()),
    };
    let what = match what.as_str() {
        "driver" => "driver",
        "server" => "server",
        "table" => {
            let mut texts = Vec::new();
            while let Some(flag) = flags.next()? {
                let Value(path) = flag else {
                    return Err(flag.unexpected().into());
                };
                let path = PathBuf::from(path);
                let text = fs::read_to_string(&path);
                texts.push(text.map_err(|error| format!("{}: {error}", path.display()))?);
            }
            return Ok(Task::Print(tables(&texts)?));
        }
        other => return Err(format!("it is driver, server or table, not {other:?}").into()),
    };

    let (mut command, mut address, mut unix) = (None, None, false);
    let (mut only, mut json, mut title, mut jobs) = (Vec::new(), false, None, 4);
    let (mut patience, mut start) = (Duration::from_secs(5), Duration::from_secs(30));
    let (mut atoms, mut structure) = (4, None);
    while let Some(flag) = flags.next()? {
        let name = match flag {
            Short('h') | Long("help") => return Ok(Task::Print(HELP.into())),
            Long("list") => return Ok(Task::Print(list(what))),
            Long("unix") => {
                unix = true;
                continue;
            }
            Long("json") => {
                json = true;
                continue;
            }
            Long(name) => name.to_owned(),
            other => return Err(other.unexpected().into()),
        };
        let mut text = || flags.value()?.string();
        match (name.as_str(), what) {
            ("command", _) => command = Some(text()?),
            ("address", "server") => address = Some(text()?),
            ("only", _) => only.push(text()?),
            ("title", _) => title = Some(text()?),
            ("patience", _) => patience = seconds("--patience", &text()?)?,
            ("start", _) => start = seconds("--start", &text()?)?,
            ("jobs", _) => jobs = number("--jobs", &text()?)?,
            ("atoms", "driver") => atoms = number("--atoms", &text()?)?,
            ("structure", "driver") => structure = Some(text()?),
            _ => return Err(format!("--{name} is no flag of check {what}").into()),
        }
    }
    if jobs == 0 || atoms == 0 {
        return Err("--jobs and --atoms are at least 1".into());
    }
    let title = title
        .or_else(|| command.clone())
        .or_else(|| address.clone());
    let role = match (what, command, address) {
        ("driver", Some(command), _) => Role::Driver(driver::Plan {
            command,
            unix,
            structures: structures(atoms, structure.as_deref())?,
            patience,
            start,
        }),
        ("server", Some(line), None) => Role::Server(server::Plan {
            target: Target::Command { line, unix },
            patience,
            start,
            control: None,
        }),
        ("server", None, Some(text)) => {
            jobs = 1;
            Role::Server(server::Plan {
                target: Target::Running(where_it_is(&text)?),
                patience,
                start,
                control: None,
            })
        }
        ("server", Some(_), Some(_)) => return Err("--command or --address, not both".into()),
        _ => return Err("--command is missing".into()),
    };
    let title = title.unwrap_or_default();
    Ok(Task::Play(Box::new(Arguments {
        role,
        only,
        json,
        title,
        jobs,
    })))
}

/// What there is, why it happens, and what the protocol says of it.
fn list(role: &str) -> String {
    let abouts: Vec<_> = match role {
        "driver" => SERVERS.iter().map(|it| &it.about).collect(),
        _ => DRIVERS.iter().map(|it| &it.about).collect(),
    };
    let peer = if role == "driver" { "server" } else { "driver" };
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

fn where_it_is(text: &str) -> Result<Address, String> {
    if text.contains('/') {
        return Ok(Address::Unix(text.into()));
    }
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("--address takes HOST:PORT or a path, not {text:?}"))?;
    Ok(Address::Tcp(host.into(), number("--address", port)?))
}

/// The structure of a file or a small cluster, and the same with its atoms moved.
fn structures(natoms: usize, path: Option<&str>) -> Result<[Structure; 2], String> {
    let first = match path {
        None => cluster(natoms),
        Some(path) => read(path)?,
    };
    let mut second = first.clone();
    for (index, x) in second.positions.as_flattened_mut().iter_mut().enumerate() {
        *x += 0.05 * (index as f64 * 1.7).sin();
    }
    Ok([first, second])
}

/// Atoms on a grid, a little apart from it, in a cell that is not quite a box.
fn cluster(natoms: usize) -> Structure {
    const SPACING: f64 = 7.0;
    let edge = (1..)
        .find(|edge: &usize| edge.pow(3) >= natoms)
        .unwrap_or(1);
    let place = |atom: usize, power: u32| {
        let grid = (atom / edge.pow(power) % edge) as f64;
        SPACING * grid + 0.3 * ((3 * atom) as f64 + f64::from(power)).sin()
    };
    let length = SPACING * (edge as f64 + 1.0);
    Structure {
        h: [[length, 1.0, 0.5], [0.0, length, 0.7], [0.0, 0.0, length]],
        positions: (0..natoms)
            .map(|atom| [0, 1, 2].map(|power| place(atom, power)))
            .collect(),
    }
}

fn read(path: &str) -> Result<Structure, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut rows = Vec::new();
    for (line, text) in text
        .lines()
        .enumerate()
        .filter(|(_, text)| !text.trim().is_empty())
    {
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let row = <[f64; 3]>::try_from(numbers);
        rows.push(row.map_err(|_| format!("{path}: line {} is not three numbers", line + 1))?);
    }
    let [a, b, c, positions @ ..] = &rows[..] else {
        return Err(format!("{path}: three vectors of the cell are missing"));
    };
    if positions.is_empty() {
        return Err(format!("{path}: atoms are missing"));
    }
    Ok(Structure {
        h: [0, 1, 2].map(|row| [a[row], b[row], c[row]]),
        positions: positions.to_vec(),
    })
}

fn seconds(flag: &str, text: &str) -> Result<Duration, String> {
    let wrong = |_| format!("{flag} takes a number of seconds, not {text:?}");
    Duration::try_from_secs_f64(number(flag, text)?).map_err(wrong)
}

fn number<T: FromStr>(flag: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| format!("{flag} takes a number, not {text:?}: {error}"))
}
