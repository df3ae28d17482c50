//! Where everything stands in a picture.
//!
//! Each capability is a card on a line of its own, to the right of and below what it was derived from:
//! so nothing overlaps, whatever the tree's shape, and there is room for text. A frame is around what one
//! program holds; what it handed on to another program is in a frame inside.

use super::tree::Holder;
use super::view::{View, What};
use super::words;

/// The width of a picture, unless the tree is too deep for it.
const WIDTH: u32 = 1000;
/// The room around everything.
pub(super) const MARGIN: u32 = 20;
/// How far children stand to the right of their parent.
const INDENT: u32 = 30;
/// The room between a frame and what is in it.
const PADDING: u32 = 12;
/// The room between lines.
const GAP: u32 = 8;
/// The height of a frame's title.
const FRAME_TITLE: u32 = 26;
/// How much narrower a frame is than the one around it.
const NARROWER: u32 = PADDING;
/// The least width of a card.
const CARD: u32 = 440;

/// A rectangle, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The frame around what one program holds.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) holder: Holder,
    pub(super) area: Area,
}

#[derive(Debug)]
pub(super) struct Layout {
    /// Outer ones first.
    pub(super) frames: Vec<Frame>,
    /// One for each item of the view.
    pub(super) cards: Vec<Area>,
    pub(super) width: u32,
    /// Where the tree ends.
    pub(super) bottom: u32,
}

/// Lays a view out below `top`.
pub(super) fn lay_out(view: &View<'_>, top: u32) -> Layout {
    let mut pen = Pen {
        y: top,
        frames: Vec::new(),
        open: Vec::new(),
        cards: Vec::with_capacity(view.items.len()),
        levels: Vec::with_capacity(view.items.len()),
    };
    for item in &view.items {
        let parent = item.parent.map(|parent| pen.cards[parent]);
        let holder = match item.what {
            What::Capability(index) => Some(view.tree.get(index).holder),
            // It stands with those that are shown.
            What::Folded(_) => None,
        };
        pen.close(item.depth, holder);
        let indented = parent.map_or(MARGIN, |parent| parent.x + INDENT);
        let x = match pen.open.last() {
            Some(frame) if holder.is_none_or(|holder| frame.holder == holder) => {
                if frame.depth == item.depth {
                    frame.x + PADDING
                } else {
                    indented
                }
            }
            _ => match holder {
                None => indented,
                Some(holder) => pen.begin(item.depth, holder, indented) + PADDING,
            },
        };
        pen.put(x, height(view, &item.what));
    }
    pen.close(0, None);
    pen.finish()
}

/// The height of a line.
fn height(view: &View<'_>, what: &What) -> u32 {
    match *what {
        What::Folded(_) => 22,
        What::Capability(index) => {
            let capability = view.tree.get(index);
            let has_purpose = !words::purpose(capability).is_empty();
            28 + if has_purpose { 18 } else { 0 }
                + if words::refusals(capability).is_some() {
                    18
                } else {
                    0
                }
        }
    }
}

struct Pen {
    y: u32,
    frames: Vec<Frame>,
    /// The frames that are not closed yet.
    open: Vec<Open>,
    cards: Vec<Area>,
    /// In how many frames each card is.
    levels: Vec<u32>,
}

struct Open {
    depth: usize,
    holder: Holder,
    x: u32,
    frame: usize,
}

impl Pen {
    /// Closes the frames that something at that depth is not in. Neighbours of one holder share a frame.
    fn close(&mut self, depth: usize, holder: Option<Holder>) {
        let belongs =
            |frame: &Open| frame.depth < depth || (frame.depth == depth && holder == Some(frame.holder));
        while let Some(frame) = self.open.pop_if(|frame| !belongs(frame)) {
            let area = &mut self.frames[frame.frame].area;
            area.height = self.y - GAP + PADDING - area.y;
            self.y = area.y + area.height + GAP;
        }
    }

    /// Begins a frame, and returns where.
    fn begin(&mut self, depth: usize, holder: Holder, x: u32) -> u32 {
        self.open.push(Open {
            depth,
            holder,
            x,
            frame: self.frames.len(),
        });
        let area = Area {
            x,
            y: self.y,
            // Its level for now.
            width: self.level(),
            height: 0,
        };
        self.frames.push(Frame { holder, area });
        self.y += FRAME_TITLE;
        x
    }

    fn put(&mut self, x: u32, height: u32) {
        self.cards.push(Area {
            x,
            y: self.y,
            width: 0,
            height,
        });
        self.levels.push(self.level());
        self.y += height + GAP;
    }

