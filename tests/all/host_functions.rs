//! Every host function, with every wrong argument: always an error, never a panic or a trap.

use refcap::{Capability, ErrorCode, SpawnerTerms, ambient_authority};
use refcap_abi::{IMPORTS, Import};

use crate::support::names::{Scripted, addresses};
use crate::support::servers::Silent;
use crate::support::{Puppet, engine, net, program};

/// Slots that the puppet has filled, and the error that a function gets for each, unless it takes it.
struct Slots {
    net: i32,
    stream: i32,
    revoker: i32,
    name: i32,
    listener: i32,
    udp: i32,
    poller: i32,
    guard: i32,
    spawner: i32,
    child: i32,
    object: i32,
    membrane: i32,
    closed: i32,
    revoked: i32,
    _server: Silent,
}

const NULL: i32 = 0;
/// Where results go.
const NEW: i32 = 12;

async fn prepare() -> (Puppet, Slots) {
    let server = Silent::start().await;
    let grant = net(
        "connect tcp 127.0.0.1:*; connect tcp api.example.com:443; bind,listen tcp 127.0.0.1:0; \
         bind udp 127.0.0.1:0",
    );
    let resolver = Scripted::new(&[("api.example.com", &[addresses(&["192.0.2.1"])])]);
    let mut guest = Puppet::with_resolver(&grant, resolver).await;
    // Keeps the grant for as long as the process lives: dropping it would not matter, but forgetting
    // says that it is not what is tested.
    std::mem::forget(grant);
    guest.connect(2, 1, server.address).await.unwrap();
    guest.call("net_revocable", &[3, 4, 1]).await.unwrap();
    guest.only(5, 1, "connect tcp *:*").await.unwrap();
    guest.close(5).await.unwrap();
    guest.call("net_revocable", &[6, 7, 1]).await.unwrap();
    guest.call("revoker_revoke", &[7]).await.unwrap();
    guest.resolve(8, 1, "api.example.com", 443).await.unwrap();
    guest.listen(9, 1, "127.0.0.1:0").await.unwrap();
    guest.bind_udp(10, 1, "127.0.0.1:0").await.unwrap();
    guest.call("poller_new", &[11]).await.unwrap();
    guest
        .guard(14, &crate::guards::says("(i32.const 1)"))
        .await
        .unwrap();
    let quick = program(r#"(module (func (export "refcap_start") (result i32) (i32.const 0)))"#);
    let terms = SpawnerTerms::new()
        .program("quick", &quick)
        .loads(engine(), 1 << 10);
    let spawner = Capability::spawner("spawner", terms, ambient_authority()).unwrap();
    guest.handle().grant("spawner", &spawner);
    guest.take(15, "spawner").await.unwrap();
    guest
        .with_text("spawner_program", &[16, 15], "quick")
        .await
        .unwrap();
    guest.call("object_new", &[17, 1]).await.unwrap();
    guest.call("membrane_new", &[18]).await.unwrap();
    let slots = Slots {
        name: 8,
        listener: 9,
        udp: 10,
        poller: 11,
        guard: 14,
        spawner: 15,
        child: 16,
        object: 17,
        membrane: 18,
        net: 3,
        stream: 2,
        revoker: 4,
        closed: 5,
        revoked: 6,
        _server: server,
    };
    (guest, slots)
}

/// The slot of the kind that an import needs.
fn right_slot(import: &Import, slots: &Slots) -> i32 {
    match import.name.split_once('_').unwrap().0 {
        "net" | "cap" | "message" => slots.net,
        "stream" | "socket" => slots.stream,
        "name" => slots.name,
        "listener" => slots.listener,
        "udp" => slots.udp,
        "poller" => slots.poller,
        "guard" => slots.guard,
        "revoker" => slots.revoker,
        "spawner" => slots.spawner,
        "child" => slots.child,
        "object" => slots.object,
        "membrane" => slots.membrane,
        other => panic!("a new family of imports: {other}"),
    }
}

/// Those that take references and look at them. What is wired hands on what it gets.
fn with_references() -> impl Iterator<Item = &'static Import> {
    IMPORTS
        .iter()
        .filter(|import| import.refs_in() > 0 && !import.wired)
}

