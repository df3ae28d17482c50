//! What a capability allows, and on what terms.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use refcap_abi::{FLAG_DERIVABLE, FLAG_TRANSFERABLE};
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
}

/// The same where it is kept: an authority of its own, and conditions that many have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RightsRef<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) conditions: &'a Arc<Conditions>,
}

/// What is derived from rights.
#[derive(Debug)]
pub(crate) struct Less {
    pub(crate) authority: Authority,
    /// `None` where they stay as they are, as most often they do: to count that one more has them takes an atomic
    /// operation, which nobody needs who keeps them in a [`Pool`](super::pool::Pool).
    pub(crate) conditions: Option<Arc<Conditions>>,
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

impl Conditions {
    fn of(answers: Answers) -> Conditions {
        Conditions {
            answers,
            account: None,
            guards: Guards::default(),
            by: None,
            derivable: true,
            transferable: true,
        }
    }

    /// What may be done with a Net itself: `FLAG_DERIVABLE` and `FLAG_TRANSFERABLE`.
    #[inline]
    pub(super) fn flags(&self) -> i32 {
        let derivable = if self.derivable { FLAG_DERIVABLE } else { 0 };
        let transferable = if self.transferable { FLAG_TRANSFERABLE } else { 0 };
        derivable | transferable
    }

    /// Those of what was granted without any.
    pub(crate) fn none() -> &'static Arc<Conditions> {
        static NONE: LazyLock<Arc<Conditions>> =
            LazyLock::new(|| Arc::new(Conditions::of(Answers::standard())));
        &NONE
    }

    /// The same but for what `change` does.
    fn but(&self, change: impl FnOnce(&mut Conditions)) -> Arc<Conditions> {
        let mut conditions = self.clone();
        change(&mut conditions);
        Arc::new(conditions)
    }

    /// The same for a Net of one more holder, who can lose what a program implements alone; `None` where that is no
    /// different.
    pub(super) fn for_another(&self) -> Option<Arc<Conditions>> {
        let line = self.by.as_ref()?.for_another();
        Some(self.but(|conditions| conditions.by = Some(line)))
    }

    /// The same for a holder on the other side of membranes; `None` where that is no different.
    pub(super) fn behind(&self, membranes: &Membranes) -> Result<Option<Arc<Conditions>>, TooMany> {
        let Some(line) = &self.by else { return Ok(None) };
        let line = line.behind(membranes)?;
        Ok(Some(self.but(|conditions| conditions.by = Some(line))))
    }
}

impl Rights {
    /// The rights to what an authority allows, without limits. Names stand for what they may by default.
    pub(crate) fn of(authority: Authority) -> Rights {
        Rights {
            authority,
            conditions: Conditions::none().clone(),
        }
    }

    /// The rights that a policy grants.
    pub(crate) fn granted(policy: &Policy) -> Result<Rights, GrantRefused> {
        let granted = Rights {
            authority: Authority::from_rules(&policy.rules)?,
            conditions: Arc::new(Conditions::of(Answers::from_rules(&policy.rules)?)),
        };
        let less = granted.by_ref().limit(&policy.terms)?;
        Ok(less.on(&granted.conditions))
    }

    /// The rights to what rules allow, where a program does it.
    pub(crate) fn implemented(by: Arc<Line>, rules: &Rules) -> Result<Rights, TooComplex> {
        let conditions = Conditions {
            by: Some(by),
            ..Conditions::of(Answers::from_rules(rules)?)
        };
        Ok(Rights {
            authority: Authority::from_rules(rules)?,
            conditions: Arc::new(conditions),
        })
    }

    pub(crate) fn by_ref(&self) -> RightsRef<'_> {
        RightsRef {
            authority: &self.authority,
            conditions: &self.conditions,
        }
    }
}

impl From<Rights> for Less {
    fn from(rights: Rights) -> Self {
        Less {
            authority: rights.authority,
            conditions: Some(rights.conditions),
        }
    }
}

impl Less {
    /// The rights, if they come from some with these conditions.
    pub(crate) fn on(self, before: &Arc<Conditions>) -> Rights {
        Rights {
            authority: self.authority,
            conditions: self.conditions.unwrap_or_else(|| before.clone()),
        }
    }
}

impl RightsRef<'_> {
    pub(crate) fn to_owned(self) -> Rights {
        Rights {
            authority: self.authority.clone(),
            conditions: self.conditions.clone(),
        }
    }

    #[inline]
    pub(crate) fn only(self, request: &Request) -> Result<Less, TooComplex> {
        Ok(Less {
            authority: self.authority.only_request(request)?,
            conditions: self.answering(request, Answers::only_request)?,
        })
    }

    pub(crate) fn exactly(self, request: &Request) -> Result<Less, DeriveError> {
        Ok(Less {
            authority: self.authority.exactly_request(request)?,
            conditions: self.answering(request, Answers::exactly_request)?,
        })
    }

    pub(crate) fn except(self, request: &Request) -> Result<Less, TooComplex> {
        let authority = self.authority.except_request(request)?;
        let answers = self.conditions.answers.except_request(request)?;
        Ok(Less {
            authority,
            conditions: Some(self.with_answers(answers)),
        })
    }

    /// The conditions for narrower answers; `None` where the request says nothing about them.
    #[inline(always)]
    fn answering<E>(
        self,
        request: &Request,
        narrow: impl FnOnce(&Answers, &Request) -> Result<Answers, E>,
    ) -> Result<Option<Arc<Conditions>>, E> {
        match request.leaves_answers() {
            true => Ok(None),
            false => Ok(Some(
                self.with_answers(narrow(&self.conditions.answers, request)?),
            )),
        }
    }

    fn with_answers(self, answers: Answers) -> Arc<Conditions> {
        self.conditions.but(|conditions| conditions.answers = answers)
    }

    /// The same, where one more guard is asked.
    pub(crate) fn guarded(self, post: Arc<Post>) -> Result<Less, GuardError> {
        let guards = self.conditions.guards.with(post)?;
        Ok(Less {
            authority: self.authority.clone(),
            conditions: Some(self.conditions.but(|conditions| conditions.guards = guards)),
        })
    }

    /// The same on further terms. Flags are only ever set; a budget draws on the one above it.
    pub(crate) fn limit(self, terms: &Terms) -> Result<Less, TermsRefused> {
        terms.check()?;
        let before = self.conditions;
        let account =
            Account::open(before.account.clone(), terms).map_err(|_| TermsRefused::TooManyBudgets)?;
        if before.by.is_some() && account.is_some() {
            return Err(TermsRefused::Implemented);
        }
        let derivable = before.derivable && !terms.no_derive;
        let transferable = before.transferable && !terms.no_hand_over;
        let same_budget = account.as_ref().map(Arc::as_ptr) == before.account.as_ref().map(Arc::as_ptr);
        let is_same = same_budget && (derivable, transferable) == (before.derivable, before.transferable);
        let change = |conditions: &mut Conditions| {
            conditions.account = account;
            conditions.derivable = derivable;
            conditions.transferable = transferable;
        };
        Ok(Less {
            authority: self.authority.clone(),
            conditions: (!is_same).then(|| before.but(change)),
        })
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
