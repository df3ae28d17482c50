//! Using and deriving handles, without any I/O.

use std::rc::Rc;
use std::time::{Duration, Instant};

use wasmtime::Result;

use super::Scale;
use crate::measure::{Case, Measured, compare};
use crate::models::integer::{self, Work};
use crate::models::reference::WAYS;
use crate::models::{COMPONENT, EMPTY, EXTERNREF_CRATE, INTEGER, SDK, WASI_P1};
use crate::models::{component, executor, reference, rust, wasi};

/// A guest whose handles are of one model.
#[derive(Clone)]
enum Holder {
    Reference(reference::Guest),
    Integer(integer::Guest),
}

impl Holder {
    fn call(&self, name: &str, arguments: &[u32], expected: u32) -> Result<()> {
        match self {
            Holder::Reference(guest) => guest.call(name, arguments, expected),
            Holder::Integer(guest) => guest.call(name, arguments, expected),
        }
    }
}

/// Guests of the models that hold many handles.
fn holders(executor: &Rc<tokio::runtime::Runtime>) -> Result<Vec<(&'static str, Holder)>> {
    let integer = integer::Guest::start(executor, Work::Done)?;
    let mut holders = vec![(INTEGER, Holder::Integer(integer))];
    for (model, way) in WAYS {
        let guest = reference::Guest::start(executor, way)?;
        holders.push((model, Holder::Reference(guest)));
    }
    Ok(holders)
}

/// Few handles, one after the other.
pub(crate) fn use_few(scale: Scale) -> Result<Vec<Measured>> {
    let mut results = Vec::new();
    for live in [1, 10, 100, 1_000] {
        results.extend(compare(&mut use_cases(live)?, scale.effort)?);
    }
    Ok(results)
}

/// All models with so many live handles; those that always have one only where that is asked for.
pub(crate) fn use_cases(live: u32) -> Result<Vec<Case>> {
    let executor = executor()?;
    let mut all = holders(&executor)?;
    let empty = integer::Guest::start(&executor, Work::Left)?;
    all.push((EMPTY, Holder::Integer(empty)));
    let at = format!("{live} live");
    let mut cases = Vec::new();
    for (model, guest) in all {
        guest.call("fill", &[live], live)?;
        cases.push(Case::new("use", &at, model, move |count| {
            guest.call("use", &[count, live], count)
        }));
    }
    if let Some(guest) = rust::sdk(&executor)? {
        guest.call("fill", &[live], live)?;
        cases.push(Case::new("use", &at, SDK, move |count| {
            guest.call("use", &[count, live], count)
        }));
    }
    if live == 1 {
        if let Some(guest) = rust::externref_crate(&executor)? {
            cases.push(Case::new("use", &at, EXTERNREF_CRATE, move |count| {
                guest.call("use", &[count], count)
            }));
        }
        let guest = wasi::Guest::start(&executor)?;
        cases.push(Case::new("use", &at, WASI_P1, move |count| guest.use_it(count)));
        let guest = component::Guest::start(&executor)?;
        cases.push(Case::new("use", &at, COMPONENT, move |count| guest.use_it(count)));
    }
    Ok(cases)
}

/// Many handles, at random among all or among 512 of them.
pub(crate) fn use_many(scale: Scale) -> Result<Vec<Measured>> {
    const HOT: u32 = 512;
    let executor = executor()?;
    let mut results = Vec::new();
    let sizes: &[u32] = match scale.quick {
        true => &[1 << 13, 1 << 17],
        false => &[1 << 13, 1 << 17, 1 << 20],
    };
    for &live in sizes {
        for (row, among) in [("use, 512 of many", HOT), ("use, any of many", live)] {
            let mut cases = Vec::new();
            for (model, guest) in holders(&executor)? {
                guest.call("fill", &[live], live)?;
                // Each is used once before anything is measured: the first use after a collection is dearer, and
                // with so many of them there would be nothing else.
                guest.call("use", &[live, live], live)?;
                cases.push(Case::new(row, format!("{live} live"), model, move |count| {
                    guest.call("use_random", &[count, among - 1], count)
                }));
            }
            results.extend(compare(&mut cases, scale.effort)?);
        }
    }
    Ok(results)
}

/// Uses at random, with one handle closed and another made for so many uses.
pub(crate) fn use_while_creating(scale: Scale) -> Result<Vec<Measured>> {
    let mut results = Vec::new();
    let sizes: &[u32] = match scale.quick {
        true => &[100, 1_000, 1_020, 10_000],
        false => &[100, 500, 900, 1_000, 1_020, 2_040, 4_090, 10_000, 16_380, 100_000],
    };
    for (row, each) in [("use, 1 made in 10", 10), ("use, 1 made in 100", 100)] {
        for &live in sizes {
            results.extend(compare(&mut use_and_make_cases(row, live, each)?, scale.effort)?);
        }
    }
    Ok(results)
}

/// The same with so many live handles, and one made for so many uses.
pub(crate) fn use_and_make_cases(row: &'static str, live: u32, each: u32) -> Result<Vec<Case>> {
    let executor = executor()?;
    let mut cases = Vec::new();
    for (model, guest) in holders(&executor)? {
        guest.call("fill", &[live], live)?;
        cases.push(Case::new(row, format!("{live} live"), model, move |count| {
            guest.call("use_and_make", &[count, live, each], count)
        }));
    }
    Ok(cases)
}

/// Deriving by a binary rule.
pub(crate) fn derive(scale: Scale) -> Result<Vec<Measured>> {
    let mut cases = derive_and_close_cases()?;
    cases.extend(derive_cases()?);
    compare(&mut cases, scale.effort)
}

/// Derives, and gives up what was derived.
pub(crate) fn derive_and_close_cases() -> Result<Vec<Case>> {
    let executor = executor()?;
    let mut cases = Vec::new();
    for (model, guest) in holders(&executor)? {
        cases.push(Case::new("derive and close", "", model, move |count| {
            guest.call("derive_close", &[count], count)
        }));
    }
    Ok(cases)
}

/// Derives many, and gives them up while nobody measures.
fn derive_cases() -> Result<Vec<Case>> {
    const BATCH: u32 = 1_000;
    let executor = executor()?;
    let mut cases = Vec::new();
    for (model, guest) in holders(&executor)? {
        guest.call("fill", &[BATCH], BATCH)?;
        guest.call("close", &[BATCH], BATCH)?;
        cases.push(Case::timed("derive", "", model, move |count| {
            let batches = count.div_ceil(BATCH);
            let mut time = Duration::ZERO;
            for _ in 0..batches {
                let start = Instant::now();
                guest.call("derive", &[BATCH], BATCH)?;
                time += start.elapsed();
                guest.call("close", &[BATCH], BATCH)?;
            }
            Ok(time.mul_f64(f64::from(count) / f64::from(batches * BATCH)))
        }));
    }
    Ok(cases)
}