/// The arguments of an import with these references and numbers.
fn arguments(import: &Import, reference: i32, numbers: &[i32]) -> Vec<i32> {
    let mut arguments = vec![NEW; import.refs_out];
    for (slot, argument) in (NEW..).zip(&mut arguments) {
        *argument = slot;
    }
    arguments.extend(std::iter::repeat_n(reference, import.refs_in()));
    arguments.extend(numbers.iter().copied().cycle().take(import.ints_in()));
    arguments
}

#[tokio::test]
async fn every_function_refuses_null_closed_and_revoked_references() {
    let (mut guest, slots) = prepare().await;
    for import in with_references() {
        for (slot, error) in [
            (NULL, ErrorCode::NullReference),
            (slots.closed, ErrorCode::Closed),
            (slots.revoked, ErrorCode::Revoked),
        ] {
            let call = arguments(import, slot, &[0]);
            if import.consumes && slot == slots.revoked {
                continue;
            }
            assert_eq!(
                guest.call(import.name, &call).await,
                Err(error),
                "{}",
                import.name
            );
            for index in 0..import.refs_out {
                let new = NEW + i32::try_from(index).unwrap();
                assert_eq!(guest.raw("is_null", &[new]).await, 1, "{}", import.name);
            }
        }
    }
    // What consumes a reference does so even when it is revoked: then it is closed.
    assert_eq!(guest.close(slots.revoked).await, Err(ErrorCode::Revoked));
    assert_eq!(guest.close(slots.revoked).await, Err(ErrorCode::Closed));
}

#[tokio::test]
async fn every_function_refuses_references_of_another_kind() {
    let (mut guest, slots) = prepare().await;
    for import in with_references() {
        // These take any.
        if import.name.starts_with("cap_") || import.name == "message_attach" {
            continue;
        }
        let right = right_slot(import, &slots);
        let sockets = [slots.stream, slots.listener, slots.udp];
        let others = [slots.net, slots.revoker, slots.name, slots.poller, slots.guard];
        let programs = [slots.spawner, slots.child, slots.object, slots.membrane];
        for wrong in others.into_iter().chain(programs).chain(sockets) {
            if wrong == right || (import.name.starts_with("socket_") && sockets.contains(&wrong)) {
                continue;
            }
            let call = arguments(import, wrong, &[0]);
            let result = guest.call(import.name, &call).await;
            assert_eq!(
                result,
                Err(ErrorCode::WrongKind),
                "{} of slot {wrong}",
                import.name
            );
        }
    }
}

#[tokio::test]
async fn every_pointer_and_length_at_and_beyond_the_edges_is_an_error_or_works() {
    const SIZE: i64 = 65536;
    let edges = [
        0,
        1,
        2,
        SIZE - 1,
        SIZE,
        SIZE + 1,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
    ];
    let edges = edges.map(|edge: i64| u32::try_from(edge).unwrap().cast_signed());
    let (mut guest, slots) = prepare().await;
    for import in IMPORTS {
        // What waits without end, or ends the fixture, has no pointers to try.
        if import.ints_in() < 2 || !takes_memory(import) {
            continue;
        }
        let reference = if import.refs_in() > 0 {
            right_slot(import, &slots)
        } else {
            NULL
        };
        for pointer in edges {
            for length in edges {
                let outside = i64::from(pointer.cast_unsigned()) + i64::from(length.cast_unsigned()) > SIZE;
                // For `socket_address` the pointer and length come second and third.
                let numbers = match import.name {
                    "socket_address" => vec![0, pointer, length],
                    // The second address is the one that is tried.
                    "net_connect_from" => vec![8, 7, pointer, length, 1],
                    _ => vec![pointer, length, 1],
                };
                let call = arguments(import, reference, &numbers);
                let result = guest.call(import.name, &call).await;
                if outside && takes_memory(import) {
                    assert_eq!(
                        result,
                        Err(ErrorCode::BadPointer),
                        "{} {pointer} {length}",
                        import.name
                    );
                }
            }
        }
    }
    // And the program is none the worse for it.
    guest.describe(slots.net).await.unwrap();
}

fn takes_memory(import: &Import) -> bool {
    !matches!(
        import.name,
        "stream_shutdown"
            | "stream_no_delay"
            | "socket_wait"
            | "poller_add"
            | "poller_remove"
            | "child_limit"
            // These are called with a place, a time, or an object that answers.
            | "object_call"
    )
}

