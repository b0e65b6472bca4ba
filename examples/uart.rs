//! A driver on a serial line, and its server. [`Line`] adds frames, checksums and connections to a
//! stream that has none. Here the wire is a pair of queues. On a board it is a UART, with
//! `forcewire bridge` at the other end.
//!
//! ```text
//! cargo run --example uart
//! ```

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use forcewire::line::Line;
use forcewire::potential::Harmonic;
use forcewire::{Cell, Deadlines, Request, Server, blocking, serve};

/// A stream like a UART's driver: it times out from time to time.
struct Uart(Sender<u8>, Receiver<u8>);

impl ErrorType for Uart {
    type Error = ErrorKind;
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        match self.1.recv_timeout(Duration::from_millis(50)) {
            Ok(byte) => buffer[0] = byte,
            Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::TimedOut),
            Err(RecvTimeoutError::Disconnected) => return Ok(0),
        }
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let sent = bytes.iter().try_for_each(|byte| self.0.send(*byte));
        sent.map(|()| bytes.len())
            .map_err(|_| ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ((to_host, from_board), (to_board, from_host)) = (channel(), channel());
    let (start, patience) = (Instant::now(), Duration::from_secs(10));
    let clock = move || start.elapsed();
    let board = thread::spawn(move || {
        let mut line = Line::board(Uart(to_host, from_host), clock);
        line.open(patience).expect("an open line");
        let deadlines = Deadlines::NONE.message(patience);
        let mut server = blocking::WithDeadlines::new(&mut line, deadlines, clock);
        serve::<64>(&mut server, &mut Harmonic::<f64>::new(0.01)).expect("a good end");
        let _ = line.close();
    });

    let mut line = Line::host(Uart(to_board, from_board), clock);
    line.accept(patience)?;
    let mut driver = blocking::WithDeadlines::new(&mut line, Deadlines::default(), clock);
    let (cell, positions) = (Cell::orthorhombic([20.0; 3]), [[1.0, 2.0, 3.0]]);
    let (mut server, mut forces) = (Server::new(), [[0.0; 3]]);
    let request = Request::new(&cell, &positions);
    let evaluate = server.evaluate(request, &mut forces, &mut []);
    let answer = blocking::run(&mut driver, evaluate)?;
    println!(
        "energy {} hartree, force {:?}",
        answer.evaluation.energy, forces[0]
    );
    blocking::run(&mut driver, server.exit())?;
    board.join().expect("the board ends");
    Ok(())
}
