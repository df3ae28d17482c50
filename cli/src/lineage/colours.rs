//! What colours stand for. Nothing is said by a colour alone: the words are always beside it.

use super::tree::{Fate, Holder};

/// How a capability is drawn, by how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) fill: &'static str,
    pub(super) line: &'static str,
    pub(super) text: &'static str,
    pub(super) dashed: bool,
}

const HELD: Look = Look {
    fill: "#e6f4ea",
    line: "#2e7d4f",
    text: "#1d5c38",
    dashed: false,
};

const GIVEN_UP: Look = Look {
    fill: "#eef0f2",
    line: "#8a94a0",
    text: "#4c5661",
    dashed: false,
};

const REVOKED: Look = Look {
    fill: "#fbdcd9",
    line: "#b3261e",
    text: "#8c1d18",
    dashed: false,
};

const FELL: Look = Look {
    fill: "#fdf1f0",
    line: "#b3261e",
    text: "#8c1d18",
    dashed: true,
};

const EXPIRED: Look = Look {
    fill: "#fdeccd",
    line: "#a86200",
    text: "#744400",
    dashed: false,
};

pub(super) fn look(fate: Fate) -> Look {
    match fate {
        Fate::Held => HELD,
        Fate::Closed | Fate::EndedWithProgram => GIVEN_UP,
        Fate::Revoked { .. } => REVOKED,
        Fate::Fell { .. } => FELL,
        Fate::Expired => EXPIRED,
    }
}

/// Fills and lines of frames: told apart by those who see few colours, too.
const FRAMES: [(&str, &str); 7] = [
    ("#e8f1fa", "#0072b2"),
    ("#fdf1e0", "#b36b00"),
    ("#e6f5f0", "#00805e"),
    ("#f9ebf3", "#a8497c"),
    ("#f0eefa", "#5b4bb3"),
    ("#f8f6dc", "#7a6f00"),
    ("#e4f3f9", "#2a7f9e"),
];

/// The fill and the line of a holder's frame.
pub(super) fn frame(holder: Holder) -> (&'static str, &'static str) {
    match holder {
        Holder::Host => ("#f6f7f8", "#5d6772"),
        Holder::Vat(vat) => FRAMES[usize::try_from(vat % FRAMES.len() as u64).unwrap_or(0)],
    }
}
