//! The attack corpus: mistakes that real systems made, tried here. Each test is named after its class;
//! design.md lists the classes with their sources, and those whose tests are elsewhere.

use std::net::SocketAddr;

use refcap::{ErrorCode, Program, Refusal, inspect};
use refcap_abi::IMPORTS;

use crate::support::servers::{self, Silent};
use crate::support::{Puppet, engine, net, puppet_source, soon};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

// CVE-2026-45254, lunatic#73, cap-std's open port range: a field that is left out of a narrower request
// must mean "as before", never "any".
#[tokio::test]
async fn class_01_leaving_a_field_out_never_widens() {
    let rules = "connect tcp 127.0.0.1:7000-7010 from 127.0.0.2";
    let mut guest = Puppet::start(&net(rules)).await;
    for request in [
        "connect tcp *:*",
        "connect tcp,udp *:*",
        "connect,send tcp 127.0.0.1:*",
        "connect tcp 0.0.0.0/0:7000-7010",
        "connect tcp 127.0.0.1:7000-7010",
        "listen tcp *:*; connect tcp *:*",
    ] {
        guest.only(2, 1, request).await.unwrap();
        assert_eq!(guest.describe(2).await.unwrap(), rules, "{request}");
        let result = guest.derive("net_exactly", 3, 1, request).await;
        assert_eq!(result, Err(ErrorCode::NotSubset), "{request}");
    }
    guest.derive("net_exactly", 3, 1, rules).await.unwrap();
    // Taking nothing away leaves it as it is.
    guest.derive("net_except", 4, 1, "").await.unwrap();
    assert_eq!(guest.describe(4).await.unwrap(), rules);
    // And asking for nothing gives nothing.
    guest.only(5, 1, "").await.unwrap();
    assert_eq!(guest.describe(5).await.unwrap(), "");
    assert_eq!(
        guest.connect(6, 5, address("127.0.0.1:7000")).await,
        Err(ErrorCode::Denied)
    );
}

// deno#33223, CVE-2024-29415, endo#3100: an IPv4 address written as IPv6 is that IPv4 address.
#[tokio::test]
async fn class_02_a_mapped_address_is_the_ipv4_address() {
    let server = servers::echo().await;
    let mapped = |ip: &str| address(&format!("[{ip}]:{}", server.port()));
    let allowed = net(&format!("connect tcp 127.0.0.1:{}", server.port()));
    let mut guest = Puppet::start(&allowed).await;
    for spelling in ["::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:0001"] {
        guest.connect(2, 1, mapped(spelling)).await.unwrap();
        guest.close(2).await.unwrap();
    }
    let forbidden = net(&format!(
        "connect tcp [::/0]:{0}; connect tcp *:{0}; except 127.0.0.0/8",
        server.port()
    ));
    let mut guest = Puppet::start(&forbidden).await;
    for spelling in ["::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:0001"] {
        assert_eq!(
            guest.connect(2, 1, mapped(spelling)).await,
            Err(ErrorCode::Denied),
            "{spelling}"
        );
    }
}

// Addresses that reach an IPv4 host through a translator or a tunnel are judged by that host too.
#[tokio::test]
async fn class_03_an_embedded_ipv4_address_is_judged_too() {
    let mut guest = Puppet::start(&net("connect tcp *:80; except loopback, private, metadata")).await;
    for embedded in [
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "::127.0.0.1",
        "2001:0:102:304::80ff:fffe",
        "fd12::200:5efe:127.0.0.1",
    ] {
        let result = guest.connect(2, 1, address(&format!("[{embedded}]:80"))).await;
        assert_eq!(result, Err(ErrorCode::Denied), "{embedded}");
    }
    assert!(
        guest
            .allows(1, "connect tcp [64:ff9b::8.8.8.8]:80")
            .await
            .unwrap()
    );
}

// "0.0.0.0 Day", windmill#10597: the kernel takes the unspecified address for loopback.
#[tokio::test]
async fn class_05_the_unspecified_address_reaches_nothing() {
    let server = Silent::start().await;
    let port = server.address.port();
    let mut guest = Puppet::start(&net(&format!("connect tcp *:{port}"))).await;
    for spelling in ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "0.1.2.3"] {
        let result = guest.connect(2, 1, address(&format!("{spelling}:{port}"))).await;
        assert_eq!(result, Err(ErrorCode::Denied), "{spelling}");
    }
    assert_eq!(server.visits(), 0);
}

