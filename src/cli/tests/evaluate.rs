//! `forcewire evaluate` with `forcewire driver`.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::*;
use serde_json::Value;

/// The energies and forces in the output.
fn energies(out: &str) -> Vec<f64> {
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["energy"].as_f64().unwrap()).collect()
}

const LJ: &str = "-m lj -o 6.0,0.0004,7.5 --cutoff shifted";
const PLAIN: &str = "Properties=species:S:1:pos:R:3";
const BOHR: f64 = 0.529177210544;

/// The energy of two argon atoms 3 Å apart.
fn dimer() -> f64 {
    let u = |r: f64| 0.0016 * ((6.0 / r).powi(12) - (6.0 / r).powi(6));
    u(3.0 / BOHR) - u(7.5)
}

#[test]
fn help_fits_a_screen_and_has_an_example() {
    let ended = Process::start(&mut forcewire("evaluate --help")).end();
    let lines = ended.out.lines().count();
    assert!((24..=50).contains(&lines), "{lines} lines");
    assert!(ended.out.contains("Example: forcewire evaluate"));
}

/// Contents of users' files, with the wrong readings of earlier versions.
#[test]
fn files_mean_what_ase_reads_in_them() {
    let cell = "Lattice=\"8 0 0 0 8 0 0 0 8\"";
    let apart = "Ar 0 0 0\nAr 3 0 0\n";
    for (name, text, expected) in [
        (
            "blanks",
            format!(
                "2\n{cell} Properties = species:S:1:forces:R:3:pos:R:3\nAr 9 9 9 0 0 0\nAr 8 8 8 3 0 0\n"
            ),
            dimer(),
        ),
        (
            "blanks in Lattice",
            format!("2\nLattice = \"9 0 0 0 9 0 0 0 9\" {PLAIN} pbc=\"T T T\"\n{apart}"),
            dimer(),
        ),
        // The atoms are 0.4 Å apart through a face, in a direction that is not periodic.
        (
            "not periodic",
            format!("2\n{cell} {PLAIN} pbc=\"F F F\"\nAr 0.2 0 0\nAr 7.8 3.8 0\n"),
            0.0,
        ),
        (
            "no cell",
            format!("2\nLattice=\"0 0 0 0 0 0 0 0 0\" pbc=\"F F F\" {PLAIN}\n{apart}"),
            dimer(),
        ),
        (
            "slab",
            format!("2\nLattice=\"9 0 0 0 0 0 0 0 9\" pbc=\"T F T\" {PLAIN}\n{apart}"),
            dimer(),
        ),
        (
            "numbers",
            "2\nProperties=label:S:1:Z:I:1:pos:R:3\n\"A 1\" 18 0 0 0\n\"A 2\" 18 3 0 0\n".into(),
            dimer(),
        ),
    ] {
        let place = Place::new();
        place.write("frames.xyz", &text);
        let driver = place.driver(LJ);
        let ended = place.start("evaluate", "frames.xyz").end();
        assert_eq!(ended.status, Some(0), "{name}: {}", ended.err);
        let energies = energies(&ended.out);
        assert!(
            (energies[0] - expected).abs() < 1e-15,
            "{name}: {energies:?}, not {expected}"
        );
        assert_eq!(driver.end().status, Some(0));
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_anybody_waits() {
    for (text, says) in [
        ("", "frames.xyz: there is no frame in it"),
        (
            "1\n\nAr 0 0 0\n2\n\nAr 0 0 0\n",
            "frames.xyz:6: the file ends after 1 of 2 atoms",
        ),
        (
            "1\nLattice=\"8 0 0 0 8 0 0 0 8\" pbc=\"yes\"\nAr 0 0 0\n",
            "frames.xyz:2: pbc=",
        ),
    ] {
        let place = Place::new();
        place.write("frames.xyz", text);
        let ended = place.start("evaluate", "frames.xyz").end();
        assert_eq!(ended.status, Some(1));
        assert!(
            ended.err.contains(says) && !ended.err.contains("listening"),
            "{}",
            ended.err
        );
    }
}

/// Argon dimers at distances of 3, 3.1, … Å, with a hydrogen molecule after every third one.
fn mixed(count: usize) -> String {
    let frame = |i: usize| {
        let x = 3.0 + 0.1 * i as f64;
        let name = if i % 3 == 2 { "H" } else { "Ar" };
        format!("2\n{PLAIN} number={i}\n{name} 0 0 0\n{name} 0 0 {x}\n")
    };
    (0..count).map(frame).collect()
}

#[test]
fn compositions_are_served_group_by_group_and_come_out_in_order() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(9));
    let drivers = [
        place.driver(&format!("{LJ} --reconnect")),
        place.driver(&format!("{LJ} --reconnect")),
    ];
    let ended = place
        .start("evaluate", "frames.xyz --output results.xyz --drivers 2")
        .end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    for says in [
        "group 1 of 2: 6 frames of Ar2",
        "group 2 of 2: 3 frames of H2",
        "9 of 9 frames",
    ] {
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
    }
    let results = place.read("results.xyz");
    let numbers: Vec<_> = results
        .lines()
        .filter_map(|line| line.split("number=").nth(1))
        .collect();
    let expected: Vec<_> = (0..9).map(|i| format!("{i} pbc=\"F F F\"")).collect();
    assert_eq!(numbers, expected);
    drop(drivers);
}

