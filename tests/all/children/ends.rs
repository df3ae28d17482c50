//! How children end: by themselves, with what they were given, with their parents, or because they are stopped.

use super::*;

#[tokio::test]
async fn what_a_parent_revokes_ends_in_its_child_and_nowhere_else() {
    let mut server = Silent::start().await;
    let (mut guest, net, _spawner) = parent_of(&reader(server.address)).await;
    guest.call("net_revocable", &[6, 7, 1]).await.unwrap();
    let mut peers = Vec::new();
    for (child, given) in [(CHILD, 6), (4, 1)] {
        guest.prepare(child, "next").await.unwrap();
        guest.give(child, given, "net").await.unwrap();
        guest.start_child(child).await.unwrap();
        peers.push(server.next().await.0);
    }
    // The Net that was handed over, the child's, and its connection.
    assert_eq!(guest.call("revoker_revoke", &[7]).await, Ok(3));
    closed(&mut peers[0]).await;
    assert_eq!(
        guest.wait_for(CHILD, 0).await,
        Ok(exited(ErrorCode::Revoked.status()))
    );
    assert_eq!(guest.wait_for(4, 20).await, Err(ErrorCode::TimedOut));
    // The embedder's revocation reaches it through the parent's.
    net.revoke();
    closed(&mut peers[1]).await;
    assert_eq!(
        guest.wait_for(4, 0).await,
        Ok(exited(ErrorCode::Revoked.status()))
    );
}

#[tokio::test]
async fn a_socket_that_is_handed_over_leaves_its_parent() {
    let mut server = Silent::start().await;
    let takes = with_endowments(
        r"stream TcpStream required\n",
        r#"(func (export "refcap_start") (result i32)
          (drop (call $socket_wait (table.get $slots (i32.const 0)) (i32.const 1) (i32.const 0)))
          (call $read (table.get $slots (i32.const 0)) (i32.const 1024) (i32.const 64)))"#,
    );
    let (mut guest, _net, _spawner) = parent_of(&takes).await;
    guest.connect(4, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    guest.prepare(CHILD, "next").await.unwrap();
    // A mistake does not cost the stream.
    assert_eq!(guest.give(CHILD, 4, "streem").await, Err(ErrorCode::BadArgument));
    guest.give(CHILD, 4, "stream").await.unwrap();
    assert_eq!(guest.read_stream(4, 1).await, Err(ErrorCode::Closed));
    guest.start_child(CHILD).await.unwrap();
    crate::support::servers::send(&mut peer, b"hello").await;
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(exited(5)));
    closed(&mut peer).await;
    assert_eq!(guest.handle().sockets(), 0);

    // One that was chosen and never started closes what it was given.
    guest.connect(4, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    guest.prepare(CHILD, "next").await.unwrap();
    guest.give(CHILD, 4, "stream").await.unwrap();
    guest.close(CHILD).await.unwrap();
    closed(&mut peer).await;
    assert_eq!(guest.handle().sockets(), 0);
}

