//! What the project promises of its rows: ratios within one run, so that they hold on any machine.

use crate::measure::Measured;
use crate::models::{COMPONENT, INTEGER, ORDINARY, REFERENCE, WASI_P1};

/// One promise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) row: &'static str,
    pub(crate) kind: Kind,
}

/// How a value is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `model` takes at most `most` times what `against` takes, at every point of the row where both were measured.
    Times {
        model: &'static str,
        against: &'static str,
        most: f64,
    },
    /// `model` gets at least `least` times what `against` gets.
    Share {
        model: &'static str,
        against: &'static str,
        least: f64,
    },
    /// `model` takes at most that, in the row's unit.
    AtMost { model: &'static str, most: f64 },
    /// The row's worst point is at most that many times its middle one.
    NoCliff { model: &'static str, most: f64 },
    /// The last point is at most that many times the one with this name.
    Grows {
        model: &'static str,
        from: &'static str,
        most: f64,
    },
}

const fn times(row: &'static str, model: &'static str, against: &'static str, most: f64) -> Bar {
    let kind = Kind::Times { model, against, most };
    Bar { row, kind }
}

const fn share(row: &'static str, model: &'static str, against: &'static str, least: f64) -> Bar {
    let kind = Kind::Share {
        model,
        against,
        least,
    };
    Bar { row, kind }
}

const fn at_most(row: &'static str, model: &'static str, most: f64) -> Bar {
    let kind = Kind::AtMost { model, most };
    Bar { row, kind }
}

const fn no_cliff(row: &'static str, most: f64) -> Bar {
    let kind = Kind::NoCliff {
        model: REFERENCE,
        most,
    };
    Bar { row, kind }
}

/// All of them.
pub(crate) const BARS: &[Bar] = &[
    times("use", REFERENCE, INTEGER, 1.35),
    times("use", REFERENCE, ORDINARY, 0.25),
    times("use", REFERENCE, WASI_P1, 0.05),
    times("use", REFERENCE, COMPONENT, 0.05),
    times("use, 512 of many", REFERENCE, INTEGER, 1.35),
    times("use, any of many", REFERENCE, INTEGER, 2.5),
    no_cliff("use, 1 made in 10", 3.0),
    no_cliff("use, 1 made in 100", 3.0),
    at_most("derive", REFERENCE, 200.0),
    at_most("derive and close", REFERENCE, 200.0),
    Bar {
        row: "check, hit",
        kind: Kind::Grows {
            model: "refcap",
            from: "10 rules",
            most: 3.0,
        },
    },
    Bar {
        row: "check, miss",
        kind: Kind::Grows {
            model: "refcap",
            from: "10 rules",
            most: 3.0,
        },
    },
    at_most("a guard's check, added", "yes", 200.0),
    at_most("revoke, for each", REFERENCE, 20.0),
    at_most("revoke, until all blocked reads have returned", REFERENCE, 10.0),
    at_most("start a vat", REFERENCE, 60_000.0),
    // 24 KiB, and the one page of its own memory that the guest has touched.
    at_most("memory of a vat with a blocked read", REFERENCE, 28.0 * 1024.0),
    share("tcp: connect and close", REFERENCE, "native", 0.9),
    times("tcp: 64 B there and back, p50", REFERENCE, "native", 1.1),
    share("tcp: write", REFERENCE, "native", 0.9),
    share("tcp: read", REFERENCE, "native", 0.9),
];

/// How a promise was kept.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) row: &'static str,
    /// What was promised.
    pub(crate) promise: String,
    /// What was measured, where it was worst.
    pub(crate) found: String,
    pub(crate) kept: bool,
}

