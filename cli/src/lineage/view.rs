//! What of a tree is shown: all of it, or so much that a picture stays readable.
//!
//! Guests decide how wide and how deep a tree is, so everything here is a loop, and what is shown has a
//! limit in each direction. What is left out is counted where it would stand.

use std::collections::{HashMap, VecDeque};

use super::plain::Plain;
use super::tree::{Capability, Fate, Tree};

/// Of how many children of one kind are shown, unless the user says otherwise.
pub(super) const CHILDREN: usize = 12;

/// How many capabilities one picture shows. A thousand would be higher than some programs can draw.
const MOST: usize = 300;

/// How far below the top capabilities are shown.
const DEEPEST: usize = 24;

/// Longer runs of capabilities that were derived one from another, and nothing else from any of them, are
/// shown by their ends.
const RUN: usize = 8;

/// What is shown, line by line: parents before children.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) tree: &'a Tree,
    pub(super) items: Vec<Item>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Item {
    /// The line of its parent.
    pub(super) parent: Option<usize>,
    pub(super) depth: usize,
    /// Whether it is the last of its parent's children.
    pub(super) is_last: bool,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The capability of that index.
    Capability(usize),
    /// Capabilities that are not shown.
    Folded(Folded),
}

/// Capabilities that are not shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Folded {
    pub(super) how: How,
    /// One of them, for its kind and holder.
    pub(super) like: usize,
    /// How many there are, without those below them.
    pub(super) count: usize,
    /// How many there are below those.
    pub(super) below: usize,
    pub(super) refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum How {
    /// Siblings of one kind.
    #[default]
    Like,
    /// A run, each derived from the one before; what follows is derived from the last of them.
    Run,
    /// Whatever there is below.
    Rest,
}

impl<'a> View<'a> {
    /// Shows what descends from some capabilities, and of children of one kind only so many; 0 stands for
    /// all of them.
    pub(super) fn new(tree: &'a Tree, tops: &[usize], children: usize) -> View<'a> {
        let children = if children == 0 { usize::MAX } else { children };
        let places = Choice::new(tree, children).choose(tops);
        View {
            tree,
            items: in_lines(&places),
        }
    }
}

/// Finds out what to show, the top first, so that what there is room for is used from there.
struct Choice<'a> {
    tree: &'a Tree,
    children: usize,
    /// How many more capabilities are shown.
    room: usize,
    below: Vec<Sum>,
    places: Vec<Place>,
    /// Capabilities whose children are next, and their places.
    open: VecDeque<(usize, usize)>,
}

/// What there is below a capability.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: usize,
    refused: u64,
}

/// Something that is shown, and the places of what is shown below it.
struct Place {
    what: What,
    depth: usize,
    below: Vec<usize>,
}

/// The place above the tops.
const ABOVE: usize = 0;

impl<'a> Choice<'a> {
    fn new(tree: &'a Tree, children: usize) -> Self {
        let mut below = vec![Sum::default(); tree.len()];
        // Children come after their parents.
        for (index, capability) in tree.all().iter().enumerate().rev() {
            if let Some(parent) = capability.parent {
                let Sum { count, refused } = below[index];
                below[parent].count += count + 1;
                below[parent].refused += refused + capability.refused;
            }
        }
        let above = Place {
            what: What::Folded(Folded::default()),
            depth: 0,
            below: Vec::new(),
        };
        Choice {
            tree,
            children,
            // Who asks for all children gets them.
            room: if children == usize::MAX { usize::MAX } else { MOST },
            below,
            places: vec![above],
            open: VecDeque::new(),
        }
    }

    fn choose(mut self, tops: &[usize]) -> Vec<Place> {
        self.show(ABOVE, tops);
        while let Some((place, index)) = self.open.pop_front() {
            let run = self.run(index);
            if run.len() > RUN {
                self.fold_run(place, &run);
            } else {
                self.show(place, &self.tree.get(index).children);
            }
        }
        self.places
    }

    /// The capabilities below this one for as long as each is an only child and like the one above it.
    fn run(&self, top: usize) -> Vec<usize> {
        let mut run = Vec::new();
        let mut above = self.tree.get(top);
        while let &[only] = above.children.as_slice() {
            let child = self.tree.get(only);
            if child.kind != above.kind || child.holder != above.holder || is_eventful(child) {
                break;
            }
            run.push(only);
            above = child;
        }
        run
    }

