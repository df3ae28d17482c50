//! Rules and terms together: what somebody is granted.

use std::fmt;

use crate::rules::Rules;
use crate::terms::Terms;

/// Rules, and the terms on which they are granted.
///
/// ```
/// use refcap_authority::Policy;
/// let policy = Policy::parse("connect tcp api.example.com:443; limit sockets 10, lease 1h")?;
/// assert_eq!(policy.to_string(), "connect tcp api.example.com:443; limit sockets 10, lease 1h");
/// # Ok::<(), refcap_authority::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Policy {
    /// What may be done.
    pub rules: Rules,
    /// How much of it, and until when.
    pub terms: Terms,
}

impl From<Rules> for Policy {
    fn from(rules: Rules) -> Policy {
        Policy {
            rules,
            terms: Terms::new(),
        }
    }
}

impl From<Terms> for Policy {
    /// No rules: nothing is allowed, on these terms.
    fn from(terms: Terms) -> Policy {
        Policy {
            rules: Rules::new(),
            terms,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.to_string();
        let terms = self.terms.to_string();
        f.write_str(&rules)?;
        if !rules.is_empty() && !terms.is_empty() {
            f.write_str("; ")?;
        }
        f.write_str(&terms)
    }
}
