//! The binary form of rules and queries, for guests that build them without text.
//!
//! Every number of more than one byte is big-endian, a count is LEB128 (at most five bytes). There is
//! exactly one encoding of each value, and decoding takes no other.
//!
//! | value | form |
//! |---|---|
//! | rules | the version, 1; count, rules; count, exceptions |
//! | rules with `names to` | the version, 2; the same as above; count and hosts of `names to`, one at least |
//! | rule | operations (bit `n` is the `n`th of [`Operation::ALL`]), protocols, flags (1: source, 2: exclusions), destination, source if flagged, count and hosts of the exclusions if flagged |
//! | exception | 0 and an end, or 1 and a rule |
//! | end | host, ports |
//! | host | 0 `*`; 1 `any-name`; 2 and a class (its place in [`Class::ALL`]); 3 and an IPv4 address; 4 and two of them; 5 and an IPv6 address; 6 and two of them; 7, length and a name; 8, length and the name behind `*.` |
//! | ports | 0 for every port, or count and pairs of first and last port, rising and not touching |
//! | query | the version, 1; operation, protocol (their places), local end, remote end |
//! | end of a query | 0 for none; 3, IPv4 address, port; 5, IPv6 address, port; 7, length, name, port |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{IpRange, canonical};
use crate::class::Class;
use crate::name::DnsName;
use crate::query::Query;
use crate::rules::{End, Exception, Host, Rule, RuleError, Rules};
use crate::sets::{OperationSet, PortSet, ProtocolSet};
use crate::text::MAX_RULES;
use crate::tuple::{Operation, Protocol, Remote};

const VERSION: u8 = 1;
/// Of rules that say which addresses names may stand for. The form that the others have is a proper
/// beginning of none of these, so that a cut in the bytes never passes for fewer hosts.
const VERSION_WITH_NAMES_TO: u8 = 2;
const WITH_SOURCE: u8 = 1;
const WITH_EXCLUSIONS: u8 = 2;

/// Why bytes are not rules or not a query.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the encoding ends too early")]
    Truncated,
    /// There are more of them than the value has.
    #[error("bytes follow behind the encoding, from byte {at}")]
    Trailing {
        /// The first of them.
        at: usize,
    },
    /// A part has a value that it never has.
    #[error("not a valid {what} at byte {at}")]
    Invalid {
        /// Where the part ends.
        at: usize,
        /// What it should be.
        what: &'static str,
    },
    /// A rule, or a list of hosts, cannot be.
    #[error("the rule that ends at byte {at} cannot be: {error}")]
    Rule {
        /// Where it ends.
        at: usize,
        /// Why.
        error: RuleError,
    },
    /// There are more rules, exceptions and hosts of `names to` than [`MAX_RULES`].
    #[error("more than {MAX_RULES} rules and exceptions")]
    TooMany,
}

impl Rules {
    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.names_to.is_empty() {
            true => VERSION,
            false => VERSION_WITH_NAMES_TO,
        }];
        put_count(&mut out, self.rules.len());
        for rule in &self.rules {
            put_rule(&mut out, rule);
        }
        put_count(&mut out, self.exceptions.len());
        for exception in &self.exceptions {
            match exception {
                Exception::End(end) => {
                    out.push(0);
                    put_end(&mut out, end);
                }
                Exception::Rule(rule) => {
                    out.push(1);
                    put_rule(&mut out, rule);
                }
            }
        }
        if !self.names_to.is_empty() {
            put_count(&mut out, self.names_to.len());
        }
        for host in &self.names_to {
            put_host(&mut out, host);
        }
        out
    }

    /// Reads the binary form. Takes any bytes; memory stays within a fixed multiple of their number.
    pub fn decode(bytes: &[u8]) -> Result<Rules, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if !matches!(version, VERSION | VERSION_WITH_NAMES_TO) {
            return Err(reader.invalid("version"));
        }
        let mut rules = Rules::new();
        for _ in 0..reader.count(MAX_RULES)? {
            rules.rules.push(reader.rule()?);
        }
        for _ in 0..reader.count(MAX_RULES - rules.rules.len())? {
            rules.exceptions.push(match reader.byte()? {
                0 => Exception::End(reader.end()?),
                1 => Exception::Rule(reader.rule()?),
                _ => return Err(reader.invalid("exception")),
            });
        }
        if version == VERSION_WITH_NAMES_TO {
            let mut hosts = Vec::new();
            for _ in 0..reader.count(MAX_RULES - rules.rules.len() - rules.exceptions.len())? {
                hosts.push(reader.host()?);
            }
            if hosts.is_empty() {
                return Err(reader.invalid("list of hosts"));
            }
            rules = rules.names_to(hosts).map_err(|error| reader.rule_error(error))?;
        }
        reader.finish()?;
        Ok(rules)
    }
}

