//! Authority: an exact set of tuples.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{IpRange, embedded};
use crate::bound::Bound;
use crate::build;
use crate::derive::DeriveError;
use crate::explain::Explanation;
use crate::form::{Form, Narrowed, Sets, nothing, slot};
use crate::query::Query;
use crate::region::{
    Budget, Compound, LocalSet, MAX_CELLS, Op, Region, RemotePorts, TooComplex, combine, is_subset,
};
use crate::request::Request;
use crate::rules::Rules;
use crate::tuple::{Direction, Operation, Protocol, Remote, Tuple};

/// What may be done with the network: a set of [`Tuple`]s.
///
/// Two authorities are equal exactly if they have the same tuples, however they were come by. Cloning is
/// cheap; an authority never changes.
///
/// ```
/// use refcap_authority::{Authority, Query};
/// let parent: Authority = "connect tcp 10.0.0.0/8:443,8000-8999; except 10.9.0.0/16".parse()?;
/// let child = parent.only(&"connect tcp *:443".parse()?)?;
/// assert!(child.is_subset(&parent));
/// assert!(child.allows(&"connect tcp 10.1.2.3:443".parse::<Query>()?));
/// assert!(!child.allows(&"connect tcp 10.1.2.3:8000".parse::<Query>()?));
/// assert!(!child.allows(&"connect tcp 10.9.2.3:443".parse::<Query>()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Authority {
    pub(crate) form: Arc<Form>,
}

impl Authority {
    /// No authority.
    pub fn nothing() -> Authority {
        Authority::from_sets(nothing())
    }

    /// All authority that rules can express.
    pub fn everything() -> Authority {
        let mut sets = nothing();
        for operation in Operation::ALL {
            let all = Arc::new(build::universe(operation));
            for protocol in Protocol::ALL {
                sets[slot(operation, protocol)] = all.clone();
            }
        }
        Authority::from_sets(sets)
    }

    /// The authority that rules stand for: whatever any rule allows and no exception takes away.
    ///
    /// What names may stand for is no part of it: that is for [`Answers`](crate::Answers).
    pub fn from_rules(rules: &Rules) -> Result<Authority, TooComplex> {
        let mut budget = Budget::building(rules.pieces());
        let allowed = Authority::from_sets(build::rules(&rules.rules, &mut budget)?);
        let authority = if rules.exceptions.is_empty() {
            allowed
        } else {
            let excepted = Authority::from_sets(build::exceptions(&rules.exceptions, &mut budget)?);
            allowed.combine(&excepted, Op::Subtract, &mut budget)?
        };
        authority.checked()
    }

    /// Whether the tuple is in the set.
    ///
    /// What an address reaches by way of the IPv4 address inside it does not count here: to enforce a
    /// rule, ask [`Authority::permits`].
    pub fn contains(&self, tuple: &Tuple) -> bool {
        self.contains_parts(tuple.operation(), tuple.protocol(), tuple.local(), tuple.remote())
    }

    /// Whether the tuple may be used: it is in the set, and so is the same tuple with each IPv4 address
    /// [`embedded`] in its remote address in that address's place.
    ///
    /// An IPv6 address that reaches an IPv4 host needs authority over that host too. Since this only asks
    /// for more tuples of the same set, it is monotone: what a subset permits, the whole permits.
    pub fn permits(&self, tuple: &Tuple) -> bool {
        if !self.contains(tuple) {
            return false;
        }
        match tuple.remote() {
            remote @ Remote::Address(SocketAddr::V6(_)) => judged_too(remote).all(|remote| {
                self.contains_parts(tuple.operation(), tuple.protocol(), tuple.local(), &remote)
            }),
            // Only IPv6 addresses have others inside.
            Remote::Address(SocketAddr::V4(_)) | Remote::Name(..) => true,
        }
    }

    /// Whether some tuple that answers to the query is permitted.
    ///
    /// A query with both ends is answered as [`Authority::permits`] does, and one with a remote end alone
    /// asks for a local end from which that holds. A query without a remote end asks whether some remote
    /// end is in the set; when it is known, ask again.
    pub fn allows(&self, query: &Query) -> bool {
        let query = query.canonical();
        match (query.local, &query.remote) {
            (None, Some(remote)) => !self.locals(query.operation, query.protocol, remote).is_empty(),
            (Some(_), Some(remote)) => {
                let inside = judged_too(remote).map(|remote| query.clone().remote(remote));
                self.allows_by_itself(&query) && inside.into_iter().all(|query| self.allows_by_itself(&query))
            }
            (_, None) => self.allows_by_itself(&query),
        }
    }

