//! A name that was resolved: pinned to the answers that are allowed, for as long as they are good.
//!
//! A guest that holds a Name never asks for its addresses again, so an answer that changes between a check
//! and a use (DNS rebinding, attack class 7) has nowhere to take effect. Resolving anew makes a new
//! capability, checked like the first.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use refcap_abi::ErrorCode;
use refcap_abi::guard::Act;
use refcap_authority::{Authority, DnsName, Operation, Protocol, Query, Remote, Tuple, canonical};

use super::bind::{narrow, need_also};
use super::connect;
use super::door::TcpDoor;
use super::latch::{Ending, Latch};
use super::permit::Permit;
use crate::capability::lineage::Sever;
use crate::capability::mailbox::lock;
use crate::capability::rights::Rights;
use crate::guard::Asked;
use crate::resolver::{Answer, ResolveError};
use crate::vat::Refusal;

/// The longest that an answer is kept, whatever it says: one day.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// How long the connection may take to begin that an answer with a time to live of zero is good for.
/// Such an answer "can only be used for the transaction in progress" (RFC 1035, section 3.2.1).
const AT_ONCE: Duration = Duration::from_secs(1);
/// The most addresses of one answer that are kept.
const MOST: usize = 16;

/// A name, while it is looked up and afterwards.
#[derive(Debug)]
pub(crate) struct NameDoor {
    name: DnsName,
    port: u16,
    found: Mutex<Option<Found>>,
    /// What the name's Net allows; it follows when that is narrowed.
    latch: Latch<Rights>,
}

/// What a look-up gave.
#[derive(Debug, Clone)]
struct Found {
    addresses: Vec<IpAddr>,
    until: Instant,
    /// Good for one connection only, which was begun or not.
    once: Option<bool>,
}

/// What a Net must allow for a name to be resolved through it.
fn connecting_to(name: &DnsName, port: u16) -> Query {
    Query::new(Operation::Connect, Protocol::Tcp).remote(Remote::Name(name.clone(), port))
}

impl NameDoor {
    /// A name that is to be resolved, if its Net allows connecting to it.
    pub(crate) fn new(rights: Rights, name: DnsName, port: u16) -> Result<NameDoor, Refusal> {
        let query = connecting_to(&name, port);
        if !rights.authority.allows(&query) {
            return Err(Refusal::denied(rights.authority, query));
        }
        Ok(NameDoor {
            name,
            port,
            found: Mutex::new(None),
            latch: Latch::new(rights),
        })
    }

    pub(crate) fn query(&self) -> Query {
        connecting_to(&self.name, self.port)
    }

    pub(crate) fn name(&self) -> &DnsName {
        &self.name
    }

    /// The port at which it may be connected to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it also needs what another Net allows, through which its new holder asked for it, and stands for no
    /// address that it may not stand for there.
    pub(crate) fn also(&self, rights: &Rights) -> Result<(), Refusal> {
        self.latch.with(|allowed| {
            let conditions = Arc::make_mut(&mut allowed.conditions);
            need_also(&mut allowed.authority, &mut conditions.guards, rights)?;
            let mut found = lock(&self.found);
            let found = found.as_mut().ok_or(ErrorCode::NameNotResolved)?;
            self.keep_allowed(rights, &mut found.addresses)
        })?
    }

    /// Asks the guards whether the name may be looked up.
    pub(crate) fn may_be_asked_for(&self) -> Result<(), Refusal> {
        let asked = Asked::name(Act::Resolve, &self.name, self.port);
        self.latch.with(|rights| rights.conditions.guards.check(&asked))?
    }

    /// Waits for a look-up, and keeps those of its addresses that are allowed. `Revoked` as soon as the
    /// name is.
    pub(crate) async fn resolve(
        &self,
        looking: impl Future<Output = Result<Answer, ResolveError>>,
        timeout: Duration,
    ) -> Result<(), Refusal> {
        let answer = tokio::select! {
            biased;
            () = self.latch.severed() => return Err(ErrorCode::Revoked.into()),
            answer = looking => answer,
            () = tokio::time::sleep(timeout) => {
                let why = format!("no answer for {} after {timeout:?}", self.name);
                return Err(Refusal::new(ErrorCode::TimedOut, why));
            }
        };
        let answer = answer.map_err(|error| {
            Refusal::new(ErrorCode::NameNotResolved, format_args!("{}: {error}", self.name))
        })?;
        let found = self.latch.with(|allowed| self.filter(allowed, &answer))??;
        *lock(&self.found) = Some(found);
        Ok(())
    }

