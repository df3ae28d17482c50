//! The tree in the language of Graphviz.

use std::fmt::Write;

use super::colours::{self, Look};
use super::plain::{cut, dot, shorten};
use super::tree::{Capability, Fate, Tree};
use super::view::{View, What};
use super::words;

/// The columns of a line in a node.
const COLUMNS: usize = 48;

pub(super) fn render(view: &View<'_>) -> String {
    let mut out = String::from(HEAD);
    for (number, item) in view.items.iter().enumerate() {
        let mut edge = "";
        let node = match &item.what {
            What::Capability(index) => {
                let child = view.tree.get(*index);
                if matches!(child.fate, Fate::Fell { .. }) {
                    edge = " [style=dashed, color=\"#b3261e\"]";
                }
                capability(view.tree, child)
            }
            What::Folded(fold) => format!(
                "label=\"{}\", shape=plaintext, style=\"\"",
                dot(&words::folded(view.tree, fold))
            ),
        };
        // Writing to a string can't fail.
        let _ = writeln!(out, "  n{number} [{node}];");
        if let Some(parent) = item.parent {
            let _ = writeln!(out, "  n{parent} -> n{number}{edge};");
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
  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=11, penwidth=1.6];
  edge [arrowhead=none, color=\"#8a94a0\"];
";

fn capability(tree: &Tree, capability: &Capability) -> String {
    let mut lines = vec![
        format!("{} {}", words::title(capability), capability.label),
        shorten(&words::purpose(capability), COLUMNS),
        words::holder(tree, capability.holder),
        words::fate(tree, capability),
    ];
    lines.extend(words::refusals(capability));
    lines.retain(|line| !line.is_empty());
    let label: Vec<_> = lines.iter().map(|line| cut(line, COLUMNS)).collect();
    let Look { fill, dashed, .. } = colours::look(capability.fate);
    // The ground says how it ended, the border who held it.
    let (_, line) = colours::frame(capability.holder);
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
