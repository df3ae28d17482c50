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
    pub(crate) conditions: Arc<Conditions>,
    /// Whether others may be derived from it.
    pub(crate) derivable: bool,
    /// Whether it may be handed to a second program.
    pub(crate) transferable: bool,
}

/// What holds of a Net beside its authority. Most Nets have that of the one that they come from.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    /// Which addresses its names may stand for.
    pub(crate) answers: Answers,
    /// The budget that it draws on.
    pub(crate) account: Option<Arc<Account>>,
    /// Who is asked after the authority.
    pub(crate) guards: Guards,
    /// The way to the program that does what is allowed, where that is not the host.
    pub(crate) by: Option<Arc<Line>>,
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

impl Conditions {
    fn of(answers: Answers) -> Conditions {
        Conditions {
            answers,
            account: None,
            guards: Guards::default(),
            by: None,
        }
    }
}

impl Rights {
    /// The rights to what an authority allows, without limits. Names stand for what they may by default.
    pub(crate) fn of(authority: Authority) -> Rights {
        Rights::on(authority, Conditions::of(Answers::standard()))
    }

    fn on(authority: Authority, conditions: Conditions) -> Rights {
        Rights {
            authority,
            conditions: Arc::new(conditions),
            derivable: true,
            transferable: true,
        }
    }

    /// The rights that a policy grants.
    pub(crate) fn granted(policy: &Policy) -> Result<Arc<Rights>, GrantRefused> {
        let conditions = Conditions::of(Answers::from_rules(&policy.rules)?);
        let rights = Rights::on(Authority::from_rules(&policy.rules)?, conditions);
        Ok(Arc::new(rights).limit(&policy.terms)?)
    }

    /// The rights to what rules allow, where a program does it.
    pub(crate) fn implemented(by: Arc<Line>, rules: &Rules) -> Result<Rights, TooComplex> {
        let conditions = Conditions {
            by: Some(by),
            ..Conditions::of(Answers::from_rules(rules)?)
        };
        Ok(Rights::on(Authority::from_rules(rules)?, conditions))
    }

    #[inline]
    pub(crate) fn only(&self, request: &Request) -> Result<Arc<Rights>, TooComplex> {
        let authority = self.authority.only_request(request)?;
        if request.leaves_answers() {
            return Ok(self.narrowed_to(authority, self.conditions.clone()));
        }
        Ok(self.narrowed_with(authority, self.conditions.answers.only_request(request)?))
    }

    pub(crate) fn exactly(&self, request: &Request) -> Result<Arc<Rights>, DeriveError> {
        let authority = self.authority.exactly_request(request)?;
        let answers = self.conditions.answers.exactly_request(request)?;
        Ok(self.narrowed_with(authority, answers))
    }

    pub(crate) fn except(&self, request: &Request) -> Result<Arc<Rights>, TooComplex> {
        let authority = self.authority.except_request(request)?;
        let answers = self.conditions.answers.except_request(request)?;
        Ok(self.narrowed_with(authority, answers))
    }

    fn narrowed_with(&self, authority: Authority, answers: Answers) -> Arc<Rights> {
        self.narrowed_to(
            authority,
            self.on_conditions(|conditions| conditions.answers = answers),
        )
    }

    /// On the same terms, to less.
    #[inline(always)]
    fn narrowed_to(&self, authority: Authority, conditions: Arc<Conditions>) -> Arc<Rights> {
        Arc::new(Rights {
            authority,
            conditions,
            ..*self
        })
    }

    /// The conditions, but for what `change` does.
    fn on_conditions(&self, change: impl FnOnce(&mut Conditions)) -> Arc<Conditions> {
        let mut conditions = Conditions::clone(&self.conditions);
        change(&mut conditions);
        Arc::new(conditions)
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
        let guards = self.conditions.guards.with(post)?;
        Ok(Rights {
            conditions: self.on_conditions(|conditions| conditions.guards = guards),
            ..self.clone()
        })
    }

    /// The same on further terms. Flags are only ever set; a budget draws on the one above it.
    /// Terms that say nothing of the rights (a lease, a label) leave them the same value.
    pub(crate) fn limit(self: &Arc<Self>, terms: &Terms) -> Result<Arc<Rights>, TermsRefused> {
        terms.check()?;
        let before = self.conditions.account.as_ref();
        let account = Account::open(before.cloned(), terms).map_err(|_| TermsRefused::TooManyBudgets)?;
        if self.conditions.by.is_some() && account.is_some() {
            return Err(TermsRefused::Implemented);
        }
        let derivable = self.derivable && !terms.no_derive;
        let transferable = self.transferable && !terms.no_hand_over;
        let same_budget = account.as_ref().map(Arc::as_ptr) == before.map(Arc::as_ptr);
        if same_budget && (derivable, transferable) == (self.derivable, self.transferable) {
            return Ok(self.clone());
        }
        Ok(Arc::new(Rights {
            authority: self.authority.clone(),
            conditions: match same_budget {
                true => self.conditions.clone(),
                false => self.on_conditions(|conditions| conditions.account = account),
            },
            derivable,
            transferable,
        }))
    }

    /// The same for one more holder, who can lose it alone.
    #[inline]
    pub(crate) fn for_another(self: Arc<Self>) -> Arc<Rights> {
        match &self.conditions.by {
            None => self,
            Some(line) => Arc::new(self.done_by(line.for_another())),
        }
    }

    /// The same for a holder on the other side of membranes; `None` where that is no different.
    pub(crate) fn behind(&self, membranes: &Membranes) -> Result<Option<Arc<Rights>>, TooMany> {
        let Some(line) = &self.conditions.by else {
            return Ok(None);
        };
        Ok(Some(Arc::new(self.done_by(line.behind(membranes)?))))
    }

    /// The same, on another way to the program.
    fn done_by(&self, line: Arc<Line>) -> Rights {
        Rights {
            conditions: self.on_conditions(|conditions| conditions.by = Some(line)),
            ..self.clone()
        }
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
