//! What a guard is asked, and how: the interface of a module that says yes or no to uses of a Net.
//!
//! A guard is a module without imports. It exports
//!
//! - `memory`, its linear memory;
//! - [`RECORD_EXPORT`], a constant global of type `i32`: the address of [`RECORD_BYTES`] bytes of that memory,
//!   into which the host writes each [`Question`];
//! - [`CHECK_EXPORT`], of type `() -> i32`, which the host calls then: [`YES`] allows, [`NO`] denies, and anything
//!   else is no answer and denies too.
//!
//! # The record
//!
//! [`RECORD_WORDS`] little-endian words of 32 bits:
//!
//! | word | what |
//! |---|---|
//! | 0 | the [`Act`] |
//! | 1 | the protocol: [`TCP`] or [`UDP`] |
//! | 2, 3 | the time in seconds since 1970-01-01 00:00 UTC, low and high half |
//! | 4 | nanoseconds since that second |
//! | 5 | the local port, and from bit 16 on the remote port |
//! | 6 | the family of the local address: 4, 6, or 0 if there is none; from bit 8 on that of the remote address; from bit 16 on the length of the name, 0 if there is none |
//! | 7 | how many sockets are open that this guard has let through |
//! | 8 to 11 | the local address in network order, IPv4 in the first word |
//! | 12 to 15 | the remote address |
//! | 16, 17 | how many questions there were before this one, low and high half |
//! | 18, 19 | to how many of them the answer was yes |
//! | 20 to 83 | the name: ASCII, lower case, without a dot at the end |
//!
//! What stands behind the end of a name is left from questions before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The export that answers: `() -> i32`.
pub const CHECK_EXPORT: &str = "refcap_guard_check";
/// The export with the address of the record: a constant global of type `i32`.
pub const RECORD_EXPORT: &str = "refcap_guard_record";

/// The answer that allows.
pub const YES: i32 = 1;
/// The answer that denies.
pub const NO: i32 = 0;

/// The length of the record in words.
pub const RECORD_WORDS: usize = 84;
/// The length of the record in bytes.
pub const RECORD_BYTES: usize = 4 * RECORD_WORDS;
/// What comes before the name.
const HEAD_WORDS: usize = 20;
const HEAD_BYTES: usize = 4 * HEAD_WORDS;
/// The longest name, in bytes.
pub const MAX_NAME: usize = RECORD_BYTES - HEAD_BYTES;

/// The protocol TCP.
pub const TCP: u32 = 1;
/// The protocol UDP.
pub const UDP: u32 = 2;

/// What is about to be done.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Open a TCP connection, or fix the peer of a datagram socket. For a connection to a name, the name is
    /// there beside the address that is tried. The local end is not known where the system may choose it.
    Connect,
    /// Make a datagram socket with that local end.
    Bind,
    /// Take connections at that local end.
    Listen,
    /// Let a peer in that has connected to a listener.
    Accept,
    /// Send one datagram.
    Send,
    /// Let one datagram in.
    Receive,
    /// Look a name up. The remote port is the one that it is meant for; there is no address yet.
    Resolve,
    /// Keep an address that a look-up gave: a name and one of its addresses.
    Answer,
}

impl Act {
    /// Every act, in the order of their codes.
    pub const ALL: &[Act] = &[
        Act::Connect,
        Act::Bind,
        Act::Listen,
        Act::Accept,
        Act::Send,
        Act::Receive,
        Act::Resolve,
        Act::Answer,
    ];

    /// The number that stands for it (from 1).
    pub const fn code(self) -> u32 {
        match self {
            Act::Connect => 1,
            Act::Bind => 2,
            Act::Listen => 3,
            Act::Accept => 4,
            Act::Send => 5,
            Act::Receive => 6,
            Act::Resolve => 7,
            Act::Answer => 8,
        }
    }

    /// The act of that number.
    pub fn from_code(code: u32) -> Option<Act> {
        Act::ALL.iter().copied().find(|act| act.code() == code)
    }

    /// Its word in messages.
    pub const fn word(self) -> &'static str {
        match self {
            Act::Connect => "connect",
            Act::Bind => "bind",
            Act::Listen => "listen",
            Act::Accept => "accept",
            Act::Send => "send",
            Act::Receive => "receive",
            Act::Resolve => "resolve",
            Act::Answer => "answer",
        }
    }
}