/// Starts a slow evaluation, waits for this many lines of results, and sends a signal.
fn cut(place: &Place, arguments: &str, output: &str, lines: usize, signal: &str) -> Ended {
    let _driver = place.driver("-m gas -o 0.15");
    let process = place.start("evaluate", arguments);
    place.wait_for_lines(output, lines);
    kill(&process, signal);
    process.end()
}

#[test]
fn resume_goes_on_after_any_signal() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(30).replace("H ", "Ar "));
    let whole = {
        let _driver = place.driver("-m gas");
        assert_eq!(
            place
                .start("evaluate", "frames.xyz --output whole.xyz")
                .end()
                .status,
            Some(0)
        );
        place.read("whole.xyz")
    };
    for (signal, output) in [
        ("-KILL", "a.xyz"),
        ("-INT", "b.xyz"),
        ("-TERM", "c.xyz"),
        ("-HUP", "d.xyz"),
        ("-KILL", "e.jsonl"),
    ] {
        let arguments = format!("frames.xyz --output {output} --resume");
        let each = if output.ends_with("xyz") { 4 } else { 1 };
        let ended = cut(&place, &arguments, output, 3 * each, signal);
        if matches!(signal, "-INT" | "-TERM") {
            assert_eq!(ended.status, Some(1));
            let words = format!("of 30 frames are done, in {output}; --resume goes on from there");
            assert!(
                ended.err.contains("interrupted") && ended.err.contains(&words),
                "{}",
                ended.err
            );
        }
        let left = place.read(output).lines().count() / each;
        assert!((3..30).contains(&left), "{left}");
        // A frame that was cut off in its last number.
        let tail = if each == 4 {
            whole
                .lines()
                .skip(4 * left)
                .take(4)
                .collect::<Vec<_>>()
                .join("\n")
        } else {
            "{\"frame\":".into()
        };
        let tail = &tail[..tail.len() - 1];
        let mut file = fs::File::options()
            .append(true)
            .open(place.path(output))
            .unwrap();
        file.write_all(tail.as_bytes()).unwrap();

        let _driver = place.driver("-m gas");
        let ended = place.start("evaluate", &arguments).end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(
            ended.err.contains("are in") && ended.err.contains("30 of 30 frames"),
            "{}",
            ended.err
        );
        let results = place.read(output);
        if each == 4 {
            assert_eq!(results, whole);
        } else {
            let frames: Vec<_> = results
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["frame"].clone())
                .collect();
            assert_eq!(frames, (0..30).map(Value::from).collect::<Vec<_>>());
        }
    }
    // If no work remains, the run doesn't wait for drivers.
    let ended = place
        .start("evaluate", "frames.xyz --output a.xyz --resume")
        .end();
    assert_eq!(ended.status, Some(0));
    assert!(
        ended.err.contains("all 30 frames are in a.xyz"),
        "{}",
        ended.err
    );
}

