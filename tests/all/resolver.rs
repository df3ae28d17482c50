//! The default resolver against a real DNS server on loopback, which lies in every way that it can.

use std::sync::Arc;
use std::time::Duration;

use refcap::{ErrorCode, SystemResolver};

use crate::support::dns::{Dns, Does, Record};
use crate::support::servers::Silent;
use crate::support::{Puppet, granted, soon};

const NAME: &str = "api.example.com";

/// A guest that may connect to the name at that port, if it stands for 127.0.0.1 or 127.0.0.2.
async fn guest(dns: &Dns, port: u16) -> Puppet {
    let net = granted(&format!(
        "connect tcp {NAME}:{port}; names to 127.0.0.1, 127.0.0.2"
    ));
    let resolver = SystemResolver::with_servers(&[dns.address]);
    let guest = Puppet::with_resolver(&net, Arc::new(resolver)).await;
    // For as long as the process lives.
    std::mem::forget(net);
    guest
}

fn address(address: &'static str, ttl: u32) -> Record {
    Record::Address(NAME, address, ttl)
}

// The answer flips between the check and the use: the use has the answer that was checked.
#[tokio::test]
async fn class_07_a_server_that_flips_its_answer() {
    let mut good = Silent::start().await;
    let port = good.address.port();
    let bad = Silent::on(&format!("127.0.0.3:{port}")).await;
    let dns = Dns::start(vec![
        Does::Answers(vec![address("127.0.0.1", 1)]),
        Does::Answers(vec![address("127.0.0.3", 1)]),
    ])
    .await;
    let mut guest = guest(&dns, port).await;
    guest.resolve(2, 1, NAME, port).await.unwrap();
    for _ in 0..3 {
        soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
        good.next().await;
    }
    let questions = dns.asked().len();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // Its time is over; asking again is a new check, which the new answer does not pass.
    assert_eq!(
        guest.call("name_connect", &[3, 2, 0]).await,
        Err(ErrorCode::Expired)
    );
    assert_eq!(dns.asked().len(), questions);
    assert_eq!(guest.resolve(4, 1, NAME, port).await, Err(ErrorCode::Denied));
    assert!(dns.asked().len() > questions);
    assert_eq!(bad.visits(), 0);
}

#[tokio::test]
async fn private_and_mixed_answers() {
    let mut server = Silent::start().await;
    let port = server.address.port();
    let dns = Dns::start(vec![
        Does::Answers(vec![address("10.0.0.1", 0)]),
        Does::Answers(vec![
            address("10.0.0.1", 60),
            address("169.254.169.254", 60),
            address("127.0.0.1", 60),
            address("fd00::1", 60),
            address("::1", 60),
        ]),
    ])
    .await;
    let mut guest = guest(&dns, port).await;
    assert_eq!(guest.resolve(2, 1, NAME, port).await, Err(ErrorCode::Denied));
    assert!(guest.error_message().await.contains("10.0.0.1"));
    guest.resolve(2, 1, NAME, port).await.unwrap();
    let text = guest.describe_name(2).await.unwrap();
    assert!(text.contains(" is 127.0.0.1, for "), "{text}");
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    server.next().await;
}

// The name that is granted is the one that is asked for; what it is an alias of does not matter, the
// address does.
#[tokio::test]
async fn a_chain_of_aliases_ends_at_an_address_that_is_checked() {
    let server = Silent::start().await;
    let port = server.address.port();
    let chain = |last| {
        vec![
            Record::Alias(NAME, "edge.attacker.example", 60),
            Record::Alias("edge.attacker.example", "origin.attacker.example", 0),
            Record::Address("origin.attacker.example", last, 60),
        ]
    };
    let dns = Dns::start(vec![
        Does::Answers(chain("127.0.0.9")),
        Does::Answers(chain("127.0.0.2")),
    ])
    .await;
    let mut guest = guest(&dns, port).await;
    assert_eq!(guest.resolve(2, 1, NAME, port).await, Err(ErrorCode::Denied));
    drop(guest);
    let mut guest = self::guest(&dns, port).await;
    guest.resolve(2, 1, NAME, port).await.unwrap();
    let _second = Silent::on(&format!("127.0.0.2:{port}")).await;
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    let peer = guest.end_of(3, refcap_abi::ADDRESS_PEER).await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.2");
    assert_eq!(server.visits(), 0);
}

#[tokio::test]
async fn a_time_to_live_of_zero_is_one_connection() {
    let mut server = Silent::start().await;
    let port = server.address.port();
    let dns = Dns::start(vec![Does::Answers(vec![address("127.0.0.1", 0)])]).await;
    let mut guest = guest(&dns, port).await;
    guest.resolve(2, 1, NAME, port).await.unwrap();
    soon(guest.call("name_connect", &[3, 2, 0])).await.unwrap();
    server.next().await;
    assert_eq!(
        guest.call("name_connect", &[3, 2, 0]).await,
        Err(ErrorCode::Expired)
    );
    let questions = dns.asked().len();
    guest.resolve(2, 1, NAME, port).await.unwrap();
    // Nobody kept it.
    assert!(dns.asked().len() > questions);
}

#[tokio::test]
async fn slow_silent_failing_and_empty_servers() {
    let slow = Dns::start(vec![Does::AnswersAfter(
        Duration::from_millis(300),
        vec![address("127.0.0.1", 60)],
    )])
    .await;
    let mut guest = guest(&slow, 1).await;
    guest.resolve(2, 1, NAME, 1).await.unwrap();

    let silent = Dns::start(vec![Does::StaysSilent]).await;
    let mut guest = self::guest(&silent, 1).await;
    guest.write(1024, NAME.as_bytes()).await;
    let waited = soon(guest.call("net_resolve", &[2, 1, 1024, 15, 1, 200])).await;
    assert_eq!(waited, Err(ErrorCode::TimedOut));
    assert_eq!(
        guest.error_message().await,
        format!("no answer for {NAME} after 200ms")
    );

    for (does, message) in [
        (Does::NothingOfTheSort, "does not exist or has no address"),
        (Does::Answers(vec![]), "does not exist or has no address"),
        (Does::Fails, "no answer"),
    ] {
        let dns = Dns::start(vec![does]).await;
        let mut guest = self::guest(&dns, 1).await;
        assert_eq!(
            soon(guest.resolve(2, 1, NAME, 1)).await,
            Err(ErrorCode::NameNotResolved)
        );
        let why = guest.error_message().await;
        assert!(why.starts_with(NAME) && why.contains(message), "{why}");
    }
}

// No search list, no other spelling: one name is asked for, and none that is not granted.
#[tokio::test]
async fn class_30_only_the_granted_name_is_asked_for() {
    let dns = Dns::start(vec![Does::NothingOfTheSort]).await;
    let mut guest = guest(&dns, 1).await;
    let _ = soon(guest.resolve(2, 1, "API.example.COM", 1)).await;
    for name in ["secret.example.net", "x.api.example.com"] {
        assert_eq!(guest.resolve(2, 1, name, 1).await, Err(ErrorCode::Denied));
    }
    assert!(!dns.asked().is_empty());
    assert!(
        dns.asked().iter().all(|question| question
            .to_lowercase()
            .trim_end_matches(char::is_numeric)
            .trim_end()
            == NAME),
        "{:?}",
        dns.asked()
    );
}