/// One question to a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// What is about to be done.
    pub act: Act,
    /// [`TCP`] or [`UDP`].
    pub protocol: u32,
    /// The local end, if it is known.
    pub local: Option<SocketAddr>,
    /// The remote address, if there is one.
    pub remote: Option<IpAddr>,
    /// The remote port; 0 if there is none.
    pub remote_port: u16,
    /// The name that is looked up, or that the remote address stands for. At most [`MAX_NAME`] bytes.
    pub name: Option<&'a str>,
    /// The time, in seconds since 1970-01-01 00:00 UTC.
    pub seconds: u64,
    /// Nanoseconds since that second.
    pub nanoseconds: u32,
    /// How many sockets are open that this guard has let through.
    pub open: u32,
    /// How many questions there were before this one.
    pub checks: u64,
    /// To how many of them the answer was yes.
    pub allowed: u64,
}

impl<'a> Question<'a> {
    /// About an act by TCP, with no ends and no name, at the first second of 1970.
    pub const fn new(act: Act) -> Question<'a> {
        Question {
            act,
            protocol: TCP,
            local: None,
            remote: None,
            remote_port: 0,
            name: None,
            seconds: 0,
            nanoseconds: 0,
            open: 0,
            checks: 0,
            allowed: 0,
        }
    }

    /// Writes the record. What stands behind the end of the name stays as it was; of a name that is too long,
    /// nothing is written.
    pub fn write(&self, record: &mut [u8; RECORD_BYTES]) {
        let name = self.name.filter(|name| name.len() <= MAX_NAME).unwrap_or("");
        let local_port = self.local.map_or(0, |local| local.port());
        let (local_family, local) = address_words(self.local.map(|local| local.ip()));
        let (remote_family, remote) = address_words(self.remote);
        let head: [u32; HEAD_WORDS] = [
            self.act.code(),
            self.protocol,
            low(self.seconds),
            high(self.seconds),
            self.nanoseconds,
            u32::from(local_port) | u32::from(self.remote_port) << 16,
            local_family | remote_family << 8 | (name.len() as u32) << 16,
            self.open,
            local[0],
            local[1],
            local[2],
            local[3],
            remote[0],
            remote[1],
            remote[2],
            remote[3],
            low(self.checks),
            high(self.checks),
            low(self.allowed),
            high(self.allowed),
        ];
        let (head_bytes, name_bytes) = record.split_at_mut(HEAD_BYTES);
        let (words, _) = head_bytes.as_chunks_mut::<4>();
        for (bytes, word) in words.iter_mut().zip(head) {
            *bytes = word.to_le_bytes();
        }
        name_bytes[..name.len()].copy_from_slice(name.as_bytes());
    }
}

/// The family and the words of an address.
fn address_words(address: Option<IpAddr>) -> (u32, [u32; 4]) {
    match address {
        None => (0, [0; 4]),
        Some(IpAddr::V4(address)) => (4, [u32::from_le_bytes(address.octets()), 0, 0, 0]),
        Some(IpAddr::V6(address)) => {
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<4>();
            (6, std::array::from_fn(|index| u32::from_le_bytes(words[index])))
        }
    }
}

