//! Why something is allowed or not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::authority::{Authority, judged_too};
use crate::class::classes_of;
use crate::query::Query;
use crate::region::TooComplex;
use crate::rules::{End, Exception, Host, Rule, Rules};
use crate::tuple::{Operation, Remote};

/// The most rules, and the most exceptions, that are looked at for an explanation.
pub const MAX_EXAMINED: usize = 10_000;

/// Why a query is allowed or denied. Displayed, it is one or two lines.
///
/// ```
/// use refcap_authority::Rules;
/// let rules = Rules::parse("connect tcp 10.0.0.0/8:443")?;
/// assert_eq!(
///     rules.explain(&"connect tcp 10.1.2.3:80".parse()?).to_string(),
///     "no rule allows connect tcp 10.1.2.3:80; \
///      nearest is \"connect tcp 10.0.0.0/8:443\": port 80 is not in 443"
/// );
/// # Ok::<(), refcap_authority::ParseError>(())
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was asked.
    pub query: Query,
    /// The answer.
    pub verdict: Verdict,
    /// How many rules were not looked at, because there are more than [`MAX_EXAMINED`].
    pub unexamined: usize,
}

/// The answer to a query.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed.
    Allow {
        /// By that rule; `None` when it is none of those that were looked at, or when several rules only
        /// together answer a query with open ends.
        rule: Option<Clause>,
    },
    /// A rule would allow it, but an exception takes it away.
    Except {
        /// The rule.
        rule: Clause,
        /// The exception.
        exception: Clause,
    },
    /// No rule allows it.
    NoRule {
        /// The rule that answers to it best.
        nearest: Option<Nearest>,
    },
    /// The address itself is allowed, but it reaches an IPv4 address that is not.
    Embedded {
        /// That address.
        address: Ipv4Addr,
        /// Why that one is not allowed.
        why: Box<Verdict>,
    },
    /// The rules are too complex to be judged, so nothing is allowed.
    TooComplex,
}

/// A rule or an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its place among the rules or the exceptions, from 0.
    pub index: usize,
    /// Its text.
    pub text: String,
}

/// A rule that does not allow what was asked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// The rule.
    pub rule: Clause,
    /// The first field that does not answer to the query.
    pub field: Field,
    /// The same as half a sentence: `port 80 is not in 443`.
    pub reason: String,
}

/// A field of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The operations.
    Operation,
    /// The protocols.
    Protocol,
    /// The remote host.
    RemoteHost,
    /// The remote port.
    RemotePort,
    /// The local address.
    LocalHost,
    /// The local port.
    LocalPort,
}

impl Field {
    /// Every field, in the order in which they are compared.
    pub const ALL: [Field; 6] = [
        Field::Operation,
        Field::Protocol,
        Field::RemoteHost,
        Field::RemotePort,
        Field::LocalHost,
        Field::LocalPort,
    ];
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Operation => "operation",
            Field::Protocol => "protocol",
            Field::RemoteHost => "remote host",
            Field::RemotePort => "remote port",
            Field::LocalHost => "local address",
            Field::LocalPort => "local port",
        })
    }
}

impl Explanation {
    /// Whether the query is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow { .. })
    }

    pub(crate) fn of_authority(authority: &Authority, query: &Query) -> Explanation {
        explain(authority, authority.printed(), query)
    }
}

impl Rules {
    /// Why the query is allowed or not, told by these rules as they are written.
    ///
    /// The verdict is that of the authority that the rules stand for. All of them are compared with the
    /// query, and the nearest one is looked for among the first [`MAX_EXAMINED`].
    pub fn explain(&self, query: &Query) -> Explanation {
        // Only rules that have to do with the query can change the answer, so only their set is made.
        let asked: Vec<Query> = also_judged(query).collect();
        let concerns = |rule: &Rule| asked.iter().any(|query| answers(rule, query));
        let rules = Rules {
            rules: self.rules.iter().filter(|rule| concerns(rule)).cloned().collect(),
            exceptions: self
                .exceptions
                .iter()
                .filter(|exception| asked.iter().any(|query| excepts(exception, query)))
                .cloned()
                .collect(),
            names_to: Vec::new(),
        };
        match Authority::from_rules(&rules) {
            Ok(authority) => explain(&authority, self, query),
            Err(TooComplex) => Explanation {
                query: query.clone(),
                verdict: Verdict::TooComplex,
                unexamined: 0,
            },
        }
    }
}

/// The query, and the same one for each address embedded in its remote end.
fn also_judged(query: &Query) -> impl Iterator<Item = Query> {
    let query = query.canonical();
    let inside: Vec<Remote> = query.remote.iter().flat_map(judged_too).collect();
    std::iter::once(query.clone()).chain(inside.into_iter().map(move |remote| query.clone().remote(remote)))
}

