//! The tree as a picture that needs no other program. It has a background of its own, so it can be read on
//! light and on dark pages, and no scripts.

use std::fmt::{self, Write};

use super::colours::{self, Look};
use super::layout::{Area, Frame, Layout, MARGIN, lay_out};
use super::plain::{cut, shorten, width, xml};
use super::tree::{Capability, Fate, Holder, Tree};
use super::view::{View, What};
use super::words;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#1f2730}
.head{font-size:18px;font-weight:600}
.small{font-size:11.5px;fill:#4c5661}
.frame{font-size:11.5px;font-weight:600}
.name{font-size:13px;font-weight:600}
.label{font-weight:400;font-size:12px;fill:#4c5661}
.rules{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11.5px;fill:#1f2730}
.why{font-size:11px;fill:#8c1d18}
.fold{font-style:italic;fill:#4c5661}
.pill{font-size:11px;text-anchor:middle}
.link{fill:none;stroke:#8a94a0;stroke-width:1.4}
.fell{stroke:#b3261e;stroke-dasharray:4 3}";

/// How wide a character of each size is taken to be, in hundredths of a pixel.
const RULES: u32 = 700;
const SMALL: u32 = 600;
const NAME: u32 = 760;

/// The height of a summary's line, and of a legend's.
const LINE: u32 = 17;

pub(super) fn render(view: &View<'_>) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = draw(&mut out, view);
    out
}

fn draw(out: &mut String, view: &View<'_>) -> fmt::Result {
    let summary = words::summary(view.tree);
    let top = MARGIN + 32 + LINE * length(&summary) + 8;
    let layout = lay_out(view, top);
    let fates = fates(view);
    let height = layout.bottom + 22 + LINE + MARGIN;
    let Layout { width, .. } = layout;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Derivation tree of capabilities\">"
    )?;
    writeln!(out, "<style>{STYLE}</style>")?;
    writeln!(
        out,
        "<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\" stroke=\"#d5dade\"/>"
    )?;
    let mut y = MARGIN + 16;
    writeln!(
        out,
        "<text class=\"head\" x=\"{MARGIN}\" y=\"{y}\">Derivation tree</text>"
    )?;
    y += 6;
    for line in &summary {
        y += LINE;
        writeln!(
            out,
            "<text class=\"small\" x=\"{MARGIN}\" y=\"{y}\">{}</text>",
            xml(line)
        )?;
    }
    for area in &layout.frames {
        frame(out, view.tree, area)?;
    }
    links(out, view, &layout.cards)?;
    for (item, &card) in view.items.iter().zip(&layout.cards) {
        match &item.what {
            What::Capability(index) => capability(out, view.tree, view.tree.get(*index), card)?,
            What::Folded(fold) => writeln!(
                out,
                "<text class=\"fold\" x=\"{}\" y=\"{}\">{}</text>",
                card.x + 8,
                card.y + 15,
                xml(&words::folded(view.tree, fold))
            )?,
        }
    }
    legend(out, &fates, layout.bottom + 10)?;
    writeln!(out, "</svg>")
}

fn frame(out: &mut String, tree: &Tree, frame: &Frame) -> fmt::Result {
    let (fill, line) = colours::frame(frame.holder);
    let Area { x, y, width, height } = frame.area;
    let title = match frame.holder {
        Holder::Host => "held by the host".to_owned(),
        vat => format!("held by {}", words::holder(tree, vat)),
    };
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"{fill}\" \
         stroke=\"{line}\" stroke-width=\"1.2\"/>\n\
         <text class=\"frame\" x=\"{}\" y=\"{}\" style=\"fill:{line}\">{}</text>",
        x + 12,
        y + 18,
        xml(&fit(&title, width.saturating_sub(24), NAME)),
    )
}

/// Lines from below each parent's left end to its children.
fn links(out: &mut String, view: &View<'_>, cards: &[Area]) -> fmt::Result {
    // How far each card's line was drawn by its earlier children: drawn twice, dashes would not be dashes.
    let mut drawn: Vec<u32> = cards.iter().map(|card| card.y + card.height).collect();
    for (item, child) in view.items.iter().zip(cards) {
        let Some(parent) = item.parent else { continue };
        let class = match item.what {
            What::Capability(index) if matches!(view.tree.get(index).fate, Fate::Fell { .. }) => "link fell",
            _ => "link",
        };
        let (x, from) = (cards[parent].x + 14, drawn[parent]);
        let y = child.y + child.height.min(28) / 2;
        let bend = y - 6;
        writeln!(
            out,
            "<path class=\"{class}\" d=\"M{x} {from}V{bend}Q{x} {y} {} {y}H{}\"/>",
            x + 6,
            child.x
        )?;
        drawn[parent] = bend;
    }
    Ok(())
}

fn capability(out: &mut String, tree: &Tree, capability: &Capability, area: Area) -> fmt::Result {
    let Area { x, y, width, height } = area;
    let look = colours::look(capability.fate);
    let dashes = if look.dashed {
        " stroke-dasharray=\"5 3\""
    } else {
        ""
    };
    writeln!(
        out,
        "<g><title>{}</title>",
        xml(&words::details(tree, capability).join("\n"))
    )?;
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#ffffff\" \
         stroke=\"{}\" stroke-width=\"1.2\"{dashes}/>",
        look.line
    )?;
    let mut right = x + width - 6;
    right = pill(out, right, y + 5, &words::fate(tree, capability), look)?;
    if capability.bound.is_some() {
        right = pill(
            out,
            right,
            y + 5,
            "narrowed by the host",
            colours::look(Fate::Expired),
        )?;
    }
    if capability.turned_away > 0 {
        let text = format!("{} turned away", capability.turned_away);
        right = pill(out, right, y + 5, &text, colours::look(Fate::Closed))?;
    }
    let name = words::title(capability);
    let room = right.saturating_sub(x + 10);
    let name = fit(&name, room, NAME);
    let taken = pixels(&name, NAME) + 8;
    writeln!(
        out,
        "<text class=\"name\" x=\"{}\" y=\"{}\">{}<tspan class=\"label\" dx=\"8\">{}</tspan></text>",
        x + 10,
        y + 19,
        xml(&name),
        xml(&fit(capability.label.as_str(), room.saturating_sub(taken), NAME)),
    )?;
    let mut line = y + 37;
    let purpose = words::purpose(capability);
    if !purpose.is_empty() {
        let text = shorten(&purpose, columns(width - 20, RULES));
        writeln!(
            out,
            "<text class=\"rules\" x=\"{}\" y=\"{line}\">{}</text>",
            x + 10,
            xml(&text)
        )?;
        line += 18;
    }
    if let Some(refusals) = words::refusals(capability) {
        let text = fit(&refusals, width - 20, SMALL);
        writeln!(
            out,
            "<text class=\"why\" x=\"{}\" y=\"{line}\">{}</text>",
            x + 10,
            xml(&text)
        )?;
    }
    writeln!(out, "</g>")
}

/// A word with a ground of its own, to the left of `right`; returns where it begins.
fn pill(out: &mut String, right: u32, y: u32, text: &str, look: Look) -> Result<u32, fmt::Error> {
    let text = cut(text, 36);
    let width = pixels(&text, SMALL) + 16;
    let x = right.saturating_sub(width);
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"18\" rx=\"9\" fill=\"{}\"/>\
         <text class=\"pill\" x=\"{}\" y=\"{}\" style=\"fill:{}\">{}</text>",
        look.fill,
        x + width / 2,
        y + 13,
        look.text,
        xml(&text)
    )?;
    Ok(x.saturating_sub(6))
}

/// The ends that occur, for the legend.
fn fates(view: &View<'_>) -> Vec<(Look, &'static str)> {
    let mut fates: Vec<(Look, &str)> = Vec::new();
    for capability in view.tree.all() {
        let words = match capability.fate {
            Fate::Held => "still held",
            Fate::Closed | Fate::EndedWithProgram => "given up by its holder",
            Fate::Revoked { .. } => "revoked",
            Fate::Fell { .. } => "ended with what it came from",
            Fate::Expired => "lease ended",
        };
        if fates.len() < 5 && !fates.iter().any(|(_, known)| *known == words) {
            fates.push((colours::look(capability.fate), words));
        }
    }
    fates
}

fn legend(out: &mut String, fates: &[(Look, &str)], y: u32) -> fmt::Result {
    let mut x = MARGIN;
    for (look, words) in fates {
        let dashes = if look.dashed {
            " stroke-dasharray=\"4 2\""
        } else {
            ""
        };
        writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"18\" height=\"12\" rx=\"3\" fill=\"{}\" stroke=\"{}\"{dashes}/>\
             <text class=\"small\" x=\"{}\" y=\"{}\">{words}</text>",
            y + 4,
            look.fill,
            look.line,
            x + 25,
            y + 14
        )?;
        x += 25 + pixels(words, SMALL) + 18;
    }
    Ok(())
}

/// Cuts a text to so many pixels.
fn fit(text: &str, pixels: u32, character: u32) -> String {
    cut(text, columns(pixels, character))
}

fn columns(pixels: u32, character: u32) -> usize {
    (pixels * 100 / character) as usize
}

fn pixels(text: &str, character: u32) -> u32 {
    u32::try_from(width(text)).unwrap_or(u32::MAX / character) * character / 100
}

fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
