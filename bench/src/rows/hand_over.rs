//! Handing a handle from one instance to another of the same store.

use std::rc::Rc;
use std::time::{Duration, Instant};

use wasmtime::Result;

use super::Scale;
use crate::measure::{Case, Measured, compare};
use crate::models::instances::{self, Numbers, PLACES};
use crate::models::reference::Guest;
use crate::models::{EMPTY, INTEGER, LINK_GIVE, REFERENCE, executor};

/// All of it: the call that brings the handle, and what makes a handle of it for the other one.
pub(crate) const ROW: &str = "hand over between instances";
/// The same less the call, which is made with and without a handle.
pub(crate) const ADDED: &str = "hand over between instances, added to a call";

/// Two instances of one model.
#[derive(Clone)]
enum Pair {
    References(Guest),
    Numbers(Numbers),
}

impl Pair {
    fn call(&self, name: &str, count: u32) -> Result<()> {
        match self {
            Pair::References(guest) => guest.call(name, &[count], count),
            Pair::Numbers(guest) => guest.call(name, &[count], count),
        }
    }
}

fn pairs(executor: &Rc<tokio::runtime::Runtime>) -> Result<[(&'static str, Pair); 4]> {
    Ok([
        (EMPTY, Pair::References(instances::nothing(executor)?)),
        (INTEGER, Pair::Numbers(Numbers::start(executor)?)),
        (REFERENCE, Pair::References(instances::references(executor)?)),
        (LINK_GIVE, Pair::References(instances::given(executor)?)),
    ])
}

/// Hands over what the other one keeps, and what it gives up at once.
pub(crate) fn hand_over(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let mut kept = Vec::new();
    let mut dropped = Vec::new();
    for (model, pair) in pairs(&executor)? {
        let other = pair.clone();
        dropped.push(Case::new(ROW, "and give up", model, move |count| {
            other.call("drop", count)
        }));
        kept.push(Case::timed(ROW, "and keep", model, move |count| {
            // So many as there are places for, and then they are given up while nobody measures.
            let batches = count.div_ceil(PLACES);
            let mut time = Duration::ZERO;
            for _ in 0..batches {
                let start = Instant::now();
                pair.call("keep", PLACES)?;
                time += start.elapsed();
                pair.call("release", PLACES)?;
            }
            Ok(time.mul_f64(f64::from(count) / f64::from(batches * PLACES)))
        }));
    }
    let mut results = compare(&mut kept, scale.effort)?;
    results.extend(compare(&mut dropped, scale.effort)?);
    let added = added(&results);
    results.extend(added);
    Ok(results)
}

/// What is left of each when the call without a handle is taken away.
fn added(results: &[Measured]) -> Vec<Measured> {
    let without = |at: &str| {
        let found = results
            .iter()
            .find(|other| other.model == EMPTY && other.at == at);
        found.map(|other| other.median)
    };
    let models = results.iter().filter(|measured| measured.model != EMPTY);
    models
        .filter_map(|measured| {
            // Less than that is not told apart, and a plot or a mean needs more than nothing.
            let left = (measured.median - without(&measured.at)?).max(0.1);
            Some(Measured::of(
                ADDED,
                &measured.at,
                measured.model,
                "ns",
                vec![left],
            ))
        })
        .collect()
}
