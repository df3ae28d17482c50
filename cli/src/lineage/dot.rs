//! The tree in the language of Graphviz.

use std::fmt::Write;

use super::colours::{self, Look};
use super::plain::{cut, dot, shorten};
use super::tree::{Capability, Tree};
use super::view::{View, What};
use super::words;

/// The columns of a line in a node.
const COLUMNS: usize = 48;

pub(super) fn render(view: &View<'_>) -> String {
    let mut out = String::from(HEAD);
    for (number, item) in view.items.iter().enumerate() {
        let node = match &item.what {
            What::Capability(index) => capability(view.tree, view.tree.get(*index)),
            What::Folded(fold) => format!(
                "label=\"{}\", shape=plaintext, style=\"\"",
                dot(&words::folded(view.tree, fold))
            ),
        };
        // Writing to a string can't fail.
        let _ = writeln!(out, "  n{number} [{node}];");
        if let Some(parent) = item.parent {
            let _ = writeln!(out, "  n{parent} -> n{number};");
        }
    }
    let summary = words::summary(view.tree).join("\n");
    let _ = writeln!(out, "  label=\"{}\";\n}}", dot(&summary));
    out
}

const HEAD: &str = "\
digraph lineage {
  rankdir=LR;
  bgcolor=white;
  fontname=\"sans-serif\";
  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=11];
  edge [arrowhead=none, color=\"#8a94a0\"];
";

fn capability(tree: &Tree, capability: &Capability) -> String {
    let mut lines = vec![
        format!("{} {}", words::title(capability), capability.label),
        shorten(&words::purpose(capability), COLUMNS),
        words::holder(tree, capability.holder),
        words::fate(tree, capability),
    ];
    lines.extend(words::refused(capability.refused));
    lines.retain(|line| !line.is_empty());
    let label: Vec<_> = lines.iter().map(|line| cut(line, COLUMNS)).collect();
    let Look {
        fill, line, dashed, ..
    } = colours::look(capability.fate);
    let style = if dashed {
        "rounded,filled,dashed"
    } else {
        "rounded,filled"
    };
    format!(
        "label=\"{}\", tooltip=\"{}\", fillcolor=\"{fill}\", color=\"{line}\", style=\"{style}\"",
        dot(&label.join("\n")),
        dot(&words::details(tree, capability).join("\n")),
    )
}