#[tokio::test]
async fn numbers_that_name_nothing_are_bad_arguments() {
    let (mut guest, slots) = prepare().await;
    for number in [-1, 0, 4, i32::MAX, i32::MIN] {
        for (import, call) in [
            ("socket_wait", vec![slots.stream, number, 1]),
            ("stream_shutdown", vec![slots.stream, number]),
        ] {
            assert_eq!(
                guest.call(import, &call).await,
                Err(ErrorCode::BadArgument),
                "{import} {number}"
            );
            assert!(guest.error_message().await.contains(&number.to_string()));
        }
    }
    for which in [-1, 2, i32::MAX] {
        let call = [slots.stream, which, 0, 32];
        assert_eq!(
            guest.call("socket_address", &call).await,
            Err(ErrorCode::BadArgument)
        );
    }
}

#[tokio::test]
async fn malformed_rules_queries_and_addresses_are_bad_arguments() {
    let (mut guest, slots) = prepare().await;
    guest.write(1024, &[0xff; 64]).await;
    for import in ["net_only", "net_exactly", "net_except"] {
        let result = guest.call(import, &[NEW, slots.net, 1024, 64]).await;
        assert_eq!(result, Err(ErrorCode::BadArgument), "{import}");
        assert!(!guest.error_message().await.is_empty());
    }
    assert_eq!(
        guest.call("net_allows", &[slots.net, 1024, 64]).await,
        Err(ErrorCode::BadArgument)
    );
    for length in [0, 1, 6, 7, 8, 19] {
        let result = guest
            .call("net_connect", &[NEW, slots.net, 1024, length, 0])
            .await;
        assert_eq!(result, Err(ErrorCode::BadArgument), "{length}");
    }
    assert_eq!(
        guest
            .connect(NEW, slots.net, "127.0.0.1:0".parse().unwrap())
            .await,
        Err(ErrorCode::BadArgument)
    );
}

#[tokio::test]
async fn a_wait_ends_at_its_time() {
    let (mut guest, slots) = prepare().await;
    let read = refcap_abi::WAIT_READ;
    assert_eq!(
        guest.call("socket_wait", &[slots.stream, read, 10]).await,
        Err(ErrorCode::TimedOut)
    );
    let either = read | refcap_abi::WAIT_WRITE;
    assert_eq!(
        guest.call("socket_wait", &[slots.stream, either, 10]).await,
        Ok(refcap_abi::WAIT_WRITE)
    );
}

#[tokio::test]
async fn an_answer_longer_than_its_buffer_is_cut_and_its_length_told() {
    let (mut guest, slots) = prepare().await;
    let text = guest.describe(slots.net).await.unwrap();
    guest.write(2048, &[b'.'; 16]).await;
    let length = guest.call("net_describe", &[slots.net, 2048, 8]).await.unwrap();
    assert_eq!(usize::try_from(length).unwrap(), text.len());
    let bytes = guest.read(2048, 16).await;
    assert_eq!(&bytes[..8], &text.as_bytes()[..8]);
    assert_eq!(&bytes[8..], b"........");
}

// CVE-2026-27195, CVE-2026-27572: a guest reaches a panic of the host. Random calls with random arguments,
// from a fixed seed so that a failure comes back.
#[tokio::test]
async fn class_35_random_calls_never_panic_and_never_trap() {
    let (mut guest, _slots) = prepare().await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        i32::try_from((seed >> 16) % below).unwrap()
    };
    let mut failures = 0;
    for _ in 0..20_000 {
        let import = &IMPORTS[usize::try_from(random(IMPORTS.len() as u64)).unwrap()];
        let mut call = Vec::new();
        for _ in 0..import.refs_out + import.refs_in() {
            call.push(random(16));
        }
        for _ in 0..import.ints_in() {
            call.push(match random(4) {
                0 => random(8),
                1 => random(70_000),
                2 => random(1 << 31),
                _ => -random(1 << 31),
            });
        }
        // What sleeps must not sleep long.
        if (import.suspends || import.wired)
            && import.ints_in() > 0
            && let Some(timeout) = call.last_mut()
        {
            *timeout = 1;
        }
        failures += u32::from(guest.call(import.name, &call).await.is_err());
    }
    assert!(failures > 1_000);
    guest.call("report", &[0, 4]).await.unwrap();
}
