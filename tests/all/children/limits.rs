//! What children have is taken from their parents, and comes back.

use super::*;

#[tokio::test]
async fn limits_are_drawn_from_the_parents_and_come_back() {
    const MIB: u64 = 1 << 20;
    let server = Silent::start().await;
    let limits = Limits::default().memory(8 << 20).capabilities(40).sockets(3);
    let terms = SpawnerTerms::new()
        .program("next", &reader(server.address))
        .most(Limits::default().memory(16 << 20).capabilities(100).sockets(10));
    let (mut guest, _net, _spawner) = parent(terms, limits).await;

    // More than the spawner lets any child have.
    guest.prepare(CHILD, "next").await.unwrap();
    for (which, amount) in [
        (LIMIT_MEMORY, 17 * MIB),
        (LIMIT_MEMORY, 1 << 40),
        (LIMIT_CAPABILITIES, 101),
        (LIMIT_SOCKETS, 11),
    ] {
        assert_eq!(
            guest.limit_child(CHILD, which, amount).await,
            Err(ErrorCode::LimitReached)
        );
        assert!(guest.error_message().await.contains(&amount.to_string()));
    }
    for which in [-1, 0, 5, i32::MAX] {
        assert_eq!(
            guest.limit_child(CHILD, which, 1).await,
            Err(ErrorCode::BadArgument)
        );
    }
    guest.give(CHILD, 1, "net").await.unwrap();
    // More than the parent has left, one after the other. After the last it starts.
    for (which, amount, what) in [
        (
            LIMIT_CAPABILITIES,
            20,
            "100 capabilities, and of this program's 37 are left",
        ),
        (LIMIT_SOCKETS, 2, "10 sockets, and of this program's 3 are left"),
        (LIMIT_MEMORY, 4 * MIB, "16777216 bytes of memory"),
    ] {
        if which == LIMIT_CAPABILITIES {
            guest.limit_child(CHILD, LIMIT_SOCKETS, 10).await.unwrap();
        }
        assert_eq!(guest.start_child(CHILD).await, Err(ErrorCode::LimitReached));
        let message = guest.error_message().await;
        assert!(message.contains(what), "{message}");
        guest.limit_child(CHILD, which, amount).await.unwrap();
    }
    guest.start_child(CHILD).await.unwrap();

    // While the child has them, the parent has not: memory,
    assert_eq!(guest.raw("grow_memory", &[80]).await, -1);
    // sockets,
    guest.connect(4, 1, server.address).await.unwrap();
    assert_eq!(
        guest.connect(5, 1, server.address).await,
        Err(ErrorCode::LimitReached)
    );
    let message = guest.error_message().await;
    assert!(
        message.contains("3 open sockets, of which its children have 2"),
        "{message}"
    );
    // and capabilities: 20 are lent, 4 are held.
    guest.raw("grow_table", &[40]).await;
    for slot in 16..32 {
        guest.only(slot, 1, "connect tcp *:*").await.unwrap();
    }
    assert_eq!(
        guest.only(33, 1, "connect tcp *:*").await,
        Err(ErrorCode::LimitReached)
    );

    assert_eq!(guest.stop_child(CHILD).await, Ok(1));
    guest.only(33, 1, "connect tcp *:*").await.unwrap();
    guest.connect(5, 1, server.address).await.unwrap();
    guest.connect(6, 1, server.address).await.unwrap();
    assert_eq!(guest.raw("grow_memory", &[80]).await, 1);
}

#[tokio::test]
async fn a_child_sees_its_own_part_only() {
    // Grows by 8 pages, then by one as long as it can, and tells how many it has.
    let grower = plain(
        "(drop (memory.grow (i32.const 8)))
         (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
         (memory.size)",
    );
    let (mut guest, _net, _spawner) = parent_of(&grower).await;
    guest.prepare(CHILD, "next").await.unwrap();
    guest.limit_child(CHILD, LIMIT_MEMORY, 20 << 16).await.unwrap();
    guest.start_child(CHILD).await.unwrap();
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(exited(20)));

    // One socket, which it has not got.
    let server = Silent::start().await;
    let (mut guest, _net, _spawner) = parent_of(&reader(server.address)).await;
    guest.prepare(CHILD, "next").await.unwrap();
    guest.give(CHILD, 1, "net").await.unwrap();
    guest.limit_child(CHILD, LIMIT_SOCKETS, 0).await.unwrap();
    guest.start_child(CHILD).await.unwrap();
    let limit = ErrorCode::LimitReached.status();
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(exited(limit)));
    // No capability, which it needs one of for its endowment.
    guest.prepare(CHILD, "next").await.unwrap();
    guest.give(CHILD, 1, "net").await.unwrap();
    guest.limit_child(CHILD, LIMIT_CAPABILITIES, 0).await.unwrap();
    assert_eq!(guest.start_child(CHILD).await, Err(ErrorCode::NotStarted));
    assert!(guest.error_message().await.contains("0 live capabilities"));
    assert_eq!(server.visits(), 0);
}

