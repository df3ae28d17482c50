//! Rules and exceptions as they are written.
//!
//! This is the level of syntax: two different lists may mean the same. What they mean is an
//! [`Authority`](crate::Authority).

use std::fmt;

use crate::address::IpRange;
use crate::class::{Class, EVERY, ORDINARY};
use crate::name::DnsName;
use crate::sets::{OperationSet, PortSet, ProtocolSet, write_list};
use crate::tuple::{Direction, Operation, Remote};

/// Which hosts an end may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// `*`. As a remote end every ordinary address: all but unspecified, multicast and broadcast ones, and
    /// no name. As a local end every address.
    Any,
    /// `any-name`: every DNS name. A remote end of outbound operations only.
    AnyName,
    /// A named class of addresses.
    Class(Class),
    /// An address, a prefix or a range. It means exactly what it says.
    Range(IpRange),
    /// One DNS name. A remote end of outbound operations only.
    Name(DnsName),
    /// `*.name`: every name under that one, at any depth, and not the name itself. A remote end of outbound
    /// operations only.
    Under(DnsName),
}

impl Host {
    /// Whether it stands for names, not for addresses.
    pub fn is_name(&self) -> bool {
        matches!(self, Host::AnyName | Host::Name(_) | Host::Under(_))
    }

    /// The addresses that it stands for as a remote end.
    pub(crate) fn remote_ranges(&self) -> &[IpRange] {
        match self {
            Host::Any => ORDINARY,
            other => other.local_ranges(),
        }
    }

    /// The addresses that it stands for as a local end.
    pub(crate) fn local_ranges(&self) -> &[IpRange] {
        match self {
            Host::Any => EVERY,
            Host::Class(class) => class.ranges(),
            Host::Range(range) => std::slice::from_ref(range),
            Host::AnyName | Host::Name(_) | Host::Under(_) => &[],
        }
    }

    /// Whether it is that remote end's host.
    pub fn matches_remote(&self, remote: &Remote) -> bool {
        match (self, remote) {
            (_, Remote::Address(address)) => self
                .remote_ranges()
                .iter()
                .any(|range| range.contains(address.ip())),
            (Host::AnyName, Remote::Name(..)) => true,
            (Host::Name(own), Remote::Name(name, _)) => own == name,
            (Host::Under(own), Remote::Name(name, _)) => name.is_under(own),
            (_, Remote::Name(..)) => false,
        }
    }

    /// Whether it is that local address.
    pub fn matches_local(&self, address: std::net::IpAddr) -> bool {
        self.local_ranges().iter().any(|range| range.contains(address))
    }
}

impl From<IpRange> for Host {
    fn from(range: IpRange) -> Host {
        Host::Range(range)
    }
}

impl From<std::net::IpAddr> for Host {
    fn from(address: std::net::IpAddr) -> Host {
        Host::Range(IpRange::single(address))
    }
}

impl From<Class> for Host {
    fn from(class: Class) -> Host {
        Host::Class(class)
    }
}

impl From<DnsName> for Host {
    fn from(name: DnsName) -> Host {
        Host::Name(name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => f.write_str("*"),
            Host::AnyName => f.write_str("any-name"),
            Host::Class(class) => class.fmt(f),
            Host::Range(range) => range.fmt(f),
            // The dot tells a name of one label from a word that nobody knows.
            Host::Name(name) if name.is_single_label() => write!(f, "{name}."),
            Host::Name(name) => name.fmt(f),
            Host::Under(name) => write!(f, "*.{name}"),
        }
    }
}

/// One end of a rule: hosts and ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct End {
    /// The hosts.
    pub host: Host,
    /// The ports.
    pub ports: PortSet,
}

impl End {
    /// An end of these hosts and ports.
    pub fn new(host: impl Into<Host>, ports: impl Into<PortSet>) -> End {
        End {
            host: host.into(),
            ports: ports.into(),
        }
    }

    /// `*:*`.
    pub fn any() -> End {
        End::new(Host::Any, PortSet::any())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.ports)
    }
}

/// One rule: `OPERATIONS PROTOCOLS DESTINATION [from SOURCE] [without HOST, HOST ...]`.
///
/// Only what can be written can be made: see [`RuleError`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    operations: OperationSet,
    protocols: ProtocolSet,
    main: End,
    from: Option<End>,
    without: Vec<Host>,
}

