//! Rules in Rust, without a text around them.

use crate::rules::{End, Rule};
use crate::sets::{OperationSet, ProtocolSet};
use crate::text::ParseError;
use crate::tuple::{Operation, Protocol};

/// The beginning of a rule: [`RuleBuilder::to`] or [`RuleBuilder::at`] makes it one.
///
/// ```
/// use refcap_authority::{Operation, Protocol, Rule};
/// let rule = Rule::connect(Protocol::Tcp).to("10.0.0.0/8:443")?;
/// assert_eq!(rule.to_string(), "connect tcp 10.0.0.0/8:443");
/// let rule = Rule::listen(Protocol::Tcp).and(Operation::Accept).at("127.0.0.1:8080")?.from("192.168.0.0/16")?;
/// assert_eq!(rule.to_string(), "listen,accept tcp 127.0.0.1:8080 from 192.168.0.0/16");
/// # Ok::<(), refcap_authority::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RuleBuilder {
    operations: OperationSet,
    protocols: ProtocolSet,
}

macro_rules! beginnings {
    ($($name:ident $operation:ident $doc:literal)+) => {
        impl Rule {
            $(
                #[doc = $doc]
                pub fn $name(protocols: impl Into<ProtocolSet>) -> RuleBuilder {
                    RuleBuilder {
                        operations: Operation::$operation.into(),
                        protocols: protocols.into(),
                    }
                }
            )+
        }
    };
}

beginnings! {
    connect Connect "Begins a rule for connect."
    bind Bind "Begins a rule for bind."
    listen Listen "Begins a rule for listen."
    accept Accept "Begins a rule for accept."
    send Send "Begins a rule for send."
    receive Receive "Begins a rule for receive."
}

impl RuleBuilder {
    /// For that operation too.
    pub fn and(mut self, operation: Operation) -> RuleBuilder {
        self.operations = self.operations.iter().chain([operation]).collect();
        self
    }

    /// For that protocol too.
    pub fn over(mut self, protocol: Protocol) -> RuleBuilder {
        self.protocols = self.protocols.iter().chain([protocol]).collect();
        self
    }

    /// The rule with that destination: `HOST:PORTS`.
    pub fn to(self, destination: &str) -> Result<Rule, ParseError> {
        self.with_text(destination)
    }

    /// The same as [`RuleBuilder::to`]; reads better for a local end.
    pub fn at(self, destination: &str) -> Result<Rule, ParseError> {
        self.with_text(destination)
    }

    /// The rule with that destination.
    pub fn end(self, destination: End) -> Result<Rule, crate::RuleError> {
        Rule::new(self.operations, self.protocols, destination)
    }

    fn with_text(self, destination: &str) -> Result<Rule, ParseError> {
        let end = crate::text::required_end(destination)?;
        self.end(end)
            .map_err(|error| crate::text::of_rule(destination, 0..destination.len(), error))
    }
}

impl Rule {
    /// The rule with that source: `HOST`, or `HOST:PORTS`.
    pub fn from(self, source: &str) -> Result<Rule, ParseError> {
        let end: End = source.parse()?;
        self.with_from(end)
            .map_err(|error| crate::text::of_rule(source, 0..source.len(), error))
    }
}
