//! Why a child could not be derived.

use std::net::SocketAddr;

use crate::authority::Authority;
use crate::explain::{Explanation, Field, MAX_EXAMINED, Verdict, examined};
use crate::name::DnsName;
use crate::query::Query;
use crate::region::TooComplex;
use crate::rules::{End, Host, Rule, Rules};
use crate::tuple::{Operation, Protocol, Remote};

/// Why an authority could not be derived exactly as asked.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// A rule asks for more than there is.
    #[error("\"{rule}\" asks for more than is allowed: \"{missing}\" is missing ({reason})")]
    NotSubset {
        /// The rule's place in the request, from 0. [`MAX_EXAMINED`] stands for a later one.
        index: usize,
        /// The rule's text.
        rule: String,
        /// The field in which it goes too far.
        field: Field,
        /// A part of the rule that is not allowed, as a rule.
        missing: String,
        /// Why a tuple of that part is not allowed.
        reason: String,
    },
    /// Names may stand for fewer addresses than asked for.
    #[error("`names to` asks for more than is allowed: {missing} is missing")]
    Answers {
        /// Some of the hosts that are missing.
        missing: String,
    },
    /// The request, or what is missing of it, is too complex.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
}

impl DeriveError {
    /// The error of a request of which `missing`, which is not empty, is not in `parent`.
    pub(crate) fn not_subset(parent: &Authority, request: &Rules, missing: &Authority) -> DeriveError {
        for (index, rule) in examined(&request.rules) {
            let own = Authority::from_rules(&Rules::from(rule.clone()));
            let piece = match own.and_then(|own| own.intersect(missing)) {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => piece,
                Err(error) => return error.into(),
            };
            return DeriveError::of_piece(parent, index, rule.to_string(), &piece);
        }
        let later = format!("a rule behind the first {MAX_EXAMINED}");
        DeriveError::of_piece(parent, MAX_EXAMINED, later, missing)
    }

    fn of_piece(parent: &Authority, index: usize, rule: String, piece: &Authority) -> DeriveError {
        let first = piece.printed().rules.first();
        let sample = first.map(sample);
        let verdict = sample.as_ref().map(|sample| parent.explain(sample));
        let (field, reason) = match &verdict {
            Some(Explanation {
                verdict: Verdict::NoRule {
                    nearest: Some(nearest),
                },
                ..
            }) => (nearest.field, nearest.reason.clone()),
            Some(explanation) if explanation.is_allowed() => {
                (Field::RemoteHost, "more hosts than are allowed".to_owned())
            }
            Some(explanation) => (Field::RemoteHost, explanation.to_string().replace('\n', " ")),
            None => (Field::Operation, "nothing is allowed".to_owned()),
        };
        DeriveError::NotSubset {
            index,
            rule,
            field,
            missing: first.map(Rule::to_string).unwrap_or_default(),
            reason,
        }
    }
}

/// Some query that a rule answers to, or nearly so where the rule leaves names out.
fn sample(rule: &Rule) -> Query {
    let operation = rule.operations().iter().next().unwrap_or(Operation::Connect);
    let protocol = rule.protocols().iter().next().unwrap_or(Protocol::Tcp);
    let port = |end: &End| end.ports.ranges().first().map_or(0, |(first, _)| *first);
    let mut query = Query::new(operation, protocol);
    if let Some(end) = rule.remote() {
        let name = match &end.host {
            Host::Name(name) => Some(name.clone()),
            Host::Under(name) => DnsName::new(&format!("any.{name}")).ok(),
            Host::AnyName => DnsName::new("any.example").ok(),
            Host::Any | Host::Class(_) | Host::Range(_) => None,
        };
        let address = end.host.remote_ranges().first().map(|range| range.first());
        query.remote = match (name, address) {
            (Some(name), _) => Some(Remote::Name(name, port(end))),
            (None, Some(address)) => Some(Remote::from((address, port(end)))),
            (None, None) => None,
        };
    }
    if let Some(end) = rule.local() {
        let address = end.host.local_ranges().first().map(|range| range.first());
        query.local = address.map(|address| SocketAddr::new(address, port(end)));
    }
    query
}