impl Rule {
    /// A rule with that destination: the remote end of connect and send, the local end of all others.
    pub fn new(
        operations: impl Into<OperationSet>,
        protocols: impl Into<ProtocolSet>,
        main: End,
    ) -> Result<Rule, RuleError> {
        let (operations, protocols) = (operations.into(), protocols.into());
        if operations.is_empty() {
            return Err(RuleError::NoOperation);
        }
        if protocols.is_empty() {
            return Err(RuleError::NoProtocol);
        }
        let direction = operations.direction().ok_or(RuleError::MixedDirections)?;
        if direction == Direction::Inbound && main.host.is_name() {
            return Err(RuleError::NameAsLocalEnd);
        }
        Ok(Rule {
            operations,
            protocols,
            main,
            from: None,
            without: Vec::new(),
        })
    }

    /// The rule with that source: the local end of connect and send, the remote end of listen, accept and
    /// receive.
    pub fn with_from(mut self, from: End) -> Result<Rule, RuleError> {
        if self.operations.contains(Operation::Bind) {
            return Err(RuleError::BindHasNoRemoteEnd);
        }
        if from.host.is_name() {
            return Err(match self.direction() {
                Direction::Outbound => RuleError::NameAsLocalEnd,
                Direction::Inbound => RuleError::NameAsSource,
            });
        }
        self.from = Some(from);
        Ok(self)
    }

    /// The rule without these hosts as its remote end. Other rules may still allow them.
    pub fn with_exclusions(mut self, hosts: impl IntoIterator<Item = Host>) -> Result<Rule, RuleError> {
        let hosts: Vec<Host> = hosts.into_iter().collect();
        if self.operations.contains(Operation::Bind) && !hosts.is_empty() {
            return Err(RuleError::BindHasNoRemoteEnd);
        }
        if self.direction() == Direction::Inbound && hosts.iter().any(Host::is_name) {
            return Err(RuleError::NameAsSource);
        }
        self.without = hosts;
        Ok(self)
    }

    /// The operations.
    pub fn operations(&self) -> OperationSet {
        self.operations
    }

    /// The protocols.
    pub fn protocols(&self) -> ProtocolSet {
        self.protocols
    }

    /// The destination.
    pub fn main(&self) -> &End {
        &self.main
    }

    /// The source, when it is said.
    pub fn source(&self) -> Option<&End> {
        self.from.as_ref()
    }

    /// The hosts that the rule does not stand for.
    pub fn without(&self) -> &[Host] {
        &self.without
    }

    /// The direction of all its operations.
    pub fn direction(&self) -> Direction {
        // The constructor saw to it that there is one.
        self.operations.direction().unwrap_or(Direction::Inbound)
    }

    /// What the rule says of the remote end; `None` where it says nothing.
    pub fn remote(&self) -> Option<&End> {
        match self.direction() {
            Direction::Outbound => Some(&self.main),
            Direction::Inbound => self.from.as_ref(),
        }
    }

    /// What the rule says of the local end; `None` where it says nothing.
    pub fn local(&self) -> Option<&End> {
        match self.direction() {
            Direction::Outbound => self.from.as_ref(),
            Direction::Inbound => Some(&self.main),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.operations, self.protocols, self.main)?;
        match &self.from {
            Some(from) if from.ports.is_any() => write!(f, " from {}", from.host)?,
            Some(from) => write!(f, " from {from}")?,
            None => {}
        }
        if !self.without.is_empty() {
            f.write_str(" without ")?;
            write_list(f, self.without.iter(), ", ")?;
        }
        Ok(())
    }
}

/// Why a rule cannot be.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The set of operations is empty.
    #[error("a rule has at least one operation")]
    NoOperation,
    /// The set of protocols is empty.
    #[error("a rule has at least one protocol")]
    NoProtocol,
    /// Outbound and inbound operations are in one rule, so that its destination would mean two things.
    #[error(
        "operations of one direction: connect and send, or bind, listen, accept and receive; write two rules"
    )]
    MixedDirections,
    /// A `from` or `without` stands with bind.
    #[error("no remote end with bind, which has none; write a rule of its own for the other operations")]
    BindHasNoRemoteEnd,
    /// A DNS name stands for a local end.
    #[error("an address as the local end, not a name")]
    NameAsLocalEnd,
    /// A DNS name stands for the source of an inbound operation. Who sent a packet is known by address only.
    #[error("an address as the source, not a name: packets come from addresses")]
    NameAsSource,
    /// `names to` has a name in its list. What a name stands for in the end are addresses.
    #[error("addresses, a class or `*`: a name stands for addresses")]
    NameAsAnswer,
}

