//! Measuring: cases that are to be compared take turns, so that the noise of the machine hits all alike.

use std::time::{Duration, Instant};

use wasmtime::Result;
use wasmtime::error::Context;

/// How much time to spend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often each case has its turn.
    pub(crate) rounds: usize,
    /// How long a turn takes, about.
    pub(crate) turn: Duration,
}

/// One thing that is measured.
pub(crate) struct Case {
    /// What is done: the row of the report.
    pub(crate) row: &'static str,
    /// Under which circumstances: the point on the plot's axis. Empty where there is only one.
    pub(crate) at: String,
    /// By whom.
    pub(crate) model: &'static str,
    /// Does it that often, and fails if it was not done that often. Returns the time where not all of it counts.
    pub(crate) run: Run,
}

/// What a case does: so many operations.
pub(crate) type Run = Box<dyn FnMut(u32) -> Result<Option<Duration>>>;

impl Case {
    pub(crate) fn new(
        row: &'static str,
        at: impl Into<String>,
        model: &'static str,
        mut run: impl FnMut(u32) -> Result<()> + 'static,
    ) -> Case {
        Case {
            row,
            at: at.into(),
            model,
            run: Box::new(move |count| run(count).map(|()| None)),
        }
    }

    /// A case that measures the part that counts by itself.
    pub(crate) fn timed(
        row: &'static str,
        at: impl Into<String>,
        model: &'static str,
        mut run: impl FnMut(u32) -> Result<Duration> + 'static,
    ) -> Case {
        Case {
            row,
            at: at.into(),
            model,
            run: Box::new(move |count| run(count).map(Some)),
        }
    }

    pub(crate) fn time(&mut self, count: u32) -> Result<Duration> {
        let start = Instant::now();
        let counted =
            (self.run)(count).with_context(|| format!("{} {}: {}", self.row, self.at, self.model))?;
        Ok(counted.unwrap_or_else(|| start.elapsed()))
    }
}

/// What was measured of one case.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Measured {
    pub(crate) row: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) at: String,
    pub(crate) model: &'static str,
    /// The middle of all turns, in `unit`.
    #[serde(rename = "value")]
    pub(crate) median: f64,
    pub(crate) unit: &'static str,
    /// The best and the worst turn.
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Measured {
    /// From the values of the turns, of which there is one at least.
    pub(crate) fn of(
        row: &'static str,
        at: impl Into<String>,
        model: &'static str,
        unit: &'static str,
        mut values: Vec<f64>,
    ) -> Measured {
        values.sort_by(f64::total_cmp);
        Measured {
            row,
            at: at.into(),
            model,
            median: values[values.len() / 2],
            unit,
            min: values[0],
            max: values[values.len() - 1],
        }
    }
}

/// Gives all cases their turns, and each in every round another place among them.
pub(crate) fn compare(cases: &mut [Case], effort: Effort) -> Result<Vec<Measured>> {
    let mut counts = Vec::new();
    for case in cases.iter_mut() {
        counts.push(calibrate(case, effort.turn)?);
    }
    let mut nanoseconds = vec![Vec::new(); cases.len()];
    for round in 0..effort.rounds {
        for turn in 0..cases.len() {
            let who = (turn + round) % cases.len();
            let time = cases[who].time(counts[who])?;
            nanoseconds[who].push(time.as_nanos() as f64 / f64::from(counts[who]));
        }
    }
    Ok(cases
        .iter()
        .zip(nanoseconds)
        .map(|(case, values)| Measured::of(case.row, case.at.clone(), case.model, "ns", values))
        .collect())
}

/// How many operations take about that long. Warms up, too.
fn calibrate(case: &mut Case, turn: Duration) -> Result<u32> {
    let mut count = 1_u32;
    loop {
        let time = case.time(count)?;
        if time >= turn / 4 || count >= 1 << 28 {
            let more = turn.as_secs_f64() / time.as_secs_f64().max(1e-9);
            return Ok((f64::from(count) * more).clamp(1.0, f64::from(1 << 28)) as u32);
        }
        count *= 4;
    }
}
