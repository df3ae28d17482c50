//! Nets that programs implement: whoever holds one can't tell it from another by anything but what it does.

use refcap::{Capability, ErrorCode, Kind, Limits, RunError, SpawnerTerms};
use refcap_abi::service::NetRequest;
use refcap_abi::{ADDRESS_PEER, NO_WAIT, WAIT_READ};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::children::reader;
use crate::guards::says;
use crate::support::names::{Scripted, addresses};
use crate::support::servers::Silent;
use crate::support::{Puppet, granted, net, program, soon};

/// Slots of the puppet: what it gives when it is asked, the object that it implements, and the Net of that.
const GIVEN: i32 = 6;
const OBJECT: i32 = 5;
const NET: i32 = 7;

const RULES: &str = "connect tcp 10.0.0.1:80";

async fn guest_with(net: &Capability, rules: &str) -> Puppet {
    implements(Puppet::start(net).await, rules).await
}

async fn implements(mut guest: Puppet, rules: &str) -> Puppet {
    guest.call("object_new", &[OBJECT, GIVEN]).await.unwrap();
    guest.derive("object_as_net", NET, OBJECT, rules).await.unwrap();
    guest
}

impl Puppet {
    async fn was_asked_for(&mut self) -> i32 {
        self.raw("last_method", &[]).await
    }
}

fn connecting() -> i32 {
    let remote = "10.0.0.1:80".parse().unwrap();
    NetRequest::Connect { remote, local: None }.method()
}