    /// [`Authority::allows`] without a look at embedded addresses. The query must be canonical.
    pub(crate) fn allows_by_itself(&self, query: &Query) -> bool {
        match (query.local, &query.remote) {
            (Some(local), Some(remote)) => {
                self.contains_parts(query.operation, query.protocol, local, remote)
            }
            (None, Some(remote)) => {
                let (operation, protocol) = (query.operation, query.protocol);
                self.towards(operation, protocol, std::slice::from_ref(remote))
                    .is_some_and(|sets| {
                        let ports = sets[slot(operation, protocol)].at(remote);
                        !ports.at(&remote.port()).is_empty()
                    })
            }
            (local, None) => {
                let set = &self.sets()[slot(query.operation, query.protocol)];
                let mut seen = HashSet::new();
                set.values().any(|ports| {
                    // Most steps share a few values: look at each of those once.
                    seen.insert(ports.identity()) && any_local(ports, local)
                })
            }
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.sets().iter().all(|set| set.is_empty())
    }

    /// Whether everything in this set is in the other.
    ///
    /// The time is bounded by the product of the two sizes, and near their sum for all but contrived sets;
    /// [`Authority::exactly`] has a limit, for requests that nobody vouches for.
    pub fn is_subset(&self, of: &Authority) -> bool {
        self.sets().iter().zip(of.sets()).all(|(a, b)| is_subset(a, b))
    }

    /// Where in memory it is. Of two authorities that are alive, those at the same place are equal, for they are clones of
    /// one; those at different places may be equal too.
    ///
    /// ```
    /// let net: refcap_authority::Authority = "connect tcp 10.0.0.0/8:443".parse()?;
    /// assert_eq!(net.as_ptr(), net.clone().as_ptr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_ptr(&self) -> *const () {
        Arc::as_ptr(&self.form).cast()
    }

    /// What is in either set.
    pub fn union(&self, other: &Authority) -> Result<Authority, TooComplex> {
        self.combine(other, Op::Union, &mut self.budget(other))?.checked()
    }

    /// What is in both sets.
    pub fn intersect(&self, other: &Authority) -> Result<Authority, TooComplex> {
        self.combine(other, Op::Intersect, &mut self.budget(other))?
            .checked()
    }

    /// What is in this set and not in the other.
    pub fn subtract(&self, other: &Authority) -> Result<Authority, TooComplex> {
        self.combine(other, Op::Subtract, &mut self.budget(other))?
            .checked()
    }

    /// Attenuates: what the request asks for, as far as it is allowed.
    ///
    /// This is an intersection. A field that the request leaves out is as here, never wider.
    ///
    /// A request of one simple rule costs one small allocation: what is in both is then told from the two of
    /// them, and the set is only made when something needs it, such as printing or comparing. The child keeps
    /// this authority's memory. The first child costs a look over the set, and where this authority is so large
    /// that the result might be [`TooComplex`], the set is made at once. Which requests are simple says
    /// [`Request`], whose binary form spares what making [`Rules`] costs.
    pub fn only(&self, request: &Rules) -> Result<Authority, TooComplex> {
        match Bound::of(request) {
            Some(bound) => self.within(&bound),
            None => self.intersect(&Authority::from_rules(request)?),
        }
    }

    /// [`Authority::only`] for a request that was read before.
    pub fn only_request(&self, request: &Request) -> Result<Authority, TooComplex> {
        match request.simple() {
            Some(bound) => self.within(bound),
            None => self.only(&request.rules()),
        }
    }

    /// Attenuates: exactly what the request asks for, or an error that says what of it is not allowed.
    pub fn exactly(&self, request: &Rules) -> Result<Authority, DeriveError> {
        let child = Authority::from_rules(request)?;
        let missing = child.subtract(self)?;
        if missing.is_empty() {
            return Ok(child);
        }
        Err(DeriveError::not_subset(self, request, &missing))
    }

    /// [`Authority::exactly`] for a request that was read before. It costs as much.
    pub fn exactly_request(&self, request: &Request) -> Result<Authority, DeriveError> {
        self.exactly(&request.rules())
    }

