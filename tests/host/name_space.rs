//! A separate host for a test, with its own network and files: a kernel name space.

use std::env;
use std::process::Command;

/// Returns true inside the host that `setup` prepares, as its root. Outside it runs the same test
/// again there, waits for it, and returns false. `test` is the test's name, including modules. The
/// hosts file is a copy at `$HOSTS`, initially empty.
///
/// Where name spaces are not permitted, prints that and returns false.
pub fn inside(test: &str, setup: &str) -> bool {
    const INSIDE: &str = "FORCEWIRE_INSIDE";
    if env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return true;
    }
    let unshare = |command: &mut Command| {
        command.args(["60", "unshare", "--map-root-user", "--net", "--mount"]);
    };
    let mut trial = Command::new("timeout");
    unshare(&mut trial);
    let mounts = "ip link set lo up && mount -t tmpfs none /mnt && test -e /etc/hosts";
    let permitted = trial.args(["sh", "-c", mounts]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        eprintln!("{test}: SKIPPED, no name spaces here (unshare -rnm, ip and mount)");
        return false;
    }
    let mut command = Command::new("timeout");
    unshare(&mut command);
    let prepared = format!(
        "set -e; ip link set lo up; mount -t tmpfs none /mnt; export HOSTS=/mnt/hosts; : > $HOSTS
        mount --bind $HOSTS /etc/hosts; {setup}
        exec \"$@\""
    );
    command.args(["sh", "-c", &prepared, "sh"]);
    command.arg(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    let output = command.env(INSIDE, test).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{}\n{out}{err}",
        output.status
    );
    false
}

/// Adds a line to the hosts file.
pub fn add_host(line: &str) {
    use std::io::Write;
    let path = env::var("HOSTS").unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}
