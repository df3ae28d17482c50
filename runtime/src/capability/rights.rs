//! What a capability allows, and on what terms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use refcap_authority::{Answers, Authority, DeriveError, Policy, Request, Rules, Terms, TooComplex};

use super::membrane::{Membranes, TooMany};
use crate::budget::Account;
use crate::guard::{GuardError, Guards, Post};
use crate::object::Line;

/// The longest lease; a longer one is as good as none.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// What a Net, or something that was made with it, allows.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    pub(crate) authority: Authority,
    /// Which addresses its names may stand for.
    pub(crate) answers: Answers,
    /// The budget that it draws on.
    pub(crate) account: Option<Arc<Account>>,
    /// Who is asked after the authority.
    pub(crate) guards: Guards,
    /// The way to the program that does what is allowed, where that is not the host.
    pub(crate) by: Option<Arc<Line>>,
    /// Whether others may be derived from it.
    pub(crate) derivable: bool,
    /// Whether it may be handed to a second program.
    pub(crate) transferable: bool,
}

/// Why terms could not be made those of a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TermsRefused {
    #[error(transparent)]
    Terms(#[from] refcap_authority::TermsError),
    #[error("there would be more than {} budgets in a row", crate::budget::MAX_ACCOUNTS)]
    TooManyBudgets,
    #[error(
        "a program implements the Net, so the host counts nothing of what goes through it: it has no budget"
    )]
    Implemented,
}

impl Rights {
    /// The rights to what an authority allows, without limits. Names stand for what they may by default.
    pub(crate) fn of(authority: Authority) -> Rights {
        Rights {
            authority,
            answers: Answers::standard(),
            account: None,
            guards: Guards::default(),
            by: None,
            derivable: true,
            transferable: true,
        }
    }

    /// The rights that a policy grants.
    pub(crate) fn granted(policy: &Policy) -> Result<Arc<Rights>, GrantRefused> {
        let rights = Rights {
            answers: Answers::from_rules(&policy.rules)?,
            ..Rights::of(Authority::from_rules(&policy.rules)?)
        };
        Ok(Arc::new(rights).limit(&policy.terms)?)
    }

    /// The rights to what rules allow, where a program does it.
    pub(crate) fn implemented(by: Arc<Line>, rules: &Rules) -> Result<Rights, TooComplex> {
        Ok(Rights {
            answers: Answers::from_rules(rules)?,
            by: Some(by),
            ..Rights::of(Authority::from_rules(rules)?)
        })
    }

    pub(crate) fn only(&self, request: &Request) -> Result<Rights, TooComplex> {
        Ok(self.narrowed_to(
            self.authority.only_request(request)?,
            self.answers.only_request(request)?,
        ))
    }

    pub(crate) fn exactly(&self, request: &Request) -> Result<Rights, DeriveError> {
        Ok(self.narrowed_to(
            self.authority.exactly_request(request)?,
            self.answers.exactly_request(request)?,
        ))
    }

    pub(crate) fn except(&self, request: &Request) -> Result<Rights, TooComplex> {
        Ok(self.narrowed_to(
            self.authority.except_request(request)?,
            self.answers.except_request(request)?,
        ))
    }

    /// On the same terms, to less.
    fn narrowed_to(&self, authority: Authority, answers: Answers) -> Rights {
        Rights {
            authority,
            answers,
            account: self.account.clone(),
            guards: self.guards.clone(),
            by: self.by.clone(),
            derivable: self.derivable,
            transferable: self.transferable,
        }
    }

    /// The same to what `bound` allows too, or `None` where that is no less.
    pub(crate) fn within(&self, bound: &Authority) -> Result<Option<Rights>, TooComplex> {
        if self.authority.is_subset(bound) {
            return Ok(None);
        }
        Ok(Some(Rights {
            authority: self.authority.intersect(bound)?,
            ..self.clone()
        }))
    }

    /// The same, where one more guard is asked.
    pub(crate) fn guarded(&self, post: Arc<Post>) -> Result<Rights, GuardError> {
        Ok(Rights {
            guards: self.guards.with(post)?,
            ..self.clone()
        })
    }

    /// The same on further terms. Flags are only ever set; a budget draws on the one above it.
    /// Terms that say nothing of the rights (a lease, a label) leave them the same value.
    pub(crate) fn limit(self: &Arc<Self>, terms: &Terms) -> Result<Arc<Rights>, TermsRefused> {
        terms.check()?;
        let account = Account::open(self.account.clone(), terms).map_err(|_| TermsRefused::TooManyBudgets)?;
        if self.by.is_some() && account.is_some() {
            return Err(TermsRefused::Implemented);
        }
        let rights = Rights {
            account,
            derivable: self.derivable && !terms.no_derive,
            transferable: self.transferable && !terms.no_hand_over,
            ..Rights::clone(self)
        };
        Ok(match rights.has_the_terms_of(self) {
            true => self.clone(),
            false => Arc::new(rights),
        })
    }

    /// The same for one more holder, who can lose it alone.
    pub(crate) fn for_another(self: Arc<Self>) -> Arc<Rights> {
        match &self.by {
            None => self,
            Some(line) => Arc::new(Rights {
                by: Some(line.for_another()),
                ..Rights::clone(&self)
            }),
        }
    }

    /// The same for a holder on the other side of membranes; `None` where that is no different.
    pub(crate) fn behind(&self, membranes: &Membranes) -> Result<Option<Arc<Rights>>, TooMany> {
        let Some(line) = &self.by else { return Ok(None) };
        Ok(Some(Arc::new(Rights {
            by: Some(line.behind(membranes)?),
            ..self.clone()
        })))
    }

    /// Whether the terms are the same: the budget, and the flags.
    fn has_the_terms_of(&self, other: &Rights) -> bool {
        let account = |rights: &Rights| rights.account.as_ref().map(Arc::as_ptr);
        account(self) == account(other)
            && (self.derivable, self.transferable) == (other.derivable, other.transferable)
    }
}

/// Why a policy could not be granted.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefused {
    /// The rules are too complex.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
    /// The terms are contradictory or out of range.
    #[error("{0}")]
    Terms(String),
}

impl From<TermsRefused> for GrantRefused {
    fn from(refused: TermsRefused) -> Self {
        GrantRefused::Terms(refused.to_string())
    }
}

/// The label of something derived with a label of its own: those of its ancestors stay before it.
pub(crate) fn label_under(above: &Arc<str>, terms: &Terms) -> Arc<str> {
    /// Guests choose labels, so they end somewhere.
    const LONGEST: usize = 256;
    match &terms.label {
        None => above.clone(),
        Some(label) if above.len() + 1 + label.len() > LONGEST => above.clone(),
        Some(label) => format!("{above}/{label}").into(),
    }
}

/// When a lease that begins now ends.
pub(crate) fn lease_end(terms: &Terms) -> Option<Instant> {
    terms.lease.map(|lease| Instant::now() + lease.min(LONGEST_LEASE))
}
