//! The connection over a line, without the line itself: only bytes and time.

use core::time::Duration;

use super::Fault;
use super::frame::{Header, Kind, Reason};
use super::incoming::{Came, Incoming};
use super::outgoing::{Due, Outgoing};
use crate::fmt::debug;

/// The longest time between the first and the last byte of a frame.
const FRAME: Duration = Duration::from_secs(1);
/// The silence after which a host sends a probe, and a board repeats its request for a connection.
const PROBE: Duration = Duration::from_secs(1);
/// The longest time for which a host sends nothing to a waiting board.
const SILENCE: Duration = Duration::from_secs(10);
/// A longer time between two readings of the clock was a pause of the program.
const STEP: Duration = Duration::from_secs(1);

/// One end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Firmware, which opens connections.
    Board,
    /// The computer at the other end, which accepts connections and probes for lost frames.
    Host,
}

/// The state of a connection over a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum State {
    /// No connection: none was opened, or it has been closed.
    Closed,
    /// The board has requested a connection, and the host has not accepted it yet.
    Opening,
    /// A connection is open.
    Open,
    /// The connection has ended with a fault.
    Failed(Fault),
}

/// One end of a line without its stream, for programs that move the bytes themselves.
///
/// [`Line`](super::Line) combines this type with a stream and a clock. To drive it by hand, read
/// bytes of the line into [`space`](Self::space) and call [`received`](Self::received), or
/// [`elapsed`](Self::elapsed) if there are none. Then read [`data`](Self::data), send
/// [`outgoing`](Self::outgoing) and check [`state`](Self::state). `now` is monotonic time since an
/// arbitrary fixed epoch.
#[derive(Debug)]
pub struct Framing {
    role: Role,
    state: State,
    /// The fault that ended the last connection, until a new one is open.
    ended: Option<Fault>,
    /// The number of this connection, counted by the host, and the number of the board's request.
    session: u8,
    opening: u8,
    /// Data frames received and sent, modulo 256.
    came: u8,
    departed: u8,
    incoming: Incoming,
    outgoing: Outgoing,
    now: Duration,
    /// How long nothing has arrived, not counting the program's own pauses.
    waited: Duration,
    /// When to ask next, in terms of `waited`.
    ask: Duration,
    silence: Option<Duration>,
    /// When CLOSE may be sent again to a peer without a connection.
    tell_at: Duration,
}