// deno#21227, the OWASP list for server-side request forgery.
#[tokio::test]
async fn class_06_link_local_and_metadata_addresses_can_be_excepted_by_name() {
    let mut guest = Puppet::start(&net("connect tcp *:*; except link-local, metadata")).await;
    for forbidden in ["169.254.169.254", "169.254.1.1", "[fd00:ec2::254]", "[fe80::1]"] {
        let result = guest.connect(2, 1, address(&format!("{forbidden}:80"))).await;
        assert_eq!(result, Err(ErrorCode::Denied), "{forbidden}");
    }
}

// CVE-2026-49860, deno#36486: one way to do a thing forgets the check. Every import that makes a
// capability from a Net is tried on one that allows nothing.
#[tokio::test]
async fn class_08_no_import_gets_around_an_empty_net() {
    let server = Silent::start().await;
    let mut guest = Puppet::start(&net("")).await;
    for import in IMPORTS.iter().filter(|import| import.name.starts_with("net_")) {
        let result = match import.name {
            "net_only" | "net_exactly" | "net_except" => {
                let _ = guest.derive(import.name, 2, 1, "connect tcp *:*").await;
                guest.connect(3, 2, server.address).await
            }
            "net_limit" => {
                guest.limit(2, 1, "limit sockets 10").await.unwrap();
                guest.connect(3, 2, server.address).await
            }
            "net_connect_from" => {
                let local = "127.0.0.1:0".parse().unwrap();
                guest.connect_from(3, 1, server.address, local).await
            }
            "net_listen" => guest.listen(3, 1, "127.0.0.1:0").await.map(|_| 0),
            "net_bind_udp" => guest.bind_udp(3, 1, "127.0.0.1:0").await.map(|_| 0),
            "net_resolve" => guest.resolve(3, 1, "api.example.com", 443).await,
            "net_revocable" => {
                guest.call(import.name, &[2, 4, 1]).await.unwrap();
                guest.connect(3, 2, server.address).await
            }
            "net_guarded" => {
                guest
                    .guard(4, &crate::guards::says("(i32.const 1)"))
                    .await
                    .unwrap();
                guest.call(import.name, &[2, 1, 4]).await.unwrap();
                guest.connect(3, 2, server.address).await
            }
            "net_connect" => guest.connect(3, 1, server.address).await,
            "net_allows" => match guest
                .allows(1, &format!("connect tcp {}", server.address))
                .await
                .unwrap()
            {
                true => panic!("an empty Net allows something"),
                false => Err(ErrorCode::Denied),
            },
            // It says nothing about the network.
            "net_flags" => continue,
            "net_describe" => match guest.describe(1).await.unwrap().as_str() {
                "" => Err(ErrorCode::Denied),
                text => panic!("an empty Net allows {text}"),
            },
            new => panic!("say here how `{new}` could be misused"),
        };
        let expected = [ErrorCode::Denied, ErrorCode::NullReference];
        assert!(expected.map(Err).contains(&result), "{}: {result:?}", import.name);
    }
    assert_eq!(server.visits(), 0);
}

// wasmtime#13677: a bind that the kernel does by itself is not checked. Here the local end is part of the
// rule, and it is bound and looked at before the first packet.
#[tokio::test]
async fn class_12_the_local_end_is_bound_within_the_grant() {
    let mut server = Silent::start().await;
    let port = server.address.port();
    let grant = net(&format!(
        "connect tcp 127.0.0.1:{port} from 127.0.0.5:20000-20063"
    ));
    let mut guest = Puppet::start(&grant).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (_peer, from) = server.next().await;
    assert_eq!(from.ip().to_string(), "127.0.0.5");
    assert!((20000..=20063).contains(&from.port()), "{from}");

    // No local end of this machine is granted: nothing is sent.
    let grant = net(&format!("connect tcp 127.0.0.1:{port} from 198.51.100.7:*"));
    let mut guest = Puppet::start(&grant).await;
    assert_eq!(
        guest.connect(2, 1, server.address).await,
        Err(ErrorCode::AddressNotAvailable)
    );
    let grant = net(&format!("connect tcp 127.0.0.1:{port} from 198.51.100.0/24:*"));
    let mut guest = Puppet::start(&grant).await;
    assert_eq!(
        guest.connect(2, 1, server.address).await,
        Err(ErrorCode::AddressNotAvailable)
    );
    assert!(guest.error_message().await.contains("127.0.0.1"));
    assert_eq!(server.visits(), 1);
}

