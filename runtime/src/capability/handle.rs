//! The embedder's hold on a capability.

use std::fmt;
use std::sync::Arc;

use refcap_abi::Kind;
use refcap_authority::{Authority, DeriveError as AuthorityError, Policy, Request, Rules, Terms, TooComplex};
use thiserror::Error;

use super::id::{CapId, Key};
use super::lineage::{Barren, Birth, Bounds, CapabilityInfo, Holder, Node, Tree};
use super::membrane::{Membranes, TooMany};
use super::obtained::Obtained;
use super::rights::{GrantRefused, Less, Rights, RightsRef, label_under, lease_end};
use super::table::Object;
use crate::ambient::AmbientAuthority;
use crate::audit;
use crate::guard::{Guard, GuardError};

/// A capability in the embedder's hand: to grant to vats, to narrow, to watch, to revoke, from any
/// thread, also while guests run.
///
/// Clones are the same hold on the same capability. When the last one is dropped the embedder's hold
/// ends, as [`close`](Capability::close) does it: what vats derived from it lives on, and nobody can
/// revoke it all at once any more. Keep the handle for as long as you may want to revoke.
#[derive(Clone)]
pub struct Capability {
    hold: Arc<Hold>,
}

/// Ends with its last owner.
struct Hold {
    tree: Arc<Tree>,
    node: Key<Node>,
    kind: Kind,
    label: Arc<str>,
    /// What it is a capability to. A Net's rights are in the lineage, where they can be narrowed.
    object: Option<Object>,
    /// Where a socket comes from that a program gave.
    obtained: Option<Arc<Obtained>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.tree.close(self.node);
    }
}

/// Why an embedder could not derive a capability.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum DeriveError {
    /// The capability was revoked.
    #[error("capability {0} was revoked")]
    Revoked(CapId),
    /// Only a Net can be narrowed by rules.
    #[error("a {0} can't be narrowed by rules; only a Net can")]
    NotANet(Kind),
    /// The rules ask for more than the capability allows.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The capability was granted on terms that forbid it.
    #[error("capability {0} may not be derived further")]
    NotDerivable(CapId),
    /// The terms are contradictory or out of range.
    #[error("{0}")]
    Terms(String),
    /// The guard could not be put before it.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// Why a capability could not cross a membrane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotEnclosed {
    /// It is revoked, or the membrane is cut.
    Revoked,
    /// It would be behind more than [`MAX_MEMBRANES`](super::membrane::MAX_MEMBRANES).
    TooMany,
}

impl From<TooMany> for NotEnclosed {
    fn from(_: TooMany) -> Self {
        NotEnclosed::TooMany
    }
}

/// Why a capability could not be narrowed in place. Nothing has changed.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum NarrowError {
    /// The capability was revoked.
    #[error("capability {0} was revoked")]
    Revoked(CapId),
    /// The result would be too large.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
}

impl Capability {
    /// Mints a Net: authority over the network that comes from nowhere but the caller's own.
    ///
    /// The label names it in the audit log, and stays with all that is derived from it.
    ///
    /// # Ambient authority
    ///
    /// This makes authority from nothing, so it takes the token.
    pub fn net(label: &str, authority: Authority, _: AmbientAuthority) -> Capability {
        Capability::mint(label.into(), &Rights::of(authority), &Terms::new())
    }

    /// Mints a Net from a policy: rules, the addresses that names may stand for, budgets, a lease, flags.
    ///
    /// ```
    /// use refcap::{Capability, Policy, ambient_authority};
    ///
    /// let policy: Policy = "connect tcp api.example.com:443; limit sockets 10, out 1MiB/s, lease 1h".parse()?;
    /// let net = Capability::granted("net", &policy, ambient_authority())?;
    /// assert!(net.info().is_some_and(|info| info.expires.is_some()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`GrantRefused`]: the rules are too complex, or the terms are out of range.
    ///
    /// # Ambient authority
    ///
    /// This makes authority from nothing, so it takes the token.
    pub fn granted(label: &str, policy: &Policy, _: AmbientAuthority) -> Result<Capability, GrantRefused> {
        let rights = Rights::granted(policy)?;
        let label = label_under(&label.into(), &policy.terms);
        Ok(Capability::mint(label, &rights, &policy.terms))
    }

