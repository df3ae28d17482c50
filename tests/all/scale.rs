//! Very deep and very wide lineages, and what is left of them.

use refcap::Limits;
use refcap_authority::Rules;

use crate::support::{Puppet, block_on, is_alone, net, resident};

const COUNT: i32 = 100_000;
const WARM_UP: i32 = 1_000;
/// The first slot behind the puppet's own, where the guest keeps what it makes.
const FIRST_KEPT: i32 = 24;

/// Settings of glibc's allocator; other systems pay no attention to them.
const RETURN_MEMORY: &str = "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0:\
    glibc.malloc.trim_threshold=131072:glibc.malloc.mmap_threshold=131072";

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
    let name = "scale::a_hundred_thousand_derivations_deep_or_wide_are_revoked_and_leave_nothing";
    // The C library keeps freed blocks for later use. What is asked here is whether they are freed, so it
    // is told to give them back.
    if !is_alone(
        name,
        &[("MALLOC_ARENA_MAX", "1"), ("GLIBC_TUNABLES", RETURN_MEMORY)],
    ) {
        return;
    }
    // A stack that any recursion over the lineage would overflow.
    let run = || block_on(derive_and_revoke());
    let thread = std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(run)
        .unwrap();
    thread.join().unwrap();
}

async fn derive_and_revoke() {
    // Once to warm up: the engine, the compiled puppet, the allocator's first pages.
    shape("chain", WARM_UP).await;
    let before = resident();
    for export in ["chain", "fan"] {
        let held = shape(export, COUNT).await;
        let after = resident();
        if let (Some(before), Some(held), Some(after)) = (before, held, after) {
            let [b, h, a] = [before, held, after].map(|bytes| bytes >> 10);
            println!("{export}: {b} KiB before, {h} KiB with all of them, {a} KiB after");
            assert!(
                held > before + before / 2,
                "{export}: {before} bytes before, {held} held"
            );
            assert!(
                after <= before + before / 10,
                "{export}: {before} bytes before, {after} after"
            );
        }
    }
}

/// Derives, revokes and looks. Returns the memory in use when there were most.
async fn shape(export: &str, count: i32) -> Option<usize> {
    let grant = net("connect tcp 10.0.0.0/8:*");
    let mut guest = Puppet::with_limits(&grant, wide_limits()).await;
    let rules = Rules::parse("connect tcp 10.0.0.0/9:*").unwrap().encode();
    guest.write(1024, &rules).await;
    let mut arguments = vec![count, 1024, i32::try_from(rules.len()).unwrap()];
    if export == "fan" {
        arguments.push(1);
    }
    assert_eq!(guest.raw(export, &arguments).await, 0);
    // The endowment is one more, and the embedder's own another.
    let held = usize::try_from(count).unwrap() + 1;
    assert_eq!(guest.vat().capabilities(), held);
    assert_eq!(grant.lineage().len(), held + 1);
    let most = resident();
    let start = std::time::Instant::now();
    assert_eq!(grant.revoke(), held + 1);
    println!(
        "{export}: {} capabilities revoked in {:?}",
        held + 1,
        start.elapsed()
    );
    assert_eq!(guest.vat().capabilities(), 0);
    assert_eq!(guest.handle().capabilities(), 0);
    assert_eq!(grant.lineage().len(), 0);
    // The guest still holds its references; they name nothing.
    let kept = if export == "chain" { 2 } else { FIRST_KEPT };
    assert_eq!(guest.describe(kept).await, Err(refcap::ErrorCode::Revoked));
    most
}
