//! Preparing and starting: what a child gets, and why one does not start.

use super::*;

#[tokio::test]
async fn a_child_runs_and_its_end_is_told() {
    let reporter = program(
        r#"(module
          (import "refcap_v1" "report" (func $report (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "it was me")
          (func (export "refcap_start") (result i32)
            (drop (call $report (i32.const 0) (i32.const 9))) (i32.const -7)))"#,
    );
    let terms = SpawnerTerms::new()
        .program("reporter", &reporter)
        .program("trap", &plain("(unreachable)"))
        .program("spin", &spin());
    let (mut guest, _net, spawner) = parent(terms, Limits::default()).await;

    guest.prepare(CHILD, "reporter").await.unwrap();
    assert_eq!(guest.call("cap_kind", &[CHILD]).await, Ok(Kind::Child.code()));
    guest.start_child(CHILD).await.unwrap();
    let ending = Ending::Exited {
        code: -7,
        report: "it was me".into(),
    };
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(ending.clone()));
    assert_eq!(guest.wait_for(CHILD, NO_WAIT).await, Ok(ending));
    assert_eq!(guest.stop_child(CHILD).await, Ok(0));

    guest.prepare(CHILD, "trap").await.unwrap();
    guest.start_child(CHILD).await.unwrap();
    let ending = guest.wait_for(CHILD, 0).await.unwrap();
    assert!(
        matches!(&ending, Ending::Trapped { message } if message.contains("unreachable")),
        "{ending}"
    );

    guest.prepare(CHILD, "spin").await.unwrap();
    guest.limit_child(CHILD, LIMIT_TIME, 1_000).await.unwrap();
    guest.start_child(CHILD).await.unwrap();
    assert_eq!(guest.wait_for(CHILD, NO_WAIT).await, Err(ErrorCode::TimedOut));
    assert_eq!(guest.wait_for(CHILD, 1).await, Err(ErrorCode::TimedOut));
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(Ending::TimedOut));

    let lineage = spawner.lineage();
    let kinds: Vec<_> = lineage.iter().map(|info| (info.kind, &*info.label)).collect();
    assert_eq!(
        kinds[..2],
        [(Kind::Spawner, "spawner"), (Kind::Spawner, "spawner")]
    );
    assert!(kinds.contains(&(Kind::Child, "spawner/spin")), "{kinds:?}");
    assert_eq!(guest.handle().children(), 0);
}

#[tokio::test]
async fn what_can_not_be_prepared_says_why() {
    let named = SpawnerTerms::new()
        .program("one", &spin())
        .program("two", &spin())
        .children(2);
    let (mut guest, _net, _spawner) = parent(named, Limits::default()).await;
    assert_eq!(guest.prepare(CHILD, "three").await, Err(ErrorCode::NotFound));
    let message = guest.error_message().await;
    assert!(
        message.contains("`three`") && message.contains("`one`, `two`"),
        "{message}"
    );
    guest.write(2048, &[0xff; 4]).await;
    let not_text = guest.call("spawner_program", &[CHILD, SPAWNER, 2048, 4]).await;
    assert_eq!(not_text, Err(ErrorCode::BadArgument));
    // No bytes, whatever they are.
    assert_eq!(
        guest.call("spawner_load", &[CHILD, SPAWNER, 0, 8]).await,
        Err(ErrorCode::Denied)
    );
    assert!(guest.error_message().await.contains("none from bytes"));
    // Prepared ones count, and make room when they are closed.
    guest.prepare(CHILD, "one").await.unwrap();
    guest.prepare(4, "two").await.unwrap();
    assert_eq!(guest.prepare(5, "two").await, Err(ErrorCode::LimitReached));
    assert!(guest.error_message().await.contains("2 children"));
    guest.close(4).await.unwrap();
    guest.prepare(5, "two").await.unwrap();

    let bad = SpawnerTerms::new().program("a b", &spin());
    let refused = Capability::spawner("spawner", bad, ambient_authority()).unwrap_err();
    assert_eq!(refused, SpawnerRefused::BadName("a b".into()));
}