impl Query {
    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.operation as u8, self.protocol as u8];
        put_remote(&mut out, self.local.map(Remote::from).as_ref());
        let remote = match self.operation {
            Operation::Bind => None,
            _ => self.remote.as_ref(),
        };
        put_remote(&mut out, remote);
        out
    }

    /// Reads the binary form. Takes any bytes.
    pub fn decode(bytes: &[u8]) -> Result<Query, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(reader.invalid("version"));
        }
        let operation = reader.byte()?;
        let Some(operation) = Operation::ALL.get(usize::from(operation)).copied() else {
            return Err(reader.invalid("operation"));
        };
        let protocol = reader.byte()?;
        let Some(protocol) = Protocol::ALL.get(usize::from(protocol)).copied() else {
            return Err(reader.invalid("protocol"));
        };
        let local = match reader.remote()? {
            Some(Remote::Address(local)) => Some(local),
            Some(Remote::Name(..)) => return Err(reader.invalid("local end")),
            None => None,
        };
        let remote = reader.remote()?;
        if operation == Operation::Bind && remote.is_some() {
            return Err(reader.invalid("remote end of a bind, which has none"));
        }
        reader.finish()?;
        Ok(Query {
            operation,
            protocol,
            local,
            remote,
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let mut rest = count;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_rule(out: &mut Vec<u8>, rule: &Rule) {
    let source = rule.source();
    let mut flags = 0;
    if source.is_some() {
        flags |= WITH_SOURCE;
    }
    if !rule.without().is_empty() {
        flags |= WITH_EXCLUSIONS;
    }
    out.extend([rule.operations().bits(), rule.protocols().bits(), flags]);
    put_end(out, rule.main());
    if let Some(source) = source {
        put_end(out, source);
    }
    if !rule.without().is_empty() {
        put_count(out, rule.without().len());
        for host in rule.without() {
            put_host(out, host);
        }
    }
}

fn put_end(out: &mut Vec<u8>, end: &End) {
    put_host(out, &end.host);
    if end.ports.is_any() {
        put_count(out, 0);
        return;
    }
    put_count(out, end.ports.ranges().len());
    for (first, last) in end.ports.ranges() {
        out.extend(first.to_be_bytes());
        out.extend(last.to_be_bytes());
    }
}

fn put_host(out: &mut Vec<u8>, host: &Host) {
    match host {
        Host::Any => out.push(0),
        Host::AnyName => out.push(1),
        Host::Class(class) => {
            let place = Class::ALL
                .iter()
                .position(|other| other == class)
                .unwrap_or_default();
            out.extend([2, place as u8]);
        }
        Host::Range(IpRange::V4(first, last)) => {
            out.push(if first == last { 3 } else { 4 });
            out.extend(first.octets());
            if first != last {
                out.extend(last.octets());
            }
        }
        Host::Range(IpRange::V6(first, last)) => {
            out.push(if first == last { 5 } else { 6 });
            out.extend(first.octets());
            if first != last {
                out.extend(last.octets());
            }
        }
        Host::Name(name) => put_name(out, 7, name),
        Host::Under(name) => put_name(out, 8, name),
    }
}

fn put_name(out: &mut Vec<u8>, tag: u8, name: &DnsName) {
    // A name has 253 bytes at most.
    out.extend([tag, name.as_str().len() as u8]);
    out.extend(name.as_str().bytes());
}

fn put_remote(out: &mut Vec<u8>, remote: Option<&Remote>) {
    match remote {
        None => return out.push(0),
        Some(Remote::Address(address)) => match canonical(address.ip()) {
            IpAddr::V4(ip) => {
                out.push(3);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(5);
                out.extend(ip.octets());
            }
        },
        Some(Remote::Name(name, _)) => put_name(out, 7, name),
    }
    let port = remote.map_or(0, Remote::port);
    out.extend(port.to_be_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    fn invalid(&self, what: &'static str) -> DecodeError {
        DecodeError::Invalid { at: self.at, what }
    }

    fn finish(&self) -> Result<(), DecodeError> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(DecodeError::Trailing { at: self.at }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn port(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A count. Nothing is allocated by it: each thing that is counted still has to be there.
    fn count(&mut self, most: usize) -> Result<usize, DecodeError> {
        let mut count: usize = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            if byte == 0 && shift > 0 {
                return Err(self.invalid("count"));
            }
            let bits = usize::from(byte & 0x7f);
            // The last of five bytes has room for four bits.
            if shift == 28 && bits > 0xf {
                return Err(self.invalid("count"));
            }
            count |= bits << shift;
            if byte & 0x80 == 0 {
                return if count > most {
                    Err(DecodeError::TooMany)
                } else {
                    Ok(count)
                };
            }
        }
        Err(self.invalid("count"))
    }

    fn rule(&mut self) -> Result<Rule, DecodeError> {
        let [operations, protocols, flags] = self.array()?;
        let set: OperationSet = Operation::ALL
            .into_iter()
            .filter(|operation| operations & (1 << *operation as u8) != 0)
            .collect();
        if set.bits() != operations {
            return Err(self.invalid("set of operations"));
        }
        let protocol_set: ProtocolSet = Protocol::ALL
            .into_iter()
            .filter(|protocol| protocols & (1 << *protocol as u8) != 0)
            .collect();
        if protocol_set.bits() != protocols {
            return Err(self.invalid("set of protocols"));
        }
        if flags & !(WITH_SOURCE | WITH_EXCLUSIONS) != 0 {
            return Err(self.invalid("set of flags"));
        }
        let main = self.end()?;
        let mut rule = Rule::new(set, protocol_set, main).map_err(|error| self.rule_error(error))?;
        if flags & WITH_SOURCE != 0 {
            let source = self.end()?;
            rule = rule.with_from(source).map_err(|error| self.rule_error(error))?;
        }
        if flags & WITH_EXCLUSIONS != 0 {
            let mut hosts = Vec::new();
            for _ in 0..self.count(MAX_RULES)? {
                hosts.push(self.host()?);
            }
            if hosts.is_empty() {
                return Err(self.invalid("list of exclusions"));
            }
            rule = rule
                .with_exclusions(hosts)
                .map_err(|error| self.rule_error(error))?;
        }
        Ok(rule)
    }

    fn rule_error(&self, error: RuleError) -> DecodeError {
        DecodeError::Rule { at: self.at, error }
    }

    fn end(&mut self) -> Result<End, DecodeError> {
        let host = self.host()?;
        let count = self.count(1 << 15)?;
        if count == 0 {
            return Ok(End {
                host,
                ports: PortSet::any(),
            });
        }
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push((self.port()?, self.port()?));
        }
        match PortSet::from_ranges(ranges.iter().copied()) {
            Some(ports) if ports.ranges() == ranges && !ports.is_any() => Ok(End { host, ports }),
            _ => Err(self.invalid("list of ports")),
        }
    }

    fn host(&mut self) -> Result<Host, DecodeError> {
        let host = match self.byte()? {
            0 => Host::Any,
            1 => Host::AnyName,
            2 => {
                let class = usize::from(self.byte()?);
                Host::Class(*Class::ALL.get(class).ok_or_else(|| self.invalid("class"))?)
            }
            3 => Host::Range(IpRange::single(self.v4()?)),
            4 => {
                let (first, last) = (self.v4()?, self.v4()?);
                self.range(first, last)?
            }
            5 => Host::Range(IpRange::single(self.v6()?)),
            6 => {
                let (first, last) = (self.v6()?, self.v6()?);
                self.range(first, last)?
            }
            7 => Host::Name(self.name()?),
            8 => Host::Under(self.name()?),
            _ => return Err(self.invalid("host")),
        };
        Ok(host)
    }

    fn v4(&mut self) -> Result<IpAddr, DecodeError> {
        self.array().map(|bytes| Ipv4Addr::from_octets(bytes).into())
    }

    /// An address that is not IPv4 in disguise: that one has its own encoding.
    fn v6(&mut self) -> Result<IpAddr, DecodeError> {
        let address = IpAddr::V6(Ipv6Addr::from_octets(self.array()?));
        match canonical(address) == address {
            true => Ok(address),
            false => Err(self.invalid("IPv6 address")),
        }
    }

    fn range(&self, first: IpAddr, last: IpAddr) -> Result<Host, DecodeError> {
        match IpRange::new(first, last) {
            Some(range) if first != last => Ok(Host::Range(range)),
            _ => Err(self.invalid("range of addresses")),
        }
    }

    fn name(&mut self) -> Result<DnsName, DecodeError> {
        let length = usize::from(self.byte()?);
        let bytes = self
            .bytes
            .get(self.at..self.at + length)
            .ok_or(DecodeError::Truncated)?;
        self.at += length;
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        match DnsName::new(text) {
            Ok(name) if name.as_str() == text => Ok(name),
            _ => Err(self.invalid("name")),
        }
    }

    fn remote(&mut self) -> Result<Option<Remote>, DecodeError> {
        let address = match self.byte()? {
            0 => return Ok(None),
            3 => self.v4()?,
            5 => self.v6()?,
            7 => {
                let name = self.name()?;
                return Ok(Some(Remote::Name(name, self.port()?)));
            }
            _ => return Err(self.invalid("end")),
        };
        Ok(Some(Remote::Address(SocketAddr::new(address, self.port()?))))
    }
}