    fn mint(label: Arc<str>, rights: &Rights, terms: &Terms) -> Capability {
        let birth = Birth {
            authority: Some(&rights.authority),
            conditions: &rights.conditions,
            lease: lease_end(terms),
            ..Birth::new(Kind::Net, &label)
        };
        let authority = Some(&rights.authority);
        audit::grant(birth.id, Kind::Net, &label, authority);
        let (tree, node) = Tree::plant(birth);
        Capability::new(tree, node, Kind::Net, label, None)
    }

    /// The hold on a node that the host holds. `object` is `None` for a Net.
    pub(crate) fn new(
        tree: Arc<Tree>,
        node: Key<Node>,
        kind: Kind,
        label: Arc<str>,
        object: Option<Object>,
    ) -> Capability {
        Capability {
            hold: Arc::new(Hold {
                tree,
                node,
                kind,
                label,
                object,
                obtained: None,
            }),
        }
    }

    /// The capability's number, as the audit log names it.
    pub fn id(&self) -> CapId {
        self.hold.node.id()
    }

    /// What it is a capability to.
    pub fn kind(&self) -> Kind {
        self.hold.kind
    }

    /// The name that it was minted under.
    pub fn label(&self) -> &str {
        &self.hold.label
    }

    /// Whether it has not been revoked.
    pub fn is_alive(&self) -> bool {
        self.hold.tree.is_alive(self.hold.node)
    }

    /// What it allows now; `None` once it is revoked.
    pub fn authority(&self) -> Option<Authority> {
        self.info().and_then(|info| info.authority)
    }

    /// What can be seen of it; `None` once it is revoked.
    pub fn info(&self) -> Option<CapabilityInfo> {
        self.hold.tree.info(self.hold.node)
    }

    /// The capability and everything derived from it, parents before children; empty once it is revoked.
    pub fn lineage(&self) -> Vec<CapabilityInfo> {
        self.hold.tree.infos(self.hold.node)
    }

    /// Derives a capability that allows what this one allows and the rules allow: what a rule leaves out
    /// stays as it is here.
    ///
    /// # Errors
    ///
    /// [`DeriveError`]: this capability is revoked, or the result is too complex.
    pub fn only(&self, rules: &Rules) -> Result<Capability, DeriveError> {
        let request = Request::from(rules.clone());
        self.derive(&Terms::new(), |rights| {
            Ok(rights.only(&request).map_err(AuthorityError::from)?)
        })
    }

    /// Derives a capability that allows just what the rules allow.
    ///
    /// # Errors
    ///
    /// [`DeriveError`]: as for [`only`](Capability::only), and when the rules ask for more than this
    /// capability allows; the error names the rule and the field.
    pub fn exactly(&self, rules: &Rules) -> Result<Capability, DeriveError> {
        let request = Request::from(rules.clone());
        self.derive(&Terms::new(), |rights| Ok(rights.exactly(&request)?))
    }

    /// Derives a capability to the same things on further terms: budgets, which draw on this one's, a lease,
    /// flags, a label of its own.
    ///
    /// # Errors
    ///
    /// [`DeriveError`]: this capability is revoked or may not be derived further, or the terms are out of
    /// range.
    pub fn limit(&self, terms: &Terms) -> Result<Capability, DeriveError> {
        self.derive(terms, |rights| {
            rights
                .limit(terms)
                .map_err(|error| DeriveError::Terms(error.to_string()))
        })
    }

    /// Derives a capability that allows what this one allows and the guard says yes to. The guard is asked when
    /// this capability has permitted something, so it can only narrow. What is derived from the new capability asks
    /// the same guard, which remembers what it was asked before.
    ///
    /// # Errors
    ///
    /// [`DeriveError`]: this capability is revoked or may not be derived further, there are too many guards before
    /// it, or the guard does not start.
    pub fn guarded(&self, guard: &Guard) -> Result<Capability, DeriveError> {
        let post = Arc::new(guard.post(guard.name(), None)?);
        let guarded = self.derive(&Terms::new(), |rights| Ok(rights.guarded(post.clone())?))?;
        audit::guard(guarded.id(), guarded.label(), None, guard.name());
        Ok(guarded)
    }