#[test]
fn a_file_that_changes_under_way_is_noticed() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(3));
    let process = place.start("evaluate", "frames.xyz");
    // The first group is read when the server listens.
    let start = std::time::Instant::now();
    while !place.path("ipi").exists() {
        assert!(start.elapsed() < PATIENCE);
    }
    place.write("frames.xyz", &mixed(3).replace("H ", "He "));
    let _driver = place.driver(&format!("{LJ} --reconnect"));
    let ended = process.end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(
        ended
            .err
            .contains("frames.xyz was changed while it was read"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("2 of 3 frames are done"),
        "{}",
        ended.err
    );
}

/// The third of 12 frames belongs to another group, so nine results wait for it.
#[test]
fn results_that_wait_for_another_group_outlive_a_run_that_is_killed() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(12));
    let arguments = "frames.xyz --output results.xyz --resume";
    for signal in ["-KILL", "-INT"] {
        let ended = {
            let _driver = place.driver("-m gas -o 0.2");
            let process = place.start("evaluate", arguments);
            place.wait_for_lines("results.xyz.part", if signal == "-KILL" { 2 } else { 4 });
            kill(&process, signal);
            process.end()
        };
        if signal == "-INT" {
            assert!(
                ended.err.contains(" of 12 frames are done, in results.xyz"),
                "{}",
                ended.err
            );
        }
        assert_eq!(place.read("results.xyz").lines().count(), 8, "two frames");
    }
    let part = place.read("results.xyz.part");
    let waiting = part.lines().count();
    assert!((4..7).contains(&waiting), "{waiting}");
    // A line that was cut off.
    place.write("results.xyz.part", &format!("{part}{{\"frame\":10,\"res"));

    // Results of another file are not mixed in.
    let other = mixed(12).replace("0 0 0\n", "0 0 1\n");
    let (_, other) = other.split_at(other.find("number=2").unwrap());
    let frames = mixed(12);
    let (head, _) = frames.split_at(frames.find("number=2").unwrap());
    place.write("other.xyz", &format!("{head}{other}"));
    let ended = place
        .start("evaluate", "other.xyz --output results.xyz --resume")
        .end();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended
            .err
            .contains("results.xyz.part has no result of frame 3 of other.xyz"),
        "{}",
        ended.err
    );

    let _driver = place.driver("-m gas --reconnect");
    let ended = place.start("evaluate", arguments).end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let words = format!("{} frames are in results.xyz already", 2 + waiting);
    assert!(ended.err.contains(&words), "{words}: {}", ended.err);
    assert!(!place.path("results.xyz.part").exists());
    let ended = place
        .start("evaluate", "frames.xyz --output whole.xyz")
        .end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(place.read("results.xyz"), place.read("whole.xyz"));
}