    fn level(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    /// Gives everything its width, now that all is known.
    fn finish(mut self) -> Layout {
        let inset = |level: u32| MARGIN + NARROWER * level.saturating_sub(1);
        let needs = self.cards.iter().zip(&self.levels);
        let needs = needs.map(|(card, &level)| card.x + CARD + PADDING + inset(level));
        let width = needs.max().unwrap_or(0).max(WIDTH);
        for (card, &level) in self.cards.iter_mut().zip(&self.levels) {
            card.width = width - inset(level) - PADDING - card.x;
        }
        for Frame { area, .. } in &mut self.frames {
            area.width = width - inset(area.width) - area.x;
        }
        Layout {
            frames: self.frames,
            cards: self.cards,
            width,
            bottom: self.y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::read::read;
    use crate::lineage::tree::Tree;

    /// A tree of Nets, given by number, parent and vat.
    fn tree(nets: &[(u64, u64, u64)]) -> Tree {
        let lines: String = nets
            .iter()
            .map(|(id, parent, vat)| match parent {
                0 => format!("{{\"event\":\"grant\",\"id\":{id},\"kind\":\"Net\",\"label\":\"n\"}}\n"),
                _ => format!(
                    "{{\"event\":\"derive\",\"id\":{id},\"parent\":{parent},\"kind\":\"Net\",\"label\":\"n\",\"vat\":{vat}}}\n"
                ),
            })
            .collect();
        read(lines.as_bytes()).unwrap().tree
    }

    fn right(area: Area) -> u32 {
        area.x + area.width
    }

    fn bottom(area: Area) -> u32 {
        area.y + area.height
    }

    fn contains(outer: Area, inner: Area) -> bool {
        outer.x < inner.x && outer.y < inner.y && right(inner) < right(outer) && bottom(inner) < bottom(outer)
    }

    fn is_apart(one: Area, other: Area) -> bool {
        right(one) <= other.x || right(other) <= one.x || bottom(one) <= other.y || bottom(other) <= one.y
    }

    /// Lays a tree out and checks what holds for every tree.
    fn checked(tree: &Tree, children: usize) -> Layout {
        let view = View::new(tree, tree.roots(), children);
        let layout = lay_out(&view, 50);
        for (index, &card) in layout.cards.iter().enumerate() {
            assert!(card.width >= CARD && right(card) < layout.width && bottom(card) < layout.bottom);
            let others = &layout.cards[index + 1..];
            assert!(others.iter().all(|&other| is_apart(card, other)), "{card:?}");
            if let Some(parent) = view.items[index].parent.map(|parent| layout.cards[parent]) {
                assert!(parent.x < card.x && bottom(parent) < card.y);
            }
            let What::Capability(capability) = view.items[index].what else {
                continue;
            };
            let inner = layout
                .frames
                .iter()
                .rfind(|frame| contains(frame.area, card))
                .unwrap();
            assert_eq!(inner.holder, tree.get(capability).holder, "{card:?}");
        }
        for (index, frame) in layout.frames.iter().enumerate() {
            for other in &layout.frames[index + 1..] {
                assert!(
                    contains(frame.area, other.area) || is_apart(frame.area, other.area),
                    "{other:?}"
                );
            }
            let apart = |&card: &Area| contains(frame.area, card) || is_apart(frame.area, card);
            assert!(layout.cards.iter().all(apart), "{frame:?}");
        }
        layout
    }

    #[test]
    fn nothing_overlaps_and_each_is_in_its_holders_frame() {
        let layout = checked(
            &tree(&[
                (1, 0, 0),
                (2, 1, 1),
                (3, 2, 1),
                (4, 3, 2),
                (5, 4, 1),
                (6, 2, 3),
                (7, 1, 1),
            ]),
            0,
        );
        // The host, 1, 2 in it, 1 again in that, 3; the last is a neighbour of the first of 1.
        let holders: Vec<_> = layout.frames.iter().map(|frame| frame.holder).collect();
        assert_eq!(
            holders,
            [
                Holder::Host,
                Holder::Vat(1),
                Holder::Vat(2),
                Holder::Vat(1),
                Holder::Vat(3)
            ]
        );
        assert_eq!(layout.width, WIDTH);
        checked(
            &tree(&[(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 2, 1), (5, 2, 2), (6, 2, 1)]),
            0,
        );
        checked(&tree(&[]), 0);
    }

    #[test]
    fn a_deep_tree_widens_the_picture() {
        let deep: Vec<_> = (1..30).map(|id| (id, id - 1, id)).collect();
        assert!(checked(&tree(&deep), 0).width > WIDTH);
    }

    #[test]
    fn no_tree_of_many_shapes_overlaps() {
        // A small generator; each run is the same.
        let mut seed = 1_u64;
        let mut below = |limit: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        for _ in 0..300 {
            let count = 1 + below(25);
            let nets: Vec<_> = (1..=count).map(|id| (id, below(id), 1 + below(3))).collect();
            checked(&tree(&nets), 0);
            checked(&tree(&nets), 1);
        }
    }
}
