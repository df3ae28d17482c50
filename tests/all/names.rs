//! Names: who is asked, what is believed, and for how long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use refcap::{ErrorCode, ResolveError};

use crate::support::names::{Reply, Scripted, addresses, lasting};
use crate::support::servers::{self, Silent};
use crate::support::{Puppet, net, soon};

const LOOPBACK: &str = "names to loopback";

#[tokio::test]
async fn a_name_is_resolved_and_connected_to() {
    let server = servers::echo().await;
    let net = net(&format!("connect tcp api.example.com:{}", server.port()));
    let net = with_loopback(net);
    let resolver = Scripted::new(&[("api.example.com", &[addresses(&["127.0.0.1"])])]);
    let mut guest = Puppet::with_resolver(&net, resolver.clone()).await;
    // Every spelling of the name is the one that is granted.
    guest
        .resolve(2, 1, "API.Example.COM.", server.port())
        .await
        .unwrap();
    assert_eq!(resolver.asked(), ["api.example.com"]);
    let text = guest.describe_name(2).await.unwrap();
    assert!(
        text.starts_with(&format!("api.example.com:{} is 127.0.0.1", server.port())),
        "{text}"
    );
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    guest.write_stream(3, b"by name").await.unwrap();
    assert_eq!(guest.read_stream(3, 64).await.unwrap(), b"by name");
    // The name gives no authority over its address.
    assert_eq!(guest.connect(4, 1, server).await, Err(ErrorCode::Denied));
    // As often as one likes, without asking again.
    soon(guest.call("name_connect", &[4, 2, 0])).await.unwrap();
    assert_eq!(resolver.asked().len(), 1);
}

/// The same, and names may stand for loopback addresses.
fn with_loopback(net: refcap::Capability) -> refcap::Capability {
    let rules = format!("{}; {LOOPBACK}", net.authority().unwrap());
    crate::support::granted(&rules)
}

// wasmCloud#5404, OpenShell#2723: a label that is looked up tells whoever answers.
#[tokio::test]
async fn class_30_unlisted_names_never_reach_the_resolver() {
    let net =
        net("connect tcp api.example.com:443; connect tcp *.svc.example.com:443; connect udp dns.example:53");
    let resolver = Scripted::new(&[]);
    let mut guest = Puppet::with_resolver(&net, resolver.clone()).await;
    for (name, port) in [
        ("secret.attacker.example", 443),
        ("secret.api.example.com", 443),
        ("api.example.com.attacker.example", 443),
        ("xapi.example.com", 443),
        ("svc.example.com", 443),
        ("example.com", 443),
        ("api.example.com", 80),
        ("dns.example", 53),
    ] {
        assert_eq!(
            guest.resolve(2, 1, name, port).await,
            Err(ErrorCode::Denied),
            "{name}:{port}"
        );
    }
    for name in [
        "",
        ".",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "a..b",
        "[::1]",
        "a b.example",
    ] {
        assert_eq!(
            guest.resolve(2, 1, name, 443).await,
            Err(ErrorCode::BadArgument),
            "{name:?}"
        );
    }
    for port in [0, -1, 65_536] {
        let call = [2, 1, 1024, 0, port, 0];
        assert_eq!(
            guest.call("net_resolve", &call).await,
            Err(ErrorCode::BadArgument)
        );
    }
    assert_eq!(resolver.asked(), [""; 0]);
    // Subdomains are listed, and are asked for.
    assert_eq!(
        guest.resolve(2, 1, "a.b.svc.example.com", 443).await,
        Err(ErrorCode::NameNotResolved)
    );
    assert_eq!(resolver.asked(), ["a.b.svc.example.com"]);
}

