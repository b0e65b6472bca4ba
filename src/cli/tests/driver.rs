//! `forcewire driver` with a server that is written byte by byte.

mod common;

use common::*;

const BOX: [f64; 9] = [50.0, 0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 50.0];
const LJ: &str = "-m lj -o 6,0.0004,15";

fn driver(arguments: &str) -> Process {
    Process::start(&mut forcewire(&format!("driver {arguments}")))
}

#[test]
fn help_fits_a_screen_and_names_every_flag() {
    let ended = driver("--help").end();
    assert_eq!(ended.status, Some(0));
    let lines = ended.out.lines().count();
    assert!((24..=50).contains(&lines), "{lines} lines");
    assert!(ended.out.contains("Example: forcewire driver"));
    for flag in [
        "-a",
        "-p",
        "-u",
        "-S",
        "-m",
        "-o",
        "--cutoff",
        "--init",
        "--patience",
        "--idle",
        "--reconnect",
        "-v",
    ] {
        assert!(ended.out.contains(flag), "{flag}");
    }
}

#[test]
fn nonsense_is_status_2_and_named_by_its_flag() {
    for (arguments, says) in [
        ("-p 31415", "--mode <MODEL>"),
        ("-m water", "'water'"),
        (
            "-m lj",
            "-m lj takes -o SIGMA,EPSILON,CUTOFF, and -o gives 0 numbers",
        ),
        ("-m lj -o 1,2", "-o gives 2 numbers"),
        ("-m lj -o 1,2,x", "-o takes numbers, not \"x\""),
        ("-m lj -o 1,2,nan", "-o takes numbers, not \"nan\""),
        (
            "-m lj -o -1,-1,-1",
            "SIGMA of -m lj must be more than 0, not -1",
        ),
        (
            "-m lj -o 1,1,-1",
            "CUTOFF of -m lj must be more than 0, not -1",
        ),
        ("-m sg -o -3", "CUTOFF of -m sg must be more than 0"),
        ("-m morse -o 1,-1,1", "D of -m morse must be more than 0"),
        ("-m gas -o -1", "seconds of delay"),
        ("-m harm -o", "'--param <PARAMETERS>'"),
        ("-m gas -p 65536", "'65536'"),
        ("-m gas -p ipi", "'ipi'"),
        ("-m gas -z", "'-z'"),
        ("-m gas argon", "'argon'"),
        ("-m gas --cutoff tail", "--cutoff is for -m lj and sg"),
        ("-m lj -o 1,2,3 --cutoff sharp", "'sharp'"),
        ("-m gas --init maybe", "'maybe'"),
        ("-m gas --patience=-1", "it must not be negative"),
        ("-m gas --patience -1", "it must not be negative"),
        ("-m gas --idle -0.5", "it must not be negative"),
        ("-m gas -p -1", "-1 is not in 0..=65535"),
        ("-m gas --meet meet -a node17", "-a can't be given with it"),
        ("-m gas --meet meet -h node17", "-a can't be given with it"),
        ("-m gas --meet meet -p 5", "-p can't be given with it"),
        ("-m gas --meet meet -u", "-u can't be given with it"),
        ("-m gas --meet meet -S /run/", "-S can't be given with it"),
        ("-m gas -a localhost:77", "-a takes a host, and -p its port"),
        ("-m gas -a [::1]:77", "-a takes a host, and -p its port"),
        ("-m gas -a=", "-a takes a host, and not nothing"),
        ("-m gas --idle soon", "it is not a number"),
        ("-m gas -h", "'-h <HOST>'"),
    ] {
        let ended = driver(arguments).end();
        assert_eq!(ended.status, Some(2), "{arguments}: {ended:?}");
        assert!(ended.err.contains(says), "{arguments}: {}", ended.err);
        assert_eq!(ended.out, "", "{arguments}");
        for word in ["ParseFloat", "invalid float", "Initialize::", "Cell::"] {
            assert!(!ended.err.contains(word), "{arguments}: {}", ended.err);
        }
    }
}

#[test]
fn h_is_a_host_and_not_help() {
    let ended = driver("-h 127.0.0.1 -p 9 -m gas --patience 0").end();
    assert_eq!((ended.status, &*ended.out), (Some(1), ""), "{}", ended.err);
    assert!(
        ended
            .err
            .contains("-h 127.0.0.1 is an old spelling of -a 127.0.0.1")
    );
    assert!(ended.err.contains("no connection to 127.0.0.1:9"));
}

