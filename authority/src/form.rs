//! The forms that an authority has: its sets, or a parent and a bound of which the sets are made when
//! something needs them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::authority::Authority;
use crate::bound::Bound;
use crate::build;
use crate::extents::Extents;
use crate::region::{Budget, Compound, Hosts, MAX_CELLS, Op, Region, TooComplex, TupleSet};
use crate::rules::Rules;
use crate::tuple::{Operation, Protocol, Remote};

/// One set for each operation and protocol, at the place that [`slot`] says.
pub(crate) type Sets = [Arc<TupleSet>; 12];

/// Where in [`Sets`] an operation and a protocol have their set.
pub(crate) fn slot(operation: Operation, protocol: Protocol) -> usize {
    operation as usize * 2 + protocol as usize
}

/// Twelve times the empty set.
pub(crate) fn nothing() -> Sets {
    let empty = Arc::new(Hosts::empty());
    std::array::from_fn(|_| empty.clone())
}

/// What an [`Authority`] points to. It is one pointer, for authorities are moved and kept more often than asked.
pub(crate) enum Form {
    Whole(Whole),
    Narrowed(Narrowed),
}

/// Sets.
pub(crate) struct Whole {
    pub(crate) sets: Sets,
    found: Box<Found>,
}

/// What is found out about sets when it is first asked for.
#[derive(Default)]
struct Found {
    printed: OnceLock<Rules>,
    cells: OnceLock<usize>,
    extents: OnceLock<Extents>,
}

/// What is in a parent and in a bound.
///
/// It is made where the intersection of their sets cannot fail, so that it may wait: see [`Extents::fit`].
/// Deriving costs one allocation then, whatever the parent's size.
pub(crate) struct Narrowed {
    pub(crate) parent: Authority,
    pub(crate) bound: Bound,
    /// How many bounds there are in a row, this one counted.
    links: u8,
    /// The sets, when something has asked for them.
    whole: OnceLock<Authority>,
}

/// How many bounds may follow one another without sets between them. Questions look at each of them, and so
/// does dropping, one inside of the other.
const MAX_LINKS: u8 = 8;

impl Form {
    pub(crate) fn of(sets: Sets) -> Arc<Form> {
        let found = Box::default();
        Arc::new(Form::Whole(Whole { sets, found }))
    }

    /// The sets, made now if they are not yet.
    pub(crate) fn whole(&self) -> &Whole {
        match self {
            Form::Whole(whole) => whole,
            // What is made is whole.
            Form::Narrowed(narrowed) => narrowed.whole.get_or_init(|| narrowed.make()).form.whole(),
        }
    }

    /// The sets, or else a parent and a bound. The sets are as quick to ask, and once there the quicker.
    pub(crate) fn now(&self) -> Result<&Whole, &Narrowed> {
        match self {
            Form::Whole(whole) => Ok(whole),
            Form::Narrowed(narrowed) => match narrowed.whole.get() {
                Some(made) => Ok(made.form.whole()),
                None => Err(narrowed),
            },
        }
    }

    /// The sets that a row of bounds begins with.
    #[inline]
    fn beginning(&self) -> &Whole {
        let mut form = self;
        loop {
            match form {
                Form::Whole(whole) => return whole,
                Form::Narrowed(narrowed) => form = &narrowed.parent.form,
            }
        }
    }

    /// The bounds behind those sets, the last one first.
    pub(crate) fn bounds(&self) -> impl Iterator<Item = &Bound> {
        let mut form = self;
        std::iter::from_fn(move || match form {
            Form::Whole(_) => None,
            Form::Narrowed(narrowed) => {
                form = &narrowed.parent.form;
                Some(&narrowed.bound)
            }
        })
    }
}

impl Whole {
    #[inline]
    pub(crate) fn contains(
        &self,
        operation: Operation,
        protocol: Protocol,
        local: SocketAddr,
        remote: &Remote,
    ) -> bool {
        let ports = self.sets[slot(operation, protocol)].at(remote);
        // Most often what is granted of a host does not depend on the rest: nothing, everything, or any local end.
        if let Some(answer) = ports.everywhere() {
            return answer;
        }
        let locals = ports.at(&remote.port());
        if let Some(answer) = locals.everywhere() {
            return answer;
        }
        *locals.at(local.ip()).at(&local.port())
    }

    pub(crate) fn printed(&self) -> &Rules {
        self.found
            .printed
            .get_or_init(|| crate::text::print::rules(&self.sets))
    }

    pub(crate) fn cells(&self) -> usize {
        *self.found.cells.get_or_init(|| {
            let mut seen = HashSet::new();
            self.sets.iter().map(|set| set.cells(&mut seen)).sum()
        })
    }

    #[inline]
    fn extents(&self) -> &Extents {
        self.found
            .extents
            .get_or_init(|| Extents::of(&self.sets, self.cells(), MAX_LINKS))
    }
}

impl Narrowed {
    /// The parent within the bound; `None` where making that must not wait, because it could fail or because
    /// there are too many before it.
    #[inline]
    pub(crate) fn of(parent: &Authority, bound: &Bound) -> Option<Authority> {
        // Whoever has sets is a beginning: what it came from may go.
        let parent = match &*parent.form {
            Form::Narrowed(narrowed) => narrowed.whole.get().unwrap_or(parent),
            Form::Whole(_) => parent,
        };
        let (beginning, before, links) = match &*parent.form {
            Form::Whole(whole) => (whole, None, 1),
            Form::Narrowed(narrowed) => (parent.form.beginning(), Some(&*parent.form), narrowed.links + 1),
        };
        if links > MAX_LINKS || !beginning.extents().fit(links, before, bound) {
            return None;
        }
        let form = Arc::new(Form::Narrowed(Narrowed {
            parent: parent.clone(),
            bound: *bound,
            links,
            whole: OnceLock::new(),
        }));
        Some(Authority { form })
    }

    /// The sets, by the same steps as if they had been made when this was derived. That they can be made was
    /// found out then, so nothing is counted here; if they cannot, nothing is the sure answer.
    fn make(&self) -> Authority {
        let rules = self.bound.to_rules();
        let made = build::rules(&rules.rules, &mut Budget::building(rules.pieces())).and_then(|sets| {
            let bound = Authority::from_sets(sets);
            self.parent
                .combine(&bound, Op::Intersect, &mut Budget::combining(MAX_CELLS))
        });
        made.unwrap_or_else(|TooComplex| Authority::nothing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // When an authority became one pointer, to compare it with its clone once made the sets of both.
    #[test]
    fn to_compare_clones_makes_no_sets() {
        let parent: Authority = "connect tcp 10.0.0.0/8:443".parse().unwrap();
        let child = parent
            .only(&"connect tcp 10.1.0.0/16:*".parse().unwrap())
            .unwrap();
        assert_eq!(child, child.clone());
        assert!(child.form.now().is_err());
        assert_ne!(child, parent);
        assert!(child.form.now().is_ok());
    }
}
