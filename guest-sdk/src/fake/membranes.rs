//! Membranes: marks in the lineage, as the real host has them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use refcap_abi::ErrorCode;

use super::lineage::Lineage;
use super::objects::hand_over;
use super::{Object, Ordering, Slot, failed, failed_with};
use crate::host::{Failure, Status};

/// The most that one object may be behind.
const MAX_MEMBRANES: usize = 8;

/// A membrane, with what crossed it.
#[derive(Debug, Default)]
pub(super) struct Cut(Mutex<Crossed>);

#[derive(Debug, Default)]
struct Crossed {
    is_cut: bool,
    lineages: Vec<Weak<Lineage>>,
}

impl Cut {
    /// Lets something end with the membrane, unless that was cut. Returns whether it was not.
    fn enter(&self, lineage: &Arc<Lineage>) -> bool {
        self.with(|crossed| {
            crossed.lineages.retain(|lineage| lineage.strong_count() > 0);
            crossed.lineages.push(Arc::downgrade(lineage));
            !crossed.is_cut
        })
    }

    fn with<T>(&self, action: impl FnOnce(&mut Crossed) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The membranes that something is behind.
#[derive(Debug, Clone, Default)]
pub(super) struct Membranes(Vec<Arc<Cut>>);

impl Membranes {
    /// Takes a capability across, which nobody uses yet: it ends when one of them is cut.
    pub(super) fn enclose(&self, capability: Slot) -> Result<Slot, Failure> {
        let enclosed = match &*capability.object {
            Object::Implemented(line) if !self.0.is_empty() => {
                let line = line.behind(self)?;
                // The owner changes, and the capability is the same.
                capability.moved.store(true, Ordering::Relaxed);
                Slot::new(Object::Implemented(line), Arc::clone(&capability.lineage))
            }
            _ => capability,
        };
        match self.0.iter().all(|membrane| membrane.enter(&enclosed.lineage)) {
            true => Ok(enclosed),
            false => Err(was_cut()),
        }
    }

    /// These and those, each once.
    pub(super) fn and(&self, others: &Membranes) -> Result<Membranes, Failure> {
        let mut all = self.0.clone();
        for other in &others.0 {
            if !all.iter().any(|one| Arc::ptr_eq(one, other)) {
                all.push(Arc::clone(other));
            }
        }
        if all.len() > MAX_MEMBRANES {
            let message = format!("the limit of {MAX_MEMBRANES} membranes around one object is reached");
            return Err(failed_with(ErrorCode::LimitReached, message));
        }
        Ok(Membranes(all))
    }
}

fn was_cut() -> Failure {
    failed_with(ErrorCode::Revoked, "the membrane was cut".to_owned())
}

fn membrane(slot: &Slot) -> Result<&Arc<Cut>, Failure> {
    match &*slot.live()?.object {
        Object::Membrane(cut) => Ok(cut),
        _ => Err(failed(ErrorCode::WrongKind)),
    }
}

pub(crate) fn membrane_new() -> Result<Slot, Failure> {
    let object = Object::Membrane(Arc::new(Cut::default()));
    Ok(Slot::new(object, Lineage::root()))
}

pub(crate) fn membrane_wrap(slot: &Slot, capability: &Slot) -> Result<Slot, Failure> {
    let cut = membrane(slot)?;
    capability.live()?;
    if cut.with(|crossed| crossed.is_cut) {
        return Err(was_cut());
    }
    Membranes(vec![Arc::clone(cut)]).enclose(hand_over(capability)?)
}

pub(crate) fn membrane_cut(slot: &Slot) -> Status {
    let crossed = membrane(slot)?.with(|crossed| {
        crossed.is_cut = true;
        std::mem::take(&mut crossed.lineages)
    });
    let lineages = crossed.iter().filter_map(Weak::upgrade);
    Ok(lineages.map(|lineage| lineage.revoke()).sum())
}
