//! What a reference costs, beside an integer descriptor and what others use.

mod bars;
mod counts;
mod machine;
mod measure;
mod models;
mod report;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use wasmtime::{Result, bail};

use bars::BARS;
use machine::Machine;
use measure::{Effort, Measured};
use rows::{GROUPS, Group, Scale};

/// Measure what references cost, beside integer descriptors and what others use, and write a report.
///
/// All models of a row are measured in one run and take turns, so that noise hits all alike: believe ratios, not
/// nanoseconds.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", after_help = after_help())]
struct Bench {
    /// Leave out the largest sizes, and measure each less often: under three minutes.
    #[arg(long)]
    quick: bool,

    /// Print each result as an object of JSON on a line of standard output, and write no report.
    #[arg(long)]
    json: bool,

    /// The folder for the report, instead of bench/results/DAY-PROCESSOR.
    #[arg(long, value_name = "FOLDER", conflicts_with = "json")]
    output: Option<PathBuf>,

    /// Count instructions under callgrind instead of measuring time, and write them to bench/results/counts.csv: a
    /// change of two in a hundred shows, however noisy the machine is. Needs valgrind.
    #[arg(long, conflicts_with_all = ["json", "quick", "output", "groups"])]
    counts: bool,

    /// Count instructions, and compare them with bench/results/counts.csv instead of writing it: fails if something takes
    /// more than two in a hundred more.
    #[arg(long, conflicts_with_all = ["json", "quick", "output", "groups"])]
    compare: bool,

    /// Measure these groups of rows only.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,

    #[command(subcommand)]
    part: Option<Part>,
}

fn after_help() -> String {
    let mut text = "Groups:\n".to_owned();
    for group in GROUPS {
        text += &format!("  {:20} {}\n", group.name, group.about);
    }
    text + "\nExamples:\n  cargo xtask bench\n  cargo xtask bench --quick use derive\n  cargo xtask bench --quick --json\n  cargo xtask bench --compare"
}

/// What a run starts in processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve,
    #[command(hide = true)]
    Weigh { what: String, model: String, count: u32 },
    #[command(hide = true)]
    ServeHttp { model: String },
    #[command(hide = true)]
    Count { row: String, model: String, count: u32 },
}

fn main() -> Result<()> {
    let bench = Bench::parse();
    match bench.part {
        Some(Part::Serve) => return rows::tcp::serve(),
        Some(Part::Weigh { what, model, count }) => return rows::memory::weigh(&what, &model, count),
        Some(Part::ServeHttp { model }) => return rows::http::serve(&model),
        Some(Part::Count { row, model, count }) => return counts::run_one(&row, &model, count),
        None => {}
    }
    if bench.counts || bench.compare {
        return counts::count(bench.compare);
    }
    let groups = bench.chosen()?;
    let scale = Scale {
        quick: bench.quick,
        effort: match bench.quick {
            true => Effort {
                rounds: 9,
                turn: Duration::from_millis(10),
            },
            false => Effort {
                rounds: 21,
                turn: Duration::from_millis(25),
            },
        },
    };
    let mut results = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        eprintln!(
            "[{}/{}] {}: {}",
            number + 1,
            groups.len(),
            group.name,
            group.about
        );
        let start = Instant::now();
        let measured = (group.run)(scale)?;
        for one in &measured {
            match bench.json {
                true => println!("{}", json(one)?),
                false => eprintln!("  {}", line(one)),
            }
        }
        eprintln!("  {:.1?}", start.elapsed());
        results.extend(measured);
    }
    if !bench.json {
        let machine = Machine::this();
        let folder = bench
            .output
            .unwrap_or_else(|| PathBuf::from("bench/results").join(machine.folder()));
        report::write(&folder, &machine, bench.quick, &results)?;
        println!("{}", report::summary(&results).trim_end());
        let verdicts: Vec<_> = BARS.iter().filter_map(|bar| bar.judge(&results)).collect();
        let kept = verdicts.iter().filter(|verdict| verdict.kept).count();
        println!(
            "{kept} of {} promises kept; the report is in {}",
            verdicts.len(),
            folder.display()
        );
    }
    Ok(())
}

impl Bench {
    /// The groups that were named, or all.
    fn chosen(&self) -> Result<Vec<&'static Group>> {
        for name in &self.groups {
            if !GROUPS.iter().any(|group| group.name == name) {
                let names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
                bail!("there is no group `{name}`; there are {}", names.join(", "));
            }
        }
        let is_chosen =
            |group: &&Group| self.groups.is_empty() || self.groups.iter().any(|name| name == group.name);
        Ok(GROUPS.iter().filter(is_chosen).collect())
    }
}

fn line(measured: &Measured) -> String {
    let Measured {
        row,
        at,
        model,
        median,
        unit,
        min,
        max,
    } = measured;
    format!("{row:34} {at:18} {model:12} {median:10.1} {unit} ({min:.1} to {max:.1})")
}

/// A result for scripts. Times are told under the name `median_ns` too.
fn json(measured: &Measured) -> Result<String> {
    let mut value = serde_json::to_value(measured)?;
    if measured.unit == "ns" {
        value["median_ns"] = measured.median.into();
    }
    Ok(value.to_string())
}