/// What is never allowed, whatever the rules say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exception {
    /// A remote end, for every operation and protocol. A bind has no remote end and is not touched.
    End(End),
    /// Everything that the rule stands for.
    Rule(Rule),
}

impl From<Rule> for Exception {
    fn from(rule: Rule) -> Exception {
        Exception::Rule(rule)
    }
}

impl From<End> for Exception {
    fn from(end: End) -> Exception {
        Exception::End(end)
    }
}

impl From<Class> for Exception {
    fn from(class: Class) -> Exception {
        Exception::End(End::new(class, PortSet::any()))
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exception::End(end) if end.ports.is_any() => end.host.fmt(f),
            Exception::End(end) => end.fmt(f),
            Exception::Rule(rule) => rule.fmt(f),
        }
    }
}

/// Rules and exceptions. Their order says nothing; exceptions win wherever they stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    /// What is allowed.
    pub rules: Vec<Rule>,
    /// What is not, after all.
    pub exceptions: Vec<Exception>,
    /// Which addresses names may stand for; if there are none, every ordinary one but loopback, private,
    /// link-local and metadata ones. Names have no place here: see [`Rules::names_to`].
    ///
    /// This is for [`Answers`](crate::Answers); an authority does not look at it.
    pub names_to: Vec<Host>,
}

impl Rules {
    /// No rules: nothing is allowed.
    pub fn new() -> Rules {
        Rules::default()
    }

    /// These rules and that exception.
    pub fn except(mut self, exception: impl Into<Exception>) -> Rules {
        self.exceptions.push(exception.into());
        self
    }

    /// These rules, and names may stand for those hosts too, which are addresses: see
    /// [`RuleError::NameAsAnswer`].
    pub fn names_to(mut self, hosts: impl IntoIterator<Item = Host>) -> Result<Rules, RuleError> {
        for host in hosts {
            if host.is_name() {
                return Err(RuleError::NameAsAnswer);
            }
            self.names_to.push(host);
        }
        Ok(self)
    }

    /// How much there is to look at: rules, exceptions, ranges of ports, exclusions.
    pub(crate) fn pieces(&self) -> usize {
        let of_end = |end: &End| 1 + end.ports.ranges().len();
        let of_rule =
            |rule: &Rule| of_end(&rule.main) + rule.from.as_ref().map_or(0, of_end) + rule.without.len();
        let of_exception = |exception: &Exception| match exception {
            Exception::End(end) => of_end(end),
            Exception::Rule(rule) => of_rule(rule),
        };
        self.rules.iter().map(of_rule).sum::<usize>()
            + self.exceptions.iter().map(of_exception).sum::<usize>()
    }

    /// These rules and that one.
    pub fn and(mut self, rule: Rule) -> Rules {
        self.rules.push(rule);
        self
    }
}

impl From<Rule> for Rules {
    fn from(rule: Rule) -> Rules {
        Rules::new().and(rule)
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Rules {
        Rules {
            rules: rules.into_iter().collect(),
            ..Rules::default()
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.rules.iter(), "; ")?;
        let mut parted = self.rules.is_empty();
        let mut clause = |f: &mut fmt::Formatter<'_>, word| {
            let stop = if parted { "" } else { "; " };
            parted = false;
            write!(f, "{stop}{word} ")
        };
        if !self.names_to.is_empty() {
            clause(f, "names to")?;
            write_list(f, self.names_to.iter(), ", ")?;
        }
        if self.exceptions.is_empty() {
            return Ok(());
        }
        clause(f, "except")?;
        let mut in_list = false;
        for (i, exception) in self.exceptions.iter().enumerate() {
            // A list of excluded hosts would take in the item behind it, and so would ports take a `*`.
            let is_star = matches!(exception, Exception::End(end) if *end == End::any());
            match (i, in_list || is_star) {
                (0, _) => {}
                (_, true) => f.write_str("; except ")?,
                (_, false) => f.write_str(", ")?,
            }
            exception.fmt(f)?;
            in_list = matches!(exception, Exception::Rule(rule) if !rule.without.is_empty());
        }
        Ok(())
    }
}