#[tokio::test]
async fn a_program_can_answer_for_an_address_with_a_connection_to_another() {
    let mut server = Silent::start().await;
    let mut guest = guest_with(&net("connect tcp 127.0.0.1:*"), RULES).await;
    assert_eq!(guest.call("cap_kind", &[NET]).await, Ok(Kind::Net.code()));
    assert_eq!(guest.describe(NET).await.unwrap(), RULES);
    assert_eq!(guest.allows(NET, "connect tcp 10.0.0.1:80").await, Ok(true));
    // Nobody is asked for what is not allowed.
    let elsewhere = "10.0.0.2:80".parse().unwrap();
    assert_eq!(guest.connect(2, NET, elsewhere).await, Err(ErrorCode::Denied));
    assert!(guest.error_message().await.contains("10.0.0.2:80"));
    assert_eq!(guest.was_asked_for().await, 0);

    guest.connect(GIVEN, 1, server.address).await.unwrap();
    guest
        .connect(2, NET, "10.0.0.1:80".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(guest.was_asked_for().await, connecting());
    guest.write_stream(2, b"hello").await.unwrap();
    let (mut theirs, _) = soon(server.next()).await;
    let mut hello = [0; 5];
    soon(theirs.read_exact(&mut hello)).await.unwrap();
    assert_eq!(&hello, b"hello");
    assert_eq!(guest.end_of(2, ADDRESS_PEER).await, Ok(server.address));
    assert_eq!(guest.call("cap_kind", &[GIVEN]).await, Err(ErrorCode::Closed));
    // A local end is passed on as it is asked for.
    guest.connect(GIVEN, 1, server.address).await.unwrap();
    let from = "10.0.0.9:0".parse().unwrap();
    guest
        .connect_from(3, NET, "10.0.0.1:80".parse().unwrap(), from)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_program_can_answer_by_itself() {
    let net = net("");
    let limits = Limits::default().sockets(3);
    let mut guest = implements(Puppet::with_limits(&net, limits).await, RULES).await;
    guest.call("stream_pair", &[GIVEN, 3]).await.unwrap();
    guest
        .connect(2, NET, "10.0.0.1:80".parse().unwrap())
        .await
        .unwrap();
    guest.call("stream_no_delay", &[2, 1]).await.unwrap();
    guest.write_stream(2, b"who is there?").await.unwrap();
    assert_eq!(guest.read_stream(3, 64).await.unwrap(), b"who is there?");
    guest.write_stream(3, b"nobody").await.unwrap();
    assert_eq!(guest.read_stream(2, 64).await.unwrap(), b"nobody");
    let nowhere = "0.0.0.0:0".parse().unwrap();
    assert_eq!(guest.end_of(2, ADDRESS_PEER).await, Ok(nowhere));
    // Both ends count.
    assert_eq!(
        guest.call("stream_pair", &[4, 9]).await,
        Err(ErrorCode::LimitReached)
    );
    guest.close(3).await.unwrap();
    assert_eq!(guest.read_stream(2, 64).await.unwrap(), b"");
    guest.close(2).await.unwrap();
    guest.call("stream_pair", &[4, 9]).await.unwrap();
}

#[tokio::test]
async fn what_was_obtained_ends_in_either_lineage_and_lives_on_when_its_giver_closes() {
    let address = "10.0.0.1:80".parse().unwrap();
    for end in ["object", "net", "derived", "grant", "closed"] {
        let mut server = Silent::start().await;
        let grant = net("connect tcp 127.0.0.1:*");
        let mut guest = Puppet::start(&grant).await;
        guest.call("object_new", &[8, GIVEN]).await.unwrap();
        guest.call("object_revocable", &[OBJECT, 9, 8]).await.unwrap();
        guest.derive("object_as_net", 10, OBJECT, RULES).await.unwrap();
        guest.call("net_revocable", &[NET, 11, 10]).await.unwrap();
        guest.call("net_revocable", &[12, 13, NET]).await.unwrap();
        guest.connect(GIVEN, 1, server.address).await.unwrap();
        guest.connect(2, 12, address).await.unwrap();
        let (mut theirs, _) = soon(server.next()).await;
        match end {
            "object" => guest.call("revoker_revoke", &[9]).await.unwrap(),
            "net" => guest.call("revoker_revoke", &[11]).await.unwrap(),
            "derived" => guest.call("revoker_revoke", &[13]).await.unwrap(),
            "grant" => i32::try_from(grant.revoke()).unwrap(),
            _ => guest.close(12).await.unwrap(),
        };
        let used = guest.write_stream(2, b"hello").await;
        if end == "closed" {
            used.unwrap();
            continue;
        }
        assert_eq!(used, Err(ErrorCode::Revoked), "{end}");
        assert_eq!(soon(theirs.read(&mut [0])).await.unwrap_or(0), 0, "{end}");
        // What is left is given back, and nothing is kept of what was obtained.
        guest.close(2).await.ok();
        let left = if end == "grant" { 0 } else { 2 };
        assert_eq!(grant.lineage().len(), left, "{end}");
    }
}

#[tokio::test]
async fn it_is_narrowed_guarded_and_handed_on_as_any_net_and_has_no_budget() {
    let server = Silent::start().await;
    let rules = "connect tcp 10.0.0.0/24:*";
    let mut guest = guest_with(&net("connect tcp 127.0.0.1:*"), rules).await;
    guest.connect(GIVEN, 1, server.address).await.unwrap();
    let [first, second] = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| address.parse().unwrap());
    guest.only(2, NET, "connect tcp 10.0.0.1:*").await.unwrap();
    assert_eq!(guest.connect(3, 2, second).await, Err(ErrorCode::Denied));
    guest.guard(14, &says("(i32.const 0)")).await.unwrap();
    guest.call("net_guarded", &[4, 2, 14]).await.unwrap();
    assert_eq!(guest.connect(3, 4, first).await, Err(ErrorCode::Denied));
    assert!(guest.error_message().await.contains("guard"));
    assert_eq!(guest.was_asked_for().await, 0);

    for budget in [
        "limit sockets 1",
        "limit out 1MiB",
        "limit connections 1, lease 1h",
    ] {
        assert_eq!(guest.limit(3, 2, budget).await, Err(ErrorCode::BadArgument));
        let why = guest.error_message().await;
        assert!(why.contains("a program implements the Net"), "{why}");
    }
    guest
        .limit(3, 2, "limit lease 1h; no derive; label mine")
        .await
        .unwrap();
    assert_eq!(
        guest.only(8, 3, "connect tcp *:*").await,
        Err(ErrorCode::NotDerivable)
    );
    // To another program and back.
    guest.call("object_new", &[9, 0]).await.unwrap();
    guest.through(9, 3).await.unwrap();
    guest.connect(8, 3, first).await.unwrap();
    assert_eq!(guest.was_asked_for().await, connecting());
}

#[tokio::test]
async fn what_a_program_answers_with_something_else_is_an_error() {
    let mut guest = guest_with(&net("connect tcp 127.0.0.1:*"), RULES).await;
    let address = "10.0.0.1:80".parse().unwrap();
    // Nothing is there to be given.
    assert_eq!(
        guest.connect(2, NET, address).await,
        Err(ErrorCode::NullReference)
    );
    assert!(
        guest
            .error_message()
            .await
            .contains("the program that implements")
    );
    guest.only(GIVEN, 1, "connect tcp 127.0.0.1:*").await.unwrap();
    assert_eq!(guest.connect(2, NET, address).await, Err(ErrorCode::CalleeFailed));
    assert_eq!(
        guest.error_message().await,
        "the program that implements the Net answered with a Net, and not with a TcpStream"
    );
    // An object can't be taken for a Net, and no other kind can be made one.
    assert_eq!(guest.connect(2, OBJECT, address).await, Err(ErrorCode::WrongKind));
    assert_eq!(
        guest.derive("object_as_net", 2, 1, RULES).await,
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(
        guest.call("object_as_net", &[2, OBJECT, 0, 5]).await,
        Err(ErrorCode::BadArgument)
    );
}

#[tokio::test]
async fn a_listener_that_was_obtained_needs_both_nets_and_draws_on_the_budget_of_its_own() {
    let own = "bind,listen tcp 127.0.0.1:*; accept tcp 127.0.0.1:* from 127.0.0.0/24";
    let grant = granted(&format!("{own}; limit connections 1"));
    let rules = "bind,listen tcp 127.0.0.1:*; accept tcp 127.0.0.1:* from 127.0.0.2";
    let mut guest = guest_with(&grant, rules).await;
    let at = guest.listen(GIVEN, 1, "127.0.0.1:0").await.unwrap();
    assert_eq!(guest.listen(2, NET, "127.0.0.1:0").await, Ok(at));
    for (from, is_let_in) in [("127.0.0.1:0", false), ("127.0.0.2:0", true)] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let mut peer: TcpStream = soon(socket.connect(at)).await.unwrap();
        if is_let_in {
            soon(guest.accept(3, 2)).await.unwrap();
            peer.write_all(b"hello").await.unwrap();
            assert_eq!(soon(guest.read_stream(3, 64)).await.unwrap(), b"hello");
        } else {
            let waited = guest.call("socket_wait", &[2, WAIT_READ, 50]).await;
            assert_eq!(waited, Err(ErrorCode::TimedOut));
        }
    }
    assert_eq!(grant.info().unwrap().usage.unwrap().connections, Some((1, 1)));
    // One elsewhere is none of what the Net allows.
    guest.only(8, NET, "bind,listen tcp *:1").await.unwrap();
    guest.listen(GIVEN, 1, "127.0.0.1:0").await.unwrap();
    assert_eq!(guest.listen(9, 8, "127.0.0.1:0").await, Err(ErrorCode::Denied));
}

#[tokio::test]
async fn a_datagram_socket_that_was_obtained_needs_both_nets_and_stays_so_when_one_is_narrowed() {
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    let at: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    let to = |ports: &[usize]| {
        let ports: Vec<_> = ports.iter().map(|&peer| at[peer].port().to_string()).collect();
        format!("bind udp 127.0.0.1:*; send udp 127.0.0.1:{}", ports.join(","))
    };
    let grant = net(&to(&[0, 1]));
    let mut guest = guest_with(&grant, &to(&[1, 2])).await;
    guest.bind_udp(GIVEN, 1, "127.0.0.1:0").await.unwrap();
    guest.bind_udp(2, NET, "127.0.0.1:0").await.unwrap();
    for _ in 0..2 {
        for (peer, is_allowed) in [(0, false), (1, true), (2, false)] {
            let sent = guest.send_to(2, b"hello", Some(at[peer])).await;
            assert_eq!(sent.is_ok(), is_allowed, "{peer}: {sent:?}");
        }
        grant
            .narrow(&"bind udp *:*; send udp *:*".parse().unwrap())
            .unwrap();
    }
    grant.narrow(&to(&[0]).parse().unwrap()).unwrap();
    assert_eq!(guest.send_to(2, b"", Some(at[1])).await, Err(ErrorCode::Denied));
}

#[tokio::test]
async fn guards_of_both_nets_are_asked_about_what_was_obtained() {
    let rules = "bind udp 127.0.0.1:*; send udp 127.0.0.1:*";
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = peer.local_addr().unwrap();
    // Yes to the first three questions: the bind, and two datagrams.
    let thrice = says("(i64.lt_u (i64.load offset=64 (i32.const 0)) (i64.const 3))");
    for before_its_own in [false, true] {
        let mut guest = guest_with(&net(rules), rules).await;
        guest.guard(14, &thrice).await.unwrap();
        let (own, asked) = match before_its_own {
            true => (4, NET),
            false => (1, 4),
        };
        let guarded = if before_its_own { 1 } else { NET };
        guest.call("net_guarded", &[4, guarded, 14]).await.unwrap();
        guest.bind_udp(GIVEN, own, "127.0.0.1:0").await.unwrap();
        guest.bind_udp(2, asked, "127.0.0.1:0").await.unwrap();
        for is_allowed in [true, true, false] {
            let sent = guest.send_to(2, b"hello", Some(to)).await;
            assert_eq!(sent.is_ok(), is_allowed, "{before_its_own}: {sent:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_was_obtained_is_the_one_that_was_asked_for_and_stands_for_what_both_allow() {
    let mut server = Silent::start().await;
    let port = server.address.port();
    let grant = granted(&format!("connect tcp any-name:{port}; names to loopback"));
    let script = ["a.example", "b.example"].map(|name| (name, addresses(&["127.0.0.1", "127.0.0.2"])));
    let script = script
        .each_ref()
        .map(|(name, reply)| (*name, std::slice::from_ref(reply)));
    let resolver = Scripted::new(&script);
    let rules = format!("connect tcp a.example:{port}; names to 127.0.0.1/32");
    let guest = Puppet::with_resolver(&grant, resolver.clone()).await;
    let mut guest = implements(guest, &rules).await;
    assert_eq!(
        guest.resolve(2, NET, "b.example", port).await,
        Err(ErrorCode::Denied)
    );
    assert!(resolver.asked().is_empty());
    guest.resolve(GIVEN, 1, "b.example", port).await.unwrap();
    assert_eq!(
        guest.resolve(2, NET, "a.example", port).await,
        Err(ErrorCode::CalleeFailed)
    );
    guest.resolve(GIVEN, 1, "a.example", port).await.unwrap();
    guest.resolve(2, NET, "A.Example", port).await.unwrap();
    let text = guest.describe_name(2).await.unwrap();
    assert!(
        text.starts_with(&format!("a.example:{port} is 127.0.0.1,")),
        "{text}"
    );
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    soon(server.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_asks_for_a_net_gets_one_that_its_parent_implements() {
    let mut server = Silent::start().await;
    let terms = SpawnerTerms::new().program("next", &reader("10.0.0.1:80".parse().unwrap()));
    let spawner = Capability::spawner("spawner", terms, refcap::ambient_authority()).unwrap();
    let mut guest = guest_with(&net("connect tcp 127.0.0.1:*"), RULES).await;
    guest.handle().grant("spawner", &spawner);
    guest.take(15, "spawner").await.unwrap();
    guest.call("net_revocable", &[8, 9, NET]).await.unwrap();
    guest
        .with_text("spawner_program", &[16, 15], "next")
        .await
        .unwrap();
    guest.with_text("child_grant", &[16, 8], "net").await.unwrap();
    guest.call("child_start", &[16]).await.unwrap();
    // It connects, and its parent serves.
    guest.connect(GIVEN, 1, server.address).await.unwrap();
    soon(guest.call("object_serve", &[0])).await.unwrap();
    assert_eq!(guest.was_asked_for().await, connecting());
    let (mut theirs, _) = soon(server.next()).await;
    theirs.write_all(b"hello").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    // What it got ends with the Net through which it got it.
    guest.call("revoker_revoke", &[9]).await.unwrap();
    let ended = soon(theirs.read(&mut [0])).await.unwrap_or(0);
    assert_eq!(ended, 0);
    soon(guest.call("child_wait", &[16, 0, 64, 0])).await.unwrap();
}

// A program that moves bytes and serves others waits for both at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poller_tells_of_calls_that_wait_to_be_served() {
    let mut server = Silent::start().await;
    let terms = SpawnerTerms::new().program("next", &reader("10.0.0.1:80".parse().unwrap()));
    let spawner = Capability::spawner("spawner", terms, refcap::ambient_authority()).unwrap();
    let mut guest = guest_with(&net("connect tcp 127.0.0.1:*"), RULES).await;
    guest.handle().grant("spawner", &spawner);
    guest.take(15, "spawner").await.unwrap();
    guest.connect(GIVEN, 1, server.address).await.unwrap();
    let (mut theirs, _) = soon(server.next()).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut other, _) = soon(server.next()).await;

    guest.call("poller_new", &[8]).await.unwrap();
    guest.call("poller_add_calls", &[8, 100]).await.unwrap();
    guest.call("poller_add_calls", &[8, 100]).await.unwrap();
    guest.call("poller_add", &[8, 2, 200, WAIT_READ]).await.unwrap();
    assert_eq!(
        guest.call("poller_add_calls", &[8, 200]).await,
        Err(ErrorCode::BadArgument)
    );
    assert_eq!(
        guest.call("object_serve", &[NO_WAIT]).await,
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(guest.poll(8, 20).await, Err(ErrorCode::TimedOut));
    guest
        .with_text("spawner_program", &[16, 15], "next")
        .await
        .unwrap();
    guest.with_text("child_grant", &[16, NET], "net").await.unwrap();
    guest.call("child_start", &[16]).await.unwrap();
    assert_eq!(soon(guest.poll(8, 0)).await, Ok(vec![(100, WAIT_READ)]));
    // It is told until it is served, and sockets beside it.
    other.write_all(b"hello").await.unwrap();
    assert_eq!(guest.read_stream(2, 1).await.unwrap(), b"h");
    let both = vec![(100, WAIT_READ), (200, WAIT_READ)];
    assert_eq!(soon(guest.poll(8, 0)).await, Ok(both));
    guest.call("object_serve", &[NO_WAIT]).await.unwrap();
    assert_eq!(soon(guest.poll(8, 0)).await, Ok(vec![(200, WAIT_READ)]));
    theirs.shutdown().await.unwrap();
    soon(guest.call("child_wait", &[16, 0, 64, 0])).await.unwrap();
    assert_eq!(guest.call("poller_remove", &[8, 100]).await, Ok(1));
    // Elsewhere, once it is out here.
    guest.call("poller_new", &[9]).await.unwrap();
    guest.call("poller_add_calls", &[9, 1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_program_that_does_not_serve_is_revoked_or_told_in_time() {
    for revoke in [true, false] {
        let terms = SpawnerTerms::new().program("next", &reader("10.0.0.1:80".parse().unwrap()));
        let limits = Limits::default().memory(1 << 20).capabilities(10).sockets(2);
        let terms = terms.limits(limits.connect_timeout(std::time::Duration::from_millis(300)));
        let spawner = Capability::spawner("spawner", terms, refcap::ambient_authority()).unwrap();
        let mut guest = guest_with(&net(""), RULES).await;
        guest.handle().grant("spawner", &spawner);
        guest.take(15, "spawner").await.unwrap();
        guest.call("net_revocable", &[8, 9, NET]).await.unwrap();
        guest
            .with_text("spawner_program", &[16, 15], "next")
            .await
            .unwrap();
        guest.with_text("child_grant", &[16, 8], "net").await.unwrap();
        guest.call("child_start", &[16]).await.unwrap();
        if revoke {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            guest.call("revoker_revoke", &[9]).await.unwrap();
        }
        soon(guest.call("child_wait", &[16, 0, 64, 0])).await.unwrap();
        let code = guest.read(1, 4).await;
        let code = i32::from_le_bytes(code.try_into().unwrap());
        let expected = if revoke {
            ErrorCode::Revoked
        } else {
            ErrorCode::TimedOut
        };
        assert_eq!(code, expected.status(), "{revoke}");
    }
}

#[tokio::test]
async fn what_is_obtained_through_a_membrane_crosses_it() {
    let mut server = Silent::start().await;
    let mut guest = guest_with(&net("connect tcp 127.0.0.1:*"), RULES).await;
    guest.call("membrane_new", &[8]).await.unwrap();
    guest.call("membrane_wrap", &[9, 8, NET]).await.unwrap();
    let address = "10.0.0.1:80".parse().unwrap();
    for (slot, net) in [(2, 9), (3, NET)] {
        guest.connect(GIVEN, 1, server.address).await.unwrap();
        guest.connect(slot, net, address).await.unwrap();
    }
    let (mut theirs, _) = soon(server.next()).await;
    guest.call("membrane_cut", &[8]).await.unwrap();
    assert_eq!(guest.write_stream(2, b"hello").await, Err(ErrorCode::Revoked));
    assert_eq!(soon(theirs.read(&mut [0])).await.unwrap_or(0), 0);
    guest.write_stream(3, b"hello").await.unwrap();
}

/// A program that implements a Net, uses it, and does in the middle what `body` says.
fn of_itself(body: &str) -> refcap::Program {
    let rules: String = refcap_authority::Rules::parse(RULES)
        .unwrap()
        .encode()
        .iter()
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    let length = rules.len() / 3;
    program(&format!(
        r#"(module
  (import "refcap_v1" "object_new" (func $new (param i32) (result externref i32)))
  (import "refcap_v1" "object_as_net" (func $as_net (param externref i32 i32) (result externref i32)))
  (import "refcap_v1" "net_connect" (func $connect (param externref i32 i32 i32) (result externref i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\04\0a\00\00\01\00\50")
  (data (i32.const 64) "{rules}")
  (global $net (mut externref) (ref.null extern))
  (global $depth (mut i32) (i32.const 0))
  (func $use (result i32) (local $status i32)
    (call $connect (global.get $net) (i32.const 16) (i32.const 7) (i32.const 0))
    (local.set $status) (drop) (local.get $status))
  (func (export "refcap_dispatch") (param i32 i32 i32 i32) (result i32)
    (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
    {body})
  (func (export "refcap_start") (result i32)
    (call $new (i32.const 1)) (drop)
    (call $as_net (i32.const 64) (i32.const {length})) (drop) (global.set $net)
    (if (i32.ne (call $use) (i32.const -10)) (then (return (i32.const -1))))
    (global.get $depth)))"#
    ))
}

#[tokio::test]
async fn a_net_that_is_implemented_by_itself_ends_at_a_limit_and_a_trap_ends_the_vat() {
    let endless = of_itself("(call $use)");
    let mut vat = endless.vat().start().await.unwrap();
    assert_eq!(soon(vat.run()).await.unwrap().code, 64);
    let traps = of_itself("(unreachable)");
    let mut vat = traps.vat().start().await.unwrap();
    let error = soon(vat.run()).await.unwrap_err();
    assert!(matches!(error, RunError::Trap { .. }), "{error}");
}