// CVE-2026-27127, deno#30085, spin#2181: the answer changes between the check and the use.
#[tokio::test]
async fn class_07_a_name_keeps_the_answer_that_was_checked() {
    let mut good = Silent::start().await;
    let mut bad = Silent::on(&format!("127.0.0.2:{}", good.address.port())).await;
    let port = good.address.port();
    let net = crate::support::granted(&format!(
        "connect tcp api.example.com:{port}; names to 127.0.0.1, 127.0.0.2"
    ));
    let resolver = Scripted::new(&[(
        "api.example.com",
        &[addresses(&["127.0.0.1"]), addresses(&["127.0.0.2"])],
    )]);
    let mut guest = Puppet::with_resolver(&net, resolver.clone()).await;
    guest.resolve(2, 1, "api.example.com", port).await.unwrap();
    for _ in 0..5 {
        soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
        guest.close(3).await.unwrap();
        good.next().await;
    }
    assert_eq!((good.visits(), bad.visits(), resolver.asked().len()), (5, 0, 1));
    // Asking again makes a new capability, which has the new answer; the old one keeps its own.
    guest.resolve(4, 1, "api.example.com", port).await.unwrap();
    soon(guest.call("name_connect", &[3, 4, 0])).await.unwrap();
    soon(guest.call("name_connect", &[5, 2, 0])).await.unwrap();
    bad.next().await;
    good.next().await;
    assert_eq!((good.visits(), bad.visits()), (6, 1));
}

#[tokio::test]
async fn class_06_answers_inside_the_network_are_refused_by_default() {
    let server = Silent::start().await;
    let port = server.address.port();
    let net = net(&format!("connect tcp api.example.com:{port}"));
    for answer in [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "169.254.1.1",
        "fd00:ec2::254",
        "fe80::1",
        "fc00::1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
    ] {
        let resolver = Scripted::new(&[("api.example.com", &[addresses(&[answer])])]);
        let mut guest = Puppet::with_resolver(&net, resolver).await;
        assert_eq!(
            guest.resolve(2, 1, "api.example.com", port).await,
            Err(ErrorCode::Denied),
            "{answer}"
        );
        let why = guest.error_message().await;
        assert!(
            why.starts_with("api.example.com stands for no address that is allowed: "),
            "{why}"
        );
    }
    assert_eq!(server.visits(), 0);
}

#[tokio::test]
async fn of_a_mixed_answer_only_the_allowed_addresses_are_kept() {
    let mut server = Silent::start().await;
    let port = server.address.port();
    let net = crate::support::granted(&format!(
        "connect tcp api.example.com:{port}; names to 127.0.0.0/8; except 127.0.0.9, 127.0.0.8:{port}"
    ));
    let resolver = Scripted::new(&[(
        "api.example.com",
        &[addresses(&[
            "10.0.0.1",
            "127.0.0.9",
            "127.0.0.8",
            "192.0.2.1",
            "127.0.0.1",
            "127.0.0.1",
        ])],
    )]);
    let mut guest = Puppet::with_resolver(&net, resolver).await;
    guest.resolve(2, 1, "api.example.com", port).await.unwrap();
    let text = guest.describe_name(2).await.unwrap();
    assert!(text.contains(" is 127.0.0.1,"), "{text}");
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    server.next().await;
}

#[tokio::test]
async fn a_derived_net_believes_no_more_than_its_parent() {
    let port = 4_321;
    let net = crate::support::granted(&format!("connect tcp *.example.com:{port}; names to 127.0.0.0/8"));
    let resolver = Scripted::new(&[
        ("a.example.com", &[addresses(&["127.0.0.1"])]),
        ("b.example.com", &[addresses(&["127.0.0.2"])]),
        ("c.example.com", &[addresses(&["192.0.2.1"])]),
    ]);
    let mut guest = Puppet::with_resolver(&net, resolver).await;
    guest
        .only(
            2,
            1,
            &format!("connect tcp *:*; connect tcp any-name:{port}; names to 127.0.0.1, public"),
        )
        .await
        .unwrap();
    guest.resolve(3, 2, "a.example.com", port).await.unwrap();
    for name in ["b.example.com", "c.example.com"] {
        assert_eq!(
            guest.resolve(3, 2, name, port).await,
            Err(ErrorCode::Denied),
            "{name}"
        );
    }
    let more = format!("connect tcp *.example.com:{port}; names to public");
    assert_eq!(
        guest.derive("net_exactly", 4, 1, &more).await,
        Err(ErrorCode::NotSubset)
    );
    assert!(guest.error_message().await.contains("names to"));
    guest
        .derive("net_except", 4, 1, "connect tcp 127.0.0.1:*")
        .await
        .unwrap();
    assert_eq!(
        guest.resolve(3, 4, "a.example.com", port).await,
        Err(ErrorCode::Denied)
    );
    guest.resolve(3, 4, "b.example.com", port).await.unwrap();
}