#[tokio::test]
async fn a_module_that_a_guest_brings_passes_the_same_gate() {
    let terms = SpawnerTerms::new().loads(engine(), 200);
    let (mut guest, _net, _spawner) = parent(terms, Limits::default()).await;
    let good =
        wat::parse_str(r#"(module (func (export "refcap_start") (result i32) (i32.const 5)))"#).unwrap();
    let length = i32::try_from(good.len()).unwrap();
    guest.write(2048, &good).await;
    guest
        .call("spawner_load", &[CHILD, SPAWNER, 2048, length])
        .await
        .unwrap();
    guest.start_child(CHILD).await.unwrap();
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(exited(5)));

    let bad =
        wat::parse_str(r#"(module (import "env" "open" (func)) (table (export "t") 1 externref))"#).unwrap();
    let length = i32::try_from(bad.len()).unwrap();
    guest.write(2048, &bad).await;
    let refused = guest.call("spawner_load", &[CHILD, SPAWNER, 2048, length]).await;
    assert_eq!(refused, Err(ErrorCode::BadArgument));
    let message = guest.error_message().await;
    assert!(
        message.contains("`open` from `env`") && message.contains("table of references"),
        "{message}"
    );
    let too_large = guest.call("spawner_load", &[CHILD, SPAWNER, 2048, 201]).await;
    assert_eq!(too_large, Err(ErrorCode::LimitReached));
    // What was refused has no place among the children.
    for _ in 0..100 {
        let refused = guest.call("spawner_load", &[CHILD, SPAWNER, 2048, length]).await;
        assert_eq!(refused, Err(ErrorCode::BadArgument));
    }
}

#[tokio::test]
async fn endowments_that_do_not_fit_are_errors_with_a_sentence() {
    let asks = with_endowments(
        r"net Net required\nlog Net optional\n",
        r#"(func (export "refcap_start") (result i32)
          (i32.add (ref.is_null (table.get $slots (i32.const 0)))
            (i32.mul (i32.const 2) (ref.is_null (table.get $slots (i32.const 1))))))"#,
    );
    let (mut guest, _net, _spawner) = parent_of(&asks).await;
    guest.prepare(CHILD, "next").await.unwrap();
    assert_eq!(guest.wait_for(CHILD, 0).await, Err(ErrorCode::NotStarted));
    assert_eq!(guest.start_child(CHILD).await, Err(ErrorCode::NotStarted));
    assert_eq!(
        guest.error_message().await,
        "the program needs `net` (a Net) (capability `spawner/next`)"
    );

    for (slot, name, why) in [
        (
            1,
            "nett",
            "the program does not ask for `nett`; it asks for `net` (a Net), `log` (a Net)",
        ),
        (SPAWNER, "net", "`net` must be a Net, but a Spawner was granted"),
        (CHILD, "net", "`net` must be a Net, but a Child was granted"),
    ] {
        assert_eq!(
            guest.give(CHILD, slot, name).await,
            Err(ErrorCode::BadArgument),
            "{name}"
        );
        let message = guest.error_message().await;
        assert!(message.starts_with(why), "{message}");
    }
    guest.limit(4, 1, "no hand-over").await.unwrap();
    assert_eq!(guest.give(CHILD, 4, "net").await, Err(ErrorCode::NotTransferable));
    assert_eq!(guest.give(CHILD, 0, "net").await, Err(ErrorCode::NullReference));
    // What was wrong has changed nothing: with what was missing, it starts.
    guest.give(CHILD, 1, "net").await.unwrap();
    assert_eq!(guest.give(CHILD, 1, "net").await, Err(ErrorCode::BadArgument));
    assert!(guest.error_message().await.contains("`net` was granted twice"));
    guest.start_child(CHILD).await.unwrap();
    assert_eq!(guest.wait_for(CHILD, 0).await, Ok(exited(2)));
    for call in [guest.start_child(CHILD).await, guest.give(CHILD, 1, "log").await] {
        assert_eq!(call, Err(ErrorCode::BadArgument));
        assert!(guest.error_message().await.contains("already"));
    }

    // Revoked between the choice and the start.
    guest.call("net_revocable", &[5, 6, 1]).await.unwrap();
    guest.prepare(CHILD, "next").await.unwrap();
    guest.give(CHILD, 5, "net").await.unwrap();
    assert_eq!(guest.call("revoker_revoke", &[6]).await, Ok(2));
    assert_eq!(guest.start_child(CHILD).await, Err(ErrorCode::NotStarted));
    assert!(
        guest
            .error_message()
            .await
            .contains("what was granted as `net` is revoked")
    );
    assert_eq!(guest.wait_for(CHILD, 0).await, Err(ErrorCode::NotStarted));
}

