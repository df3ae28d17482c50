//! What was measured, for people: a report in Markdown with a table and a plot for each row, and all of it as CSV.

mod plot;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wasmtime::Result;
use wasmtime::error::Context;

use crate::bars::{BARS, Verdict};
use crate::machine::Machine;
use crate::measure::Measured;

/// What a reader should know of a row besides its name.
const NOTES: &[(&str, &str)] = &[
    (
        "use",
        "`sdk` and `externref-crate` are guests in Rust, the others the same loop in text. The shims of the crate \
         can't take what has two results, so that guest holds the one reference that it was granted.",
    ),
    (
        "hand over between instances",
        "A call of another instance that brings a handle. What it keeps it has in a table, or its number in memory; what \
         it gives up it closes, where a host has to be told. `integer` duplicates the descriptor into the other one's \
         table first; `link_give` is how a program of the SDK passes a reference; `empty` is the same call with a number \
         that means nothing. References are passed without any call of the host.",
    ),
    (
        "hand over between instances, added to a call",
        "The row above less `empty`. Less than 0.1 is told as 0.1.",
    ),
    (
        "call an object of the same vat",
        "Five arguments: the object, a method, the place and length of a message, a time. `integer` and `ordinary` are \
         host functions that take the same, look the handle up and copy the message to where the host has it; the object \
         is another program's, which reads the message.",
    ),
    (
        "call an object of another vat",
        "The one that calls waits, the other one serves: both on one thread, or each on its own. A Net that goes along is \
         derived for the other one, which closes it.",
    ),
    (
        "start a vat",
        "From a linked program to its first host call, and its end. The twin's Net is not in a lineage, and its guest \
         has no WASI, no limits and no audit log.",
    ),
    (
        "from the bytes of a server until it has listened",
        "The HTTP server of the examples: loaded, started, told to listen, and ended. What is linked was loaded \
         before.",
    ),
    (
        "collection: pause for each live reference",
        "The engine's collectors with nothing behind a reference but a number; `reference` is a vat of refcap, with \
         the copying collector. The null collector does nothing.",
    ),
    (
        "collection: from dropped to closed, p50",
        "From the making of a reference, which is dropped at once, until the host knows. With the null collector it \
         never does.",
    ),
    (
        "tcp: write",
        "The twin's sockets are tokio's own, in a vector. `wasi-p2` is `std::net` as a component.",
    ),
    (
        "tcp, 1000 connections: 64 B there and back",
        "All of them at once: whoever has an answer asks again.",
    ),
    (
        "http: answers",
        "`GET` of some bytes on connections that are kept, asked for by `wrk` where it is installed. `native` is the \
         same server on tokio, with the same parser.",
    ),
];

/// Writes the report into a folder, which is made where there is none.
pub(crate) fn write(folder: &Path, machine: &Machine, quick: bool, results: &[Measured]) -> Result<()> {
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("making {}", plots.display()))?;
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    for row in rows(results) {
        let path = plots.join(format!("{}.svg", file_name(row)));
        plot::draw(&path, row, &of_row(results, row))?;
    }
    file("results.csv", csv(results))?;
    file("report.md", markdown(machine, quick, results))
}

/// The rows, in the order in which they were measured.
fn rows(results: &[Measured]) -> Vec<&'static str> {
    let mut rows = Vec::new();
    for measured in results {
        if !rows.contains(&measured.row) {
            rows.push(measured.row);
        }
    }
    rows
}

fn of_row<'a>(results: &'a [Measured], row: &str) -> Vec<&'a Measured> {
    results.iter().filter(|measured| measured.row == row).collect()
}

/// The models and the points of a row, in the order in which they were measured.
fn models_and_points<'a>(all: &[&'a Measured]) -> (Vec<&'static str>, Vec<&'a str>) {
    let (mut models, mut points) = (Vec::new(), Vec::new());
    for measured in all {
        if !models.contains(&measured.model) {
            models.push(measured.model);
        }
        if !points.contains(&measured.at.as_str()) {
            points.push(measured.at.as_str());
        }
    }
    (models, points)
}

