//! `forcewire relay`: acts as one driver for its server, and as the server for any number of
//! drivers.
//!
//! ```text
//! i-PI, ASE, ...  <--- one connection --->  relay  <--- a net::Pool --->  drivers, any number
//! ```
//!
//! The relay runs in one thread. `conversation` talks to the server and serves the drivers while it
//! waits; `structures` holds what is passed between the two sides.

mod conversation;
mod structures;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use forcewire::net::{Address, ConnectOptions, Stream};
use forcewire::{Backoff, Initialize};
use indicatif::ProgressBar;

use crate::arguments::seconds;
use crate::driver::Init;
use crate::meet::{Target, Token};
use crate::pool::{Drivers, Treatment, interruptions};
use crate::say::{Failure, counted, say};
use conversation::{Conversation, End};

/// Act as one driver of a server, and let any number of drivers compute its structures
#[derive(Args, Debug)]
#[command(after_help = "\
INIT is passed on, without its batch_size, to drivers that ask for it. The structures of a batch
count as replicas, from the one that INIT names on. Extras are passed on as they are.

A driver that is lost costs nothing: another gets its structures. EXIT of the server goes to all
drivers. A server that drops the connection in the middle is connected again, and the drivers
stay. The protocol has no word for a structure that nobody can compute: the relay ends.

Example: i-PI with <batch_size>64</batch_size>, and drivers anywhere
  forcewire relay --to localhost:31415 --listen 0.0.0.0:31416 --allow 10.1.0.0/16
  forcewire driver -a login1 -p 31416 -m lj -o 6.43452,0.000379384,16.0863

Status: 0 after EXIT or when the server closes between messages, 1 when something fails,
2 when a flag makes no sense.")]
pub struct Arguments {
    /// Where the server listens: HOST:PORT, unix:NAME, or meet:FILE, as the server's --meet has it
    #[arg(long, value_name = "ADDRESS")]
    to: Target,
    /// Where to listen for drivers: HOST:PORT or unix:NAME
    #[arg(long, value_name = "ADDRESS")]
    listen: Address,
    /// Write host and port to a FILE, for which drivers wait
    #[arg(long, value_name = "FILE")]
    meet: Option<PathBuf>,
    /// Ask the server for INIT: never, once or every
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "once",
        value_enum,
        hide_possible_values = true
    )]
    init: Init,
    /// Seconds to wait for the server to listen, and for the rest of a message
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    patience: Duration,
    /// Wait for the next server when one ends
    #[arg(long)]
    reconnect: bool,
    #[command(flatten)]
    treatment: Treatment,
}

/// The first pause after a connection to the server without any result.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let interrupted = interruptions()?;
    let mut patience = arguments.patience;
    loop {
        let mut relay = Relay::listen(&arguments, patience, &interrupted)?;
        let ended = relay.serve();
        let closed = relay.drivers.close();
        ended?;
        closed?;
        if !arguments.reconnect {
            return Ok(());
        }
        say("waiting for the next server");
        patience = Duration::MAX;
    }
}

/// Runs until a server ends the conversation.
struct Relay<'a> {
    arguments: &'a Arguments,
    patience: Duration,
    options: ConnectOptions,
    drivers: Drivers,
}

impl<'a> Relay<'a> {
    fn listen(
        arguments: &'a Arguments,
        patience: Duration,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let options = arguments.treatment.options()?.extras(conversation::EXTRAS);
        let bar = ProgressBar::hidden();
        let mut drivers = Drivers::open(options, &arguments.listen, &bar, interrupted)?;
        drivers.announce(arguments.meet.as_deref(), &arguments.treatment)?;
        let options = ConnectOptions::new();
        let deadlines = options.deadlines.message(arguments.patience);
        Ok(Self {
            arguments,
            patience,
            options: options.deadlines(deadlines),
            drivers,
        })
    }

    fn serve(&mut self) -> Result<(), Failure> {
        let address = &self.arguments.to;
        let initialize = match self.arguments.init {
            Init::Never => Initialize::Never,
            Init::Auto | Init::Once => Initialize::Once,
            Init::Every => Initialize::EveryStep,
        };
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // The time since which nothing has been computed for the server.
        let mut idle = Instant::now();
        loop {
            let (mut stream, token) = self.connect(&mut backoff, idle)?;
            say(format_args!("connected to {address}"));
            let mut conversation = Conversation::new(&mut self.drivers, initialize, token);
            let end = conversation.run(&mut stream);
            let evaluations = conversation.evaluations();
            say(format_args!(
                "{} for {address}",
                counted(evaluations, "evaluation")
            ));
            match end? {
                End::Exit => {
                    say(format_args!("{address} sent EXIT"));
                    return Ok(());
                }
                End::Closed => {
                    say(format_args!(
                        "note: {address} closed the connection without EXIT, as ASE does"
                    ));
                    return Ok(());
                }
                End::Lost(why) => say(format_args!("{why}; connecting again")),
            }
            if evaluations > 0 {
                idle = Instant::now();
                backoff.succeeded();
            }
            self.pause(backoff.failed())?;
        }
    }

    /// Connects to the server, and serves drivers between the attempts.
    fn connect(
        &mut self,
        backoff: &mut Backoff,
        idle: Instant,
    ) -> Result<(Stream, Option<Token>), Failure> {
        let mut silent = true;
        loop {
            let error = match self.arguments.to.connect(self.options) {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            let remaining = self.patience.saturating_sub(idle.elapsed());
            if remaining.is_zero() {
                return Err(error.into());
            }
            if std::mem::take(&mut silent) {
                say(format_args!("{error}; trying again"));
            }
            self.pause(backoff.failed().min(remaining))?;
        }
    }

    /// Serves drivers for this long.
    fn pause(&mut self, pause: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        while let left = pause.saturating_sub(start.elapsed())
            && !left.is_zero()
        {
            self.drivers.turn(left)?;
        }
        Ok(())
    }
}
