//! What is said of a capability, the same in every format.

use super::read::ProgramName;
use super::tree::{Capability, Fate, Holder, Tree};
use super::view::{Folded, How};

/// `Net #7`, and its label.
pub(super) fn title(capability: &Capability) -> String {
    format!("{} #{}", capability.kind, capability.id)
}

/// What it is good for: what it allows, or what it was used for, or what it ends.
pub(super) fn purpose(capability: &Capability) -> String {
    match (&capability.authority, &capability.first_use, capability.target) {
        (Some(authority), ..) if authority.as_str().is_empty() => "nothing".to_owned(),
        (Some(authority), ..) => authority.to_string(),
        (None, Some(operation), _) if capability.uses > 1 => {
            format!("{operation}; … {} more", capability.uses - 1)
        }
        (None, Some(operation), _) => operation.to_string(),
        (None, None, Some(target)) => format!("ends #{target}"),
        (None, None, None) => String::new(),
    }
}

/// How it ended.
pub(super) fn fate(tree: &Tree, capability: &Capability) -> String {
    match capability.fate {
        Fate::Held => "held at the end".to_owned(),
        Fate::Closed => "closed by its holder".to_owned(),
        Fate::EndedWithProgram => "held until its program ended".to_owned(),
        Fate::Revoked { by } => format!("revoked by {}", short_holder(tree, by)),
        Fate::Expired => "its lease ended".to_owned(),
        Fate::Fell { with } => format!("ended with #{with}"),
    }
}

/// Who holds it, by the program's name and number.
pub(super) fn holder(tree: &Tree, holder: Holder) -> String {
    match holder {
        Holder::Host => "the host".to_owned(),
        Holder::Vat(vat) => match name(tree, vat) {
            Some(name) => format!("{} (vat {vat})", name.short),
            None => format!("vat {vat}"),
        },
    }
}

fn short_holder(tree: &Tree, holder: Holder) -> String {
    match holder {
        Holder::Host => "the host".to_owned(),
        // By its name only if no other program has the same.
        Holder::Vat(vat) => match name(tree, vat) {
            Some(name) if is_the_only(tree, name) => name.short.to_string(),
            _ => format!("vat {vat}"),
        },
    }
}

fn name(tree: &Tree, vat: u64) -> Option<&ProgramName> {
    tree.programs()
        .get(&vat)
        .and_then(|program| program.name.as_ref())
}

fn is_the_only(tree: &Tree, name: &ProgramName) -> bool {
    let names = tree
        .programs()
        .values()
        .filter_map(|program| program.name.as_ref());
    names.filter(|other| other.short == name.short).take(2).count() == 1
}

/// What was refused to who used it, if anything was.
pub(super) fn refusals(capability: &Capability) -> Option<String> {
    let first = capability.first_refusal.as_ref()?;
    Some(match capability.refused {
        1 => format!("1 refused: {first}"),
        count => format!("{count} refused, first {first}"),
    })
}

/// All that is known of a capability, a line each.
pub(super) fn details(tree: &Tree, capability: &Capability) -> Vec<String> {
    let mut lines = vec![
        format!("{} `{}`", title(capability), capability.label),
        format!("holder: {}", holder(tree, capability.holder)),
    ];
    if let Holder::Vat(vat) = capability.holder
        && let Some(name) = name(tree, vat)
    {
        lines.push(format!("program: {}", name.whole));
    }
    if let Some(parent) = capability.parent {
        lines.push(format!("derived from: {}", title(tree.get(parent))));
    }
    if let Some(authority) = &capability.authority {
        lines.push(format!(
            "allows: {}",
            if authority.as_str().is_empty() {
                "nothing"
            } else {
                authority.as_str()
            }
        ));
    }
    if let Some(bound) = &capability.bound {
        lines.push(format!("narrowed by the host to what is in: {bound}"));
    }
    if let Some(target) = capability.target {
        lines.push(format!("ends: #{target}"));
    }
    if let Some(operation) = &capability.first_use {
        let times = match capability.uses {
            1 => String::new(),
            uses => format!(", the first of {uses}"),
        };
        lines.push(format!("used for: {operation}{times}"));
    }
    if capability.bytes > 0 {
        lines.push(format!("moved: {} bytes", capability.bytes));
    }
    if capability.turned_away > 0 {
        lines.push(format!(
            "turned away: {} peers or datagrams",
            capability.turned_away
        ));
    }
    lines.push(format!("in the end: {}", fate(tree, capability)));
    lines.extend(refusals(capability));
    lines
}

/// What stands where capabilities are left out.
pub(super) fn folded(tree: &Tree, fold: &Folded) -> String {
    let kind = &tree.get(fold.like).kind;
    let several = |count| {
        if count == 1 {
            kind.to_string()
        } else {
            format!("{kind}s")
        }
    };
    let mut line = match fold.how {
        How::Like => format!("… and {} more {}", number(fold.count), several(fold.count)),
        How::Run => format!(
            "… {} more {}, each derived from the one before",
            number(fold.count),
            several(fold.count)
        ),
        How::Rest => format!("… and {} more below", number(fold.count + fold.below)),
    };
    if fold.how == How::Like && fold.below > 0 {
        line.push_str(&format!(", with {} below them", number(fold.below)));
    }
    if fold.refused > 0 {
        line.push_str(&format!(" ({} refused)", fold.refused));
    }
    line
}

/// What there is in all.
pub(super) fn summary(tree: &Tree) -> Vec<String> {
    let mut counts = [0; 5];
    let mut refused = 0;
    for capability in tree.all() {
        refused += capability.refused;
        let fate = match capability.fate {
            Fate::Fell { with } => tree.find(with).map(|top| tree.get(top).fate),
            fate => Some(fate),
        };
        counts[match fate {
            Some(Fate::Held) => 0,
            Some(Fate::Closed) => 1,
            Some(Fate::EndedWithProgram) => 2,
            Some(Fate::Expired) => 3,
            Some(Fate::Revoked { .. } | Fate::Fell { .. }) | None => 4,
        }] += 1;
    }
    let words = [
        "held at the end",
        "closed by their holders",
        "held until their program ended",
        "ended by a lease",
        "ended by revoking",
    ];
    let each: Vec<_> = counts
        .into_iter()
        .zip(words)
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{} {words}", number(count)))
        .collect();
    let mut lines = vec![match tree.len() {
        0 => "no capabilities".to_owned(),
        1 => format!("1 capability: {}", each.join(", ")),
        count => format!("{} capabilities: {}", number(count), each.join(", ")),
    }];
    match refused {
        0 => {}
        1 => lines.push("1 call was refused".to_owned()),
        _ => lines.push(format!("{refused} calls were refused")),
    }
    let astray = tree.programs().iter().filter(|(_, program)| program.astray > 0);
    for (&vat, program) in astray.take(MOST_ASTRAY) {
        lines.push(format!(
            "{} passed something else than a live reference: {} refused",
            holder(tree, Holder::Vat(vat)),
            program.astray
        ));
    }
    if tree.left_out() > 0 {
        lines.push(format!(
            "{} capabilities that began later are not in this tree",
            tree.left_out()
        ));
    }
    lines
}

/// Of so many programs it is said what they did without a reference.
const MOST_ASTRAY: usize = 10;

/// A number with a comma at each thousand.
fn number(count: usize) -> String {
    let digits = count.to_string();
    let mut number = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            number.push(',');
        }
        number.push(digit);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), text);
        }
    }
}
