//! What a guard is asked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use refcap_abi::guard::{Act, MAX_NAME, Question, RECORD_BYTES, RECORD_WORDS, Reader, TCP, UDP};

/// Where the host writes each question. The host does so between two calls; to the compiler, that is a thread of its
/// own, and so each word is atomic. Reading one is an ordinary load.
#[derive(Debug)]
#[repr(transparent)]
pub struct Record([AtomicU32; RECORD_WORDS]);

impl Record {
    /// With no question in it.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Record {
        Record([const { AtomicU32::new(0) }; RECORD_WORDS])
    }

    /// With this question.
    pub fn of(question: &Question<'_>) -> Record {
        let mut bytes = [0; RECORD_BYTES];
        question.write(&mut bytes);
        let (words, _) = bytes.as_chunks::<4>();
        Record(std::array::from_fn(|index| {
            AtomicU32::new(u32::from_le_bytes(words[index]))
        }))
    }

    fn reader(&self) -> Reader<impl Fn(usize) -> u32> {
        Reader(|index: usize| match self.0.get(index) {
            Some(word) => word.load(Ordering::Relaxed),
            None => 0,
        })
    }
}

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Something that is about to be done. Each question reads no more of it than it asks for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    record: &'a Record,
    act: Act,
    protocol: Protocol,
}

impl<'a> Request<'a> {
    /// Reads a question; `None` if it is about something that this version does not know.
    pub(crate) fn new(record: &'a Record) -> Option<Request<'a>> {
        let reader = record.reader();
        let protocol = match reader.protocol() {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        Some(Request {
            record,
            act: Act::from_code(reader.act())?,
            protocol,
        })
    }

    /// What is about to be done.
    pub fn act(&self) -> Act {
        self.act
    }

    /// By which protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The local end. `None` if there is none, as for look-ups, or if the system may choose it.
    pub fn local(&self) -> Option<SocketAddr> {
        self.record.reader().local()
    }

    /// The remote end. `None` if there is none: for `Bind`, `Listen` and `Resolve`.
    pub fn remote(&self) -> Option<SocketAddr> {
        let address = self.remote_ip()?;
        Some(SocketAddr::new(address, self.remote_port()))
    }

    /// The remote address.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.record.reader().remote()
    }

    /// The remote port; 0 if there is none. For look-ups, the port that the name is meant for.
    pub fn remote_port(&self) -> u16 {
        self.record.reader().remote_port()
    }

    /// The name that is looked up, or that stands for the remote address: in lower case, in its ASCII form, without a
    /// dot at the end.
    pub fn name(&self) -> Option<Name> {
        let mut bytes = [0; MAX_NAME];
        let length = self.record.reader().name(&mut bytes);
        (length > 0).then_some(Name { bytes, length })
    }

    /// The time since 1970-01-01 00:00 UTC, by the clock of the host.
    pub fn time(&self) -> Duration {
        let reader = self.record.reader();
        // A second has so many of them at most; what is more is no reason to panic.
        Duration::new(reader.seconds(), reader.nanoseconds().min(999_999_999))
    }

    /// How many sockets are open that this guard has said yes to.
    pub fn open(&self) -> u32 {
        self.record.reader().open()
    }

    /// How many questions there were before this one.
    pub fn checks(&self) -> u64 {
        self.record.reader().checks()
    }

    /// To how many of them the answer was yes.
    pub fn allowed(&self) -> u64 {
        self.record.reader().allowed()
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("act", &self.act)
            .field("protocol", &self.protocol)
            .field("local", &self.local())
            .field("remote_ip", &self.remote_ip())
            .field("remote_port", &self.remote_port())
            .field("name", &self.name())
            .field("time", &self.time())
            .finish_non_exhaustive()
    }
}

/// A DNS name; it derefs to `str`.
#[derive(Clone)]
pub struct Name {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        // The host's names are ASCII.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_the_question_says() {
        let question = Question {
            protocol: UDP,
            local: Some("10.0.0.1:53".parse().unwrap()),
            remote: Some("2001:db8::1".parse().unwrap()),
            remote_port: 5353,
            name: Some("a.example"),
            seconds: 1_700_000_000,
            nanoseconds: 5,
            open: 2,
            checks: 9,
            allowed: 8,
            ..Question::new(Act::Send)
        };
        let record = Record::of(&question);
        let request = Request::new(&record).unwrap();
        assert_eq!((request.act(), request.protocol()), (Act::Send, Protocol::Udp));
        assert_eq!(request.local(), question.local);
        assert_eq!(request.remote(), Some("[2001:db8::1]:5353".parse().unwrap()));
        assert_eq!(request.name().as_deref(), Some("a.example"));
        assert_eq!(request.time(), Duration::new(1_700_000_000, 5));
        assert_eq!((request.open(), request.checks(), request.allowed()), (2, 9, 8));
        let nothing = Record::of(&Question::new(Act::Bind));
        let request = Request::new(&nothing).unwrap();
        assert_eq!(
            (request.local(), request.remote(), request.name().as_deref()),
            (None, None, None)
        );
    }
}