// Wasmer's rule set, by reading: a rule for one family leaves the other open.
#[tokio::test]
async fn class_14_a_rule_for_one_family_says_nothing_of_the_other() {
    let mut guest = Puppet::start(&net("connect tcp [::/0]:*")).await;
    for v4 in [
        "127.0.0.1:80",
        "[::ffff:127.0.0.1]:80",
        "[64:ff9b::7f00:1]:80",
        "[::7f00:1]:80",
    ] {
        assert_eq!(
            guest.connect(2, 1, address(v4)).await,
            Err(ErrorCode::Denied),
            "{v4}"
        );
    }
    let mut guest = Puppet::start(&net("connect tcp 0.0.0.0/0:*")).await;
    assert_eq!(
        guest.connect(2, 1, address("[::1]:80")).await,
        Err(ErrorCode::Denied)
    );
}

// CVE-2026-21636, node#63848: sockets of other kinds, and descriptors made elsewhere, pass the checks by.
// Here there is no way to name either: an import takes references, and numbers that are no handles.
#[test]
fn class_16_and_17_no_import_takes_a_path_or_a_descriptor() {
    for import in IMPORTS {
        for word in ["unix", "vsock", "fd", "adopt", "dup"] {
            assert!(!import.name.contains(word), "{}", import.name);
        }
    }
    for socket in ["sock_accept", "sock_recv", "sock_send", "sock_shutdown"] {
        let wat = format!(r#"(module (import "wasi_snapshot_preview1" "{socket}" (func (param i32))))"#);
        let refusals = inspect(&wat::parse_str(wat).unwrap()).refusals;
        assert!(matches!(&refusals[..], [Refusal::WasiSockets { name }] if name == socket));
    }
}

// WASI#537: where a handle is a number, any number may be one. Here a number is no reference: the module
// is not even valid.
#[test]
fn class_18_an_integer_is_not_a_reference() {
    let forge = r#"(module
        (import "refcap_v1" "cap_kind" (func $kind (param externref) (result i32)))
        (func (export "refcap_start") (result i32) (call $kind (i32.const 1))))"#;
    // Assembling checks no types.
    let bytes = wat::parse_str(forge).unwrap();
    assert!(matches!(
        &inspect(&bytes).refusals[..],
        [Refusal::Malformed { .. }]
    ));
    assert!(Program::load(engine(), &bytes).is_err());
    // Nor can a module declare the import so that it takes one.
    let retyped = r#"(module (import "refcap_v1" "cap_kind" (func (param i32) (result i32))))"#;
    let bytes = wat::parse_str(retyped).unwrap();
    assert!(matches!(
        &inspect(&bytes).refusals[..],
        [Refusal::WrongImportType { .. }]
    ));
}

