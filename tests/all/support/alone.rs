//! Tests that need a process of their own: for its memory figures, or for what is global in it.

use std::process::Command;

/// Set in the child process.
const ALONE: &str = "REFCAP_TEST_ALONE";

/// Whether this process runs the test of that name alone. If it does not, starts one that does, with these
/// environment variables, and fails unless that passes: the caller has nothing left to do.
pub(crate) fn is_alone(name: &str, environment: &[(&str, &str)]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    // A name that is not there would pass.
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// The memory that this process has in RAM, where the system says so.
pub(crate) fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
