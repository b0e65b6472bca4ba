//! The programs of `examples/c`, built with the commands of their README and compared with its
//! text.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::tempdir;

use crate::ipi::{NAME, Simulation};
use crate::page;
use crate::process::{Process, peer};
use crate::tools::{call, library, root};
use crate::wire::listen;

/// Runs the README's commands in a copy of the repository's layout. Returns the directory of the
/// programs.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let readme = fs::read_to_string(root().join("examples/c/README.md")).unwrap();
        let commands: Vec<_> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("$ "))
            .collect();
        let compilers: Vec<_> = commands
            .iter()
            .filter(|line| line.starts_with("gcc ") || line.starts_with("gfortran "))
            .collect();
        assert!(
            commands.contains(&"cargo build --release -p forcewire-c"),
            "{commands:?}"
        );
        assert_eq!(compilers.len(), 3, "{commands:?}");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
        fs::create_dir_all(directory.join("target")).unwrap();
        for (link, to) in [
            ("src", root().join("src")),
            ("examples", root().join("examples")),
            ("target/release", library().into()),
        ] {
            let link = directory.join(link);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(to, link).unwrap();
        }
        for line in compilers {
            call(
                Command::new("sh")
                    .args(["-ec", line])
                    .current_dir(&directory),
            );
        }
        directory
    })
}

#[test]
fn both_drivers_run_simulations() {
    let run = |name: &str, simulation: Simulation| {
        simulation.agrees(|port, prefix| {
            let mut command = Command::new(made().join(name));
            command.arg(match simulation.unix {
                true => format!("unix:{prefix}{NAME}"),
                false => format!("localhost:{port}"),
            });
            command
        });
    };
    run("driver-c", Simulation::CLASSIC);
    run(
        "driver-c",
        Simulation {
            beads: 8,
            batch: 4,
            ..Simulation::CONSOLIDATED
        },
    );
    run("driver-f90", Simulation::CLASSIC);
    run("driver-f90", Simulation::UNIX);
}

/// Two springs: the energy is K/2 r^2, the force -K r.
#[test]
fn a_program_in_c_asks_any_driver() {
    for driver in ["driver-c", "driver-f90"] {
        let directory = tempdir().unwrap();
        let address = format!("localhost:{}", listen().1);
        let mut ask = Process::start(
            Command::new(made().join("ask")).arg(&address),
            "ask",
            directory.path(),
        );
        let mut driver = Process::start(
            Command::new(made().join(driver)).arg(&address),
            "driver",
            directory.path(),
        );
        driver.success();
        let said = ask.success();
        let rows: Vec<Vec<f64>> = said
            .lines()
            .skip(1)
            .map(|line| {
                line.split_whitespace()
                    .map(|it| it.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(rows.len(), 9, "{said}");
        for row in rows {
            let [r, energy, force] = row[..] else {
                panic!("{said}")
            };
            assert_eq!((energy, force), (0.5 * 0.04 * r * r, -0.04 * r), "{said}");
        }
    }
}

/// `arrays.py` prints the README's table, from which the manual's is made.
#[test]
fn arrays_arrive_or_are_refused() {
    let readme = fs::read_to_string(root().join("examples/c/README.md")).unwrap();
    let promised = readme
        .split("arrays.py ./driver-c 'localhost:{port}'\n")
        .nth(1)
        .unwrap();
    let promised = outcomes(promised.split("```").next().unwrap());
    for driver in ["driver-c", "driver-f90"] {
        let script = root().join("examples/c/arrays.py");
        let said = call(
            peer("ipi", "python")
                .arg(script)
                .arg(made().join(driver))
                .arg("localhost:{port}"),
        );
        let came = outcomes(&said);
        for ((case, came), (promise, promised)) in came.iter().zip(&promised) {
            assert_eq!(case, promise);
            // The port differs each time, and each language has its own words.
            assert_eq!(kind(came), kind(promised), "{case}");
            if kind(came) == "OTHERS" {
                assert_eq!(came, promised);
            }
        }
        assert_eq!(came.len(), promised.len(), "{said}");
        page::hold(
            "src/manual/arrays.md",
            "arrays",
            &both_ways(&came),
            "tests/run c",
        );
    }
}

/// A line for each array: its name and its outcome.
fn outcomes(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter(|line| line.len() > 37 && line.is_char_boundary(37))
        .map(|line| line.split_at(37))
        .map(|(case, came)| (case.trim_end().to_owned(), came.to_owned()))
        .collect()
}

fn kind(outcome: &str) -> &str {
    outcome.split([':', ' ']).next().unwrap()
}

/// The outcomes as Markdown, with a column for the array itself and one for its `tobytes()`.
fn both_ways(outcomes: &[(String, String)]) -> String {
    let cell = |outcome: &str| match kind(outcome) {
        "OTHERS" => format!("**{}**", outcome.split(['[', ']']).nth(1).unwrap()),
        "Python" => "`ValueError`".to_owned(),
        kind => kind.to_owned(),
    };
    let mut table =
        String::from("| `array` | `array` itself | `array.tobytes()` |\n|---|---|---|\n");
    let mut outcomes = outcomes.iter().peekable();
    while let Some((case, lent)) = outcomes.next() {
        let copied = outcomes.next_if(|(case, _)| case.starts_with(' '));
        let copied = copied.map_or(lent, |(_, outcome)| outcome);
        let case = case.replace('[', "\\[");
        writeln!(table, "| {case} | {} | {} |", cell(lent), cell(copied)).unwrap();
    }
    table
}