/// IPv6 in brackets as in a URL, and an infinite time limit.
#[test]
fn hosts_and_limits_are_understood_in_their_usual_spellings() {
    let ended = driver("-m gas -a [::1] -p 9 --patience 0 --idle inf").end();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("no connection to [::1]:9"),
        "{}",
        ended.err
    );
    let (listener, at) = listen();
    let process = driver(&format!("{at} {LJ} --patience inf --idle 1e19"));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY).says(EXIT).ended();
    let ended = process.end();
    assert_eq!((ended.status, &*ended.err), (Some(0), ""));
}

/// The advice names flags: a user has no exchange to run again.
#[test]
fn a_message_that_stops_halfway_is_given_up_after_patience() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} -m gas --patience 0.2"));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY);
    server.says(&posdata(BOX, &[[0.0; 3]])[..100]);
    let ended = process.end();
    assert_eq!(ended.status, Some(1));
    let says = "waited 200ms for the rest of POSDATA, 100 of 160 bytes have moved: is it still running? (--patience)";
    assert!(ended.err.contains(says), "{}", ended.err);
    assert!(!ended.err.contains("exchange"), "{}", ended.err);
}

#[test]
fn a_header_of_any_bytes_is_shown() {
    for (header, shown) in [
        (
            &b"\0\0\0\0\0\0\0\0\0\0\0\0"[..],
            r"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
        (b"\x1b[31mSTATUS\0", r"\x1b[31mSTATUS"),
        (b"            ", "            "),
    ] {
        let (listener, at) = listen();
        let process = driver(&format!("{at} -m gas"));
        Server::accept(&listener).says(header).ended();
        let ended = process.end();
        assert_eq!(ended.status, Some(1));
        let says = format!("the peer sent \"{shown}\", which is no header");
        assert!(ended.err.contains(&says), "{says}: {}", ended.err);
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_named_with_its_prefix() {
    let place = Place::new();
    let ended = place.driver("-m gas --patience 0").end();
    assert_eq!(ended.status, Some(1));
    let path = place.path("ipi").display().to_string();
    let says = format!("no connection to {path}");
    assert!(ended.err.contains(&says), "{}", ended.err);
}

#[test]
fn a_driver_is_ready_from_the_start_and_exit_ends_it() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} {LJ} --cutoff truncated"));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY);
    server
        .says(&posdata(BOX, &[[0.0; 3], [7.0, 0.0, 0.0]]))
        .says(GETFORCE);
    let (energy, forces, virial) = server.hears_forces(2);
    let s6 = (6.0_f64 / 7.0).powi(6);
    assert!((energy - 0.0016 * (s6 * s6 - s6)).abs() < 1e-15, "{energy}");
    let f = 24.0 * 0.0004 / 7.0 * (2.0 * s6 * s6 - s6);
    assert!(
        (forces[3] - f).abs() < 1e-15 && forces[0] == -forces[3],
        "{forces:?}"
    );
    assert!(
        (virial[0] - 7.0 * f).abs() < 1e-15 && virial[4] == 0.0,
        "{virial:?}"
    );
    server.says(STATUS).hears(READY).says(EXIT).ended();
    let ended = process.end();
    assert_eq!((ended.status, &*ended.err), (Some(0), ""));
}

#[test]
fn a_server_that_closes_between_messages_is_status_0_with_a_note() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} -m gas"));
    Server::accept(&listener).says(STATUS).hears(READY);
    let ended = process.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.err.contains("note: 127.0.0.1:") && ended.err.contains("without EXIT"));
}

#[test]
fn a_server_that_closes_elsewhere_is_status_1() {
    let whole = posdata(BOX, &[[0.0; 3]]);
    for (sent, says) in [
        (&b""[..], "closed the connection before its first message"),
        (&b"STAT"[..], "closed the connection inside a header"),
        (&whole[..100], "closed the connection inside POSDATA"),
    ] {
        let (listener, at) = listen();
        let process = driver(&format!("{at} -m gas"));
        Server::accept(&listener).says(sent);
        let ended = process.end();
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.err.contains(says), "{}", ended.err);
    }
}

/// POSDATA of a batch with two atoms on springs, and its reply.
fn batch() -> Vec<u8> {
    let inverse = BOX.map(|x| if x == 0.0 { 0.0 } else { 1.0 / x });
    let positions = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let message = layout::posdata_batch(&[[BOX, inverse]; 2], &positions);
    [&message, GETFORCE].concat()
}