#[tokio::test]
async fn children_of_children_are_bounded() {
    let last = plain("(i32.const 7)");
    let refused = ErrorCode::LimitReached.status();
    // By default a child starts nothing.
    for (depth, children, code) in [(1, 100, refused), (3, 100, refused), (4, 3, refused), (4, 4, 7)] {
        // Those below share what is above them, so each must have less.
        let mut terms = chain(&last).depth(depth).children(children);
        terms = terms.limits(Limits::default().memory(32 << 20).capabilities(10).sockets(0));
        let (mut guest, _net, spawner) = parent(terms, Limits::default()).await;
        guest.prepare(CHILD, "a").await.unwrap();
        guest.limit_child(CHILD, LIMIT_CAPABILITIES, 100).await.unwrap();
        guest.give(CHILD, SPAWNER, "spawner").await.unwrap();
        guest.start_child(CHILD).await.unwrap();
        assert_eq!(
            guest.wait_for(CHILD, 0).await,
            Ok(exited(code)),
            "{depth} {children}"
        );
        assert_eq!(guest.handle().children(), 0);
        // The embedder's, the puppet's, and its child: the handles of those that are gone went with their vats.
        assert_eq!(spawner.lineage().len(), 3);
    }
}

// A program that starts itself as often as it can, each of which does the same.
#[tokio::test]
async fn a_spawn_bomb_ends_at_a_limit() {
    let bomb = with_endowments(
        r"spawner Spawner required\n",
        r#"(data (i32.const 16) "bombspawner")
  (func (export "refcap_start") (result i32) (local $child externref) (local $status i32)
    (loop $next
      (call $program (table.get $slots (i32.const 0)) (i32.const 16) (i32.const 4))
      (local.set $status) (local.set $child)
      (if (i32.ge_s (local.get $status) (i32.const 0)) (then
        (drop (call $limit (local.get $child) (i32.const 1) (i32.const 2097152) (i32.const 0)))
        (drop (call $grant (local.get $child) (table.get $slots (i32.const 0)) (i32.const 20) (i32.const 7)))
        (drop (call $start (local.get $child)))
        (drop (table.grow $slots (local.get $child) (i32.const 1)))))
      (br $next))
    (unreachable))"#,
    );
    let terms = SpawnerTerms::new()
        .program("bomb", &bomb)
        .depth(3)
        .children(20)
        .limits(Limits::default().memory(32 << 20).capabilities(10).sockets(0))
        .most(Limits::default());
    let limits = Limits::default().memory(100 << 20);
    let (mut guest, _net, spawner) = parent(terms, limits).await;
    for child in CHILD..CHILD + 3 {
        guest.prepare(child, "bomb").await.unwrap();
        guest.limit_child(child, LIMIT_CAPABILITIES, 1_000).await.unwrap();
        guest.give(child, SPAWNER, "spawner").await.unwrap();
    }
    for child in CHILD..CHILD + 3 {
        guest.start_child(child).await.unwrap();
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        let lineage = spawner.lineage();
        let children = lineage.iter().filter(|info| info.kind == Kind::Child);
        assert!(children.count() <= 20);
        // The puppet is none the worse for it.
        assert_eq!(guest.wait_for(CHILD, 1).await, Err(ErrorCode::TimedOut));
    }
    for child in CHILD..CHILD + 3 {
        assert_eq!(guest.stop_child(child).await, Ok(1));
    }
    assert_eq!(guest.handle().children(), 0);
    assert_eq!(guest.raw("grow_memory", &[1_000]).await, 1);
}
