//! The derivation tree, as a log tells of it.

use std::collections::{BTreeMap, HashMap};

use super::plain::Plain;
use super::read::{Birth, Event, ProgramName, Refusal};

/// Capabilities, and programs, beyond this number are counted and no more: guests decide how many there
/// are.
const MOST: usize = 500_000;

/// All capabilities of a log, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    capabilities: Vec<Capability>,
    by_id: HashMap<u64, usize>,
    /// Those that were derived from nothing that the log knows.
    roots: Vec<usize>,
    programs: BTreeMap<u64, Program>,
    left_out: u64,
}

/// A program that ran.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) name: Option<ProgramName>,
    /// Calls that were refused because what they were given was no reference to a live capability.
    pub(super) astray: u64,
    has_ended: bool,
}

/// A capability and what became of it.
#[derive(Debug)]
pub(super) struct Capability {
    pub(super) id: u64,
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
    pub(super) kind: Plain,
    pub(super) label: Plain,
    pub(super) holder: Holder,
    pub(super) authority: Option<Plain>,
    /// What a Revoker ends.
    pub(super) target: Option<u64>,
    /// What it was used for first.
    pub(super) first_use: Option<Plain>,
    pub(super) uses: u64,
    pub(super) bytes: u64,
    pub(super) refused: u64,
    pub(super) first_refusal: Option<Plain>,
    pub(super) turned_away: u64,
    /// What the host narrowed it to, last.
    pub(super) bound: Option<Plain>,
    pub(super) fate: Fate,
    /// The number of what it and all below it ended with; what is derived from it later does too.
    felled: Option<u64>,
}

/// Who holds a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Holder {
    Host,
    Vat(u64),
}

impl From<Option<u64>> for Holder {
    fn from(vat: Option<u64>) -> Self {
        vat.map_or(Holder::Host, Holder::Vat)
    }
}

/// How a capability ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It had not when the log did.
    Held,
    /// Its holder gave it up.
    Closed,
    /// It was given up because its program had ended.
    EndedWithProgram,
    /// It was revoked by itself.
    Revoked { by: Holder },
    /// Its lease ended.
    Expired,
    /// It ended with what it was derived from, of that number.
    Fell { with: u64 },
}

impl Tree {
    /// How many capabilities there are.
    pub(crate) fn len(&self) -> usize {
        self.capabilities.len()
    }

    pub(super) fn get(&self, index: usize) -> &Capability {
        &self.capabilities[index]
    }

    pub(super) fn all(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Those that were derived from nothing.
    pub(super) fn roots(&self) -> &[usize] {
        &self.roots
    }

    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn programs(&self) -> &BTreeMap<u64, Program> {
        &self.programs
    }

    /// How many capabilities there were beyond those that are kept.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Adds what an event says. The error is what is wrong with it.
    pub(super) fn apply(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Start { vat, program } => {
                if self.programs.len() < MOST {
                    self.programs.entry(vat).or_default().name = program;
                }
            }
            Event::End { vat } => {
                if let Some(program) = self.programs.get_mut(&vat) {
                    program.has_ended = true;
                }
            }
            Event::Grant(birth) => self.add(birth, None)?,
            Event::Derive { birth, parent } => self.add(birth, Some(parent))?,
            Event::Refuse(refusal) => self.refuse(refusal),
            Event::Use { id, operation } => self.change(id, |capability| {
                capability.uses += 1;
                capability.first_use.get_or_insert(operation);
            }),
            Event::Moved { id, bytes } => self.change(id, |capability| {
                capability.bytes = capability.bytes.saturating_add(bytes);
            }),
            Event::TurnAway { id } => self.change(id, |capability| capability.turned_away += 1),
            Event::Narrow { id, bound } => self.change(id, |capability| capability.bound = Some(bound)),
            Event::Close { id } => self.close(id),
            Event::Expire { id } => self.fell(id, Fate::Expired),
            Event::Revoke { id, by } => self.fell(id, Fate::Revoked { by: by.into() }),
        }
        Ok(())
    }

