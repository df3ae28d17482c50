//! What is said of a capability, the same in every format.

use super::plain::Plain;
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
            Some(name) => format!("{} (vat {vat})", base(name)),
            None => format!("vat {vat}"),
        },
    }
}

fn short_holder(tree: &Tree, holder: Holder) -> String {
    match holder {
        Holder::Host => "the host".to_owned(),
        // By its name only if no other program has the same.
        Holder::Vat(vat) => match name(tree, vat) {
            Some(name) if is_the_only(tree, name) => base(name).to_owned(),
            _ => format!("vat {vat}"),
        },
    }
}

fn name(tree: &Tree, vat: u64) -> Option<&Plain> {
    tree.programs()
        .get(&vat)
        .and_then(|program| program.name.as_ref())
}

fn is_the_only(tree: &Tree, name: &Plain) -> bool {
    let names = tree
        .programs()
        .values()
        .filter_map(|program| program.name.as_ref());
    names.filter(|other| base(other) == base(name)).count() == 1
}

/// A path's last part.
fn base(name: &Plain) -> &str {
    let name = name.as_str();
    match name.rsplit(['/', '\\']).next() {
        Some(base) if !base.is_empty() => base,
        _ => name,
    }
}

/// How often it was refused something, if it was.
pub(super) fn refused(count: u64) -> Option<String> {
    (count > 0).then(|| format!("{count} refused"))
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
        lines.push(format!("program: {name}"));
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
    if let Some(first) = &capability.first_refusal {
        lines.push(format!(
            "refused: {}, the first of them {first}",
            capability.refused
        ));
    }
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
    if let Some(refused) = refused(fold.refused) {
        line.push_str(&format!(" ({refused})"));
    }
    line
}

/// What there is in all.
pub(super) fn summary(tree: &Tree) -> Vec<String> {
    let mut counts = [0; 5];
    let mut refused = 0;
    for capability in tree.all() {
        refused += capability.refused;
        counts[match capability.fate {
            Fate::Held => 0,
            Fate::Closed => 1,
            Fate::EndedWithProgram => 2,
            Fate::Revoked { .. } | Fate::Fell { .. } => 3,
            Fate::Expired => 4,
        }] += 1;
    }
    let words = [
        "held at the end",
        "closed",
        "held until the program ended",
        "ended by a revocation or with another",
        "whose lease ended",
    ];
    let mut line = match tree.len() {
        1 => "1 capability".to_owned(),
        count => format!("{} capabilities", number(count)),
    };
    let mut separator = ": ";
    for (count, words) in counts.into_iter().zip(words).filter(|(count, _)| *count > 0) {
        line.push_str(&format!("{separator}{} {words}", number(count)));
        separator = ", ";
    }
    let mut lines = vec![line];
    if refused > 0 {
        lines.push(format!(
            "{} {} refused",
            refused,
            if refused == 1 { "call" } else { "calls" }
        ));
    }
    for (vat, program) in tree.programs().iter().filter(|(_, program)| program.astray > 0) {
        lines.push(format!(
            "{} tried {} calls without a live reference",
            holder(tree, Holder::Vat(*vat)),
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

    #[test]
    fn a_program_goes_by_the_last_part_of_its_path() {
        for (path, name) in [
            ("a/b.wasm", "b.wasm"),
            ("C:\\x\\b.wasm", "b.wasm"),
            ("a/", "a/"),
            ("b", "b"),
        ] {
            assert_eq!(base(&Plain::new(path)), name);
        }
    }
}
