//! A driver of the kit. It behaves well until its script makes it clumsy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use forcewire::Header;

use super::book::{Book, Key};
use super::heard;
use crate::check::line::{Line, Lost};
use crate::check::program::TICK;
use crate::check::report::Fault;
use crate::check::wire::{self, ATOM, MATRIX, Structure};

/// How often a server may ask STATUS instead of making the expected request.
const MANY: usize = 1000;

pub struct Clumsy {
    pub line: Line,
    pub(super) patience: Duration,
    pub(super) book: Arc<Book>,
    /// Whether this is the good driver that joins the clumsy one.
    pub(super) good: bool,
    /// The structure that it has received and not replied to.
    pub(super) asked: Option<(Key, Structure)>,
    /// How the driver continues after its script.
    pub(super) manner: Manner,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Good,
    /// Keeps the connection and sends nothing.
    Silent,
    /// Answers every STATUS with NEEDINIT.
    NeedsInit,
}

impl Clumsy {
    /// Receives one message and does what a driver does. Only the forces are left to the caller.
    pub fn turn(&mut self) -> Result<Header, Lost> {
        let word = self.line.receive(12, self.patience)?;
        self.hears(&word)
    }

    fn hears(&mut self, word: &[u8]) -> Result<Header, Lost> {
        const WORDS: [Header; 5] = [
            Header::Status,
            Header::Init,
            Header::PosData,
            Header::GetForce,
            Header::Exit,
        ];
        let header = WORDS.into_iter().find(|header| header.bytes() == word);
        let name = word.escape_ascii().to_string();
        self.book.sees(name.trim_end());
        match header {
            Some(Header::Status) => {
                let status = match self.asked {
                    _ if self.manner == Manner::NeedsInit => Header::NeedInit,
                    Some(_) => Header::HaveData,
                    None => Header::Ready,
                };
                self.line.send(status.bytes())?;
            }
            Some(Header::Init) => {
                let start = self.line.receive(8, self.patience)?;
                self.takes_text(wire::integer(&start[4..]))?;
            }
            Some(Header::PosData) => self.takes_positions()?,
            Some(Header::GetForce) => {}
            Some(Header::Exit) | None | Some(_) => return Err(Lost::Closed(0)),
        }
        Ok(header.unwrap_or(Header::Exit))
    }

    fn takes_text(&mut self, length: i32) -> Result<(), Lost> {
        if length == 0 {
            self.book.faulty(Fault::new(
                "empty INIT",
                "INIT has no text: drivers with i-PI's C functions take that for the end of the connection; send a \
                 blank",
            ));
        }
        let length = usize::try_from(length).unwrap_or(0);
        self.line.receive(length, self.patience)?;
        Ok(())
    }

    fn takes_positions(&mut self) -> Result<(), Lost> {
        let (mut key, lost) = self.line.receive_some(2 * MATRIX + 4, self.patience);
        if let Some(fault) = heard::format(&key) {
            self.book.faulty(fault);
            return Err(Lost::Closed(0));
        }
        if let Some(lost) = lost {
            self.book.sees(format!(
                "{} of its first {} bytes",
                key.len(),
                2 * MATRIX + 4
            ));
            return Err(lost);
        }
        let natoms = usize::try_from(wire::integer(&key[2 * MATRIX..])).unwrap_or(0);
        let positions = self.line.receive(natoms * ATOM, self.patience)?;
        let structure = Structure {
            h: [[0.0; 3]; 3], // springs know no cell
            positions: wire::numbers(&positions).as_chunks().0.to_owned(),
        };
        key.extend(positions);
        self.book.sees(format!("{natoms} atoms"));
        self.book.looks_at(&key);
        self.book.asks(key.clone());
        self.asked = Some((key, structure));
        Ok(())
    }

    /// Asks for INIT and receives it. Records a fault if the server sends none.
    pub fn asks_for_init(&mut self) -> Result<(), Lost> {
        const STATUS: Result<&[u8], &Lost> = Ok(Header::Status.bytes());
        let mut heard = Ok(Header::Status.bytes().to_vec());
        // i-PI asks a second time before it sends INIT.
        let mut asked = 0;
        while heard.as_deref() == STATUS && asked < MANY {
            self.line.send(Header::NeedInit.bytes())?;
            heard = self.line.receive(12, self.patience);
            asked += 1;
        }
        if heard.as_deref() == Ok(Header::Init.bytes()) {
            self.hears(Header::Init.bytes())?;
            return Ok(());
        }
        let what = match heard {
            Ok(word) => format!("it sent {:?}", word.escape_ascii().to_string().trim_end()),
            Err(Lost::Silent(_)) => "it sent nothing".to_owned(),
            Err(_) => "it closed the connection".to_owned(),
        };
        self.book.faulty(Fault::new(
            "no INIT",
            format!(
                "a driver answered NEEDINIT, and {what}: send INIT, or say that such drivers are not for this server"
            ),
        ));
        Err(Lost::Closed(0))
    }

    /// The message that it should send now.
    pub fn reply(&self) -> Vec<u8> {
        let answer = self
            .asked
            .as_ref()
            .map(|(_, structure)| wire::springs(structure));
        answer.as_ref().map(wire::forceready).unwrap_or_default()
    }

    /// Records that the right answer has been sent, in whatever form.
    pub fn is_right(&mut self) {
        if let Some((key, _)) = self.asked.take() {
            self.book.is_right(key);
            if self.good {
                self.book.good.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Sets what to do after the script.
    pub fn then(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// Continues in its manner until the server ends the conversation.
    pub(super) fn goes_on(mut self) -> JoinHandle<()> {
        thread::spawn(move || {
            while !self.book.over.load(Ordering::Relaxed) {
                if self.manner == Manner::Silent {
                    sleep(4 * TICK);
                    continue;
                }
                let word = match self.line.receive(12, 20 * TICK) {
                    Err(Lost::Silent(0)) => continue,
                    Err(_) => return,
                    Ok(word) => word,
                };
                let reply = match self.hears(&word) {
                    Ok(Header::GetForce) if self.asked.is_some() => self.reply(),
                    Ok(Header::GetForce) | Err(_) => return,
                    Ok(_) => continue,
                };
                // Record the answer before sending it: the server may end as soon as it has
                // received it.
                let right = self.asked.clone();
                self.is_right();
                if self.line.send(&reply).is_err() {
                    if let Some((key, _)) = right {
                        self.book.is_not_right(&key);
                    }
                    return;
                }
                self.book.later.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}
