//! Texts of help, completions and complaints, word for word. `TRYCMD=overwrite` rewrites them.

use std::process::Command;

#[test]
fn each_help_fits_a_screen_and_has_an_example() {
    for (command, least) in [
        ("driver", 24),
        ("evaluate", 24),
        ("md", 24),
        ("relay", 24),
        ("bridge", 24),
        ("check", 24),
        ("check driver", 24),
        ("check server", 24),
        ("check table", 10),
    ] {
        let mut forcewire = Command::new(env!("CARGO_BIN_EXE_forcewire"));
        let help = forcewire.args(command.split(' ')).arg("--help").output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        let lines = help.lines().count();
        assert!((least..=50).contains(&lines), "{command}: {lines} lines");
        assert!(help.contains("Example: "), "{command}");
    }
}

#[test]
fn texts_are_as_they_were() {
    trycmd::TestCases::new().case("tests/texts/*.trycmd");
}