fn low(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

fn high(number: u64) -> u32 {
    (number >> 32) as u32
}

/// A record as words, wherever they are kept: `word(index)` gives each. What a guard is written with reads it by
/// these functions, and reads no more than it needs.
#[derive(Debug, Clone, Copy)]
pub struct Reader<W>(pub W);

impl<W: Fn(usize) -> u32> Reader<W> {
    fn word(&self, index: usize) -> u32 {
        (self.0)(index)
    }

    fn long(&self, index: usize) -> u64 {
        u64::from(self.word(index)) | u64::from(self.word(index + 1)) << 32
    }

    /// The act's number.
    pub fn act(&self) -> u32 {
        self.word(0)
    }

    /// The protocol's number.
    pub fn protocol(&self) -> u32 {
        self.word(1)
    }

    /// The time in seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.long(2)
    }

    /// Nanoseconds since that second.
    pub fn nanoseconds(&self) -> u32 {
        self.word(4)
    }

    /// The local end.
    pub fn local(&self) -> Option<SocketAddr> {
        let address = self.address(self.word(6) & 0xff, 8)?;
        Some(SocketAddr::new(address, (self.word(5) & 0xffff) as u16))
    }

    /// The remote address.
    pub fn remote(&self) -> Option<IpAddr> {
        self.address(self.word(6) >> 8 & 0xff, 12)
    }

    /// The remote port.
    pub fn remote_port(&self) -> u16 {
        (self.word(5) >> 16) as u16
    }

    /// Copies the name into a buffer and returns its length.
    pub fn name(&self, buffer: &mut [u8; MAX_NAME]) -> usize {
        let length = ((self.word(6) >> 16) as usize).min(MAX_NAME);
        let (words, _) = buffer.as_chunks_mut::<4>();
        for (index, bytes) in words.iter_mut().enumerate().take(length.div_ceil(4)) {
            *bytes = self.word(HEAD_WORDS + index).to_le_bytes();
        }
        length
    }

    /// How many sockets are open that this guard has let through.
    pub fn open(&self) -> u32 {
        self.word(7)
    }

    /// How many questions there were before this one.
    pub fn checks(&self) -> u64 {
        self.long(16)
    }

    /// To how many of them the answer was yes.
    pub fn allowed(&self) -> u64 {
        self.long(18)
    }

    fn address(&self, family: u32, at: usize) -> Option<IpAddr> {
        match family {
            4 => Some(Ipv4Addr::from_octets(self.word(at).to_le_bytes()).into()),
            6 => {
                let mut octets = [0; 16];
                let (words, _) = octets.as_chunks_mut::<4>();
                for (index, bytes) in words.iter_mut().enumerate() {
                    *bytes = self.word(at + index).to_le_bytes();
                }
                Some(Ipv6Addr::from_octets(octets).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question<'_> = Question {
        seconds: 0x1_2345_6789,
        nanoseconds: 999_999_999,
        open: 3,
        checks: u64::MAX,
        allowed: 1 << 40,
        ..Question::new(Act::Connect)
    };

    fn check(question: Question<'_>) {
        let mut record = [0xff; RECORD_BYTES];
        question.write(&mut record);
        let (words, _) = record.as_chunks::<4>();
        let reader = Reader(|index: usize| u32::from_le_bytes(words[index]));
        let mut buffer = [0; MAX_NAME];
        let length = reader.name(&mut buffer);
        let name = std::str::from_utf8(&buffer[..length]).unwrap();
        let read = Question {
            act: Act::from_code(reader.act()).unwrap(),
            protocol: reader.protocol(),
            local: reader.local(),
            remote: reader.remote(),
            remote_port: reader.remote_port(),
            name: (!name.is_empty()).then_some(name),
            seconds: reader.seconds(),
            nanoseconds: reader.nanoseconds(),
            open: reader.open(),
            checks: reader.checks(),
            allowed: reader.allowed(),
        };
        assert_eq!(read, question);
    }

    #[test]
    fn questions_come_back_from_their_records() {
        let longest = "a".repeat(MAX_NAME);
        for &act in Act::ALL {
            for (local, remote) in [
                (None, None),
                (Some("1.2.3.4:5"), Some("255.254.253.252")),
                (Some("[2001:db8::1]:65535"), Some("fe80::1:2:3:4")),
            ] {
                for name in [None, Some("a"), Some("api.example.com"), Some(&*longest)] {
                    check(Question {
                        act,
                        local: local.map(|local| local.parse().unwrap()),
                        remote: remote.map(|remote| remote.parse().unwrap()),
                        remote_port: 54_321,
                        name,
                        ..QUESTION
                    });
                }
            }
        }
    }

    #[test]
    fn codes_are_one_to_one_and_a_name_that_is_too_long_is_none() {
        for &act in Act::ALL {
            assert_eq!(Act::from_code(act.code()), Some(act));
        }
        assert_eq!(Act::from_code(0), None);
        let mut record = [0; RECORD_BYTES];
        let name = "a".repeat(MAX_NAME + 1);
        Question {
            name: Some(&name),
            ..QUESTION
        }
        .write(&mut record);
        assert!(record[HEAD_BYTES..].iter().all(|&byte| byte == 0));
    }
}
