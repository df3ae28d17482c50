//! The tree for a terminal.

use std::fmt::Write;

use super::plain::{cut, shorten};
use super::tree::{Capability, Tree};
use super::view::{View, What};
use super::words;

/// The columns that an authority may take.
const AUTHORITY: usize = 64;

/// The columns that a reason may take.
const REASON: usize = 96;

pub(super) fn render(view: &View<'_>) -> String {
    let mut out = String::new();
    // For each depth above the line, whether more is to come there.
    let mut open: Vec<bool> = Vec::new();
    for item in &view.items {
        open.truncate(item.depth);
        let mut margin: String = open
            .iter()
            .skip(1)
            .map(|&more| if more { "│  " } else { "   " })
            .collect();
        open.push(!item.is_last);
        let corner = match (item.depth, item.is_last) {
            (0, _) => "",
            (_, true) => "└─ ",
            (_, false) => "├─ ",
        };
        match &item.what {
            What::Folded(fold) => line(&mut out, &margin, corner, &words::folded(view.tree, fold)),
            What::Capability(index) => {
                let capability = view.tree.get(*index);
                line(&mut out, &margin, corner, &describe(view.tree, capability));
                if let Some(refusals) = words::refusals(capability) {
                    if item.depth > 0 {
                        margin.push_str(if item.is_last { "   " } else { "│  " });
                    }
                    let below = if capability.children.is_empty() {
                        "   "
                    } else {
                        "│  "
                    };
                    let reason = format!("! {}", cut(&refusals, REASON));
                    line(&mut out, &margin, below, &reason);
                }
            }
        }
    }
    if !view.items.is_empty() {
        out.push('\n');
    }
    for words in words::summary(view.tree) {
        line(&mut out, "", "", &words);
    }
    out
}

fn line(out: &mut String, margin: &str, corner: &str, text: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(out, "{margin}{corner}{text}");
}

fn describe(tree: &Tree, capability: &Capability) -> String {
    let mut parts = vec![format!("{} `{}`", words::title(capability), capability.label)];
    let purpose = words::purpose(capability);
    if !purpose.is_empty() {
        parts.push(shorten(&purpose, AUTHORITY));
    }
    parts.push(words::holder(tree, capability.holder));
    parts.push(words::fate(tree, capability));
    if capability.bound.is_some() {
        parts.push("narrowed by the host".to_owned());
    }
    parts.join(" · ")
}
