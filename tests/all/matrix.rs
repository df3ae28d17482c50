//! Every operation against every grant of one operation, and of all but one: it works if and only if the
//! grant has what it needs, and if it does not, nothing leaves.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use refcap::ErrorCode;
use refcap_abi::{IMPORTS, WAIT_READ};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::support::names::{Scripted, addresses};
use crate::support::servers::Silent;
use crate::support::{Puppet, granted, soon};

/// What can be granted, each as the rule that grants just that. Those that no host function uses are here
/// too: they must be of no use.
const GRANTS: &[(&str, &str)] = &[
    ("connect tcp", "connect tcp 127.0.0.1:*"),
    ("connect tcp name", "connect tcp any-name:*"),
    ("bind tcp", "bind tcp 127.0.0.1:*"),
    ("listen tcp", "listen tcp 127.0.0.1:*"),
    ("accept tcp", "accept tcp 127.0.0.1:* from 127.0.0.1"),
    ("send tcp", "send tcp 127.0.0.1:*; send tcp any-name:*"),
    ("receive tcp", "receive tcp 127.0.0.1:*"),
    ("connect udp", "connect udp 127.0.0.1:*"),
    ("connect udp name", "connect udp any-name:*"),
    ("bind udp", "bind udp 127.0.0.1:*"),
    ("listen udp", "listen udp 127.0.0.1:*"),
    ("accept udp", "accept udp 127.0.0.1:* from 127.0.0.1"),
    ("send udp", "send udp 127.0.0.1:*; send udp any-name:*"),
    ("receive udp", "receive udp 127.0.0.1:* from 127.0.0.1"),
];

/// Which operations a host function checks by itself. One that is not here fails the test.
fn checks(import: &str) -> Option<&'static [&'static str]> {
    Some(match import {
        "net_connect" | "net_connect_from" => &["connect tcp"],
        "net_resolve" | "name_connect" => &["connect tcp name"],
        "net_listen" => &["bind tcp", "listen tcp"],
        "listener_accept" => &["accept tcp"],
        "net_bind_udp" => &["bind udp"],
        "udp_connect" => &["connect udp"],
        "udp_send" => &["send udp"],
        "udp_receive" => &["receive udp"],
        // Both ends of a connection were checked when it was made.
        "stream_read"
        | "stream_write"
        | "stream_read_vectored"
        | "stream_write_vectored"
        | "stream_copy"
        | "stream_shutdown"
        | "stream_no_delay" => &[],
        // These make less of what there is, or ask, or use what was checked when it was made.
        "net_only" | "net_exactly" | "net_except" | "net_limit" | "net_revocable" | "net_guarded"
        | "guard_new" | "spawner_program" | "spawner_load" | "child_grant" | "child_argument"
        | "child_limit" | "child_start" | "child_wait" | "child_stop" | "net_allows" | "net_describe"
        | "net_flags" | "name_describe" | "udp_dropped" | "socket_wait" | "socket_address" | "poller_new"
        | "poller_add" | "poller_remove" | "poller_wait" | "revoker_revoke" | "cap_kind" | "cap_close"
        | "grant_take" | "error_message" | "time_now" | "report" => &[],
        // These pass on what there is.
        "link_find" | "link_give" | "link_take" | "object_new" | "object_revocable" | "object_forgotten"
        | "object_as_net" | "stream_pair" | "poller_add_calls" | "message_count" | "object_call"
        | "object_serve" | "message_attach" | "message_answer" | "message_read" | "message_take"
        | "membrane_new" | "membrane_wrap" | "membrane_cut" => &[],
        _ => return None,
    })
}

/// What a guest tries: host functions, one after the other.
const ATTEMPTS: &[&[&str]] = &[
    &["net_connect"],
    &["net_connect_from"],
    &["net_resolve", "name_connect"],
    &["net_listen", "listener_accept"],
    &["net_bind_udp", "udp_send"],
    &["net_bind_udp", "udp_connect", "udp_send"],
    &["net_bind_udp", "udp_receive"],
];

#[test]
fn every_host_function_is_in_the_matrix() {
    let tried: BTreeSet<_> = ATTEMPTS
        .iter()
        .flat_map(|attempt| attempt.iter().copied())
        .collect();
    for import in IMPORTS {
        let checks = checks(import.name)
            .unwrap_or_else(|| panic!("say here which operations `{}` checks", import.name));
        assert_eq!(
            !checks.is_empty(),
            tried.contains(import.name),
            "`{}` is tried if it checks anything",
            import.name
        );
    }
}

/// What is outside: servers that see whether anything came.
struct Outside {
    server: Silent,
    socket: UdpSocket,
    socket_address: SocketAddr,
}

impl Outside {
    async fn new() -> Outside {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Outside {
            server: Silent::start().await,
            socket_address: socket.local_addr().unwrap(),
            socket,
        }
    }

    /// Whether anything came, by now.
    async fn saw(&mut self, wait: bool) -> bool {
        let mut buffer = [0; 64];
        // What was sent on loopback before is there already; what was not allowed has not been sent.
        let patience = Duration::from_millis(if wait { 2_000 } else { 2 });
        tokio::select! {
            biased;
            received = self.socket.recv(&mut buffer) => received.is_ok(),
            _ = self.server.next() => true,
            () = tokio::time::sleep(patience) => false,
        }
    }
}