/// Results are not reused if anything changes that affects a frame's numbers.
#[test]
fn results_of_another_input_are_not_gone_on_with() {
    let frame =
        format!("2\nLattice=\"9 0 0 0 9 0 0 0 9\" {PLAIN} pbc=\"T T F\"\nAr 0 0 0\nAr 3 0 0\n");
    let of_flags = "another --units, --cell or --as-periodic";
    for output in ["r.xyz", "r.jsonl"] {
        let place = Place::new();
        place.write("frames.xyz", &frame);
        let _driver = place.driver("-m gas --reconnect");
        let same = format!("frames.xyz --output {output}");
        assert_eq!(place.start("evaluate", &same).end().status, Some(0));
        let before = place.read(output);
        let ended = place.start("evaluate", &format!("{same} --resume")).end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(ended.err.contains("all 1 frame are in"), "{}", ended.err);
        for (was, is, flags, why) in [
            ("9 0 0 0 9", "8 0 0 0 9", "", "its Lattice is another"),
            ("T T F", "T F F", "", "its pbc is another"),
            ("Ar 3 0", "Ar 4 0", "", "its positions are others"),
            ("Ar", "Xe", "", "its species are others"),
            ("", "", "--units bohr", "its positions are others"),
            ("", "", "--cell 30", of_flags),
            ("", "", "--as-periodic", of_flags),
        ] {
            place.write("frames.xyz", &frame.replace(was, is));
            let arguments = format!("{same} --resume {flags}");
            let ended = place.start("evaluate", &arguments).end();
            assert_eq!(ended.status, Some(1), "{is} {flags}: {}", ended.err);
            let says = format!("{output}:1: this is not the result of frame 0 of frames.xyz");
            assert!(ended.err.contains(&says), "{is} {flags}: {}", ended.err);
            let why = if output == "r.xyz" { why } else { of_flags };
            assert!(ended.err.contains(why), "{is} {flags}: {}", ended.err);
            assert_eq!(place.read(output), before);
        }
    }
}

/// Results and errors that wait next to the output are tied to the input too.
#[test]
fn waiting_results_of_another_input_are_not_gone_on_with() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(6));
    {
        let _driver = place.driver("-m gas -o 0.1");
        let process = place.start("evaluate", "frames.xyz --output r.jsonl");
        // Frame 2 belongs to another group, and frames 3 to 5 wait for it.
        place.wait_for_lines("r.jsonl.part", 2);
        kill(&process, "-KILL");
        process.end();
    }
    let before = place.read("r.jsonl.part");
    place.write("frames.xyz", &mixed(6).replace("3.3", "3.4"));
    let ended = place
        .start("evaluate", "frames.xyz --output r.jsonl --resume")
        .end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    let says =
        "r.jsonl.part has no result of frame 3 of frames.xyz: it was computed from other atoms";
    assert!(ended.err.contains(says), "{}", ended.err);
    assert_eq!(place.read("r.jsonl.part"), before);
}

/// A frame that can't be computed ends each driver's connection, but no driver.
#[test]
fn drivers_that_reconnect_outlive_frames_that_cannot_be_computed() {
    let place = Place::new();
    let bad = format!("2\n{PLAIN}\nAr 0 0 0\nAr 0 0 0\n");
    let good = mixed(2);
    place.write("frames.xyz", &format!("{good}{bad}{good}{bad}{good}"));
    let driver = format!("{LJ} --reconnect");
    let _drivers = [place.driver(&driver), place.driver(&driver)];
    let ended = place
        .start("evaluate", "frames.xyz --keep-going --drivers 2")
        .end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(
        ended.err.contains("2 frames can't be computed"),
        "{}",
        ended.err
    );
    let errors: Vec<_> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["error"].is_string())
        .collect();
    let expected = [false, false, true, false, false, true, false, false];
    assert_eq!(errors, expected);
}

/// A shell loop restarts a driver that crashes on the only structure.
#[test]
fn drivers_that_never_answer_do_not_keep_a_run_for_ever() {
    let place = Place::new();
    let bad = format!("2\n{PLAIN}\nAr 0 0 0\nAr 0 0 0\n");
    place.write("frames.xyz", &bad.repeat(2));
    let _drivers = [0, 1, 2].map(|_| place.driver(&format!("{LJ} --reconnect")));
    let ended = place
        .start("evaluate", "frames.xyz --attempts 1 --keep-going")
        .end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(
        ended.err.contains("2 frames can't be computed"),
        "{}",
        ended.err
    );
    let says = "drivers were lost over what they were given, and none has answered";
    assert_eq!(ended.out.matches(says).count(), 2, "{}", ended.out);
}