    /// Shows the last of a run, and how many come before it.
    fn fold_run(&mut self, place: usize, run: &[usize]) {
        let (Some(&first), Some(&last)) = (run.first(), run.last()) else {
            return;
        };
        let fold = Folded {
            how: How::Run,
            like: first,
            count: run.len() - 1,
            below: 0,
            refused: 0,
        };
        let fold = self.add(place, What::Folded(fold));
        self.show(fold, &[last]);
    }

    /// Shows children, as many as there is room for.
    fn show(&mut self, place: usize, children: &[usize]) {
        if children.is_empty() {
            return;
        }
        if self.room == 0 || self.places[place].depth >= DEEPEST {
            self.fold(place, How::Rest, children);
            return;
        }
        let mut chosen = self.some_of_each_kind(children);
        chosen.truncate(self.room);
        chosen.sort_unstable();
        self.room -= chosen.len();
        for &index in &chosen {
            let place = self.add(place, What::Capability(index));
            self.open.push_back((place, index));
        }
        let mut kinds: Vec<(&Plain, Vec<usize>)> = Vec::new();
        let mut rest = Vec::new();
        for &index in children {
            if chosen.binary_search(&index).is_ok() {
                continue;
            }
            let kind = &self.tree.get(index).kind;
            match kinds.iter().position(|(other, _)| *other == kind) {
                Some(known) => kinds[known].1.push(index),
                // Kinds are few, unless a log is made up.
                None if kinds.len() < CHILDREN => kinds.push((kind, vec![index])),
                None => rest.push(index),
            }
        }
        for (_, hidden) in kinds {
            self.fold(place, How::Like, &hidden);
        }
        self.fold(place, How::Rest, &rest);
    }

    /// Up to so many of each kind, special ones first.
    fn some_of_each_kind(&self, children: &[usize]) -> Vec<usize> {
        let mut counts = HashMap::new();
        for &index in children {
            *counts.entry(&self.tree.get(index).kind).or_insert(0) += 1;
        }
        // A line that says that there is one more takes as much room as that one.
        let limit = |count| {
            if count > self.children.saturating_add(1) {
                self.children
            } else {
                count
            }
        };
        let mut left: HashMap<_, usize> = counts
            .into_iter()
            .map(|(kind, count)| (kind, limit(count)))
            .collect();
        let (special, others): (Vec<usize>, Vec<usize>) = children
            .iter()
            .partition(|&&index| is_special(self.tree.get(index)));
        special
            .into_iter()
            .chain(others)
            .filter(|&index| match left.get_mut(&self.tree.get(index).kind) {
                None | Some(0) => false,
                Some(left) => {
                    *left -= 1;
                    true
                }
            })
            .collect()
    }

    fn fold(&mut self, place: usize, how: How, hidden: &[usize]) {
        let Some(&like) = hidden.first() else { return };
        let mut fold = Folded {
            how,
            like,
            count: hidden.len(),
            below: 0,
            refused: 0,
        };
        for &index in hidden {
            fold.below += self.below[index].count;
            fold.refused += self.below[index].refused + self.tree.get(index).refused;
        }
        self.add(place, What::Folded(fold));
    }

    fn add(&mut self, above: usize, what: What) -> usize {
        let place = self.places.len();
        self.places.push(Place {
            what,
            depth: self.places[above].depth + 1,
            below: Vec::new(),
        });
        self.places[above].below.push(place);
        place
    }
}

/// Whether a capability is worth being shown rather than its like.
fn is_special(capability: &Capability) -> bool {
    is_eventful(capability) || !capability.children.is_empty()
}

/// Whether more happened to a capability than that it was used and ended.
fn is_eventful(capability: &Capability) -> bool {
    let has_own_end = matches!(capability.fate, Fate::Revoked { .. } | Fate::Expired);
    has_own_end || capability.refused > 0 || capability.bound.is_some()
}

