//! Where and with what something was measured.

use std::fmt::Write as _;
use std::process::Command;

/// A machine and the versions on it.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) processors: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    pub(crate) rust: String,
    pub(crate) commit: String,
    /// How much else it did: the average of the last minutes, with this.
    pub(crate) load: String,
    /// The day, as `2026-11-24`.
    pub(crate) date: String,
}

/// The engine that is measured: the version that Cargo.toml pins.
pub(crate) const WASMTIME: &str = "48.0.8";

impl Machine {
    /// This one, as far as it says.
    pub(crate) fn this() -> Machine {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
                .map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
        };
        let memory_info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Machine {
            cpu: field(&cpu_info, "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field(&memory_info, "MemTotal"),
            kernel: say("uname", &["-sr"]),
            rust: say("rustc", &["--version"]),
            commit: say("git", &["describe", "--always", "--dirty"]),
            load: load(),
            date: say("date", &["-u", "+%Y-%m-%d"]),
        }
    }

    /// The name of a folder for what is measured here today.
    pub(crate) fn folder(&self) -> String {
        let mut name = self.date.clone();
        let mut gap = true;
        for letter in self.cpu.to_lowercase().chars() {
            if letter.is_ascii_alphanumeric() {
                if gap {
                    name.push('-');
                }
                name.push(letter);
            }
            gap = !letter.is_ascii_alphanumeric();
        }
        name
    }

    /// As a list in Markdown.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (what, value) in [
            ("processor", &self.cpu),
            ("memory", &self.memory),
            ("system", &self.kernel),
            ("compiler", &self.rust),
            ("commit", &self.commit),
            ("load at the end, over 1, 5 and 15 minutes", &self.load),
            ("day", &self.date),
        ] {
            let _ = writeln!(text, "- {what}: {value}");
        }
        let _ = writeln!(text, "- processors: {}", self.processors);
        let _ = writeln!(
            text,
            "- wasmtime {WASMTIME}; release build with thin link-time optimisation"
        );
        text
    }
}

/// How many processes wanted to run.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    match text.split(' ').collect::<Vec<_>>()[..] {
        [one, five, fifteen, ..] => format!("{one}, {five}, {fifteen}"),
        _ => "unknown".to_owned(),
    }
}

/// What a command says, in one line.
fn say(command: &str, arguments: &[&str]) -> String {
    Command::new(command)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(
            || "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
}