impl Bar {
    /// Judges results; `None` where they don't have what the promise is about.
    pub(crate) fn judge(&self, results: &[Measured]) -> Option<Verdict> {
        let of = |model: &str| -> Vec<&Measured> {
            results
                .iter()
                .filter(|measured| measured.row == self.row && measured.model == model)
                .collect()
        };
        let ratios = |model: &str, against: &str| -> Vec<(f64, String)> {
            let others = of(against);
            of(model)
                .into_iter()
                .filter_map(|ours| {
                    let theirs = others.iter().find(|theirs| theirs.at == ours.at)?;
                    Some((ours.median / theirs.median, ours.at.clone()))
                })
                .collect()
        };
        let at = |at: &str| {
            if at.is_empty() {
                String::new()
            } else {
                format!(" at {at}")
            }
        };
        let (promise, found, kept) = match self.kind {
            Kind::Times { model, against, most } => {
                let worst = ratios(model, against)
                    .into_iter()
                    .max_by(|a, b| a.0.total_cmp(&b.0))?;
                (
                    format!("{model} at most {most} x {against}"),
                    format!("{:.2}{}", worst.0, at(&worst.1)),
                    worst.0 <= most,
                )
            }
            Kind::Share {
                model,
                against,
                least,
            } => {
                let worst = ratios(model, against)
                    .into_iter()
                    .min_by(|a, b| a.0.total_cmp(&b.0))?;
                (
                    format!("{model} at least {least} x {against}"),
                    format!("{:.2}{}", worst.0, at(&worst.1)),
                    worst.0 >= least,
                )
            }
            Kind::AtMost { model, most } => {
                let worst = of(model)
                    .into_iter()
                    .max_by(|a, b| a.median.total_cmp(&b.median))?;
                (
                    format!("{model} at most {most} {}", worst.unit),
                    format!("{:.1}{}", worst.median, at(&worst.at)),
                    worst.median <= most,
                )
            }
            Kind::NoCliff { model, most } => {
                let mut all: Vec<_> = of(model).iter().map(|measured| measured.median).collect();
                all.sort_by(f64::total_cmp);
                let (middle, worst) = (all.get(all.len() / 2)?, all.last()?);
                (
                    format!("{model} nowhere more than {most} x its middle"),
                    format!("{:.2}", worst / middle),
                    worst / middle <= most,
                )
            }
            Kind::Grows { model, from, most } => {
                let all = of(model);
                let first = all.iter().find(|measured| measured.at == from)?;
                let last = all.last()?;
                let ratio = last.median / first.median;
                (
                    format!("{model} at {} at most {most} x {from}", last.at),
                    format!("{ratio:.2}"),
                    ratio <= most,
                )
            }
        };
        Some(Verdict {
            row: self.row,
            promise,
            found,
            kept,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(at: &str, model: &'static str, value: f64) -> Measured {
        Measured::of("row", at, model, "ns", vec![value])
    }

    fn judged(kind: Kind, results: &[Measured]) -> Option<(bool, String)> {
        Bar { row: "row", kind }
            .judge(results)
            .map(|verdict| (verdict.kept, verdict.found))
    }

    #[test]
    fn the_worst_point_decides() {
        let results = [
            measured("a", "ours", 10.0),
            measured("a", "theirs", 10.0),
            measured("b", "ours", 30.0),
            measured("b", "theirs", 20.0),
            measured("c", "ours", 99.0),
        ];
        let times = |most| Kind::Times {
            model: "ours",
            against: "theirs",
            most,
        };
        assert_eq!(judged(times(1.5), &results), Some((true, "1.50 at b".to_owned())));
        assert_eq!(judged(times(1.4), &results).map(|verdict| verdict.0), Some(false));
        let share = |least| Kind::Share {
            model: "theirs",
            against: "ours",
            least,
        };
        assert_eq!(judged(share(0.6), &results), Some((true, "0.67 at b".to_owned())));
        assert_eq!(judged(share(0.7), &results).map(|verdict| verdict.0), Some(false));
        let most = Kind::AtMost {
            model: "ours",
            most: 98.0,
        };
        assert_eq!(judged(most, &results), Some((false, "99.0 at c".to_owned())));
        let cliff = Kind::NoCliff {
            model: "ours",
            most: 3.0,
        };
        assert_eq!(judged(cliff, &results), Some((false, "3.30".to_owned())));
        let grows = Kind::Grows {
            model: "ours",
            from: "a",
            most: 10.0,
        };
        assert_eq!(judged(grows, &results), Some((true, "9.90".to_owned())));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let kind = Kind::Times {
            model: "ours",
            against: "theirs",
            most: 1.0,
        };
        assert_eq!(judged(kind, &[measured("a", "ours", 1.0)]), None);
    }
}
