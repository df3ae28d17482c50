//! Choosing with numbers among what is there.

use refcap_abi::Kind;

use super::actor::SLOTS;
use super::model::{ProgramId, What};
use super::world::World;

/// A slot of a program.
pub(super) type Place = (ProgramId, usize);

pub(super) fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl World {
    pub(super) fn alive(&self) -> Vec<ProgramId> {
        let all = 0..self.actors.len();
        all.filter(|&program| self.model.is_alive(program)).collect()
    }

    /// A slot of a program that is alive: most often one with something of that kind, of those that are there.
    pub(super) fn place_of(&self, kind: Kind, n: u32) -> Option<Place> {
        self.holder_of(kind, n >> 3)
            .filter(|_| !n.is_multiple_of(8))
            .or_else(|| {
                let alive = self.alive();
                let n = (n >> 3) as usize;
                let program = *alive.get(n % alive.len().max(1))?;
                Some((program, 1 + n / 16 % (SLOTS - 1)))
            })
    }

    pub(super) fn holder_of(&self, kind: Kind, n: u32) -> Option<Place> {
        let mut places = Vec::new();
        for program in self.alive() {
            for slot in 1..SLOTS {
                if self.kind(program, slot) == Some(kind) {
                    places.push((program, slot));
                }
            }
        }
        places.get(n as usize % places.len().max(1)).copied()
    }

    pub(super) fn kind(&self, program: ProgramId, slot: usize) -> Option<Kind> {
        self.model.what(program, slot).ok().map(What::kind)
    }

    /// A slot for something new: an empty one, or one whose content is given up for it. Never one with a program in it,
    /// which would be stopped.
    pub(super) fn room(&self, program: ProgramId, n: u32) -> usize {
        let slots = || 1..SLOTS;
        let pick = |slots: Vec<usize>| slots.get(n as usize % slots.len().max(1)).copied();
        let free = slots().filter(|&slot| self.model.look(program, slot).is_err());
        let other =
            slots().filter(|&slot| !matches!(self.kind(program, slot), Some(Kind::Child | Kind::Spawner)));
        pick(free.collect())
            .or_else(|| pick(other.collect()))
            .unwrap_or(SLOTS - 1)
    }

    /// A slot with something in it, most often.
    pub(super) fn any_slot(&self, program: ProgramId, n: u32) -> usize {
        let held = (1..SLOTS).filter(|&slot| self.model.look(program, slot).is_ok());
        let held: Vec<_> = held.collect();
        match n % 8 {
            1.. if !held.is_empty() => held[(n >> 3) as usize % held.len()],
            _ => 1 + (n >> 3) as usize % (SLOTS - 1),
        }
    }

    /// A slot to hand over from: as often as not something that somebody can take back, if there is such a thing.
    pub(super) fn slot_to_hand(&self, program: ProgramId, n: u32) -> usize {
        let lent = (1..SLOTS).filter(|&slot| {
            let cap = self.model.look(program, slot);
            cap.is_ok_and(|cap| self.model.is_lent(cap))
        });
        let lent: Vec<_> = lent.collect();
        match n % 2 {
            0 if !lent.is_empty() => lent[(n >> 1) as usize % lent.len()],
            _ => self.any_slot(program, n >> 1),
        }
    }
}
