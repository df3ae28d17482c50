//! Instructions instead of time: callgrind counts them the same on every machine with the same compiler, to one in a
//! thousand, so that a small change shows. What they cost it does not say: time does.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use wasmtime::error::Context;
use wasmtime::{Result, bail, ensure};

use crate::measure::Case;
use crate::models::{COMPONENT, EMPTY, INTEGER, OBJECT, ORDINARY, REFERENCE, WASI_P1};
use crate::rows::{handles, object, tcp};

/// Where the counts are kept, from the root of the project.
const FILE: &str = "bench/results/counts.csv";
/// A count may be that many times what it was.
const MOST: f64 = 1.02;
/// What is done so often, and then again this often more: the difference is what counts.
const FEW: u32 = 20_000;
const MANY: u32 = 60_000;
/// The same for what takes few instructions: setting up differs by some ten thousand from run to run.
const VERY_MANY: u32 = 1_000_000;

/// A row that is counted, and who does it.
const ROWS: &[(&str, &[&str])] = &[
    (
        "use, 1 live",
        &[EMPTY, INTEGER, REFERENCE, ORDINARY, WASI_P1, COMPONENT],
    ),
    ("use, 1000 live", &[EMPTY, INTEGER, REFERENCE, ORDINARY]),
    ("derive and close", &[INTEGER, REFERENCE, ORDINARY]),
    ("call an object, 0 B", &[INTEGER, ORDINARY, OBJECT]),
    ("call an object, 64 B", &[INTEGER, ORDINARY, OBJECT]),
];

fn cases(row: &str) -> Result<Vec<Case>> {
    match row {
        "use, 1 live" => handles::use_cases(1),
        "use, 1000 live" => handles::use_cases(1_000),
        "derive and close" => handles::derive_and_close_cases(),
        // For counting by hand: what these cost differs by a twentieth from run to run.
        "connect and close" => tcp::cases("connect and close", tcp::Job::Connect),
        "write, 1 MiB" => tcp::cases("write, 1 MiB", |pieces| tcp::Job::Write {
            pieces,
            size: 1 << 20,
        }),
        "read, 64 KiB" => tcp::cases("read, 64 KiB", |pieces| tcp::Job::Read {
            pieces,
            size: 64 << 10,
        }),
        // By hand, under cachegrind: what it costs is fetching from memory.
        "use, 1 made in 10" => handles::use_and_make_cases("use, 1 made in 10", 100_000, 10),
        "call an object, 0 B" => object::cases(0),
        "call an object, 64 B" => object::cases(64),
        _ => bail!("there is no row `{row}` to count"),
    }
}

/// The part that runs under callgrind.
pub(crate) fn run_one(row: &str, model: &str, count: u32) -> Result<()> {
    let mut cases = cases(row)?;
    let case = cases.iter_mut().find(|case| case.model == model);
    let case = case.with_context(|| format!("{model} is not in the row `{row}`"))?;
    case.time(count)?;
    Ok(())
}

/// Counts everything, and writes or compares the counts.
pub(crate) fn count(compare: bool) -> Result<()> {
    let mut text = "row,model,instructions\n".to_owned();
    let mut worse = Vec::new();
    let before = match compare {
        true => read(Path::new(FILE))?,
        false => Vec::new(),
    };
    for (row, models) in ROWS {
        for model in *models {
            let more = if row.starts_with("use") { VERY_MANY } else { MANY };
            let few = under_callgrind(row, model, FEW)?;
            let many = under_callgrind(row, model, FEW + more)?;
            let each = (many - few) / f64::from(more);
            let _ = writeln!(text, "\"{row}\",{model},{each:.1}");
            let old = before
                .iter()
                .find(|(name, value)| *name == format!("\"{row}\",{model}") && *value > 0.0);
            match old {
                Some((_, old)) => {
                    println!(
                        "{row:20} {model:12} {each:9.1} instructions, {old:.1} before ({:+.1} %)",
                        (each / old - 1.0) * 100.0
                    );
                    if each > old * MOST {
                        worse.push(format!("{row}: {model}"));
                    }
                }
                None => println!("{row:20} {model:12} {each:9.1} instructions"),
            }
        }
    }
    if compare {
        ensure!(worse.is_empty(), "more than before: {}", worse.join("; "));
        return Ok(());
    }
    fs::write(FILE, text).with_context(|| format!("writing {FILE}"))
}

/// The counts of a file, by row and model.
fn read(path: &Path) -> Result<Vec<(String, f64)>> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "reading {}; `cargo xtask bench --counts` makes it",
            path.display()
        )
    })?;
    let counts = text.lines().skip(1).filter_map(|line| {
        let (name, value) = line.rsplit_once(',')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(counts.collect())
}

/// How many instructions it takes to do something that often, with all that comes before.
fn under_callgrind(row: &str, model: &str, count: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["count", row, model, &count.to_string()])
        .output()
        .context("starting valgrind, which this needs")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "counting {row}, {model}: {text}");
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.with_context(|| format!("callgrind does not say how many: {text}"))
}