/// The explanation by `rules` of what `authority`, which stands for the same as far as the query goes,
/// says.
fn explain(authority: &Authority, rules: &Rules, query: &Query) -> Explanation {
    let canonical = query.canonical();
    let longest = rules.rules.len().max(rules.exceptions.len());
    let verdict = if authority.allows(&canonical) {
        Verdict::Allow {
            rule: matching(rules, &canonical),
        }
    } else if !authority.allows_by_itself(&canonical) {
        deny(rules, &canonical)
    } else {
        embedded_denial(authority, rules, &canonical)
    };
    Explanation {
        query: query.clone(),
        verdict,
        unexamined: longest.saturating_sub(MAX_EXAMINED),
    }
}

/// The first rule that answers to the query and, if there is any, is not touched by an exception.
fn matching(rules: &Rules, query: &Query) -> Option<Clause> {
    let mut matching = examined(&rules.rules).filter(|(_, rule)| answers(rule, query));
    matching.next().map(|(index, rule)| clause(index, rule))
}

fn embedded_denial(authority: &Authority, rules: &Rules, query: &Query) -> Verdict {
    let mut last = None;
    for remote in query.remote.iter().flat_map(judged_too) {
        let Remote::Address(SocketAddr::V4(address)) = remote else {
            continue;
        };
        let inner = query.clone().remote(remote);
        last = Some((*address.ip(), inner.clone()));
        if !authority.allows(&inner) {
            break;
        }
    }
    match last {
        Some((address, inner)) => Verdict::Embedded {
            address,
            why: Box::new(deny(rules, &inner)),
        },
        None => Verdict::NoRule { nearest: None },
    }
}

/// Why no rule allows the query: an exception, or a field.
fn deny(rules: &Rules, query: &Query) -> Verdict {
    let mut nearest: Option<((usize, usize, bool), usize, &Rule)> = None;
    let is_name = |remote: &Remote| matches!(remote, Remote::Name(..));
    for (index, rule) in examined(&rules.rules) {
        let failing: Vec<Field> = Field::ALL
            .into_iter()
            .filter(|field| failure(rule, query, *field).is_some())
            .collect();
        let Some(first) = failing.first() else {
            let exception = examined(&rules.exceptions).find(|(_, exception)| excepts(exception, query));
            if let Some((at, exception)) = exception {
                return Verdict::Except {
                    rule: clause(index, rule),
                    exception: clause(at, exception),
                };
            }
            continue;
        };
        // Fewest failing fields; among equals the one that fails last; then a name for a name.
        let other_kind = query.remote.as_ref().is_some_and(|remote| {
            rule.remote()
                .is_some_and(|end| end.host.is_name() != is_name(remote))
        });
        let distance = (failing.len(), Field::ALL.len() - *first as usize, other_kind);
        if nearest.as_ref().is_none_or(|(best, ..)| distance < *best) {
            nearest = Some((distance, index, rule));
        }
    }
    Verdict::NoRule {
        nearest: nearest.and_then(|(_, index, rule)| {
            let (field, reason) = first_failure(rule, query)?;
            Some(Nearest {
                rule: clause(index, rule),
                field,
                reason,
            })
        }),
    }
}

pub(crate) fn examined<T>(list: &[T]) -> impl Iterator<Item = (usize, &T)> {
    list.iter().enumerate().take(MAX_EXAMINED)
}

fn clause(index: usize, text: impl fmt::Display) -> Clause {
    Clause {
        index,
        text: text.to_string(),
    }
}

/// Whether every field of the rule answers to the query.
fn answers(rule: &Rule, query: &Query) -> bool {
    Field::ALL
        .into_iter()
        .all(|field| failure(rule, query, field).is_none())
}

fn first_failure(rule: &Rule, query: &Query) -> Option<(Field, String)> {
    Field::ALL
        .into_iter()
        .find_map(|field| failure(rule, query, field).map(|reason| (field, reason.to_string())))
}