#[test]
fn batches_make_a_driver_come_back_and_ask_for_init() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} -m harm3d -o 1"));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY).says(&batch()).ended();
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(NEEDINIT);
    server
        .says(&layout::init(0, "batch_size:2"))
        .says(STATUS)
        .hears(READY);
    server.says(&batch()).hears(FORCEREADY);
    assert_eq!(server.numbers(2), [7.0, 38.5]);
    assert_eq!(server.integer(), 1);
    assert_eq!(server.numbers(6), [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]);
    server.numbers(18);
    assert_eq!((server.integer(), server.integer()), (0, 0));
    server.says(EXIT).ended();
    let ended = process.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(
        ended
            .err
            .matches("connecting again to ask for INIT")
            .count(),
        1
    );
}

#[test]
fn batches_that_were_not_wanted_are_an_error_in_terms_of_flags() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} -m harm3d -o 1 --init never"));
    Server::accept(&listener)
        .says(STATUS)
        .hears(READY)
        .says(&batch())
        .ended();
    let ended = process.end();
    assert_eq!(ended.status, Some(1));
    assert!(ended.err.contains("use --init once"), "{}", ended.err);
}

#[test]
fn init_is_asked_for_as_the_flag_says() {
    for (init, answers) in [
        ("never", [READY, READY]),
        ("once", [NEEDINIT, READY]),
        ("every", [NEEDINIT, NEEDINIT]),
    ] {
        let (listener, at) = listen();
        let process = driver(&format!("{at} -m harm3d -o 1 --init {init}"));
        let mut server = Server::accept(&listener);
        server.says(STATUS).hears(answers[0]);
        if answers[0] == NEEDINIT {
            server.says(&layout::init(0, " ")).says(STATUS).hears(READY);
        }
        server
            .says(&posdata(BOX, &[[1.0, 0.0, 0.0]]))
            .says(GETFORCE)
            .hears_forces(1);
        server.says(STATUS).hears(answers[1]).says(EXIT).ended();
        assert_eq!(process.end().status, Some(0), "{init}");
    }
}

#[test]
fn reconnect_outlives_servers_however_they_end() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} -m harm3d -o 1 --reconnect"));
    for end in [EXIT, b"", &posdata(BOX, &[])[..14], b"NONSENSE\0\0\0\0"] {
        let mut server = Server::accept(&listener);
        server.says(STATUS).hears(READY);
        server
            .says(&posdata(BOX, &[[1.0, 0.0, 0.0]]))
            .says(GETFORCE);
        assert_eq!(server.hears_forces(1).0, 0.5);
        server.says(end);
    }
    Server::accept(&listener).says(STATUS).hears(READY);
    drop(process);
}

#[test]
fn a_server_that_is_silent_is_given_up_after_idle() {
    for words in [&b""[..], STATUS] {
        let (listener, at) = listen();
        let process = driver(&format!("{at} -m gas --idle 0.2"));
        let mut server = Server::accept(&listener);
        server.says(words);
        let ended = process.end();
        assert_eq!(ended.status, Some(1));
        assert!(
            ended.err.contains("has sent nothing for 0.2 s (--idle)"),
            "{}",
            ended.err
        );
    }
}

/// Energies of an argon atom 8 bohr from its images, and of a molecule.
#[test]
fn small_cells_and_missing_cells_are_computed_as_they_are() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} {LJ} --cutoff shifted"));
    let mut server = Server::accept(&listener);
    let u = |r: f64| 0.0016 * ((6.0 / r).powi(12) - (6.0 / r).powi(6));
    let pair = |r: f64| u(r) - u(15.0);
    let cubic = [8.0, 0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 8.0];
    let neighbours =
        3.0 * pair(8.0) + 6.0 * pair(8.0 * 2.0_f64.sqrt()) + 4.0 * pair(8.0 * 3.0_f64.sqrt());
    let slab = [8.0, 0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0];
    let in_plane = 2.0 * pair(8.0) + 2.0 * pair(8.0 * 2.0_f64.sqrt());
    for (h, expected) in [(cubic, neighbours), (slab, in_plane), ([0.0; 9], 0.0)] {
        server
            .says(STATUS)
            .hears(READY)
            .says(&posdata(h, &[[1.0, 2.0, 3.0]]))
            .says(GETFORCE);
        let (energy, ..) = server.hears_forces(1);
        assert!((energy - expected).abs() < 1e-14, "{energy} {expected}");
    }
    server.says(EXIT).ended();
    let ended = process.end();
    assert_eq!(ended.status, Some(0));
    assert_eq!(
        ended
            .err
            .matches("the sum is over 4 x 4 x 4 images")
            .count(),
        1,
        "{}",
        ended.err
    );
}