// CWE-843: a reference of another kind, or of another program. (Those that no guest can come by are tried
// inside the runtime: `class_21_references_of_others_are_foreign`.)
#[tokio::test]
async fn class_21_a_stream_is_not_a_net_and_a_net_is_not_a_revoker() {
    let server = Silent::start().await;
    let mut guest = Puppet::start(&net("connect tcp 127.0.0.1:*")).await;
    guest.connect(2, 1, server.address).await.unwrap();
    assert_eq!(
        guest.connect(3, 2, server.address).await,
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(
        guest.call("stream_read", &[1, 0, 1]).await,
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(
        guest.call("revoker_revoke", &[1]).await,
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(
        guest.call("revoker_revoke", &[2]).await,
        Err(ErrorCode::WrongKind)
    );
}

// CVE-2025-53901 and the free lists of preview 1, of `ResourceTable` and of the component model: a closed
// handle comes to name the next thing that is opened.
#[tokio::test]
async fn class_22_a_closed_reference_never_names_what_comes_after() {
    let first = servers::echo().await;
    let mut guest = Puppet::start(&net("connect tcp 127.0.0.1:*")).await;
    guest.connect(2, 1, first).await.unwrap();
    guest.raw("copy", &[3, 2]).await;
    guest.close(2).await.unwrap();
    for _ in 0..100 {
        guest.connect(2, 1, first).await.unwrap();
        assert_eq!(
            guest.call("stream_write", &[3, 0, 1]).await,
            Err(ErrorCode::Closed)
        );
        assert_eq!(guest.call("cap_kind", &[3]).await, Err(ErrorCode::Closed));
        guest.write_stream(2, b"mine").await.unwrap();
        assert_eq!(soon(guest.read_stream(2, 4)).await.unwrap(), b"mine");
        guest.close(2).await.unwrap();
    }
}

// CVE-2021-39216, CVE-2021-39218, CVE-2022-24791: references lost or mixed up when the collector runs.
// It runs between any two steps here.
#[tokio::test]
async fn class_25_collections_neither_lose_nor_mix_up_references() {
    let mut guest = Puppet::start(&net("connect tcp 10.0.0.0/8:*")).await;
    for port in 1..12 {
        guest
            .only(2 + port, 1, &format!("connect tcp *:{port}"))
            .await
            .unwrap();
        guest.vat().collect().unwrap();
    }
    for round in 0..50 {
        // Garbage in between, so that what is live moves.
        guest.only(2, 1, "connect tcp *:*").await.unwrap();
        guest.vat().collect().unwrap();
        for port in 1..12 {
            let text = guest.describe(2 + port).await.unwrap();
            assert_eq!(text, format!("connect tcp 10.0.0.0/8:{port}"), "round {round}");
        }
        guest.raw("copy", &[15, 3 + round % 11]).await;
    }
    assert_eq!(guest.vat().collect().unwrap(), 13);
}

// wasmtime#13936, wasmCloud#5478: the default allows.
#[tokio::test]
async fn class_31_the_default_is_nothing() {
    assert!(refcap::Authority::default().is_empty());
    assert!(
        refcap::Authority::from_rules(&refcap::Rules::default())
            .unwrap()
            .is_empty()
    );
    let server = Silent::start().await;
    let mut guest = Puppet::start(&net("")).await;
    assert_eq!(guest.connect(2, 1, server.address).await, Err(ErrorCode::Denied));
    // A program that is granted nothing it asks for does not start, and one that asks for nothing has
    // nothing.
    let bytes = wat::parse_str(puppet_source()).unwrap();
    let program = Program::load(engine(), &bytes).unwrap();
    assert!(program.vat().start().await.is_err());
    assert_eq!(server.visits(), 0);
}

// WASI#370, WASI#735: a library uses the program's authority because it is there. Here it has what it is
// handed: two grants in one guest, used through two references, don't add up.
#[tokio::test]
async fn class_34_a_reference_carries_its_own_authority_and_no_other() {
    let ours = Silent::start().await;
    let theirs = Silent::start().await;
    let mut guest = Puppet::start(&net(&format!("connect tcp 127.0.0.1:{}", ours.address.port()))).await;
    let late = net(&format!("connect tcp 127.0.0.1:{}", theirs.address.port()));
    guest.handle().grant("late", &late);
    guest.write(1024, b"late").await;
    guest.call("grant_take", &[2, 1024, 4]).await.unwrap();
    assert_eq!(guest.connect(3, 1, theirs.address).await, Err(ErrorCode::Denied));
    assert_eq!(guest.connect(3, 2, ours.address).await, Err(ErrorCode::Denied));
    guest.connect(3, 1, ours.address).await.unwrap();
    guest.connect(4, 2, theirs.address).await.unwrap();
    // Taking one back leaves the other.
    late.revoke();
    assert_eq!(guest.read_stream(4, 1).await, Err(ErrorCode::Revoked));
    assert_eq!(
        guest.call("socket_wait", &[3, refcap_abi::WAIT_WRITE, 0]).await,
        Ok(refcap_abi::WAIT_WRITE)
    );
}