    /// Attenuates: everything here but what the rules stand for.
    pub fn except(&self, what: &Rules) -> Result<Authority, TooComplex> {
        self.subtract(&Authority::from_rules(what)?)
    }

    /// [`Authority::except`] for a request that was read before. It costs as much.
    pub fn except_request(&self, what: &Request) -> Result<Authority, TooComplex> {
        self.except(&what.rules())
    }

    /// Rules that stand for exactly this set, as short as this crate knows to make them. Equal sets give
    /// equal rules.
    pub fn to_rules(&self) -> Rules {
        self.printed().clone()
    }

    /// Why the query is allowed or not, told by the rules of [`Authority::to_rules`].
    ///
    /// The verdict is that of [`Authority::allows`]. To find the nearest rule, at most
    /// [`MAX_EXAMINED`](crate::MAX_EXAMINED) rules are looked at; the explanation says when there are more.
    pub fn explain(&self, query: &Query) -> Explanation {
        Explanation::of_authority(self, query)
    }

    /// The local ends that are permitted towards a remote end, embedded addresses counted as in
    /// [`Authority::permits`]. For a bind the remote end says nothing.
    pub fn local_ranges(&self, operation: Operation, protocol: Protocol, remote: &Remote) -> LocalRanges {
        let remote = match operation {
            Operation::Bind => &Remote::Address(Tuple::NOWHERE),
            _ => remote,
        };
        LocalRanges {
            locals: self.locals(operation, protocol, remote),
        }
    }

    /// The size of the representation, in steps; steps that are shared count once. At most [`MAX_CELLS`].
    pub fn cells(&self) -> usize {
        self.form.whole().cells()
    }

    /// Whether anything may be done with the host of that remote end, at any port.
    pub(crate) fn has_host(&self, remote: &Remote) -> bool {
        self.sets().iter().any(|set| !set.at(remote).is_empty())
    }

    pub(crate) fn printed(&self) -> &Rules {
        self.form.whole().printed()
    }

    pub(crate) fn from_sets(sets: Sets) -> Authority {
        Authority { form: Form::of(sets) }
    }

    fn sets(&self) -> &Sets {
        &self.form.whole().sets
    }

    /// What is here and in the bound.
    #[inline]
    fn within(&self, bound: &Bound) -> Result<Authority, TooComplex> {
        match Narrowed::of(self, bound) {
            Some(narrowed) => Ok(narrowed),
            None => self.within_by_sets(bound),
        }
    }

    #[cold]
    fn within_by_sets(&self, bound: &Bound) -> Result<Authority, TooComplex> {
        // Where there are too many bounds in a row, the sets of those before are a new beginning.
        self.form.whole();
        match Narrowed::of(self, bound) {
            Some(narrowed) => Ok(narrowed),
            None => self.intersect(&Authority::from_rules(&bound.to_rules())?),
        }
    }

    fn budget(&self, other: &Authority) -> Budget {
        Budget::combining(self.cells() + other.cells())
    }

    fn checked(self) -> Result<Authority, TooComplex> {
        if self.cells() > MAX_CELLS {
            return Err(TooComplex);
        }
        Ok(self)
    }

    pub(crate) fn combine(
        &self,
        other: &Authority,
        op: Op,
        budget: &mut Budget,
    ) -> Result<Authority, TooComplex> {
        let (ours, theirs) = (self.sets(), other.sets());
        let mut sets = nothing();
        for at in 0..sets.len() {
            let (a, b) = (&ours[at], &theirs[at]);
            // Many operations and protocols have one set in common, and so should their results.
            let before =
                (0..at).find(|&before| Arc::ptr_eq(a, &ours[before]) && Arc::ptr_eq(b, &theirs[before]));
            sets[at] = match before {
                Some(before) => sets[before].clone(),
                None => combine(a, b, op, budget)?,
            };
        }
        Ok(Authority::from_sets(sets))
    }

    #[inline]
    fn contains_parts(
        &self,
        operation: Operation,
        protocol: Protocol,
        local: SocketAddr,
        remote: &Remote,
    ) -> bool {
        match &*self.form {
            Form::Whole(whole) => whole.contains(operation, protocol, local, remote),
            Form::Narrowed(_) => self.contains_by_bounds(operation, protocol, local, remote),
        }
    }