impl Framing {
    /// Makes one end of a line, without a connection.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        let mut outgoing = Outgoing::new();
        let silence = match role {
            Role::Board => Some(SILENCE),
            Role::Host => {
                // A board may still have a connection to an earlier process on this host; this
                // CLOSE ends it.
                outgoing.say(Due::Close(Reason::Fault));
                None
            }
        };
        Self {
            role,
            state: State::Closed,
            ended: None,
            session: 0,
            opening: 0,
            came: 0,
            departed: 0,
            incoming: Incoming::new(),
            outgoing,
            now: Duration::ZERO,
            waited: Duration::ZERO,
            ask: PROBE,
            silence,
            tell_at: Duration::ZERO,
        }
    }

    /// Sets how long a peer may send nothing while this end waits for it. The default is ten
    /// seconds on a board, whose host sends something every second, and no limit on a host, whose
    /// board may compute for hours.
    pub const fn set_silence(&mut self, limit: Option<Duration>) {
        self.silence = limit;
    }

    /// When `received` or `elapsed` was last called.
    pub(super) const fn noted(&self) -> Duration {
        self.now
    }

    /// Whether a board waits to be accepted, or has just been accepted: a call that stopped while
    /// it sent OPENED is repeated.
    pub(super) const fn may_accept(&self) -> bool {
        match self.state {
            State::Opening => matches!(self.role, Role::Host),
            State::Open => self.is_unused(),
            _ => false,
        }
    }

    /// Ends a connection that has carried data. Another one is to be accepted, and data that arrive
    /// before that are dropped.
    pub(super) fn leave(&mut self) {
        if self.state == State::Open && !self.is_unused() {
            self.close();
        }
    }

    /// Whether no data have moved yet.
    const fn is_unused(&self) -> bool {
        self.came == 0 && self.departed == 0 && !self.outgoing.has_gathered()
    }

    /// The role of this end.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The state of the connection.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The fault that ended the last connection, even if the board has requested another since.
    /// `None` once that one is open.
    #[must_use]
    pub const fn last_fault(&self) -> Option<Fault> {
        self.ended
    }

    /// The number of the connection. It changes as soon as a board requests a new one.
    #[must_use]
    pub const fn session(&self) -> u8 {
        self.session
    }

    /// Requests a connection, after ending the current one if there is one. For boards; no effect
    /// on a host.
    pub fn open(&mut self, now: Duration) {
        self.now = now;
        if self.role == Role::Host {
            return;
        }
        self.opening = self.opening.wrapping_add(1);
        self.state = State::Opening;
        self.restart();
        self.outgoing.say(Due::Open);
    }

    /// Accepts a board's request for a connection. For hosts; no effect without a request.
    pub fn accept(&mut self, now: Duration) {
        self.now = now;
        if self.role == Role::Host && self.state == State::Opening {
            self.state = State::Open;
            self.ended = None;
            self.outgoing.say(Due::Opened);
        }
    }

    /// Ends the connection after the flushed data. The peer then reads to the end.
    pub fn close(&mut self) {
        if matches!(self.state, State::Open | State::Opening) {
            self.outgoing.say(Due::Close(Reason::Done));
        }
        self.state = State::Closed;
    }

    /// Ends the connection because of a fault and sends CLOSE.
    pub fn fail(&mut self, fault: Fault) {
        if matches!(self.state, State::Open | State::Opening) {
            debug!("the line's connection has ended: {}", fault);
            self.outgoing.drop_data();
            self.outgoing.say(Due::Close(Reason::Fault));
        }
        self.failed(fault);
    }

    fn failed(&mut self, fault: Fault) {
        self.state = State::Failed(fault);
        self.ended = Some(fault);
    }

    /// Room for bytes of the line; empty as long as there are [`data`](Self::data).
    pub fn space(&mut self) -> &mut [u8] {
        self.incoming.space()
    }

    /// Processes the first `n` bytes of [`space`](Self::space).
    pub fn received(&mut self, n: usize, now: Duration) {
        self.now = now;
        if n > 0 {
            self.waited = Duration::ZERO;
            if self.state != State::Opening {
                self.ask = PROBE;
            }
        }
        self.incoming.received(n);
        self.look();
    }

    /// Records that nothing has arrived until now. Call it at least once a second, or the time
    /// limits don't hold: more than a second between two calls counts as one.
    pub fn elapsed(&mut self, now: Duration) {
        let step = now.saturating_sub(self.now).min(STEP);
        self.waited = self.waited.saturating_add(step);
        self.now = now;
        let is_silent = self.silence.is_some_and(|limit| self.waited >= limit);
        match (self.state, self.role) {
            (State::Open, _) if self.incoming.is_midway() && self.waited >= FRAME => {
                self.fail(Fault::Cut);
            }
            (State::Open, _) if is_silent => self.fail(Fault::Silent),
            (State::Open, Role::Host) if self.waited >= self.ask => {
                // A computing board does not answer, and its buffer must not overflow: doubling the
                // interval makes seventeen probes a day.
                self.ask = self.waited.saturating_mul(2).saturating_add(PROBE);
                if self.outgoing.due().is_none() {
                    self.outgoing.say(Due::Probe);
                }
            }
            (State::Opening, Role::Board) if self.waited >= self.ask => {
                self.ask = self.waited.saturating_add(PROBE);
                self.outgoing.say(Due::Open);
            }
            _ => {}
        }
    }

    /// Received data, whose checksum was right.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.incoming.data()
    }

    /// Whether [`data`](Self::data) are the end of a message.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.incoming.is_last()
    }

    /// Marks `n` bytes of the data as read.
    pub fn consume(&mut self, n: usize) {
        self.incoming.consume(n);
        self.look();
    }

    /// Whether a connection is open and has no unread data.
    pub(super) fn has_no_data(&self) -> bool {
        self.state == State::Open && self.data().is_empty()
    }

    /// Drops all received data.
    pub(super) fn drop_data(&mut self) {
        while !self.data().is_empty() {
            self.consume(usize::MAX);
        }
    }

    /// Accepts some bytes to send. Accepts none if there is no connection, or while
    /// [`outgoing`](Self::outgoing) has bytes to send.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        if self.state != State::Open || self.outgoing.is_blocked() {
            return 0;
        }
        let n = self.outgoing.gather(bytes);
        if n == 0 && !bytes.is_empty() {
            self.seal(Kind::Part);
        }
        n
    }

    /// Whether bytes of an unfinished message were [put](Self::put).
    #[must_use]
    pub const fn is_in_message(&self) -> bool {
        self.outgoing.has_gathered()
    }

    /// Ends the message, so that the peer may pass on what it has received.
    pub fn end_message(&mut self) {
        if self.state == State::Open && self.outgoing.has_gathered() {
            self.seal(Kind::Last);
        }
    }

    /// Bytes for the line; empty if there are none.
    pub fn outgoing(&mut self) -> &[u8] {
        let numbers = (self.session, self.opening, self.departed);
        self.outgoing.bytes(numbers)
    }

    /// Counts bytes of [`outgoing`](Self::outgoing) that the line has accepted.
    pub fn sent(&mut self, n: usize) {
        // The peer owes nothing before it has received a message. A probe does not count.
        if self.outgoing.sent(n) && self.state == State::Open {
            self.waited = Duration::ZERO;
            self.ask = PROBE;
        }
    }

    fn seal(&mut self, kind: Kind) {
        self.outgoing.seal(Header {
            kind,
            session: self.session,
            number: self.departed,
        });
        self.departed = self.departed.wrapping_add(1);
    }

    /// Starts a connection with no state of an earlier one.
    fn restart(&mut self) {
        self.incoming.drop_data();
        self.outgoing.drop_data();
        (self.came, self.departed) = (0, 0);
        (self.waited, self.ask) = (Duration::ZERO, PROBE);
    }

    /// Decodes frames until there are data, or no complete frame remains.
    fn look(&mut self) {
        while self.incoming.data().is_empty()
            && let Some(came) = self.incoming.frame()
        {
            match came {
                Came::Whole {
                    header,
                    len,
                    after_blank,
                } => {
                    self.take(header, len, after_blank);
                }
                // Without a connection these bytes may be the rest of anything.
                Came::Damaged if self.state == State::Open => self.fail(Fault::Damaged),
                Came::Damaged => {}
            }
        }
    }

    fn take(&mut self, header: Header, len: usize, after_blank: bool) {
        let is_open = self.state == State::Open;
        match (header.kind, self.role) {
            (Kind::Open, Role::Host) => self.asked(header.number),
            (Kind::Opened, Role::Board) => match self.state {
                State::Opening if header.number == self.opening => {
                    self.state = State::Open;
                    self.ended = None;
                    self.session = header.session;
                    self.ask = PROBE;
                }
                State::Open if header.session != self.session => self.fail(Fault::Restarted),
                _ => {}
            },
            (Kind::Close, _) => self.closed(header),
            _ if !is_open => self.tell(),
            // An empty frame between two others is an extra byte.
            _ if after_blank => self.fail(Fault::Damaged),
            (Kind::Part | Kind::Last | Kind::Probe | Kind::Answer, _)
                if header.session != self.session =>
            {
                self.fail(Fault::Restarted);
            }
            (Kind::Part | Kind::Last | Kind::Probe | Kind::Answer, _)
                if header.number != self.came =>
            {
                self.fail(Fault::Lost);
            }
            (Kind::Part | Kind::Last, _) => {
                self.came = self.came.wrapping_add(1);
                self.incoming.keep(len, header.kind == Kind::Last);
            }
            (Kind::Probe, Role::Board) => {
                if self.outgoing.due().is_none() {
                    self.outgoing.say(Due::Answer);
                }
            }
            (Kind::Answer, Role::Host) => {}
            // Both ends have the same role, or the line is connected to itself.
            _ => self.fail(Fault::Damaged),
        }
    }

    /// Handles a board's request for a connection.
    fn asked(&mut self, opening: u8) {
        match self.state {
            State::Opening if opening == self.opening => {}
            // The board repeats its request because it has not received the answer.
            State::Open if opening == self.opening && self.is_unused() => {
                self.outgoing.say(Due::Opened);
            }
            state => {
                if state == State::Open {
                    self.ended = Some(Fault::Restarted);
                }
                self.state = State::Opening;
                self.opening = opening;
                self.session = self.session % 255 + 1;
                self.restart();
            }
        }
    }

    /// Handles the end of the connection by the peer.
    fn closed(&mut self, header: Header) {
        let is_done = self.incoming.first() == Some(Reason::Done as u8);
        match (self.state, self.role) {
            (State::Open, _) if !is_done => {
                self.outgoing.drop_data();
                self.failed(Fault::Reported);
            }
            (State::Open, _) if header.number != self.came => self.fail(Fault::Lost),
            (State::Open, _) | (State::Opening, Role::Host) => self.state = State::Closed,
            // A board that requests a connection receives the end of the previous one.
            _ => {}
        }
    }

    /// Sends CLOSE, at most once a second, to a peer that wrongly believes in a connection.
    fn tell(&mut self) {
        if self.state != State::Opening && self.now >= self.tell_at {
            self.tell_at = self.now.saturating_add(PROBE);
            self.outgoing.say(Due::Close(Reason::Fault));
        }
    }
}