    fn derive(
        &self,
        terms: &Terms,
        narrow: impl Fn(RightsRef<'_>) -> Result<Less, DeriveError>,
    ) -> Result<Capability, DeriveError> {
        let hold = &self.hold;
        let label = label_under(&hold.label, terms);
        loop {
            let revoked = || DeriveError::Revoked(self.id());
            let (rights, narrowings) = hold.tree.rights(hold.node).ok_or_else(revoked)?;
            let Some(rights) = rights else {
                return Err(DeriveError::NotANet(self.kind()));
            };
            if !rights.conditions.derivable {
                return Err(DeriveError::NotDerivable(self.id()));
            }
            let rights = narrow(rights.by_ref())?.on(&rights.conditions);
            let birth = Birth {
                authority: Some(&rights.authority),
                conditions: &rights.conditions,
                lease: lease_end(terms),
                ..Birth::new(Kind::Net, &label)
            };
            let id = birth.id;
            // The embedder is trusted with its own memory, so it has no bounds.
            match hold
                .tree
                .derive(hold.node, Some(narrowings), UNBOUNDED, birth, Holder::Host)
            {
                Ok(node) => {
                    audit::derive(
                        id,
                        self.id(),
                        Kind::Net,
                        &label,
                        None,
                        Some(&rights.authority),
                        None,
                    );
                    return Ok(Capability::new(hold.tree.clone(), node, Kind::Net, label, None));
                }
                // It was narrowed in between: look again.
                Err(Barren::Narrowed) => {}
                Err(Barren::Revoked | Barren::TooDeep | Barren::TooWide) => return Err(revoked()),
            }
        }
    }

    /// Derives one that is the same.
    pub(super) fn another(&self) -> Result<Capability, DeriveError> {
        let hold = &self.hold;
        loop {
            let revoked = || DeriveError::Revoked(self.id());
            let (rights, narrowings) = hold.tree.rights(hold.node).ok_or_else(revoked)?;
            let mut birth = Birth::new(hold.kind, &hold.label);
            if let Some(rights) = &rights {
                birth.authority = Some(&rights.authority);
                birth.conditions = &rights.conditions;
            }
            let authority = birth.authority;
            let (id, holder) = (birth.id, Holder::Host);
            match hold
                .tree
                .derive(hold.node, Some(narrowings), UNBOUNDED, birth, holder)
            {
                Ok(node) => {
                    audit::derive(id, self.id(), hold.kind, &hold.label, None, authority, None);
                    let (tree, label) = (hold.tree.clone(), hold.label.clone());
                    return Ok(Capability::new(tree, node, hold.kind, label, hold.object.clone()));
                }
                // It was narrowed in between: look again.
                Err(Barren::Narrowed) => {}
                Err(_) => return Err(revoked()),
            }
        }
    }

    /// Takes authority away in place: this capability, and everything derived from it in any vat, allows
    /// from now on only what `bound` allows too. Connections that it would not allow any more are ended.
    /// Returns how many capabilities allow less than before.
    ///
    /// # Errors
    ///
    /// [`NarrowError`]: this capability is revoked, or a result is too complex. Nothing has changed then.
    pub fn narrow(&self, bound: &Authority) -> Result<usize, NarrowError> {
        let changed = self
            .hold
            .tree
            .narrow(self.hold.node, bound)?
            .ok_or(NarrowError::Revoked(self.id()))?;
        audit::narrow(self.id(), &self.hold.label, bound, changed);
        Ok(changed)
    }

    /// Ends this capability and everything derived from it or obtained through it, in every vat. Returns
    /// how many capabilities ended; 0 when it was revoked before.
    ///
    /// When this returns, no operation through any of them starts; those in flight end with `Revoked`,
    /// and their connections are shut down. Bytes that the kernel already took are not recalled.
    ///
    /// Takes some ten nanoseconds for each of them. Where this capability was minted and one vat has made all that comes
    /// from it, it takes time for each socket alone, and the vat clears up the rest when it next comes to the host.
    pub fn revoke(&self) -> usize {
        let ended = self.hold.tree.revoke(self.hold.node);
        audit::revoke(self.id(), &self.hold.label, None, ended);
        ended
    }

    /// Gives up this hold; the same as dropping its last clone.
    pub fn close(self) {
        drop(self);
    }

    /// Takes a capability that nobody uses yet across membranes: it ends when one of them is cut.
    pub(crate) fn enclose(&mut self, membranes: &Membranes) -> Result<(), NotEnclosed> {
        if membranes.is_empty() {
            return Ok(());
        }
        // It was made a moment ago for whoever gets it, so nobody else has a hold on it.
        let hold = Arc::get_mut(&mut self.hold).ok_or(NotEnclosed::Revoked)?;
        if let Some(Object::Implemented(line)) = &hold.object {
            hold.object = Some(Object::Implemented(line.behind(membranes)?));
        }
        hold.tree.enclose(hold.node, membranes)
    }

    /// The same, of which is known where it comes from. To be called before anybody else has a hold on it.
    pub(super) fn obtained_from(mut self, obtained: Option<Arc<Obtained>>) -> Capability {
        if let Some(hold) = Arc::get_mut(&mut self.hold) {
            hold.obtained = obtained;
        }
        self
    }

    pub(super) fn obtained(&self) -> Option<&Arc<Obtained>> {
        self.hold.obtained.as_ref()
    }

    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.hold.tree
    }

