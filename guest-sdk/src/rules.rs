//! What can be said for the rules of a derivation and for a question.

use refcap_abi::ErrorCode;
use refcap_authority::{Query, Rule, Rules, Terms};

use crate::{Error, Result};

/// Rules in any form: the text form (see [`authority`](crate::authority)), [`Rules`], or one [`Rule`].
///
/// Text is parsed in the guest. A program that only uses `Rules` and `Rule` does not contain the parser.
pub trait IntoRules {
    /// The rules.
    fn into_rules(self) -> Result<Rules>;
}

impl IntoRules for Rules {
    fn into_rules(self) -> Result<Rules> {
        Ok(self)
    }
}

impl IntoRules for &Rules {
    fn into_rules(self) -> Result<Rules> {
        Ok(self.clone())
    }
}

impl IntoRules for Rule {
    fn into_rules(self) -> Result<Rules> {
        Ok(Rules::from(self))
    }
}

impl IntoRules for &str {
    fn into_rules(self) -> Result<Rules> {
        Rules::parse(self)
            .map_err(|error| Error::new(ErrorCode::BadArgument, "read the rules", error.to_string()))
    }
}

impl IntoRules for &String {
    fn into_rules(self) -> Result<Rules> {
        self.as_str().into_rules()
    }
}

impl IntoRules for String {
    fn into_rules(self) -> Result<Rules> {
        self.as_str().into_rules()
    }
}

/// A question in its text form, such as `connect tcp 10.1.2.3:443`, or as a [`Query`].
pub trait IntoQuery {
    /// The question.
    fn into_query(self) -> Result<Query>;
}

impl IntoQuery for Query {
    fn into_query(self) -> Result<Query> {
        Ok(self)
    }
}

impl IntoQuery for &Query {
    fn into_query(self) -> Result<Query> {
        Ok(self.clone())
    }
}

impl IntoQuery for &str {
    fn into_query(self) -> Result<Query> {
        self.parse::<Query>()
            .map_err(|error| Error::new(ErrorCode::BadArgument, "read the question", error.to_string()))
    }
}

impl IntoQuery for &String {
    fn into_query(self) -> Result<Query> {
        self.as_str().into_query()
    }
}

impl IntoQuery for String {
    fn into_query(self) -> Result<Query> {
        self.as_str().into_query()
    }
}

/// Terms in their text form, such as `limit sockets 10, lease 1h`, or as [`Terms`]. The host reads them, so
/// a program does not contain the parser.
pub trait IntoTerms {
    /// The text.
    fn into_terms(self) -> String;
}

impl IntoTerms for &str {
    fn into_terms(self) -> String {
        self.to_owned()
    }
}

impl IntoTerms for String {
    fn into_terms(self) -> String {
        self
    }
}

impl IntoTerms for Terms {
    fn into_terms(self) -> String {
        self.to_string()
    }
}

impl IntoTerms for &Terms {
    fn into_terms(self) -> String {
        self.to_string()
    }
}