/// Why a field of a rule does not answer to the query; an open end answers to everything.
fn failure<'a>(rule: &'a Rule, query: &'a Query, field: Field) -> Option<Reason<'a>> {
    // What the missing end of a bind is compared with does not matter: rules say nothing of it.
    let remote = query
        .remote
        .as_ref()
        .filter(|_| query.operation != Operation::Bind);
    let local = query.local;
    match field {
        Field::Operation => {
            (!rule.operations().contains(query.operation)).then_some(Reason::Operation(rule, query))
        }
        Field::Protocol => {
            (!rule.protocols().contains(query.protocol)).then_some(Reason::Protocol(rule, query))
        }
        Field::RemoteHost => {
            let remote = remote?;
            let host = rule.remote().map_or(&Host::Any, |end| &end.host);
            if !host.matches_remote(remote) {
                return Some(Reason::RemoteHost(host, remote));
            }
            let without = rule.without().iter().find(|host| host.matches_remote(remote))?;
            Some(Reason::Without(without, remote))
        }
        Field::RemotePort => {
            let (end, port) = (rule.remote()?, remote?.port());
            (!end.ports.contains(port)).then_some(Reason::RemotePort(end, port))
        }
        Field::LocalHost => {
            let (end, local) = (rule.local()?, local?);
            (!end.host.matches_local(local.ip())).then_some(Reason::LocalHost(end, local.ip()))
        }
        Field::LocalPort => {
            let (end, local) = (rule.local()?, local?);
            (!end.ports.contains(local.port())).then_some(Reason::LocalPort(end, local.port()))
        }
    }
}

/// Whether an exception touches the query.
fn excepts(exception: &Exception, query: &Query) -> bool {
    match exception {
        Exception::Rule(rule) => answers(rule, query),
        Exception::End(_) if query.operation == Operation::Bind => false,
        Exception::End(end) => query
            .remote
            .as_ref()
            .is_none_or(|remote| end.host.matches_remote(remote) && end.ports.contains(remote.port())),
    }
}

/// The sentence is only made for the rule that is shown.
enum Reason<'a> {
    Operation(&'a Rule, &'a Query),
    Protocol(&'a Rule, &'a Query),
    RemoteHost(&'a Host, &'a Remote),
    Without(&'a Host, &'a Remote),
    RemotePort(&'a End, u16),
    LocalHost(&'a End, IpAddr),
    LocalPort(&'a End, u16),
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Operation(rule, query) => {
                write!(f, "operation {} is not in {}", query.operation, rule.operations())
            }
            Reason::Protocol(rule, query) => {
                write!(f, "protocol {} is not in {}", query.protocol, rule.protocols())
            }
            Reason::RemoteHost(Host::Any, Remote::Address(address)) => {
                write!(f, "{}", address.ip())?;
                for class in classes_of(address.ip()) {
                    write!(f, " ({class})")?;
                }
                f.write_str(" is not an ordinary address, as `*` asks for")
            }
            Reason::RemoteHost(Host::Any, Remote::Name(name, _)) => {
                write!(f, "{name} is a name, and `*` stands for addresses only")
            }
            Reason::RemoteHost(host, Remote::Address(address)) => {
                write!(f, "{} is not in {host}", address.ip())
            }
            Reason::RemoteHost(host, Remote::Name(name, _)) => write!(f, "{name} is not in {host}"),
            Reason::Without(host, Remote::Address(address)) => {
                write!(f, "{} is in {host}, which the rule leaves out", address.ip())
            }
            Reason::Without(host, Remote::Name(name, _)) => {
                write!(f, "{name} is in {host}, which the rule leaves out")
            }
            Reason::RemotePort(end, port) => write!(f, "port {port} is not in {}", end.ports),
            Reason::LocalHost(end, address) => write!(f, "local address {address} is not in {}", end.host),
            Reason::LocalPort(end, port) => write!(f, "local port {port} is not in {}", end.ports),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.write(f, &self.query)?;
        match self.unexamined {
            0 => Ok(()),
            more => write!(f, "\n({more} more rules were not compared)"),
        }
    }
}

impl Verdict {
    fn write(&self, f: &mut fmt::Formatter<'_>, query: &Query) -> fmt::Result {
        match self {
            Verdict::Allow { rule: Some(rule) } => write!(f, "{query} is allowed by \"{}\"", rule.text),
            Verdict::Allow { rule: None } => write!(f, "{query} is allowed"),
            Verdict::Except { rule, exception } => write!(
                f,
                "{query} is excepted by \"{}\", though \"{}\" would allow it",
                exception.text, rule.text
            ),
            Verdict::NoRule {
                nearest: Some(nearest),
            } => write!(
                f,
                "no rule allows {query}; nearest is \"{}\": {}",
                nearest.rule.text, nearest.reason
            ),
            Verdict::NoRule { nearest: None } => write!(f, "no rule allows {query}"),
            Verdict::Embedded { address, why } => {
                writeln!(f, "{query} reaches {address}, which must be allowed too:")?;
                let mut inner = query.clone();
                if let Some(remote) = &query.remote {
                    inner.remote = Some(Remote::from((IpAddr::V4(*address), remote.port())));
                }
                why.write(f, &inner)
            }
            Verdict::TooComplex => write!(f, "{query} is denied: {TooComplex}"),
        }
    }
}