#[test]
fn two_runs_do_not_write_the_same_output() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(2));
    let arguments = "frames.xyz --output r.xyz --resume";
    let first = place.start("evaluate", arguments);
    let start = std::time::Instant::now();
    while !place.path("ipi").exists() {
        assert!(start.elapsed() < PATIENCE);
    }
    let ended = place.start("evaluate", arguments).end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(
        ended.err.contains("r.xyz: another forcewire is writing it"),
        "{}",
        ended.err
    );
    let _driver = place.driver(&format!("{LJ} --reconnect"));
    assert_eq!(first.end().status, Some(0));
    assert_eq!(place.read("r.xyz").lines().count(), 8);
}

#[test]
fn outputs_have_names_that_say_their_format() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(1));
    for name in ["results", "results.foo", "results.json.gz"] {
        let arguments = format!("frames.xyz --output {name}");
        let ended = place.start("evaluate", &arguments).end();
        assert_eq!(ended.status, Some(2), "{}", ended.err);
        assert!(
            ended.err.contains("it ends in .xyz or .extxyz"),
            "{}",
            ended.err
        );
        assert!(!place.path(name).exists());
    }
}

#[test]
fn an_init_of_no_bytes_is_refused() {
    let mut command = forcewire("evaluate frames.xyz --init");
    let ended = Process::start(command.arg("")).end();
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.err.contains("a text of no bytes ends"),
        "{}",
        ended.err
    );
}

#[test]
fn nohup_outlives_its_terminal() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(10).replace("H ", "Ar "));
    let _driver = place.driver("-m gas -o 0.1");
    let command = place.command("evaluate", "frames.xyz --output results.xyz");
    let mut nohup = Command::new("nohup");
    nohup.arg(command.get_program()).args(command.get_args());
    let process = Process::start(nohup.current_dir(place.0.path()));
    place.wait_for_lines("results.xyz", 8);
    kill(&process, "-HUP");
    let ended = process.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(place.read("results.xyz").lines().count(), 40);
}

#[test]
fn nothing_is_overwritten_and_nothing_goes_on_after_something_else() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(3));
    place.write("other.xyz", &mixed(9).split_off(40));
    for (arguments, says) in [
        ("frames.xyz --output other.xyz", "is there already"),
        ("frames.xyz --output other.xyz --resume", "other.xyz:"),
        // Frames without results don't count as results.
        (
            "frames.xyz --output frames.xyz --resume",
            "is not the result of frame 0",
        ),
    ] {
        let before = place.read("other.xyz");
        let ended = place.start("evaluate", arguments).end();
        assert_eq!(ended.status, Some(1), "{arguments}");
        assert!(ended.err.contains(says), "{arguments}: {}", ended.err);
        assert_eq!(place.read("other.xyz"), before);
    }
}

