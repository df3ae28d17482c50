//! What an embedder can do while a guest runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use refcap::{
    Capability, CapabilityInfo, Captured, ErrorCode, Kind, Output, Program, StartError, ambient_authority,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::servers::Silent;
use crate::support::{Puppet, authority, block_on, engine, is_alone, net, program, soon};

#[tokio::test]
async fn the_lineage_shows_who_holds_what() {
    let server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest
        .only(2, 1, &format!("connect tcp *:{}", server.address.port()))
        .await
        .unwrap();
    guest.connect(3, 2, server.address).await.unwrap();
    let lineage = grant.lineage();
    let kinds: Vec<_> = lineage.iter().map(|info| info.kind).collect();
    assert_eq!(kinds, [Kind::Net, Kind::Net, Kind::Net, Kind::TcpStream]);
    let parents: Vec<_> = lineage.iter().map(|info| info.parent).collect();
    let ids: Vec<_> = lineage.iter().map(|info| Some(info.id)).collect();
    assert_eq!(parents, [None, ids[0], ids[1], ids[2]]);
    let vats: Vec<_> = lineage.iter().map(|info| info.vat).collect();
    let vat = Some(guest.handle().id());
    assert_eq!(vats, [None, vat, vat, vat]);
    assert!(lineage.iter().all(|info| info.held && &*info.label == "net"));

    guest.close(2).await.unwrap();
    let held = |info: &CapabilityInfo| info.held;
    // The one in the middle has an only child, which took its place.
    assert_eq!(grant.lineage().iter().filter(|info| held(info)).count(), 3);
}

#[tokio::test]
async fn a_capability_can_be_granted_while_the_guest_runs() {
    let mut server = Silent::start().await;
    let first = net("");
    let mut guest = Puppet::start(&first).await;
    guest.write(1024, b"late").await;
    assert_eq!(
        guest.call("grant_take", &[2, 1024, 4]).await,
        Err(ErrorCode::NotFound)
    );
    assert!(guest.error_message().await.contains("`late`"));

    let late = net("connect tcp 127.0.0.1:*");
    guest.handle().grant("late", &late);
    guest.call("grant_take", &[2, 1024, 4]).await.unwrap();
    assert_eq!(
        guest.call("grant_take", &[3, 1024, 4]).await,
        Err(ErrorCode::NotFound)
    );
    guest.connect(3, 2, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    assert_eq!(late.revoke(), 3);
    crate::support::servers::closed(&mut peer).await;

    guest.handle().grant("late", &late);
    guest.write(1024, b"late").await;
    assert_eq!(
        guest.call("grant_take", &[2, 1024, 4]).await,
        Err(ErrorCode::Revoked)
    );
}

#[tokio::test]
async fn one_grant_serves_many_vats_and_one_revoke_ends_them_all() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guests = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..20 {
        let mut guest = Puppet::start(&grant).await;
        guest.connect(2, 1, server.address).await.unwrap();
        peers.push(server.next().await.0);
        guests.push(guest);
    }
    assert_eq!(grant.revoke(), 41);
    for (guest, peer) in guests.iter_mut().zip(&mut peers) {
        crate::support::servers::closed(peer).await;
        assert_eq!(soon(guest.read_stream(2, 1)).await, Err(ErrorCode::Revoked));
        assert_eq!(guest.vat().capabilities(), 0);
    }
}

#[tokio::test]
async fn what_a_program_asks_for_and_what_it_is_granted_must_match() {
    let asks = program(
        r#"(module
          (@custom "refcap.endowments" "net Net required\nlog Net optional\n")
          (memory (export "memory") 1)
          (global $given (mut i32) (i32.const 0))
          (func (export "refcap_grant") (param externref) (result i32)
            (global.set $given (i32.add (i32.mul (global.get $given) (i32.const 10))
              (i32.add (i32.const 1) (ref.is_null (local.get 0)))))
            (i32.const 1))
          (func (export "refcap_start") (result i32) (global.get $given)))"#,
    );
    let net = net("");
    let missing = asks.vat().start().await.unwrap_err();
    assert_eq!(missing.to_string(), "the program needs `net` (a Net)");
    let unknown = asks.vat().grant("nett", &net).start().await.unwrap_err();
    assert!(matches!(&unknown, StartError::Unknown { name, asked } if name == "nett" && asked.len() == 2));
    let twice = asks
        .vat()
        .grant("net", &net)
        .grant("net", &net)
        .start()
        .await
        .unwrap_err();
    assert!(matches!(twice, StartError::Twice(_)));
    // In order, and null for the one that was left out.
    let mut vat = asks.vat().grant("net", &net).start().await.unwrap();
    assert_eq!(vat.run().await.unwrap().code, 12);
    let mut vat = asks
        .vat()
        .grant("log", &net)
        .grant("net", &net)
        .start()
        .await
        .unwrap();
    assert_eq!(vat.run().await.unwrap().code, 11);

    let gone = Capability::net("gone", authority(""), ambient_authority());
    gone.revoke();
    let revoked = asks.vat().grant("net", &gone).start().await.unwrap_err();
    assert!(matches!(revoked, StartError::Revoked(name) if name == "net"));
}