#[tokio::test]
async fn programs_that_do_not_begin_are_errors() {
    let no_entry = program(r#"(module (memory (export "memory") 1))"#);
    let start_traps = program(r#"(module (func $start (unreachable)) (start $start))"#);
    let start_spins = program(
        r#"(module (func $start (loop $again (br $again))) (start $start)
          (func (export "refcap_start") (result i32) (i32.const 0)))"#,
    );
    let too_big = program(
        r#"(module (memory (export "memory") 257) (func (export "refcap_start") (result i32) (i32.const 0)))"#,
    );
    for (program, why) in [
        (no_entry, "exports neither"),
        (start_traps, "unreachable"),
        (too_big, "could not be instantiated"),
        (start_spins, "ran longer than its limit"),
    ] {
        let (mut guest, _net, _spawner) = parent_of(&program).await;
        guest.prepare(CHILD, "next").await.unwrap();
        guest.limit_child(CHILD, LIMIT_TIME, 2_000).await.unwrap();
        assert_eq!(
            guest.start_child(CHILD).await,
            Err(ErrorCode::NotStarted),
            "{why}"
        );
        let message = guest.error_message().await;
        assert!(message.contains(why), "{message}");
        assert_eq!(guest.handle().children(), 0);
    }
}

#[tokio::test]
async fn arguments_and_output_are_what_the_terms_and_the_parent_say() {
    let echo = program(
        r#"(module
          (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 4)
          (func (export "refcap_start") (result i32)
            (drop (call $environ (i32.const 0) (i32.const 4)))
            (if (i32.load (i32.const 0)) (then (return (i32.const 99))))
            (drop (call $sizes (i32.const 0) (i32.const 12)))
            (drop (call $get (i32.const 64) (i32.const 1024)))
            (i32.store (i32.const 8) (i32.const 1024))
            (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 20)))
            (i32.load (i32.const 0))))"#,
    );
    let (parents, own) = (Captured::new(4096), Captured::new(4096));
    for (output, seen) in [
        (ChildOutput::Discard, None),
        (ChildOutput::To(Output::Capture(own.clone())), Some(&own)),
        (ChildOutput::Parents, Some(&parents)),
    ] {
        let terms = SpawnerTerms::new().program("next", &echo).output(output);
        let spawner = spawner(terms);
        let mut guest = Puppet::with_stdout(&net(""), Output::Capture(parents.clone())).await;
        guest.handle().grant("spawner", &spawner);
        guest.take(SPAWNER, "spawner").await.unwrap();
        guest.prepare(CHILD, "next").await.unwrap();
        guest
            .with_text("child_argument", &[CHILD], "--verbose")
            .await
            .unwrap();
        guest.with_text("child_argument", &[CHILD], "").await.unwrap();
        let zero = guest.with_text("child_argument", &[CHILD], "a\0b").await;
        assert_eq!(zero, Err(ErrorCode::BadArgument));
        let too_long = guest.call("child_argument", &[CHILD, 0, 65536]).await;
        assert_eq!(too_long, Err(ErrorCode::BadArgument), "there are zeros in it");
        guest.start_child(CHILD).await.unwrap();
        assert_eq!(guest.wait_for(CHILD, 0).await, Ok(exited(3)));
        let text = seen.map(Captured::text);
        assert_eq!(text, seen.map(|_| "next\0--verbose\0\0".to_owned()));
    }
    assert_eq!(parents.text().len(), own.text().len());

    let (mut guest, _net, _spawner) = parent_of(&echo).await;
    guest.prepare(CHILD, "next").await.unwrap();
    guest.write(2048, &[b'x'; 32 << 10]).await;
    guest
        .call("child_argument", &[CHILD, 2048, 32 << 10])
        .await
        .unwrap();
    let full = guest.call("child_argument", &[CHILD, 2048, 32 << 10]).await;
    assert_eq!(full, Err(ErrorCode::LimitReached));
}
