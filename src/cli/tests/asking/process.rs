//! The server and its drivers. Each has a time limit and ends with its test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use forcewire::net::{Address, connect};
use forcewire::{Driver, Evaluation, Event, Virial, blocking};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything in these tests takes.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Unix,
}

pub fn forcewire() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forcewire"))
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        within("its end", || self.0.try_wait().unwrap())
    }
}

/// Repeats a question until there is an answer.
pub fn within<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "{what}: nothing within {LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A directory for a server with its input, output and socket.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes this text to a file and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Starts a server, which listens for drivers when this function returns.
    pub fn server(&self, transport: Transport, arguments: &[&str]) -> Server {
        self.server_with(transport, arguments, Stdio::null())
    }

    pub fn server_with(&self, transport: Transport, arguments: &[&str], input: Stdio) -> Server {
        let mut command = forcewire();
        // The command comes first.
        let (name, arguments) = arguments.split_first().unwrap();
        command.arg(name);
        match transport {
            Transport::Tcp => command.args(["-a", "127.0.0.1", "-p", "0"]),
            Transport::Unix => {
                let prefix = self.path("ipi_");
                command.args(["-u", "-a", "water", "-S", prefix.to_str().unwrap()])
            }
        };
        let (log, out) = (self.path("server.log"), self.path("server.stdout"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(input)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap());
        let mut process = Running(command.spawn().unwrap());
        let bound = within("listening", || {
            let log = fs::read_to_string(&log).unwrap();
            if let Some(status) = process.0.try_wait().unwrap() {
                panic!("{status}: {log}");
            }
            let (lines, _) = log.rsplit_once('\n')?;
            let listening =
                |line: &str| Some(line.strip_prefix("forcewire: listening on ")?.to_owned());
            lines.lines().find_map(listening)
        });
        let address = match transport {
            Transport::Tcp => bound.parse().unwrap(),
            Transport::Unix => Address::Unix(bound.into()),
        };
        Server {
            process,
            address,
            log,
            out,
        }
    }
}

/// A server that is listening.
pub struct Server {
    process: Running,
    pub address: Address,
    log: PathBuf,
    out: PathBuf,
}

/// A server that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub log: String,
}

impl Server {
    /// Starts `forcewire driver` with this model.
    pub fn driver(&self, model: &[&str]) -> DriverProcess {
        let mut command = forcewire();
        command.arg("driver");
        match &self.address {
            Address::Tcp { host, port } => command.args(["-a", host, "-p", &port.to_string()]),
            Address::Unix(path) => command.args(["-u", "-S", "", "-a", path.to_str().unwrap()]),
        };
        command.args(model).stderr(Stdio::null());
        DriverProcess(Running(command.spawn().unwrap()))
    }

    /// Starts a driver of this test in a thread. It closes the connection if it has no answer.
    pub fn thread(
        &self,
        mut answer: impl FnMut(&[[f64; 3]]) -> Option<Reply> + Send + 'static,
    ) -> JoinHandle<()> {
        let address = self.address.clone();
        thread::spawn(move || {
            let mut stream = connect(&address).unwrap();
            let mut driver = Driver::new();
            let mut positions = vec![[0.0; 3]; 64];
            while let Event::Positions { natoms, .. } =
                blocking::run(&mut stream, driver.receive(&mut positions)).unwrap()
            {
                let Some(reply) = answer(&positions[..natoms]) else {
                    return;
                };
                let Reply {
                    evaluation,
                    forces,
                    extras,
                } = reply;
                blocking::run(&mut stream, driver.reply(&evaluation, &forces, &extras)).unwrap();
            }
        })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// Waits until the output contains this text.
    pub fn says(&self, text: &str) {
        within(text, || self.log().contains(text).then_some(()));
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.process.signal(Signal::INT);
    }

    /// Waits for the server's end.
    pub fn ends(mut self) -> Ended {
        let code = self.process.wait().code();
        Ended {
            code,
            out: self.out(),
            log: self.log(),
        }
    }

    /// Waits for the server's end, which must be a success.
    pub fn succeeds(self) -> Ended {
        let ended = self.ends();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended
    }

    /// Waits for the server's end, which must be a failure, and returns the reason.
    pub fn fails(self) -> String {
        let ended = self.ends();
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        let mut lines = ended.log.lines().rev();
        // The last line shows how far the run came.
        assert!(
            lines.next().unwrap().ends_with(" are done"),
            "{}",
            ended.log
        );
        lines.next().unwrap().to_owned()
    }
}

pub struct DriverProcess(Running);

impl DriverProcess {
    /// Checks that the driver ended because of EXIT.
    pub fn was_dismissed(mut self) {
        assert_eq!(self.0.wait().code(), Some(0));
    }

    /// Suspends the process.
    pub fn stop(&self) {
        self.0.signal(Signal::STOP);
    }

    pub fn kill(self) {}
}

/// The messages of a driver written for the tests.
pub struct Reply {
    pub evaluation: Evaluation,
    pub forces: Vec<[f64; 3]>,
    pub extras: Vec<u8>,
}

/// Every atom is attached to a spring.
pub fn springs(k: f64, positions: &[[f64; 3]]) -> Reply {
    let forces: Vec<_> = positions.iter().map(|r| r.map(|x| -k * x)).collect();
    let mut virial = Virial::ZERO;
    for (r, f) in positions.iter().zip(&forces) {
        virial.add_product(*r, *f);
    }
    let energy = positions
        .as_flattened()
        .iter()
        .map(|x| 0.5 * k * x * x)
        .sum();
    Reply {
        evaluation: Evaluation { energy, virial },
        forces,
        extras: Vec::new(),
    }
}