#[tokio::test]
async fn a_name_lives_as_long_as_its_answer() {
    let server = servers::echo().await;
    let port = server.port();
    let net = with_loopback(net(&format!("connect tcp *.example.com:{port}")));
    let resolver = Scripted::new(&[
        (
            "short.example.com",
            &[lasting(&["127.0.0.1"], Duration::from_millis(60))],
        ),
        ("never.example.com", &[lasting(&["127.0.0.1"], Duration::ZERO)]),
    ]);
    let mut guest = Puppet::with_resolver(&net, resolver).await;
    guest.resolve(2, 1, "short.example.com", port).await.unwrap();
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(
        guest.call("name_connect", &[4, 2, 0]).await,
        Err(ErrorCode::Expired)
    );
    assert!(guest.error_message().await.contains("resolve it again"));
    // What was connected stays connected.
    guest.write_stream(3, b"on").await.unwrap();
    assert_eq!(guest.read_stream(3, 8).await.unwrap(), b"on");
    // An answer that may not be kept is good for one connection, now.
    guest.resolve(5, 1, "never.example.com", port).await.unwrap();
    soon(guest.call("name_connect", &[6, 5, 0])).await.unwrap();
    assert_eq!(
        guest.call("name_connect", &[7, 5, 0]).await,
        Err(ErrorCode::Expired)
    );
}

#[tokio::test]
async fn a_resolver_that_fails_or_is_silent_is_a_clear_error() {
    let net = net("connect tcp *.example.com:443");
    let resolver = Scripted::new(&[
        ("empty.example.com", &[addresses(&[])]),
        (
            "broken.example.com",
            &[Reply::Fails(ResolveError::Failed("server failure".into()))],
        ),
        ("silent.example.com", &[Reply::Never]),
    ]);
    let mut guest = Puppet::with_resolver(&net, resolver).await;
    for (name, message) in [
        (
            "missing.example.com",
            "missing.example.com: the name does not exist or has no address",
        ),
        ("empty.example.com", "empty.example.com has no address"),
        (
            "broken.example.com",
            "broken.example.com: no answer: server failure",
        ),
    ] {
        assert_eq!(
            guest.resolve(2, 1, name, 443).await,
            Err(ErrorCode::NameNotResolved)
        );
        assert_eq!(guest.error_message().await, message);
    }
    let begun = Instant::now();
    guest.write(1024, b"silent.example.com").await;
    let waited = guest.call("net_resolve", &[2, 1, 1024, 18, 443, 50]).await;
    assert_eq!(waited, Err(ErrorCode::TimedOut));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(
        guest.error_message().await,
        "no answer for silent.example.com after 50ms"
    );
    // Nothing is left of any of them.
    assert_eq!(guest.handle().capabilities(), 1);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let server = Silent::start().await;
    let port = server.address.port();
    let net = with_loopback(net(&format!("connect tcp api.example.com:{port}")));
    let resolver = Scripted::new(&[("api.example.com", &[addresses(&["127.0.0.77", "127.0.0.1"])])]);
    let mut guest = Puppet::with_resolver(&net, resolver).await;
    guest.resolve(2, 1, "api.example.com", port).await.unwrap();
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    let peer: SocketAddr = guest.end_of(3, refcap_abi::ADDRESS_PEER).await.unwrap();
    assert_eq!(peer, server.address);
}