#[tokio::test]
async fn a_program_that_can_not_take_its_endowment_does_not_start() {
    let full = program(
        r#"(module (@custom "refcap.endowments" "net Net required\n")
          (func (export "refcap_grant") (param externref) (result i32) (i32.const -1)))"#,
    );
    let traps = program(
        r#"(module (@custom "refcap.endowments" "net Net required\n")
          (func (export "refcap_grant") (param externref) (result i32) (unreachable)))"#,
    );
    let net = net("");
    for (program, word) in [(full, "full"), (traps, "unreachable")] {
        let error = program.vat().grant("net", &net).start().await.unwrap_err();
        assert!(matches!(error, StartError::NotTaken { .. }));
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(net.lineage().len(), 1);
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

// Alone: what `tracing` remembers of who listens is shared by all threads of a process.
#[test]
fn the_audit_log_tells_the_whole_story() {
    if is_alone("embedder::the_audit_log_tells_the_whole_story", &[]) {
        block_on(tell_a_story());
    }
}

/// Runs something, and returns the lines of the audit log that it leaves.
pub(crate) async fn logged(story: impl Future<Output = ()>) -> Vec<String> {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    {
        // For this thread alone; the test has no other.
        let _guard = tracing::subscriber::set_default(subscriber);
        story.await;
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines()
        .filter(|line| line.contains(refcap::audit::TARGET))
        .map(str::to_owned)
        .collect()
}

async fn tell_a_story() {
    let server = Silent::start().await;
    let log = logged(async {
        let grant = net("connect tcp 127.0.0.1:*");
        let mut guest = Puppet::start(&grant).await;
        guest.connect(2, 1, server.address).await.unwrap();
        guest.write_stream(2, b"x").await.unwrap();
        guest
            .connect(3, 1, "10.0.0.1:1".parse().unwrap())
            .await
            .unwrap_err();
        guest.close(2).await.unwrap();
        grant.revoke();
    })
    .await;
    let events: Vec<&str> = log
        .iter()
        .filter_map(|line| line.split_once("\"event\":\"")?.1.split('"').next())
        .collect();
    assert_eq!(
        events,
        [
            "grant", "start", "derive", "derive", "use", "use", "refuse", "close", "revoke", "end"
        ],
        "{log:#?}"
    );
    let refusal = log.iter().find(|line| line.contains("\"refuse\"")).unwrap();
    assert!(refusal.contains("10.0.0.1:1"), "{refusal}");
    assert!(refusal.contains("net_connect"), "{refusal}");
    // The puppet is started without arguments, so it has no name.
    let start = log.iter().find(|line| line.contains("\"start\"")).unwrap();
    assert!(
        start.contains("\"vat\":") && !start.contains("\"program\""),
        "{start}"
    );
    for line in log.iter().filter(|line| line.contains("\"derive\"")) {
        assert!(line.contains("\"parent\":"), "{line}");
        assert!(line.contains("\"label\":\"net\""), "{line}");
    }
}

// Else who reads the log would think that they are still there.
#[test]
fn sockets_that_narrowing_ends_are_in_the_log() {
    if is_alone("embedder::sockets_that_narrowing_ends_are_in_the_log", &[]) {
        block_on(narrow_away());
    }
}

async fn narrow_away() {
    let server = Silent::start().await;
    let log = logged(async {
        let grant = net("connect tcp 127.0.0.1:*");
        let mut guest = Puppet::start(&grant).await;
        guest.connect(2, 1, server.address).await.unwrap();
        grant.narrow(&authority("connect tcp 127.0.0.1:1")).unwrap();
        // What changes nothing ends nothing.
        grant.narrow(&authority("connect tcp *:*")).unwrap();
    })
    .await;
    let log: Vec<serde_json::Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids = |event: &str| -> Vec<u64> {
        let events = log.iter().filter(|line| line["event"] == event);
        events.map(|line| line["id"].as_u64().unwrap()).collect()
    };
    let (grants, derived) = (ids("grant"), ids("derive"));
    assert_eq!(
        ids("revoke"),
        derived[1..],
        "the stream and nothing else: {log:#?}"
    );
    assert_eq!(ids("narrow"), [grants[0]; 2]);
    let revoked = log.iter().find(|line| line["event"] == "revoke").unwrap();
    assert_eq!(
        (&revoked["vat"], &revoked["ended"]),
        (&serde_json::Value::Null, &1.into())
    );
}

// What goes from one stream to another passes no guest's memory, but it does not pass the log by.
#[test]
fn a_copy_is_in_the_log_as_a_read_of_one_and_a_write_of_the_other() {
    let name = "embedder::a_copy_is_in_the_log_as_a_read_of_one_and_a_write_of_the_other";
    if is_alone(name, &[]) {
        block_on(copy_something());
    }
}

async fn copy_something() {
    let mut server = Silent::start().await;
    let log = logged(async {
        let grant = net("connect tcp 127.0.0.1:*");
        let mut guest = Puppet::start(&grant).await;
        guest.connect(2, 1, server.address).await.unwrap();
        let (mut peer, _) = server.next().await;
        guest.connect(3, 1, server.address).await.unwrap();
        crate::support::servers::send(&mut peer, b"seven b").await;
        soon(guest.call("socket_wait", &[2, refcap_abi::WAIT_READ, 0]))
            .await
            .unwrap();
        assert_eq!(guest.call("stream_copy", &[2, 3, 100]).await, Ok(7));
    })
    .await;
    let moves: Vec<serde_json::Value> = log
        .iter()
        .filter(|line| line.contains("\"bytes\":7"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let operations: Vec<_> = moves.iter().map(|event| &event["operation"]).collect();
    assert_eq!(operations, ["read", "write"], "{log:#?}");
    // The streams were made in that order.
    assert!(moves[0]["id"].as_u64() < moves[1]["id"].as_u64(), "{log:#?}");
}

// Found by reading: who came while a guest waited was turned away, and no event told of it.
#[test]
fn a_peer_that_is_turned_away_is_in_the_log_whatever_the_guest_does() {
    if is_alone(
        "embedder::a_peer_that_is_turned_away_is_in_the_log_whatever_the_guest_does",
        &[],
    ) {
        block_on(turn_peers_away());
    }
}

async fn turn_peers_away() {
    let log = logged(async {
        let grant = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.2");
        let mut guest = Puppet::start(&grant).await;
        let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        // By waiting for it, by a poller, by accepting.
        let _first = tokio::net::TcpStream::connect(address).await.unwrap();
        let waited = guest.call("socket_wait", &[2, refcap_abi::WAIT_READ, 50]).await;
        assert_eq!(waited, Err(ErrorCode::TimedOut));
        let _second = tokio::net::TcpStream::connect(address).await.unwrap();
        guest.call("poller_new", &[3]).await.unwrap();
        guest
            .call("poller_add", &[3, 2, 7, refcap_abi::WAIT_READ])
            .await
            .unwrap();
        let waited = guest.call("poller_wait", &[3, 0, 8, 50]).await;
        assert_eq!(waited, Err(ErrorCode::TimedOut));
        let _third = tokio::net::TcpStream::connect(address).await.unwrap();
        let accepted = guest.call("listener_accept", &[4, 2]).await;
        assert_eq!(accepted, Err(ErrorCode::WouldBlock));
    })
    .await;
    let turned_away: Vec<_> = log.iter().filter(|line| line.contains("\"turn-away\"")).collect();
    assert_eq!(turned_away.len(), 3, "{log:#?}");
    for line in turned_away {
        assert!(line.contains("accept tcp 127.0.0.1:"), "{line}");
        assert!(line.contains("\"label\":\"net\""), "{line}");
    }
}

#[tokio::test]
async fn guests_get_random_numbers_and_each_others_never() {
    // Writes 24 random bytes, in two portions.
    let source = r#"(module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\10\00\00\00\18\00\00\00")
      (func (export "refcap_start") (result i32)
        (if (call $random (i32.const 16) (i32.const 8)) (then (return (i32.const 1))))
        (if (call $random (i32.const 24) (i32.const 16)) (then (return (i32.const 2))))
        (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))))"#;
    let program = Program::load(engine(), &wat::parse_str(source).unwrap()).unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        let output = Captured::new(100);
        let vat = program.vat().stdout(Output::Capture(output.clone()));
        vat.start().await.unwrap().run().await.unwrap();
        let bytes = output.bytes();
        assert_eq!(bytes.len(), 24);
        seen.extend(bytes.chunks(8).map(<[u8]>::to_vec));
    }
    assert_eq!(seen.len(), 24, "{seen:?}");
}
