//! Very deep and very wide lineages, and what is left of them.

use std::process::Command;

use refcap::Limits;
use refcap_authority::Rules;

use crate::support::{Puppet, net};

const COUNT: i32 = 100_000;
const COUNT_WITH_GRANT: usize = 100_002;
/// The first slot behind the puppet's own, where the guest keeps what it makes.
const FIRST_KEPT: i32 = 16;
/// Set in the child process, which has the machine's memory figures to itself.
const ALONE: &str = "REFCAP_TEST_ALONE";

fn wide_limits() -> Limits {
    Limits::default()
        .capabilities(200_000)
        .depth(200_000)
        .fan_out(200_000)
        .table_elements(200_000)
        .memory(1 << 30)
}

#[test]
fn a_hundred_thousand_derivations_deep_or_wide_are_revoked_and_leave_nothing() {
    if std::env::var_os(ALONE).is_some() {
        // A stack that any recursion over the lineage would overflow.
        let run = || {
            let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            executor.block_on(derive_and_revoke());
        };
        let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap();
        return thread.join().unwrap();
    }
    let name = "scale::a_hundred_thousand_derivations_deep_or_wide_are_revoked_and_leave_nothing";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}

async fn derive_and_revoke() {
    // Once to warm up: the engine, the compiled puppet, the allocator's first pages.
    shape("warm-up", "chain").await;
    let before = resident();
    for (name, export) in [("chain", "chain"), ("fan", "fan"),("chain", "chain"), ("fan", "fan"),("chain", "chain"), ("fan", "fan")] {
        shape(name, export).await;
        let after = resident();
        if let (Some(before), Some(after)) = (before, after) {
            println!("{name}: {} KiB before, {} KiB after", before >> 10, after >> 10);
            if std::env::var_os("X").is_none() {assert!(after <= before + before / 10, "{name}: {before} bytes before, {after} after");}
        }
    }
}

async fn shape(name: &str, export: &str) {
    let count = if name == "warm-up" { 1_000 } else { COUNT };
    let grant = net("connect tcp 10.0.0.0/8:*");
    let mut guest = Puppet::with_limits(&grant, wide_limits()).await;
    let rules = Rules::parse("connect tcp 10.0.0.0/9:*").unwrap().encode();
    guest.write(1024, &rules).await;
    let mut arguments = vec![count, 1024, i32::try_from(rules.len()).unwrap()];
    if export == "fan" {
        arguments.push(1);
    }
    assert_eq!(guest.raw(export, &arguments).await, 0);
    if name != "warm-up" {
        assert_eq!(guest.vat().capabilities(), COUNT_WITH_GRANT - 1);
        assert_eq!(grant.lineage().len(), COUNT_WITH_GRANT);
        let start = std::time::Instant::now();
        assert_eq!(grant.revoke(), COUNT_WITH_GRANT);
        println!("{name}: {} capabilities revoked in {:?}", COUNT_WITH_GRANT, start.elapsed());
    } else {
        grant.revoke();
    }
    assert_eq!(guest.vat().capabilities(), 0);
    assert_eq!(guest.handle().capabilities(), 0);
    assert_eq!(grant.lineage().len(), 0);
    // The guest may still hold its references; they name nothing.
    let held = if export == "chain" { 2 } else { FIRST_KEPT };
    assert_eq!(guest.describe(held).await, Err(refcap::ErrorCode::Revoked));
}

/// The memory that this process has in RAM, where the system says so.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