    /// The log may have begun late, so that it tells of capabilities whose beginning it does not know.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Capability)) {
        if let Some(&index) = self.by_id.get(&id) {
            change(&mut self.capabilities[index]);
        }
    }

    fn add(&mut self, birth: Birth, parent: Option<u64>) -> Result<(), String> {
        let id = birth.id;
        if self.by_id.contains_key(&id) {
            return Err(format!(
                "the capability #{id} begins a second time; a log is of one process"
            ));
        }
        // Numbers are given in the order of time, so this is also why there is no circle.
        if let Some(parent) = parent.filter(|&parent| parent >= id) {
            return Err(format!(
                "the capability #{id} is derived from #{parent}, which is not older"
            ));
        }
        if self.capabilities.len() >= MOST {
            self.left_out += 1;
            return Ok(());
        }
        let index = self.capabilities.len();
        let parent = parent.and_then(|parent| self.find(parent));
        let mut authority = birth.authority;
        let mut felled = None;
        match parent.map(|parent| &mut self.capabilities[parent]) {
            Some(above) => {
                above.children.push(index);
                felled = above.felled;
                // Most are derived with what their parent has; kept once.
                if authority == above.authority {
                    authority.clone_from(&above.authority);
                }
            }
            None => self.roots.push(index),
        }
        self.capabilities.push(Capability {
            id,
            parent,
            children: Vec::new(),
            kind: birth.kind,
            label: birth.label,
            holder: birth.vat.into(),
            authority,
            target: birth.target,
            first_use: None,
            uses: 0,
            bytes: 0,
            refused: 0,
            first_refusal: None,
            turned_away: 0,
            bound: None,
            fate: felled.map_or(Fate::Held, |with| Fate::Fell { with }),
            felled,
        });
        self.by_id.insert(id, index);
        Ok(())
    }

    fn refuse(&mut self, refusal: Refusal) {
        // A program that drops what has ended says so, as it should.
        if refusal.import.as_str() == "cap_close" {
            return;
        }
        let Refusal { id, vat, import, why } = refusal;
        match id {
            Some(id) => self.change(id, |capability| {
                capability.refused += 1;
                capability
                    .first_refusal
                    .get_or_insert_with(|| Plain::new(&format!("{import}: {why}")));
            }),
            None => {
                if let Some(program) = self.programs.get_mut(&vat) {
                    program.astray += 1;
                }
            }
        }
    }

    fn close(&mut self, id: u64) {
        let Some(index) = self.find(id) else { return };
        let capability = &mut self.capabilities[index];
        if capability.fate != Fate::Held {
            return;
        }
        let has_program_ended = match capability.holder {
            Holder::Host => false,
            Holder::Vat(vat) => self.programs.get(&vat).is_some_and(|program| program.has_ended),
        };
        capability.fate = match has_program_ended {
            true => Fate::EndedWithProgram,
            false => Fate::Closed,
        };
    }

    /// Ends a capability and all below it. Each is come to once: what has ended is not walked over again.
    fn fell(&mut self, id: u64, fate: Fate) {
        let Some(top) = self.find(id) else { return };
        if self.capabilities[top].felled.is_some() {
            return;
        }
        let mut open = vec![top];
        while let Some(index) = open.pop() {
            let capability = &mut self.capabilities[index];
            if capability.felled.is_some() {
                continue;
            }
            capability.felled = Some(id);
            if index == top {
                // Also of one that was given up before: that it was revoked is why the others ended.
                capability.fate = fate;
            } else if capability.fate == Fate::Held {
                capability.fate = Fate::Fell { with: id };
            }
            open.extend(&capability.children);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::read::read;

    /// A tree from events in short: a word and its fields.
    fn tree(events: &[&str]) -> Tree {
        let lines: String = events.iter().map(|event| format!("{}\n", line(event))).collect();
        read(lines.as_bytes()).unwrap().tree
    }

    fn line(event: &str) -> String {
        let words: Vec<&str> = event.split(' ').collect();
        match *words {
            ["grant", id] => format!(r#"{{"event":"grant","id":{id},"kind":"Net","label":"net"}}"#),
            ["derive", id, parent, vat] => format!(
                r#"{{"event":"derive","id":{id},"parent":{parent},"vat":{vat},"kind":"Net","label":"net"}}"#
            ),
            ["refuse", import, id] => {
                format!(r#"{{"event":"refuse","id":{id},"vat":1,"import":"{import}","why":"no"}}"#)
            }
            ["end" | "start", vat] => format!(r#"{{"event":"{}","vat":{vat}}}"#, words[0]),
            [event, id] => format!(r#"{{"event":"{event}","id":{id}}}"#),
            ["revoke", id, vat] => format!(r#"{{"event":"revoke","id":{id},"vat":{vat}}}"#),
            _ => panic!("{event}"),
        }
    }

    fn fates(tree: &Tree) -> Vec<Fate> {
        tree.all().iter().map(|capability| capability.fate).collect()
    }

    use Fate::{Closed, EndedWithProgram, Expired, Fell, Held, Revoked};

    #[test]
    fn what_is_revoked_ends_with_all_below_it_and_nothing_else() {
        let events = [
            "grant 1",
            "derive 2 1 1",
            "derive 3 2 1",
            "derive 4 3 2",
            "derive 5 1 1",
            "close 3",
        ];
        let by_vat = [&events[..], &["revoke 2 7"]].concat();
        let by = Holder::Vat(7);
        assert_eq!(
            fates(&tree(&by_vat)),
            [Held, Revoked { by }, Closed, Fell { with: 2 }, Held]
        );
        // A second time changes nothing; from further above it reaches the rest.
        let twice = [&by_vat[..], &["revoke 2", "revoke 1"]].concat();
        let by_host = Revoked { by: Holder::Host };
        let fell = Fell { with: 1 };
        assert_eq!(
            fates(&tree(&twice)),
            [by_host, Revoked { by }, Closed, Fell { with: 2 }, fell]
        );
    }

    // What was given up before may still be revoked, and then it is why others ended.
    #[test]
    fn what_was_closed_before_is_shown_as_revoked() {
        let tree = tree(&["grant 1", "derive 2 1 1", "derive 3 2 1", "close 2", "revoke 2 1"]);
        assert_eq!(
            fates(&tree),
            [Held, Revoked { by: Holder::Vat(1) }, Fell { with: 2 }]
        );
    }

    #[test]
    fn a_lease_ends_what_is_below_it() {
        let tree = tree(&["grant 1", "derive 2 1 1", "derive 3 2 1", "expire 2", "close 3"]);
        assert_eq!(fates(&tree), [Held, Expired, Fell { with: 2 }]);
    }

    // Another thread may have revoked before the one that derived has written its line.
    #[test]
    fn what_is_derived_from_what_has_ended_ended_with_it() {
        let tree = tree(&[
            "grant 1",
            "derive 2 1 1",
            "revoke 1",
            "derive 3 2 1",
            "derive 4 3 1",
        ]);
        assert_eq!(fates(&tree)[1..], [Fell { with: 1 }; 3]);
    }

    #[test]
    fn given_up_by_a_program_and_by_its_end_are_told_apart() {
        let tree = tree(&[
            "grant 1",
            "start 1",
            "start 2",
            "derive 2 1 1",
            "derive 3 1 1",
            "derive 4 1 2",
            "close 2",
            "end 1",
            "close 3",
            "close 4",
        ]);
        assert_eq!(fates(&tree), [Held, Closed, EndedWithProgram, Closed]);
    }

    #[test]
    fn refusals_are_counted_where_they_belong() {
        let tree = tree(&[
            "grant 1",
            "start 1",
            "refuse net_connect 1",
            "refuse net_only 1",
            "refuse cap_close 1",
            "refuse net_connect null",
            "refuse net_connect 99",
        ]);
        let net = tree.get(0);
        assert_eq!(net.refused, 2);
        assert_eq!(net.first_refusal.as_ref().unwrap().as_str(), "net_connect: no");
        assert_eq!(tree.programs()[&1].astray, 1);
    }

    #[test]
    fn a_log_may_begin_late() {
        let tree = tree(&["close 1", "derive 3 2 1", "derive 4 3 1", "revoke 2"]);
        assert_eq!((tree.roots(), fates(&tree)), (&[0][..], vec![Held, Held]));
    }

    // Guests decide how many there are.
    #[test]
    fn what_is_kept_has_a_limit() {
        let mut tree = Tree::default();
        let word = Plain::new("Net");
        let last = MOST as u64 + 7;
        for id in 1..=last {
            let birth = Birth {
                id,
                kind: word.clone(),
                label: word.clone(),
                vat: None,
                authority: None,
                target: None,
            };
            let begins = match id {
                1 => Event::Grant(birth),
                _ => Event::Derive { birth, parent: 1 },
            };
            tree.apply(begins).unwrap();
            let started = Event::Start {
                vat: id,
                program: None,
            };
            tree.apply(started).unwrap();
        }
        tree.apply(Event::Close { id: last }).unwrap();
        assert_eq!(
            (tree.len(), tree.left_out(), tree.programs.len()),
            (MOST, 7, MOST)
        );
    }

    #[test]
    fn long_chains_need_no_stack() {
        let chain = (2..50_000).map(|id| format!("derive {id} {} 1", id - 1));
        let revokes = (1..50_000).rev().step_by(2).map(|id| format!("revoke {id}"));
        let again = (0..10_000).map(|_| "revoke 1".to_owned());
        let events: Vec<String> = std::iter::once("grant 1".to_owned())
            .chain(chain)
            .chain(revokes)
            .chain(again)
            .collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        assert!(fates(&tree(&events)).iter().all(|&fate| fate != Held));
    }
}