    /// The addresses of an answer that the name may stand for.
    fn filter(&self, allowed: &Rights, answer: &Answer) -> Result<Found, Refusal> {
        let mut addresses = Vec::new();
        for address in answer.addresses.iter().map(|&address| canonical(address)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        self.keep_allowed(allowed, &mut addresses)?;
        let lasts = answer.valid_for.min(LONGEST);
        Ok(Found {
            addresses,
            until: Instant::now() + if lasts.is_zero() { AT_ONCE } else { lasts },
            once: lasts.is_zero().then_some(false),
        })
    }

    /// Keeps those addresses that the name may stand for, of which there must be one.
    fn keep_allowed(&self, allowed: &Rights, addresses: &mut Vec<IpAddr>) -> Result<(), Refusal> {
        let mut refused = None;
        addresses.retain(|&address| {
            let remote = SocketAddr::new(address, self.port);
            let local = connect::unspecified(remote);
            let tuple = Tuple::new(Operation::Connect, Protocol::Tcp, local, remote);
            let is_allowed = allowed.conditions.answers.permits(&tuple);
            if !is_allowed {
                refused.get_or_insert_with(|| allowed.conditions.answers.explain(&tuple));
            }
            is_allowed
        });
        addresses.truncate(MOST);
        let asked = Asked::name(Act::Answer, &self.name, self.port);
        let mut guarded = None;
        addresses.retain(|&address| {
            let remote = Some(address);
            let result = allowed.conditions.guards.check(&Asked { remote, ..asked });
            let is_allowed = result.is_ok();
            guarded = result.err().or(guarded.take());
            is_allowed
        });
        if !addresses.is_empty() {
            return Ok(());
        }
        Err(match (guarded, refused) {
            (Some(refusal), _) => refusal,
            (None, Some(why)) => Refusal::new(
                ErrorCode::Denied,
                format_args!("{} stands for no address that is allowed: {why}", self.name),
            ),
            (None, None) => Refusal::new(
                ErrorCode::NameNotResolved,
                format_args!("{} has no address", self.name),
            ),
        })
    }

    /// Prepares a connection to one of the addresses. No packet leaves.
    pub(crate) fn connect(&self, timeout: Duration, permit: Permit) -> Result<TcpDoor, Refusal> {
        let rights = self.latch.with(|rights| rights.clone())?;
        if !rights.authority.allows(&self.query()) {
            return Err(Refusal::denied(rights.authority, self.query()));
        }
        let addresses = self.take_addresses()?;
        Ok(connect::to_name(
            rights,
            Remote::Name(self.name.clone(), self.port),
            addresses,
            timeout,
            permit,
        ))
    }

    fn take_addresses(&self) -> Result<Vec<IpAddr>, Refusal> {
        let mut found = lock(&self.found);
        let found = found.as_mut().ok_or(ErrorCode::NameNotResolved)?;
        let used_up = found.once == Some(true);
        found.once = found.once.map(|_| true);
        if found.until <= Instant::now() || used_up {
            let why = format!(
                "the answer for {} is no longer valid: resolve it again",
                self.name
            );
            return Err(Refusal::new(ErrorCode::Expired, why));
        }
        Ok(found.addresses.clone())
    }

    /// The name, what it stands for, and for how long.
    pub(crate) fn describe(&self) -> Result<String, Refusal> {
        self.latch.with(|_| ())?;
        let found = lock(&self.found);
        let found = found.as_ref().ok_or(ErrorCode::NameNotResolved)?;
        let addresses: Vec<_> = found.addresses.iter().map(IpAddr::to_string).collect();
        let left = found.until.saturating_duration_since(Instant::now());
        let lasts = match found.once {
            Some(true) => "used".to_owned(),
            Some(false) => "for one connection".to_owned(),
            None => format!("for {} s", left.as_secs()),
        };
        Ok(format!(
            "{}:{} is {}, {lasts}",
            self.name,
            self.port,
            addresses.join(", ")
        ))
    }
}

impl Sever for NameDoor {
    fn sever(&self) {
        self.latch.sever();
    }

    fn restrict(&self, authority: &Authority) -> bool {
        let narrowed = self
            .latch
            .with(|allowed| narrow(&mut allowed.authority, authority));
        narrowed.unwrap_or(true) && authority.allows(&self.query())
    }
}
