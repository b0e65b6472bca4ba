//! A cable with random, repeatable faults.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber};

/// Random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True with this probability in percent.
    pub fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A size in this range, on a logarithmic scale.
    pub fn size(&mut self, from: u64, to: u64) -> usize {
        let octaves = (to / from).ilog2() as u64;
        let from = from << self.below(octaves + 1);
        self.range(from, (2 * from).min(to)) as usize
    }
}

/// The faults of the cable in percent of frames, until they stop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    pub loss: u64,
    pub doubles: u64,
    pub flips: u64,
    /// Frames that take longer than those after them.
    pub overtaken: u64,
}

/// How many frames met each fate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fates {
    pub sent: u64,
    pub lost: u64,
    pub doubled: u64,
    pub flipped: u64,
    pub overtaken: u64,
}

/// The driver's bytes in one conversation.
#[derive(Debug, Default)]
pub struct Said {
    first: TcpSeqNumber,
    pub bytes: Vec<u8>,
    /// The boundaries of segments.
    pub cuts: BTreeSet<usize>,
}

/// A frame in transit: its arrival time, its destination, and a number that orders frames with the
/// same time.
type Flying = Reverse<(i64, u64, usize, Vec<u8>)>;

/// Both directions of the cable.
#[derive(Debug)]
pub struct Cable {
    dice: Dice,
    faults: Faults,
    /// The latency in microseconds.
    latency: u64,
    pub mended: bool,
    pub cut: bool,
    flying: BinaryHeap<Flying>,
    number: u64,
    arrived: [VecDeque<Vec<u8>>; 2],
    pub fates: Fates,
    /// The driver's bytes, by the port from which it connected.
    pub said: BTreeMap<u16, Said>,
    /// A digest of all frames that were sent, with their times.
    pub digest: DefaultHasher,
}

impl Cable {
    pub fn new(seed: u64, faults: Faults, latency: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            faults,
            latency,
            mended: false,
            cut: false,
            flying: BinaryHeap::new(),
            number: 0,
            arrived: [VecDeque::new(), VecDeque::new()],
            fates: Fates::default(),
            said: BTreeMap::new(),
            digest: DefaultHasher::new(),
        }
    }

    fn send(&mut self, now: Instant, to: usize, mut frame: Vec<u8>) {
        (now.total_micros(), to, &frame).hash(&mut self.digest);
        self.fates.sent += 1;
        if to == 0 {
            self.listen(&frame);
        }
        let faults = if self.mended {
            Faults::default()
        } else {
            self.faults
        };
        if self.cut || self.dice.hits(faults.loss) {
            self.fates.lost += 1;
            return;
        }
        if self.dice.hits(faults.flips) {
            self.fates.flipped += 1;
            let bit = self.dice.below(8 * frame.len() as u64) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        let mut copies = 1;
        if self.dice.hits(faults.doubles) {
            self.fates.doubled += 1;
            copies = 2;
        }
        for _ in 0..copies {
            let mut delay = self.latency;
            if self.dice.hits(faults.overtaken) {
                self.fates.overtaken += 1;
                delay += self.dice.below(20 * self.latency + 20_000);
            }
            self.number += 1;
            let at = now.total_micros() + delay as i64;
            self.flying
                .push(Reverse((at, self.number, to, frame.clone())));
        }
    }

    /// Records the bytes of a segment from the driver.
    fn listen(&mut self, frame: &[u8]) {
        let ip = Ipv4Packet::new_checked(frame).unwrap();
        if ip.next_header() != IpProtocol::Tcp {
            return;
        }
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        let said = self.said.entry(tcp.src_port()).or_default();
        if tcp.syn() {
            said.first = tcp.seq_number() + 1;
            return;
        }
        if tcp.payload().is_empty() || tcp.seq_number() < said.first {
            return;
        }
        let (at, len) = (tcp.seq_number() - said.first, tcp.payload().len());
        // To check whether the peer is there, smoltcp repeats the last byte with another value.
        if len == 1 && at < said.bytes.len() {
            return;
        }
        let end = said.bytes.len().max(at + len);
        said.bytes.resize(end, 0);
        said.bytes[at..at + len].copy_from_slice(tcp.payload());
        said.cuts.extend([at, at + len]);
    }

    /// Delivers the frames that are due. Returns the time at which the next frame is due.
    pub fn deliver(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, ..))) = self.flying.peek() {
            if *at > now.total_micros() {
                return Some(Instant::from_micros(*at));
            }
            if let Some(Reverse((_, _, to, frame))) = self.flying.pop() {
                self.arrived[to].push_back(frame);
            }
        }
        None
    }

    pub fn has_arrived(&self, at: usize) -> bool {
        !self.arrived[at].is_empty()
    }

    pub fn result(&self) -> u64 {
        self.digest.finish()
    }
}

/// One end of the cable.
pub struct Plug {
    pub cable: Rc<RefCell<Cable>>,
    pub end: usize,
    pub mtu: usize,
    pub now: Instant,
}

pub struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Sending<'a>(&'a mut Plug);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        let Plug {
            cable, end, now, ..
        } = self.0;
        cable.borrow_mut().send(*now, 1 - *end, frame);
        result
    }
}

impl Device for Plug {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.cable.borrow_mut().arrived[self.end].pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
