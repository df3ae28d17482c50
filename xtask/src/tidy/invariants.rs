//! Checks that each invariant of the design names a test that there is.

use super::tree::Tree;

const DESIGN: &str = "design.md";
const MARK: &str = "**Invariant:**";

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let Some(design) = tree.files.iter().find(|file| file.path == DESIGN) else {
        return vec![format!("{DESIGN}: is missing")];
    };
    let mut problems = Vec::new();
    for (line, number) in invariants(&design.text) {
        let named: Vec<&str> = code_spans(&line).filter_map(function_name).collect();
        let tests = named.iter().filter(|name| is_test(tree, name)).count();
        if tests == 0 {
            let names = if named.is_empty() {
                "none".to_owned()
            } else {
                named.join(", ")
            };
            problems.push(format!(
                "{DESIGN}:{number}: the invariant names no test that exists (it names {names})"
            ));
        }
    }
    problems
}

/// Each paragraph with the mark, as one line, and the number of its first line.
fn invariants(text: &str) -> Vec<(String, usize)> {
    let mut invariants: Vec<(String, usize)> = Vec::new();
    let mut inside = false;
    for (line, number) in text.lines().zip(1..) {
        if line.contains(MARK) {
            invariants.push((line.to_owned(), number));
            inside = true;
        } else if line.trim().is_empty() || line.starts_with(['#', '|']) {
            inside = false;
        } else if inside && let Some((invariant, _)) = invariants.last_mut() {
            invariant.push(' ');
            invariant.push_str(line.trim());
        }
    }
    invariants
}

/// What stands between backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The last part of a path, if it can be the name of a test.
fn function_name(span: &str) -> Option<&str> {
    let name = span.rsplit("::").next().unwrap_or(span);
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (name.contains('_') && name.chars().all(is_name)).then_some(name)
}

/// Whether some source has a test of that name: an attribute that mentions `test` before the function,
/// or one in a `proptest!`, whose functions look the same.
fn is_test(tree: &Tree, name: &str) -> bool {
    let start = format!("fn {name}(");
    tree.sources().any(|file| {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        let mut functions = lines.iter().enumerate().filter(|(_, line)| line.contains(&start));
        functions.any(|(index, _)| {
            let before = lines[..index].iter().rev();
            before
                .take_while(|line| line.starts_with(['#', '/']))
                .any(|line| line.contains("test"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(design: &str) -> Vec<String> {
        let sources = "#[test]\n/// Why.\n#[ignore]\nfn no_way_out() {}\n\nfn helper_of_it() {}\n";
        check(&Tree::of(&[("tests/src/a.rs", sources), (DESIGN, design)]))
    }

    #[test]
    fn an_invariant_names_a_test() {
        assert!(problems("**Invariant:** there is no way out (`no_way_out`).").is_empty());
        assert!(problems("**Invariant:** there is no way out,\nby `tests::a::no_way_out`.\n").is_empty());
        assert_eq!(problems("**Invariant:** nothing.\n\n`no_way_out`").len(), 1);
        assert_eq!(problems("x\n**Invariant:** `helper_of_it`").len(), 1);
        assert_eq!(
            problems("x\n**Invariant:** `no_way_at_all`"),
            ["design.md:2: the invariant names no test that exists (it names no_way_at_all)"]
        );
    }

    #[test]
    fn there_is_a_design() {
        assert_eq!(check(&Tree::default()), ["design.md: is missing"]);
    }
}
