//! Checks of the packages' manifests.

use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for file in tree.with_name("Cargo.toml") {
        let sections = sections(&file.text);
        let has = |section: &str, keys: &[&str]| {
            let lines = sections.iter().filter(|(name, _)| *name == section);
            lines
                .flat_map(|(_, lines)| lines)
                .any(|line| keys.contains(&key(line)))
        };
        if !sections.iter().any(|(name, _)| *name == "package") {
            continue;
        }
        if !has("package", &["license", "license.workspace"]) {
            problems.push(format!("{}: names no licence", file.path));
        }
        // Among the lints is the one that refuses unsafe code.
        if !has("lints", &["workspace"]) && !has("lints.rust", &["unsafe_code"]) {
            problems.push(format!("{}: does not take the workspace's lints", file.path));
        }
    }
    problems
}

/// The lines of each table of a manifest. This is not all of TOML, but what manifests are written in.
fn sections(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections = vec![("", Vec::new())];
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push((name, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    sections
}

fn key(line: &str) -> &str {
    line.split('=').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_need_a_licence_and_the_lints() {
        let problems = |text| check(&Tree::of(&[("a/Cargo.toml", text)]));
        assert!(problems("[workspace]\nmembers = []").is_empty());
        assert!(problems("[package]\nlicense.workspace = true\n[lints]\nworkspace = true").is_empty());
        assert_eq!(problems("[package]\nname = \"a\"\n").len(), 2);
        assert_eq!(
            problems("[package]\nlicense = \"MIT\"\n[lints.clippy]\nall = \"warn\"\n").len(),
            1
        );
    }
}