#[tokio::test]
async fn a_child_is_stopped_whatever_it_does() {
    let mut server = Silent::start().await;
    let (full, _listener, _queue) = crate::revoke::full_listener().await;
    let waits_for_its_own = SpawnerTerms::new()
        .program("next", &starter("last", 1 << 20, true))
        .program("last", &spin())
        .limits(Limits::default().memory(4 << 20).capabilities(20).sockets(2))
        .depth(2);
    let loads: [(&str, SpawnerTerms, bool); 5] = [
        ("computes", SpawnerTerms::new().program("next", &spin()), false),
        (
            "reads",
            SpawnerTerms::new().program("next", &reader(server.address)),
            true,
        ),
        (
            "connects",
            SpawnerTerms::new().program("next", &reader(full)),
            false,
        ),
        ("waits for children", waits_for_its_own, false),
        (
            "calls",
            SpawnerTerms::new().program(
                "next",
                &with_endowments(
                    r"net Net required\n",
                    r#"(func (export "refcap_start") (result i32)
                      (loop $again (drop (call $flags (table.get $slots (i32.const 0)))) (br $again))
                      (unreachable))"#,
                ),
            ),
            false,
        ),
    ];
    for (what, terms, connects) in loads {
        for close in [false, true] {
            let (mut guest, net, _spawner) = parent(terms.clone(), Limits::default()).await;
            guest.prepare(CHILD, "next").await.unwrap();
            guest.limit_child(CHILD, LIMIT_CAPABILITIES, 100).await.unwrap();
            let _ = guest.give(CHILD, 1, "net").await;
            let _ = guest.give(CHILD, SPAWNER, "spawner").await;
            guest.start_child(CHILD).await.unwrap();
            let peer = match connects {
                true => Some(server.next().await.0),
                false => None,
            };
            tokio::time::sleep(Duration::from_millis(5)).await;
            if close {
                guest.close(CHILD).await.unwrap();
                soon(async {
                    while guest.handle().children() > 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
            } else {
                let begun = Instant::now();
                assert_eq!(guest.stop_child(CHILD).await, Ok(1), "{what}");
                println!("stopped while it {what}: {:?}", begun.elapsed());
                assert_eq!(guest.handle().children(), 0, "{what}");
                assert_eq!(
                    guest.wait_for(CHILD, NO_WAIT).await,
                    Ok(Ending::Stopped),
                    "{what}"
                );
            }
            // The embedder's and the puppet's are left.
            assert_eq!(net.lineage().len(), 2, "{what}");
            if let Some(mut peer) = peer {
                closed(&mut peer).await;
            }
        }
    }
}

#[tokio::test]
async fn a_child_is_stopped_before_it_begins() {
    let start_spins = program(
        r#"(module (func $start (loop $again (br $again))) (start $start)
          (func (export "refcap_start") (result i32) (i32.const 0)))"#,
    );
    let (mut guest, _net, spawner) = parent_of(&start_spins).await;
    guest.prepare(CHILD, "next").await.unwrap();
    assert_eq!(guest.stop_child(CHILD).await, Ok(1));
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(Ending::Stopped));
    assert_eq!(guest.start_child(CHILD).await, Err(ErrorCode::BadArgument));

    // Revoked by the embedder while it is instantiated.
    guest.prepare(CHILD, "next").await.unwrap();
    let revoking = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        spawner.revoke()
    });
    assert_eq!(guest.start_child(CHILD).await, Err(ErrorCode::Revoked));
    // The embedder's spawner, the puppet's, and two children of it: the handle of the first was lost, not closed.
    assert_eq!(revoking.await.unwrap(), 4);
    soon(async {
        while guest.handle().children() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_spawner_that_is_revoked_stops_all_that_it_started() {
    let mut server = Silent::start().await;
    let (mut guest, net, spawner) = parent_of(&reader(server.address)).await;
    let mut peers = Vec::new();
    for child in CHILD..CHILD + 5 {
        guest.spawn(child).await;
        peers.push(server.next().await.0);
    }
    guest.prepare(9, "next").await.unwrap();
    guest.give(9, 1, "net").await.unwrap();
    // The embedder's, the puppet's, and the children. What they were given comes from elsewhere, and ends with them.
    assert_eq!(spawner.revoke(), 2 + 6);
    for peer in &mut peers {
        closed(peer).await;
    }
    for child in CHILD..CHILD + 5 {
        assert_eq!(guest.wait_for(child, 0).await, Err(ErrorCode::Revoked));
    }
    assert_eq!(guest.prepare(10, "next").await, Err(ErrorCode::Revoked));
    assert_eq!(guest.start_child(9).await, Err(ErrorCode::Revoked));
    soon(async {
        while guest.handle().children() > 0 || net.lineage().len() > 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wait_ends_when_the_child_is_revoked() {
    let (mut guest, _net, spawner) = parent_of(&spin()).await;
    guest.spawn(CHILD).await;
    let revoking = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        spawner.revoke()
    });
    assert_eq!(guest.wait_for(CHILD, 0).await, Err(ErrorCode::Revoked));
    assert_eq!(revoking.await.unwrap(), 3);
    assert_eq!(guest.handle().children(), 0);
}

#[tokio::test]
async fn a_parent_that_ends_takes_its_children_with_it() {
    let mut server = Silent::start().await;
    let terms = SpawnerTerms::new().program("next", &reader(server.address));
    let (net, spawner) = (net("connect tcp 127.0.0.1:*"), spawner(terms));
    // It returns at once; its child would read for ever.
    let first = starter("next", 1 << 20, false);
    let start = async || {
        let vat = first.vat().grant("net", &net).grant("spawner", &spawner);
        vat.start().await.unwrap()
    };
    let mut vat = start().await;
    assert_eq!(soon(vat.run()).await.unwrap().code, 0);
    assert_eq!(vat.handle().children(), 0);
    let seen = server.visits();
    if seen > 0 {
        closed(&mut server.next().await.0).await;
    }
    // The first program's own Net and spawner are left, which ends with its vat.
    assert_eq!((net.lineage().len(), spawner.lineage().len()), (2, 3));
    drop(vat);
    assert_eq!((net.lineage().len(), spawner.lineage().len()), (1, 1));

    // One that waits for its child, and is dropped meanwhile.
    let waits = starter("next", 1 << 20, true);
    let vat = waits.vat().grant("net", &net).grant("spawner", &spawner);
    let mut vat = vat.start().await.unwrap();
    let handle = vat.handle();
    let running = tokio::spawn(async move { vat.run().await });
    let (mut peer, _) = server.next().await;
    assert_eq!(handle.children(), 1);
    running.abort();
    closed(&mut peer).await;
    soon(async {
        while handle.children() > 0 || net.lineage().len() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;

    // One whose time is over: its child's is, too.
    let limits = Limits::default().wall_time(Duration::from_millis(100));
    let vat = waits
        .vat()
        .grant("net", &net)
        .grant("spawner", &spawner)
        .limits(limits);
    let mut vat = vat.start().await.unwrap();
    assert!(matches!(soon(vat.run()).await, Err(RunError::TimedOut(_))));
    assert_eq!(vat.handle().children(), 0);
    let (mut peer, _) = server.next().await;
    closed(&mut peer).await;

    // One that traps in a call.
    let (mut guest, _net, _spawner) = parent_of(&reader(server.address)).await;
    guest.spawn(CHILD).await;
    let (mut peer, _) = server.next().await;
    assert!(matches!(
        guest.vat().call_export("trap", &[]).await,
        Err(RunError::Trap { .. })
    ));
    assert_eq!(guest.handle().children(), 0);
    closed(&mut peer).await;
}

#[tokio::test]
async fn a_child_that_nobody_can_stop_any_more_stops() {
    let (mut guest, _net, _spawner) = parent_of(&spin()).await;
    guest.spawn(CHILD).await;
    guest.raw("forget", &[CHILD]).await;
    guest.vat().collect().unwrap();
    soon(async {
        while guest.handle().children() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

// Starting, exiting, stopping and revoking at any moment, on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_stopping_and_revoking_race_and_nothing_is_left() {
    let server = Silent::start().await;
    let net = net("connect tcp 127.0.0.1:*");
    let mut starter = Puppet::start(&net).await;
    let mut fates = std::collections::BTreeMap::new();
    for round in 0_u64..150 {
        let terms = SpawnerTerms::new()
            .program("reads", &reader(server.address))
            .program("spins", &spin())
            .program("exits", &plain("(i32.const 7)"));
        let spawner = spawner(terms);
        starter.handle().grant("spawner", &spawner);
        starter.take(SPAWNER, "spawner").await.unwrap();
        let name = ["reads", "spins", "exits"][usize::try_from(round % 3).unwrap()];
        starter.prepare(CHILD, name).await.unwrap();
        let _ = starter.give(CHILD, 1, "net").await;
        let revoking = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(round * 7 % 900)).await;
            spawner.revoke()
        });
        let started = starter.start_child(CHILD).await;
        let ended = match (started, round % 2) {
            (Ok(_), 0) => starter.stop_child(CHILD).await.map(|_| "stopped"),
            (Ok(_), _) => starter.wait_for(CHILD, 0).await.map(|_| "ended"),
            (Err(error), _) => Err(error),
        };
        assert!(
            matches!(ended, Ok(_) | Err(ErrorCode::Revoked)),
            "{name}: {ended:?}"
        );
        *fates.entry(format!("{ended:?}")).or_insert(0) += 1;
        assert!(revoking.await.unwrap() >= 2);
        soon(async {
            while starter.handle().children() > 0 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        })
        .await;
        assert_eq!(net.lineage().len(), 2, "{name}");
        // Drops the references to what was revoked.
        for slot in [SPAWNER, CHILD] {
            let _ = starter.close(slot).await;
        }
        assert_eq!(starter.handle().capabilities(), 1);
    }
    println!("{fates:?}");
    assert_eq!(starter.handle().sockets(), 0);
    // All that was lent is there again: 256 MiB but for what the puppet has.
    assert!(starter.raw("grow_memory", &[4_000]).await >= 0);
}