    pub(crate) fn node(&self) -> Key<Node> {
        self.hold.node
    }

    pub(crate) fn object(&self) -> Option<&Object> {
        self.hold.object.as_ref()
    }
}

const UNBOUNDED: Bounds = Bounds {
    depth: u32::MAX,
    fan_out: u32::MAX,
};

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} `{}`", self.kind(), self.id(), self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ambient::ambient_authority;

    fn rules(text: &str) -> Rules {
        text.parse().unwrap()
    }

    fn net(text: &str) -> Capability {
        Capability::net("net", text.parse().unwrap(), ambient_authority())
    }

    #[test]
    fn a_derived_capability_ends_with_its_parent() {
        let parent = net("connect tcp 10.0.0.0/8:*");
        let child = parent.only(&rules("connect tcp *:443")).unwrap();
        assert_eq!(
            child.authority(),
            Some("connect tcp 10.0.0.0/8:443".parse().unwrap())
        );
        assert_eq!(parent.revoke(), 2);
        assert!(!child.is_alive());
        assert!(matches!(child.only(&rules("")), Err(DeriveError::Revoked(_))));
        assert!(matches!(
            child.narrow(&Authority::nothing()),
            Err(NarrowError::Revoked(_))
        ));
    }

    #[test]
    fn asking_for_exactly_more_says_so() {
        let parent = net("connect tcp 10.0.0.0/8:443");
        let error = parent.exactly(&rules("connect tcp 10.0.0.1:80")).unwrap_err();
        assert!(matches!(error, DeriveError::Authority(_)));
        assert!(error.to_string().contains("80"), "{error}");
    }

    #[test]
    fn narrowing_is_in_place() {
        let parent = net("connect tcp 10.0.0.0/8:*");
        let child = parent.only(&rules("connect tcp *:80,443")).unwrap();
        parent.narrow(&"connect tcp *:443".parse().unwrap()).unwrap();
        assert_eq!(
            child.authority(),
            Some("connect tcp 10.0.0.0/8:443".parse().unwrap())
        );
    }

    #[test]
    fn dropping_the_handle_leaves_what_was_derived() {
        let parent = net("connect tcp 10.0.0.0/8:*");
        let child = parent.only(&rules("connect tcp *:80")).unwrap();
        drop(parent);
        assert!(child.is_alive());
        assert_eq!(child.lineage().len(), 1);
    }
}
