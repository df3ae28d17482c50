//! Questions about authority: tuples of which an end may not be known yet.

use std::fmt;
use std::net::SocketAddr;

use crate::address::canonical_socket;
use crate::tuple::{Direction, Operation, Protocol, Remote, Tuple};

/// A tuple whose ends may be left open: "is there any such end for which this is permitted?"
///
/// Its text form is that of a rule with exact ends; an end that is not known is `*`, or left away behind
/// the destination.
///
/// ```
/// use refcap_authority::Query;
/// let query: Query = "connect tcp api.example.com:443 from 10.0.0.1:5000".parse()?;
/// assert_eq!(query.local, Some("10.0.0.1:5000".parse().unwrap()));
/// assert_eq!(query.to_string(), "connect tcp api.example.com:443 from 10.0.0.1:5000");
/// # Ok::<(), refcap_authority::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// The operation.
    pub operation: Operation,
    /// The protocol.
    pub protocol: Protocol,
    /// The near end; `None` stands for any.
    pub local: Option<SocketAddr>,
    /// The far end; `None` stands for any. A bind has none, and what is here then counts for nothing.
    pub remote: Option<Remote>,
}

impl Query {
    /// Both ends open.
    pub fn new(operation: Operation, protocol: Protocol) -> Query {
        Query {
            operation,
            protocol,
            local: None,
            remote: None,
        }
    }

    /// The question with that near end.
    pub fn local(mut self, local: SocketAddr) -> Query {
        self.local = Some(canonical_socket(local));
        self
    }

    /// The question with that far end.
    pub fn remote(mut self, remote: impl Into<Remote>) -> Query {
        self.remote = Some(remote.into());
        self
    }

    /// A bind to a local end.
    pub fn bind(protocol: Protocol, local: SocketAddr) -> Query {
        Query::new(Operation::Bind, protocol).local(local)
    }

    /// The same question in canonical addresses. A bind's remote end is [`Tuple::NOWHERE`] in it.
    pub(crate) fn canonical(&self) -> Query {
        let remote = match (self.operation, &self.remote) {
            (Operation::Bind, _) => Some(Remote::Address(Tuple::NOWHERE)),
            (_, Some(Remote::Address(address))) => Some(Remote::from(*address)),
            (_, remote) => remote.clone(),
        };
        Query {
            operation: self.operation,
            protocol: self.protocol,
            local: self.local.map(canonical_socket),
            remote,
        }
    }
}

impl From<Tuple> for Query {
    fn from(tuple: Tuple) -> Query {
        Query {
            operation: tuple.operation(),
            protocol: tuple.protocol(),
            local: Some(tuple.local()),
            remote: (tuple.operation() != Operation::Bind).then(|| tuple.remote().clone()),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.operation, self.protocol)?;
        let local = self.local.map(|local| canonical_socket(local).to_string());
        let remote = match self.operation {
            Operation::Bind => None,
            _ => self.remote.as_ref().map(Remote::to_string),
        };
        let (destination, source) = match self.operation.direction() {
            Direction::Outbound => (remote, local),
            Direction::Inbound => (local, remote),
        };
        f.write_str(destination.as_deref().unwrap_or("*"))?;
        match source {
            Some(source) => write!(f, " from {source}"),
            None => Ok(()),
        }
    }
}
