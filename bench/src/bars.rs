//! What the project promises of its rows: ratios within one run, so that they hold on any machine.

use crate::measure::Measured;
use crate::models::{
    COMPONENT, INTEGER, LINK_GIVE, NATIVE, OBJECT, ORDINARY, REFERENCE, SDK, WASI_P1, WASI_P2,
};
use crate::rows::{hand_over, object};

/// One promise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) row: &'static str,
    /// The points of the row that are judged; all, if there are none here.
    pub(crate) points: &'static [&'static str],
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
    /// `model` takes at most that much more than what `against` takes, in the row's unit.
    Over {
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
    /// The middle of what `model` gets, at the points of this row and of `and`, is at least `least` times what
    /// `against` gets there.
    MiddleShare {
        and: &'static str,
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

impl Bar {
    const fn new(row: &'static str, kind: Kind) -> Bar {
        let points = &[];
        Bar { row, points, kind }
    }

    /// Judges these points alone.
    const fn at(mut self, points: &'static [&'static str]) -> Bar {
        self.points = points;
        self
    }
}

const fn times(row: &'static str, model: &'static str, against: &'static str, most: f64) -> Bar {
    Bar::new(row, Kind::Times { model, against, most })
}

const fn share(row: &'static str, against: &'static str, least: f64) -> Bar {
    let kind = Kind::Share {
        model: REFERENCE,
        against,
        least,
    };
    Bar::new(row, kind)
}

const fn at_most(row: &'static str, most: f64) -> Bar {
    let model = REFERENCE;
    Bar::new(row, Kind::AtMost { model, most })
}

const fn no_cliff(row: &'static str, most: f64) -> Bar {
    let model = REFERENCE;
    Bar::new(row, Kind::NoCliff { model, most })
}

const fn grows(row: &'static str, from: &'static str, most: f64) -> Bar {
    let model = "refcap";
    Bar::new(row, Kind::Grows { model, from, most })
}

const FROM_TEN_RULES: &[&str] = &["10 rules", "1000 rules", "100000 rules"];
const LARGE: &[&str] = &["64 KiB", "1024 KiB"];

/// All of them.
pub(crate) const BARS: &[Bar] = &[
    times("use", REFERENCE, INTEGER, 1.35),
    times("use", REFERENCE, ORDINARY, 0.25),
    times("use", REFERENCE, WASI_P1, 0.05),
    times("use", REFERENCE, COMPONENT, 0.05),
    Bar::new(
        "use",
        Kind::Over {
            model: SDK,
            against: REFERENCE,
            most: 5.0,
        },
    ),
    times("use, 512 of many", REFERENCE, INTEGER, 1.35),
    times("use, any of many", REFERENCE, INTEGER, 2.5),
    no_cliff("use, 1 made in 10", 3.0),
    no_cliff("use, 1 made in 100", 3.0),
    times(hand_over::ROW, REFERENCE, INTEGER, 0.1),
    times(hand_over::ROW, LINK_GIVE, INTEGER, 0.1),
    times(hand_over::ADDED, REFERENCE, INTEGER, 0.1),
    times(object::ROW, OBJECT, INTEGER, 5.0),
    at_most("derive", 200.0),
    at_most("derive and close", 200.0),
    grows("check, hit", "10 rules", 3.0),
    grows("check, miss", "10 rules", 3.0),
    times("check, hit", "refcap", "cap-std", 1.0).at(FROM_TEN_RULES),
    times("check, miss", "refcap", "cap-std", 1.0).at(FROM_TEN_RULES),
    Bar::new(
        "a guard's check, added",
        Kind::AtMost {
            model: "yes",
            most: 200.0,
        },
    ),
    at_most("revoke, for each", 20.0),
    at_most("revoke a part, for each", 20.0),
    at_most("revoke, until all blocked reads have returned", 10.0),
    at_most("start a vat", 60_000.0).at(&["on demand"]),
    at_most("start a vat", 30_000.0).at(&["pooled"]),
    // 24 KiB, and the one page of its own memory that the guest has touched.
    at_most("memory of a vat with a blocked read", 28.0 * 1024.0),
    share("tcp: connect and close", NATIVE, 0.9),
    times("tcp: 64 B there and back, p50", REFERENCE, NATIVE, 1.1),
    share("tcp: write", NATIVE, 0.9),
    // Reads of 4 KiB are shown and not judged: the same client gets three times as much from run to run.
    share("tcp: read", NATIVE, 0.9).at(LARGE),
    Bar::new(
        "tcp: write",
        Kind::MiddleShare {
            and: "tcp: read",
            model: REFERENCE,
            against: NATIVE,
            least: 0.95,
        },
    ),
    share("tcp: connect and close", WASI_P2, 1.7),
    times("tcp: 64 B there and back, p50", REFERENCE, WASI_P2, 1.0),
    share("tcp: write", WASI_P2, 1.4).at(&["4 KiB", "1024 KiB"]),
    share("tcp: write", WASI_P2, 1.0).at(&["64 KiB"]),
    share("tcp: read", WASI_P2, 1.0).at(LARGE),
    times("tcp, 1000 connections: 64 B, p50", REFERENCE, NATIVE, 1.1),
    share("tcp, 1000 connections: write", NATIVE, 0.9),
    share("tcp, 1000 connections: read", NATIVE, 0.9),
    share("http: answers", NATIVE, 0.7),
    at_most("fairness: a ticker of 1 ms is late by at most", 5.0),
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
        let in_row = |row: &str, model: &str| -> Vec<&Measured> {
            let is_judged = |at: &str| self.points.is_empty() || self.points.contains(&at);
            results
                .iter()
                .filter(|measured| measured.row == row && measured.model == model && is_judged(&measured.at))
                .collect()
        };
        let of = |model: &str| in_row(self.row, model);
        let ratios_in = |row: &str, model: &str, against: &str| -> Vec<(f64, String)> {
            let others = in_row(row, against);
            in_row(row, model)
                .into_iter()
                .filter_map(|ours| {
                    let theirs = others.iter().find(|theirs| theirs.at == ours.at)?;
                    Some((ours.median / theirs.median, ours.at.clone()))
                })
                .collect()
        };
        let ratios = |model: &str, against: &str| ratios_in(self.row, model, against);
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
            Kind::Over { model, against, most } => {
                let others = of(against);
                let worst = of(model)
                    .into_iter()
                    .filter_map(|ours| {
                        let theirs = others.iter().find(|theirs| theirs.at == ours.at)?;
                        Some((ours.median - theirs.median, ours))
                    })
                    .max_by(|a, b| a.0.total_cmp(&b.0))?;
                (
                    format!("{model} at most {most} {} more than {against}", worst.1.unit),
                    format!("{:.1}{}", worst.0, at(&worst.1.at)),
                    worst.0 <= most,
                )
            }
            Kind::MiddleShare {
                and,
                model,
                against,
                least,
            } => {
                let mut all = ratios(model, against);
                all.extend(ratios_in(and, model, against));
                all.sort_by(|a, b| a.0.total_cmp(&b.0));
                let middle = all.get(all.len() / 2)?.0;
                (
                    format!("with {and}: {model} in the middle at least {least} x {against}"),
                    format!("{middle:.2}"),
                    middle >= least,
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
        judged_at(&[], kind, results)
    }

    fn judged_at(
        points: &'static [&'static str],
        kind: Kind,
        results: &[Measured],
    ) -> Option<(bool, String)> {
        let row = "row";
        Bar { row, points, kind }
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
        let over = |most| Kind::Over {
            model: "ours",
            against: "theirs",
            most,
        };
        assert_eq!(judged(over(10.0), &results), Some((true, "10.0 at b".to_owned())));
        assert_eq!(judged(over(9.0), &results).map(|verdict| verdict.0), Some(false));
        let middle = Kind::MiddleShare {
            and: "none",
            model: "theirs",
            against: "ours",
            least: 0.9,
        };
        assert_eq!(judged(middle, &results), Some((true, "1.00".to_owned())));
        assert_eq!(
            judged_at(&["b"], middle, &results),
            Some((false, "0.67".to_owned()))
        );
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