/// Places as lines, parents before children.
fn in_lines(places: &[Place]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::with_capacity(places.len());
    let mut open: Vec<(usize, Option<usize>, bool)> = vec![(ABOVE, None, true)];
    while let Some((place, parent, is_last)) = open.pop() {
        let Place { what, depth, below } = &places[place];
        let mut line = None;
        if place != ABOVE {
            line = Some(items.len());
            items.push(Item {
                parent,
                depth: depth - 1,
                is_last,
                what: what.clone(),
            });
        }
        let last = below.last();
        open.extend(
            below
                .iter()
                .rev()
                .map(|child| (*child, line, Some(child) == last)),
        );
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::read::read;

    /// A tree of Nets, given by number and parent.
    fn tree(nets: impl IntoIterator<Item = (usize, usize)>) -> Tree {
        let lines: String = nets
            .into_iter()
            .map(|(id, parent)| match parent {
                0 => format!("{{\"event\":\"grant\",\"id\":{id},\"kind\":\"Net\",\"label\":\"n\"}}\n"),
                _ => format!(
                    "{{\"event\":\"derive\",\"id\":{id},\"parent\":{parent},\"kind\":\"Net\",\"label\":\"n\",\"vat\":1}}\n"
                ),
            })
            .collect();
        read(lines.as_bytes()).unwrap().tree
    }

    /// The lines, as a depth and a number or what is folded.
    fn lines(tree: &Tree, children: usize) -> Vec<String> {
        let view = View::new(tree, tree.roots(), children);
        let lines = view.items.iter().map(|item| match &item.what {
            What::Capability(index) => format!("{} #{}", item.depth, tree.get(*index).id),
            What::Folded(fold) => format!("{} {:?} {} {}", item.depth, fold.how, fold.count, fold.below),
        });
        lines.collect()
    }

    #[test]
    fn parents_come_before_children_and_children_in_order() {
        let tree = tree([(1, 0), (2, 1), (3, 1), (4, 2), (5, 0), (6, 3)]);
        assert_eq!(lines(&tree, 0), ["0 #1", "1 #2", "2 #4", "1 #3", "2 #6", "0 #5"]);
        let view = View::new(&tree, tree.roots(), 0);
        let parents: Vec<_> = view.items.iter().map(|item| item.parent).collect();
        assert_eq!(parents, [None, Some(0), Some(1), Some(0), Some(3), None]);
        let last: Vec<_> = view.items.iter().map(|item| item.is_last).collect();
        assert_eq!(last, [false, false, true, true, true, true]);
        let only = View::new(&tree, &[1], 0);
        assert_eq!(only.items.len(), 2);
    }

    #[test]
    fn like_children_are_folded_and_special_ones_are_not() {
        // One of a thousand has a child of its own.
        let wide = (2..=1001).map(|id| (id, 1)).chain([(1002, 900)]);
        let wide = tree([(1, 0)].into_iter().chain(wide));
        assert_eq!(
            lines(&wide, 3),
            ["0 #1", "1 #2", "1 #3", "1 #900", "2 #1002", "1 Like 997 0"]
        );
        assert_eq!(lines(&wide, 0).len(), 1002);
        // One more than are shown is shown.
        assert_eq!(lines(&tree([(1, 0), (2, 1), (3, 1), (4, 1)]), 2).len(), 4);
        assert_eq!(
            lines(&tree([(1, 0), (2, 0), (3, 0), (4, 2)]), 1),
            ["0 #2", "1 #4", "0 Like 2 0"]
        );
    }

    #[test]
    fn long_runs_are_folded_and_short_ones_are_not() {
        let chain = |count| tree((1..=count).map(|id| (id, id - 1)));
        assert_eq!(
            lines(&chain(100_000), 12),
            ["0 #1", "1 #2", "2 Run 99997 0", "3 #100000"]
        );
        assert_eq!(lines(&chain(9), 12).len(), 9);
    }

    #[test]
    fn whatever_is_in_a_log_a_picture_has_limits() {
        // A comb: from each Net another Net and two more.
        let comb = tree((1..100_000).map(|id: usize| (id, ((id + 1) / 3 * 3).saturating_sub(2))));
        // A bush: twelve from each.
        let bush = tree((1..100_000).map(|id| (id, (id + 10) / 12)));
        for tree in [comb, bush] {
            let view = View::new(&tree, tree.roots(), CHILDREN);
            assert!(view.items.len() < 3 * MOST, "{}", view.items.len());
            assert!(view.items.iter().all(|item| item.depth <= DEEPEST));
            let all: usize = view
                .items
                .iter()
                .map(|item| match &item.what {
                    What::Capability(_) => 1,
                    What::Folded(fold) => fold.count + fold.below,
                })
                .sum();
            assert_eq!(all, tree.len(), "each is shown or counted");
        }
    }
}
