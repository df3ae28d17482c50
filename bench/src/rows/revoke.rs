//! Revoking: what it costs for each that ends, and how soon those that wait know.

use std::time::{Duration, Instant};

use refcap::{Capability, Program, Runtime, Terms, Vat, ambient_authority};
use tokio::net::TcpListener;
use wasmtime::{Result, ensure};

use super::Scale;
use crate::measure::Measured;
use crate::models::reference::limits;
use crate::models::{REFERENCE, executor, guest};

/// Revoking what a guest has derived, and waking those that wait.
pub(crate) fn revoke(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let runtime = Runtime::new()?;
    let program = Program::load(&runtime, &wat::parse_str(guest::source(guest::REFERENCES))?)?;
    let mut results = Vec::new();
    let sizes: &[u32] = match scale.quick {
        true => &[1, 1_000, 100_000],
        false => &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
    };
    let repetitions = if scale.quick { 3 } else { 7 };
    for row in [Row::Whole, Row::Part, Row::Noted] {
        for &size in sizes.iter().filter(|&&size| size >= row.smallest()) {
            let mut values = Vec::new();
            for _ in 0..repetitions {
                // Of small ones many, one after the other, so that looking at the clock does not count.
                let mut subtrees: Vec<_> = (0..(1_000 / size).clamp(1, 100))
                    .map(|_| Subtree::grow(&executor, &program, row, size))
                    .collect::<Result<_>>()?;
                let begun = Instant::now();
                let ended: usize = subtrees.iter().map(|subtree| subtree.granted.revoke()).sum();
                if row == Row::Noted {
                    subtrees
                        .iter_mut()
                        .try_for_each(|subtree| subtree.note(&executor))?;
                }
                let time = begun.elapsed();
                // Those of the guests, their endowments, and what these were made from.
                let expected = (size as usize + 2) * subtrees.len();
                ensure!(ended == expected, "{ended} ended of {expected}");
                values.push(time.as_nanos() as f64 / ended as f64);
            }
            let at = format!("{size} descendants");
            results.push(Measured::of(row.name(), at, REFERENCE, "ns", values));
        }
    }
    results.push(wake(&executor, &runtime, repetitions)?);
    Ok(results)
}

/// What is revoked, and until when it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// All of a lineage, until `revoke` has returned.
    Whole,
    /// A Net with all below it, of a lineage that lives on.
    Part,
    /// All of a lineage, until the vat has taken note of it too, as it does when it next comes to the host.
    Noted,
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Row::Whole => "revoke, for each",
            Row::Part => "revoke a part, for each",
            Row::Noted => "revoke and take note, for each",
        }
    }

    /// Of fewer, calling the guest would be most of what is measured.
    fn smallest(self) -> u32 {
        if self == Row::Noted { 1_000 } else { 0 }
    }
}

/// A vat that has derived so many from its endowment.
struct Subtree {
    /// Of which a part lives on.
    _minted: Capability,
    granted: Capability,
    vat: Vat,
}

impl Subtree {
    fn grow(executor: &tokio::runtime::Runtime, program: &Program, row: Row, size: u32) -> Result<Subtree> {
        let minted = Capability::net("net", "connect tcp 10.0.0.1:1".parse()?, ambient_authority());
        let granted = match row {
            Row::Part => minted.limit(&Terms::new())?,
            Row::Whole | Row::Noted => minted.clone(),
        };
        let mut vat = executor.block_on(program.vat().limits(limits()).grant("net", &granted).start())?;
        let made = executor.block_on(vat.call_export("fill", &[size.cast_signed()]))?;
        ensure!(
            made == Some(size.cast_signed()),
            "the guest made {made:?} of {size}"
        );
        Ok(Subtree {
            _minted: minted,
            granted,
            vat,
        })
    }

    fn note(&mut self, executor: &tokio::runtime::Runtime) -> Result<()> {
        let used = executor.block_on(self.vat.call_export("use", &[1, 1]))?;
        ensure!(used == Some(0), "a Net that was revoked has its flags");
        Ok(())
    }
}

/// How long after a revocation the last of many blocked reads has returned.
fn wake(executor: &tokio::runtime::Runtime, runtime: &Runtime, repetitions: usize) -> Result<Measured> {
    const VATS: usize = 100;
    let mut values = Vec::new();
    for _ in 0..repetitions {
        let time = executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let program = Program::load(
                runtime,
                &wat::parse_str(guest::blocked(guest::REFERENCES, address))?,
            )?;
            let net = Capability::net(
                "net",
                format!("connect tcp {address}").parse()?,
                ambient_authority(),
            );
            let (mut running, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..VATS {
                let mut vat = program.vat().grant("net", &net).start().await?;
                running.push(tokio::spawn(async move { vat.call_export("block", &[]).await }));
                peers.push(listener.accept().await?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let begun = Instant::now();
            net.revoke();
            for vat in running {
                vat.await??;
            }
            wasmtime::error::Ok(begun.elapsed())
        })?;
        values.push(time.as_secs_f64() * 1e3);
    }
    let at = format!("{VATS} vats");
    Ok(Measured::of(
        "revoke, until all blocked reads have returned",
        at,
        REFERENCE,
        "ms",
        values,
    ))
}