/// A driver's answer to the last of these cubic cells, each with the same three atoms.
fn in_the_last_of(cells: &[f64], model: &str) -> (f64, Vec<f64>, Vec<f64>, String) {
    let (listener, at) = listen();
    let process = driver(&format!("{at} {model}"));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY);
    let mut last = (0.0, Vec::new(), Vec::new());
    for edge in cells {
        let h = [*edge, 0.0, 0.0, 0.0, *edge, 0.0, 0.0, 0.0, *edge];
        let atoms = [[0.5, 1.0, 1.5], [7.5, 2.0, 0.0], [1.0, 9.0, 3.0]];
        server.says(&posdata(h, &atoms)).says(GETFORCE);
        last = server.hears_forces(3);
    }
    server.says(EXIT).ended();
    let (energy, forces, virial) = last;
    (energy, forces, virial, process.end().err)
}

/// A driver that reconnects, or one of many, gives the same numbers.
#[test]
fn forces_do_not_depend_on_what_a_driver_was_sent_before() {
    for model in ["-m lj -o 6,0.0004,9", "-m sg -o 9"] {
        for cutoff in [
            "",
            "--cutoff tail",
            "--cutoff truncated",
            "--cutoff shifted",
        ] {
            let model = format!("{model} {cutoff}");
            let fresh = in_the_last_of(&[19.0], &model);
            let other = in_the_last_of(&[24.0, 19.0], &model);
            assert_eq!(fresh, other, "{model}");
        }
        let model = format!("{model} --cutoff ipi");
        let (fresh, ..) = in_the_last_of(&[19.0], &model);
        let (tail, ..) = in_the_last_of(&[19.0], &model.replace("ipi", "tail"));
        assert_eq!(fresh, tail, "{model}");
        let (other, .., err) = in_the_last_of(&[24.0, 19.0], &model);
        assert_ne!(fresh, other, "{model}");
        assert!(err.contains("the cutoff with it (--cutoff ipi)"), "{err}");
    }
}

#[test]
fn a_flat_cell_is_refused_with_the_reason() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} {LJ}"));
    let flat = [8.0, 0.0, 8.0, 0.0, 8.0, 8.0, 0.0, 0.0, 0.0];
    let mut server = Server::accept(&listener);
    server
        .says(STATUS)
        .hears(READY)
        .says(&posdata(flat, &[[0.0; 3]]))
        .says(GETFORCE)
        .ended();
    let ended = process.end();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended
            .err
            .contains("the vectors of the cell lie in one plane"),
        "{}",
        ended.err
    );
}

#[cfg(target_os = "linux")]
#[test]
fn memory_grows_with_what_comes() {
    let (listener, at) = listen();
    let process = driver(&format!("{at} {LJ}"));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY);
    server
        .says(&posdata(BOX, &[[0.0; 3], [7.0, 0.0, 0.0]]))
        .says(GETFORCE)
        .hears_forces(2);
    let size = |what: &str| -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (peak, data) = (size("VmHWM:"), size("VmData:"));
    assert!(
        peak < 20_000 && data < 20_000,
        "{peak} kB, {data} kB of data"
    );
    // Announced, but not sent.
    server
        .says(&posdata(BOX, &[])[..Posdata::of(0).atoms()])
        .says(&integer(9_000_000))
        .says(&[0; 24 * 8]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let data = size("VmData:");
    assert!(data < 20_000, "{data} kB");
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_is_full_ends_nothing() {
    let (listener, at) = listen();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = forcewire(&format!("driver {at} -v -m harm3d -o 1"));
    let mut child = command.stderr(full).spawn().unwrap();
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY);
    server
        .says(&posdata(BOX, &[[1.0, 0.0, 0.0]]))
        .says(GETFORCE)
        .hears_forces(1);
    server.says(EXIT).ended();
    assert!(child.wait().unwrap().success());
}