/// One step of an attempt. `Ok(false)` is a refusal that the guest does not see, because it is about a peer.
async fn step(guest: &mut Puppet, import: &str, outside: &Outside) -> Result<bool, ErrorCode> {
    let server = outside.server.address;
    match import {
        "net_connect" => guest.connect(2, 1, server).await.map(|_| true),
        "net_connect_from" => {
            let local = "127.0.0.1:0".parse().unwrap();
            guest.connect_from(2, 1, server, local).await.map(|_| true)
        }
        "net_resolve" => guest
            .resolve(2, 1, "api.example.com", server.port())
            .await
            .map(|_| true),
        "name_connect" => guest.call("name_connect", &[3, 2, 0]).await.map(|_| true),
        "net_listen" => guest.listen(2, 1, "127.0.0.1:0").await.map(|_| true),
        "listener_accept" => {
            let address = guest.end_of(2, refcap_abi::ADDRESS_LOCAL).await?;
            let mut client = TcpStream::connect(address).await.unwrap();
            let waited = guest.call("socket_wait", &[2, WAIT_READ, 20]).await;
            let accepted = guest.call("listener_accept", &[3, 2]).await;
            if accepted.is_ok() {
                return Ok(true);
            }
            assert_eq!(
                (waited, accepted),
                (Err(ErrorCode::TimedOut), Err(ErrorCode::WouldBlock))
            );
            let end = soon(client.read(&mut [0])).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            Ok(false)
        }
        "net_bind_udp" => guest.bind_udp(2, 1, "127.0.0.1:0").await.map(|_| true),
        "udp_connect" => guest.udp_connect(2, outside.socket_address).await.map(|_| true),
        "udp_send" => {
            let to = match guest.end_of(2, refcap_abi::ADDRESS_PEER).await {
                Ok(_) => None,
                Err(_) => Some(outside.socket_address),
            };
            guest.send_to(2, b"matrix", to).await.map(|_| true)
        }
        "udp_receive" => {
            let own = guest.end_of(2, refcap_abi::ADDRESS_LOCAL).await?;
            outside.socket.send_to(b"matrix", own).await.unwrap();
            guest.call("socket_wait", &[2, WAIT_READ, 2_000]).await?;
            match guest.receive(2).await {
                Ok(_) => Ok(true),
                Err(ErrorCode::WouldBlock) => {
                    assert_eq!(guest.call("udp_dropped", &[2]).await, Ok(1));
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        }
        other => panic!("say here how to try `{other}`"),
    }
}

/// Tries an attempt with a grant, and says whether it went as it must.
async fn check(attempt: &[&str], grant: &BTreeSet<&str>) {
    let mut outside = Outside::new().await;
    let rules: Vec<_> = GRANTS
        .iter()
        .filter(|(name, _)| grant.contains(name))
        .map(|(_, rule)| *rule)
        .collect();
    let net = granted(&format!("{}; names to loopback", rules.join("; ")));
    let resolver = Scripted::new(&[("api.example.com", &[addresses(&["127.0.0.1"])])]);
    let mut guest = Puppet::with_resolver(&net, resolver.clone()).await;
    let what = |import: &str| format!("{import} of {attempt:?} with {grant:?}");
    let mut sends = false;
    for import in attempt {
        let suffices = checks(import).unwrap().iter().all(|need| grant.contains(need));
        let sockets = guest.handle().sockets();
        let result = step(&mut guest, import, &outside).await;
        if suffices {
            assert_eq!(result, Ok(true), "{}", what(import));
            sends |= matches!(
                *import,
                "net_connect" | "net_connect_from" | "name_connect" | "udp_send"
            );
            continue;
        }
        let is_about_a_peer = matches!(*import, "listener_accept" | "udp_receive");
        let refused = if is_about_a_peer {
            Ok(false)
        } else {
            Err(ErrorCode::Denied)
        };
        assert_eq!(result, refused, "{}", what(import));
        assert_eq!(guest.handle().sockets(), sockets, "{}", what(import));
        if *import == "net_resolve" {
            assert_eq!(resolver.asked().len(), 0);
        }
        break;
    }
    assert_eq!(outside.saw(sends).await, sends, "{attempt:?} with {grant:?}");
}

#[tokio::test]
async fn class_08_each_operation_works_if_and_only_if_it_is_granted() {
    let all: BTreeSet<&str> = GRANTS.iter().map(|(name, _)| *name).collect();
    for attempt in ATTEMPTS {
        let needs: BTreeSet<&str> = attempt
            .iter()
            .flat_map(|import| checks(import).unwrap())
            .copied()
            .collect();
        let mut grants = vec![BTreeSet::new(), all.clone(), needs.clone()];
        for &(name, _) in GRANTS {
            grants.push(BTreeSet::from([name]));
            grants.push(all.iter().copied().filter(|other| *other != name).collect());
        }
        for &need in &needs {
            grants.push(needs.iter().copied().filter(|other| *other != need).collect());
        }
        for grant in grants {
            check(attempt, &grant).await;
        }
    }
}