/// A row's name as the name of a file.
fn file_name(row: &str) -> String {
    row.split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

fn csv(results: &[Measured]) -> String {
    let mut text = "row,at,model,median,unit,min,max\n".to_owned();
    for measured in results {
        let Measured {
            row,
            at,
            model,
            median,
            unit,
            min,
            max,
        } = measured;
        let _ = writeln!(text, "\"{row}\",\"{at}\",{model},{median},{unit},{min},{max}");
    }
    text
}

fn markdown(machine: &Machine, quick: bool, results: &[Measured]) -> String {
    let mut text = "# What a reference costs\n\n".to_owned();
    let how = if quick {
        "cargo xtask bench --quick"
    } else {
        "cargo xtask bench"
    };
    let _ = writeln!(text, "Made by `{how}`.\n\n{}", machine.describe());
    let _ = writeln!(text, "## Who wins\n\n{}", summary(results));
    let verdicts: Vec<_> = BARS.iter().filter_map(|bar| bar.judge(results)).collect();
    let _ = writeln!(text, "## What was promised\n\n{}", promises(&verdicts));
    for row in rows(results) {
        let _ = writeln!(text, "## {row}\n");
        if let Some((_, note)) = NOTES.iter().find(|(name, _)| *name == row) {
            let _ = writeln!(text, "{note}\n");
        }
        let _ = writeln!(text, "{}", table(&of_row(results, row)));
        let _ = writeln!(text, "![{row}](plots/{}.svg)\n", file_name(row));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Whether more of a unit is better.
fn more_is_better(unit: &str) -> bool {
    matches!(unit, "1/s" | "MiB/s")
}

/// The winner of each row in which there is more than one, by the geometric mean over its points: a line for the rows
/// that begin with the same word.
pub(crate) fn summary(results: &[Measured]) -> String {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows(results) {
        let Some(winner) = winner(results, row) else {
            continue;
        };
        let subject = row.split([' ', ',', ':']).next().unwrap_or(row);
        match lines.iter_mut().find(|(other, _)| *other == subject) {
            Some((_, of_subject)) => of_subject.push(winner),
            None => lines.push((subject, vec![winner])),
        }
    }
    lines
        .iter()
        .map(|(_, winners)| format!("- {}\n", winners.join("; ")))
        .collect()
}

/// Who wins a row, and by how much.
fn winner(results: &[Measured], row: &str) -> Option<String> {
    let all = of_row(results, row);
    let unit = all.first()?.unit;
    let mut means = means(&all);
    means.sort_by(|a, b| a.1.total_cmp(&b.1));
    if more_is_better(unit) {
        means.reverse();
    }
    let [(winner, best), (second, next), ..] = means[..] else {
        return None;
    };
    let ratio = (best / next).max(next / best);
    Some(format!(
        "{row}: **{winner}**, {ratio:.2} times as good as {second}"
    ))
}

/// The geometric mean of each model that was measured at every point, but for the one that does nothing.
fn means(all: &[&Measured]) -> Vec<(&'static str, f64)> {
    let (models, points) = models_and_points(all);
    let mut means = Vec::new();
    for model in models {
        let values: Vec<f64> = all
            .iter()
            .filter(|measured| measured.model == model)
            .map(|measured| measured.median.ln())
            .collect();
        if values.len() == points.len() && model != crate::models::EMPTY {
            means.push((model, (values.iter().sum::<f64>() / points.len() as f64).exp()));
        }
    }
    means
}

fn promises(verdicts: &[Verdict]) -> String {
    let mut text = "| row | promised | measured, at worst | kept |\n|---|---|---|---|\n".to_owned();
    for Verdict {
        row,
        promise,
        found,
        kept,
    } in verdicts
    {
        let kept = if *kept { "yes" } else { "**no**" };
        let _ = writeln!(text, "| {row} | {promise} | {found} | {kept} |");
    }
    text
}

/// The points of a row below each other, its models side by side: the median, the best and the worst.
fn table(all: &[&Measured]) -> String {
    let (models, points) = models_and_points(all);
    let unit = all.first().map_or("", |measured| measured.unit);
    let mut text = format!(
        "| {unit} | {} |\n|---|{}\n",
        models.join(" | "),
        "---|".repeat(models.len())
    );
    for point in points {
        let _ = write!(text, "| {point} |");
        for model in &models {
            let found = all
                .iter()
                .find(|measured| measured.at == point && measured.model == *model);
            match found {
                Some(measured) => {
                    let Measured { median, min, max, .. } = measured;
                    let _ = write!(text, " {} ({} to {}) |", short(*median), short(*min), short(*max));
                }
                None => text.push_str(" |"),
            }
        }
        text.push('\n');
    }
    text
}

/// A number with as many digits as one can believe.
fn short(value: f64) -> String {
    match value.abs() >= 100.0 {
        true => format!("{value:.0}"),
        false => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<Measured> {
        vec![
            Measured::of("use", "1 live", "integer", "ns", vec![6.0, 5.0, 9.0]),
            Measured::of("use", "1 live", "reference", "ns", vec![8.0]),
            Measured::of("use", "1 live", "empty", "ns", vec![4.0]),
            Measured::of("tcp: write", "", "native", "MiB/s", vec![1000.0]),
            Measured::of("tcp: write", "", "reference", "MiB/s", vec![2000.0]),
            Measured::of("tcp, many", "", "native", "us", vec![1.0]),
            Measured::of("tcp, many", "", "reference", "us", vec![4.0]),
        ]
    }

    #[test]
    fn the_winner_is_who_takes_less_or_gets_more() {
        assert_eq!(
            summary(&results()),
            "- use: **integer**, 1.33 times as good as reference\n\
             - tcp: write: **reference**, 2.00 times as good as native; \
             tcp, many: **native**, 4.00 times as good as reference\n"
        );
    }

    #[test]
    fn a_table_has_the_points_below_each_other() {
        let results = results();
        assert_eq!(
            table(&of_row(&results, "use")),
            "| ns | integer | reference | empty |\n|---|---|---|---|\n\
             | 1 live | 6.0 (5.0 to 9.0) | 8.0 (8.0 to 8.0) | 4.0 (4.0 to 4.0) |\n"
        );
    }

    #[test]
    fn a_report_is_written_with_its_plots() {
        let folder = std::env::temp_dir().join(format!("refcap-report-{}", std::process::id()));
        write(&folder, &Machine::this(), true, &results()).unwrap();
        for name in ["report.md", "results.csv", "plots/use.svg", "plots/tcp-write.svg"] {
            assert!(fs::metadata(folder.join(name)).unwrap().len() > 100, "{name}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
