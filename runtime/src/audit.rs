//! The audit log: what was started, granted, derived, used, refused, closed and revoked.
//!
//! Events go to `tracing` under the target [`TARGET`], so an embedder chooses with a subscriber where
//! they are kept and in which form. Every event has the field `event`; capabilities are named by their
//! [`CapId`] (`id`, `parent`), with the `label` under which they were granted, and vats by
//! their number (`vat`). A program that another one starts is the `child` of the vat that starts it: its events are
//! `spawn`, `begin`, `stop` and `exit`, and name its Child by `id`. What a program does that is linked to another is in
//! a span with the field `instance`. Reading and writing are at level `TRACE`, everything else at `INFO`.

use std::sync::Arc;

use refcap_abi::ending::Ending;
use refcap_abi::{ErrorCode, Kind};
use refcap_authority::Authority;

use crate::capability::CapId;

/// The `tracing` target of all audit events.
pub const TARGET: &str = "refcap::audit";

/// The span of what a program does that is linked to another one: its events carry the name under which it is
/// linked as `instance`.
pub(crate) fn instance(name: &str) -> tracing::Span {
    tracing::info_span!(target: TARGET, "instance", instance = name)
}

/// Whether anybody may listen to audit events. Where nobody does, it is known by one load.
pub(crate) fn may_be_heard() -> bool {
    tracing::level_filters::LevelFilter::current() >= tracing::level_filters::LevelFilter::INFO
}

/// A program is about to be given its endowments. Its name is its first argument, if it has any.
pub(crate) fn start(vat: u64, program: Option<&str>) {
    tracing::info!(target: TARGET, event = "start", vat, program);
}

/// A program has ended; next it gives up what it still holds.
pub(crate) fn end(vat: u64) {
    tracing::info!(target: TARGET, event = "end", vat);
}

/// Authority was minted.
pub(crate) fn grant(id: CapId, kind: Kind, label: &str, authority: Option<&Authority>) {
    tracing::info!(
        target: TARGET,
        event = "grant",
        id = id.get(),
        kind = kind.name(),
        label,
        authority = authority.map(tracing::field::display),
    );
}

/// A capability was made from another one. A Revoker's `target` is what it ends.
pub(crate) fn derive(
    id: CapId,
    parent: CapId,
    kind: Kind,
    label: &str,
    vat: Option<u64>,
    authority: Option<&Authority>,
    target: Option<CapId>,
) {
    tracing::info!(
        target: TARGET,
        event = "derive",
        id = id.get(),
        parent = parent.get(),
        kind = kind.name(),
        label,
        vat,
        authority = authority.map(tracing::field::display),
        target = target.map(CapId::get),
    );
}

/// A guard was put before a capability that was just made.
pub(crate) fn guard(id: CapId, label: &str, vat: Option<u64>, guard: &str) {
    tracing::info!(target: TARGET, event = "guard", id = id.get(), label, vat, guard);
}

/// A capability was used to reach something.
pub(crate) fn used(id: CapId, label: &str, vat: u64, operation: &dyn std::fmt::Display) {
    tracing::info!(target: TARGET, event = "use", id = id.get(), label, vat, operation = %operation);
}

/// Bytes went through a stream.
pub(crate) fn moved(id: CapId, vat: u64, direction: &'static str, bytes: usize) {
    tracing::trace!(target: TARGET, event = "use", id = id.get(), vat, operation = direction, bytes);
}

/// A call was refused.
pub(crate) fn refuse(
    id: Option<CapId>,
    label: Option<&str>,
    vat: u64,
    import: &str,
    code: ErrorCode,
    why: &str,
) {
    tracing::info!(
        target: TARGET,
        event = "refuse",
        id = id.map(CapId::get),
        label,
        vat,
        import,
        code = code.code(),
        why,
    );
}

/// A socket that turns peers away, also while nobody calls it: what its events name.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    pub(crate) id: CapId,
    pub(crate) label: Arc<str>,
    pub(crate) vat: u64,
}

impl Doorkeeper {
    /// A peer was turned away, or a datagram from it dropped, and the guest never saw it.
    pub(crate) fn turn_away(&self, operation: &dyn std::fmt::Display) {
        let Doorkeeper { id, label, vat } = self;
        tracing::info!(target: TARGET, event = "turn-away", id = id.get(), label = &**label, vat, operation = %operation);
    }
}

/// A lease ended, and with it a capability and its descendants.
pub(crate) fn expire(id: CapId, label: &str, ended: usize) {
    tracing::info!(target: TARGET, event = "expire", id = id.get(), label, ended);
}

/// A holder gave a capability up.
pub(crate) fn close(id: CapId, kind: Kind, label: &str, vat: u64) {
    tracing::info!(target: TARGET, event = "close", id = id.get(), kind = kind.name(), label, vat);
}

/// A capability and its descendants were revoked, by a vat or by the embedder.
pub(crate) fn revoke(id: CapId, label: &str, by_vat: Option<u64>, ended: usize) {
    tracing::info!(target: TARGET, event = "revoke", id = id.get(), label, vat = by_vat, ended);
}

/// The embedder took authority away in place.
pub(crate) fn narrow(id: CapId, label: &str, bound: &Authority, changed: usize) {
    tracing::info!(target: TARGET, event = "narrow", id = id.get(), label, authority = %bound, changed);
}

/// Who started whom: what the events of a child name.
#[derive(Debug, Clone)]
pub(crate) struct Parentage {
    /// The Child, in its parent's hand.
    pub(crate) id: CapId,
    pub(crate) label: Arc<str>,
    /// The parent's vat.
    pub(crate) vat: u64,
    /// Its own.
    pub(crate) child: u64,
}

/// A program was prepared.
pub(crate) fn spawn(of: &Parentage, program: &str) {
    let Parentage {
        id,
        label,
        vat,
        child,
    } = of;
    tracing::info!(target: TARGET, event = "spawn", id = id.get(), label = &**label, vat, child, program);
}

/// It has its endowments and begins to run.
pub(crate) fn begin(of: &Parentage) {
    child(of, "begin");
}

/// Its parent stops it.
pub(crate) fn stop(of: &Parentage) {
    child(of, "stop");
}

/// An event of which there is nothing to say but whose it is.
fn child(of: &Parentage, event: &'static str) {
    let Parentage {
        id,
        label,
        vat,
        child,
    } = of;
    tracing::info!(target: TARGET, event, id = id.get(), label = &**label, vat, child);
}

/// It is gone, with all that it started.
pub(crate) fn exit(of: &Parentage, ending: &Ending) {
    let Parentage {
        id,
        label,
        vat,
        child,
    } = of;
    let (how, code) = match ending {
        Ending::Exited { code, .. } => ("exited", Some(*code)),
        Ending::Trapped { .. } => ("trapped", None),
        Ending::TimedOut => ("timed-out", None),
        _ => ("stopped", None),
    };
    tracing::info!(
        target: TARGET,
        event = "exit",
        id = id.get(),
        label = &**label,
        vat,
        child,
        how,
        code,
        why = %ending,
    );
}

/// Whether anybody listens, so that reasons need not be worked out for nobody.
pub(crate) fn is_watched() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}