#[test]
fn frames_of_the_standard_input_are_answered_as_they_come() {
    let place = Place::new();
    let _driver = place.driver(&format!("{LJ} --reconnect"));
    let mut command = place.command("evaluate", "-");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    for number in 0..3 {
        input
            .write_all(format!("2\n{PLAIN}\nAr 0 0 0\nAr 3 0 0\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert!(
            line.starts_with(&format!("{{\"frame\":{number},")),
            "{line}"
        );
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// A pipe can be read only once.
#[test]
fn a_pipe_is_read_as_the_standard_input_is() {
    let place = Place::new();
    let _driver = place.driver(&format!("{LJ} --reconnect"));
    let made = Command::new("mkfifo").arg(place.path("pipe")).status();
    assert!(made.unwrap().success());
    let process = place.start("evaluate", "pipe");
    fs::write(place.path("pipe"), mixed(2)).unwrap();
    let ended = process.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(energies(&ended.out).len(), 2);
}

/// Extras of any driver become one line that ASE can read.
#[test]
fn extras_are_part_of_the_comment() {
    for (sent, written) in [
        (&b"\0"[..], ""),
        (b"done", " extras=done"),
        (
            b"two\nlines \"q\"",
            r#" extras="_JSON \"two\\nlines \\\"q\\\"\"""#,
        ),
        (b"{\"a\": [1, 2]}", r#" extras="_JSON {\"a\":[1,2]}""#),
    ] {
        let place = Place::new();
        place.write("frames.xyz", "1\n\nAr 0 0 0\n");
        let process = place.start("evaluate", "frames.xyz --output results.xyz");
        let start = std::time::Instant::now();
        let socket = loop {
            match UnixStream::connect(place.path("ipi")) {
                Ok(socket) => break socket,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
        };
        let mut driver = Driver(socket);
        driver.hears(STATUS).says(READY).hears_positions(1);
        driver.says(&layout::forceready(&[0.0], &[0.0; 3], &[0.0; 9], &[sent]));
        driver.0.shutdown(Shutdown::Write).unwrap();
        let ended = process.end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        let results = place.read("results.xyz");
        let expected = format!("energy=0.0{written} pbc=");
        assert!(results.contains(&expected), "{results}, not {expected}");
        assert_eq!(results.lines().count(), 3);
    }
}

/// The driver's end of a connection.
struct Driver(UnixStream);

impl Driver {
    fn says(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.write_all(bytes).unwrap();
        self
    }

    fn hears(&mut self, bytes: &[u8]) -> &mut Self {
        let mut heard = vec![0; bytes.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(heard, bytes);
        self
    }

    fn hears_positions(&mut self, natoms: usize) {
        self.0
            .read_exact(&mut vec![0; Posdata::of(natoms).end() + HEADER])
            .unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_is_full_loses_no_results() {
    let place = Place::new();
    place.write("frames.xyz", &mixed(6));
    let _driver = place.driver(&format!("{LJ} --reconnect"));
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = place
        .command("evaluate", "frames.xyz --output results.xyz")
        .stderr(full())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(place.read("results.xyz").lines().count(), 24);
    // A failure to write results is an error.
    let mut command = place.command("evaluate", "frames.xyz");
    let output = command
        .stdout(full())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.contains("can't write to the standard output")
            && err.contains("0 of 6 frames are done"),
        "{err}"
    );
}

/// `ase.io.read` returns the energies, forces and stress, and they equal ASE's own.
#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ase_reads_results_and_computes_the_same() {
    let place = Place::new();
    let frames = "Lattice=\"4 0 0 1 4.5 0 0 2 5\" PLAIN pbc=\"T T T\"\nAr 0.2 0 0\nAr 2.8 3.8 0.5\n2\n\
                  Lattice=\"0 4 0 4.5 1 0 0 2 5\" PLAIN pbc=\"T T T\"\nAr 0.2 0 0\nAr 2.8 3.8 0.5\n2\n\
                  Lattice=\"4 0 0 1 4.5 0 0 0 20\" PLAIN pbc=\"T T F\"\nAr 0.2 0 0\nAr 2.8 3.8 1\n2\n\
                  Lattice=\"8 0 0 0 8 0 0 0 8\" PLAIN pbc=\"F F F\"\nAr 0.2 0 0\nAr 3.8 0.3 0\n1\nPLAIN\nD 0 0 0\n";
    place.write(
        "frames.xyz",
        &format!("2\n{}", frames.replace("PLAIN", PLAIN)),
    );
    let _driver = place.driver("-m lj -o 6.4,0.0004,16 --cutoff shifted --reconnect");
    let ended = place
        .start("evaluate", "frames.xyz --output results.xyz")
        .end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let script = "
import ase.io, numpy as np
from ase.calculators.lj import LennardJones
from ase.units import Bohr, Hartree
frames = ase.io.read('results.xyz', ':')
assert len(frames) == 5 and frames[4].get_masses()[0] > 2
for atoms in frames:
    own = atoms.copy()
    own.calc = LennardJones(sigma=6.4 * Bohr, epsilon=0.0004 * Hartree, rc=16 * Bohr)
    near = lambda a, b: np.allclose(a, b, rtol=1e-7, atol=1e-7 * np.abs(b).max() + 1e-12)
    assert near(atoms.get_potential_energy(), own.get_potential_energy())
    assert near(atoms.get_forces(), own.get_forces())
    if atoms.pbc.any():
        assert near(atoms.get_stress(), own.get_stress())
";
    ase(script, place.0.path());
}