    #[inline(never)]
    fn contains_by_bounds(
        &self,
        operation: Operation,
        protocol: Protocol,
        local: SocketAddr,
        remote: &Remote,
    ) -> bool {
        let mut authority = self;
        loop {
            match authority.form.now() {
                Ok(whole) => return whole.contains(operation, protocol, local, remote),
                Err(narrowed) if narrowed.bound.contains(operation, protocol, local, remote) => {
                    authority = &narrowed.parent;
                }
                Err(_) => return false,
            }
        }
    }

    /// Sets that have the same local ends towards these remote ends as this authority; `None` if there are
    /// none at all towards one of them.
    fn towards(&self, operation: Operation, protocol: Protocol, remotes: &[Remote]) -> Option<&Sets> {
        if operation.direction() == Direction::Inbound {
            return Some(self.sets());
        }
        let mut authority = self;
        loop {
            match authority.form.now() {
                Ok(whole) => return Some(&whole.sets),
                // Of outbound operations a bound says nothing about local ends.
                Err(narrowed) => {
                    let mut remotes = remotes.iter();
                    if !remotes.all(|remote| narrowed.bound.reaches(operation, protocol, remote)) {
                        return None;
                    }
                    authority = &narrowed.parent;
                }
            }
        }
    }

    /// The local ends towards a canonical remote end. Where the intersection is too complex to represent,
    /// which takes two embedded addresses with huge lists of ports each, there are none.
    fn locals(&self, operation: Operation, protocol: Protocol, remote: &Remote) -> Arc<LocalSet> {
        let with_embedded;
        let remotes = match remote {
            Remote::Address(SocketAddr::V6(_)) => {
                with_embedded = std::iter::once(remote.clone())
                    .chain(judged_too(remote))
                    .collect::<Vec<_>>();
                with_embedded.as_slice()
            }
            // Nothing is embedded in these.
            Remote::Address(SocketAddr::V4(_)) | Remote::Name(..) => std::slice::from_ref(remote),
        };
        self.towards(operation, protocol, remotes)
            .and_then(|sets| build::locals_towards(&sets[slot(operation, protocol)], remotes).ok())
            .unwrap_or_else(Region::empty)
    }
}

/// The remote ends that must be in the set as well, for this one to be permitted.
pub(crate) fn judged_too(remote: &Remote) -> impl Iterator<Item = Remote> + use<> {
    let address = match remote {
        Remote::Address(address) => Some(*address),
        Remote::Name(..) => None,
    };
    address.into_iter().flat_map(|address| {
        embedded(address.ip()).map(move |inside| Remote::from((IpAddr::V4(inside), address.port())))
    })
}

/// Whether a remote host may be used at some port, from that local end or from any.
fn any_local(ports: &RemotePorts, local: Option<SocketAddr>) -> bool {
    let mut seen = HashSet::new();
    ports.steps().any(|(_, locals)| {
        seen.insert(locals.identity()) && local.is_none_or(|local| *locals.at(local.ip()).at(&local.port()))
    })
}

impl Default for Authority {
    /// Nothing.
    fn default() -> Authority {
        Authority::nothing()
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Authority) -> bool {
        // Of clones no sets need be made.
        self.as_ptr() == other.as_ptr() || self.sets() == other.sets()
    }
}

impl Eq for Authority {}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.printed().fmt(f)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({:?})", self.to_string())
    }
}

/// The local ends that are permitted towards a remote end.
#[derive(Debug, Clone)]
pub struct LocalRanges {
    locals: Arc<LocalSet>,
}

impl LocalRanges {
    /// Each range of addresses, with its ranges of ports, ends included. IPv4 comes first; the ranges do
    /// not overlap.
    pub fn iter(&self) -> impl Iterator<Item = (IpRange, Vec<(u16, u16)>)> {
        self.locals
            .steps()
            .map(|(range, ports)| (range, build::port_ranges(ports)))
    }

    /// Whether the local end is one of them.
    pub fn contains(&self, local: SocketAddr) -> bool {
        let local = crate::address::canonical_socket(local);
        *self.locals.at(local.ip()).at(&local.port())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.locals.is_empty()
    }

    /// Whether every address of the family, with every port, is one of them.
    pub fn is_unrestricted(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.locals.v4.is_full(),
            Family::V6 => self.locals.v6.is_full(),
        }
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Family {
        match crate::address::canonical(address) {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}
