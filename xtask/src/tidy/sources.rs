//! Checks of source files.

use super::tree::{File, Tree};

/// Longer files have more than one subject.
const MAX_LINES: usize = 800;

/// The files and folders that may contain unsafe code.
const UNSAFE: &[&str] = &[
    "guest-sdk/src/raw/",
    "runtime/src/references.rs",
    "runtime/src/references/",
];

/// Tests of the boundary break its rules on purpose.
const EXEMPT: &[&str] = &["tests/guests/"];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let sources = tree
        .sources()
        .filter(|file| !EXEMPT.iter().any(|folder| file.path.starts_with(folder)));
    sources.flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<String> {
    let File { path, text } = file;
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!(
            "{path}: has {lines} lines; split it by subject ({MAX_LINES} at most)"
        ));
    }
    // Put together here, so that this file does not find itself.
    let unfinished = concat!("todo", "!");
    // The compiler refuses unsafe code wherever this is not said.
    let permits = ["allow", "expect", "warn"].map(|level| format!("{level}(unsafe_code"));
    let permits_unsafe = |line: &str| {
        let code: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        permits.iter().any(|permit| code.contains(permit))
    };
    let may = UNSAFE.iter().any(|place| path.starts_with(place));
    // The attribute is written over several lines where it has a reason.
    let joined = text.replace("(\n", "(");
    if !may && joined.lines().any(permits_unsafe) {
        problems.push(format!(
            "{path}: permits unsafe code; it belongs in {}",
            UNSAFE.join(" or ")
        ));
    }
    for (line, number) in text.lines().zip(1..) {
        if line.contains(unfinished) {
            problems.push(format!("{path}:{number}: something is left to do"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
    }

    #[test]
    fn long_files_are_found() {
        assert!(problems("a.rs", &"\n".repeat(MAX_LINES)).is_empty());
        assert_eq!(problems("a.rs", &"\n".repeat(MAX_LINES + 1)).len(), 1);
    }

    #[test]
    fn what_is_left_to_do_is_found() {
        let text = format!("fn f() {{\n    {}()\n}}", concat!("todo", "!"));
        assert_eq!(problems("a.rs", &text), ["a.rs:2: something is left to do"]);
    }

    #[test]
    fn unsafe_code_has_its_places() {
        let one_line = format!("#![{}(unsafe_code)]", "allow");
        let more_lines = format!("#![{}(\n    unsafe_code,\n    reason = \"\"\n)]", "expect");
        for text in [one_line, more_lines] {
            assert_eq!(problems("runtime/src/lib.rs", &text).len(), 1, "{text}");
            assert_eq!(problems("guest-sdk/src/lib.rs", &text).len(), 1);
            assert!(problems("guest-sdk/src/raw/slots.rs", &text).is_empty());
            assert!(problems("runtime/src/references/cells.rs", &text).is_empty());
            assert!(problems("tests/guests/forge/src/main.rs", &text).is_empty());
        }
        assert!(problems("runtime/src/lib.rs", "#![forbid(unsafe_code)]").is_empty());
    }
}
