//! Guards: what they are asked, and that they only narrow.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use refcap::{Capability, DeriveError, ErrorCode, Guard, Limits, MAX_GUARDS, Policy, ambient_authority};
use refcap_abi::guard::{Act, TCP, UDP};
use tokio::net::{TcpStream, UdpSocket};

use crate::embedder::logged;
use crate::support::names::{Scripted, addresses};
use crate::support::servers::{self, Silent};
use crate::support::{Puppet, authority, block_on, granted, is_alone, net};

/// A guard whose answer is this expression; its record is at 0, and from 1024 on its memory is its own.
pub(crate) fn says(answer: &str) -> Vec<u8> {
    guard(&format!(
        r#"(func (export "refcap_guard_check") (result i32) {answer})"#
    ))
}

/// A guard with these functions.
pub(crate) fn guard(functions: &str) -> Vec<u8> {
    module(&format!(
        r#"(memory (export "memory") 1) (global (export "refcap_guard_record") i32 (i32.const 0)) {functions}"#
    ))
}

pub(crate) fn module(fields: &str) -> Vec<u8> {
    let text = format!("(module {fields})");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const YES: &str = "(i32.const 1)";
const NO: &str = "(i32.const 0)";
/// Yes to the first question only.
const ONCE: &str = "(i64.eqz (i64.load offset=64 (i32.const 0)))";

/// Says no to one act, and yes to all others.
fn all_but(act: Act) -> Vec<u8> {
    says(&format!(
        "(i32.ne (i32.load (i32.const 0)) (i32.const {}))",
        act.code()
    ))
}

/// A guest whose slot 2 is its Net behind a guard.
pub(crate) async fn guarded(net: &Capability, guard: &[u8]) -> Puppet {
    let mut guest = Puppet::start(net).await;
    put_before(&mut guest, 2, 1, guard).await.unwrap();
    guest
}

/// Brings a guard and derives a Net behind it.
async fn put_before(guest: &mut Puppet, new: i32, net: i32, guard: &[u8]) -> Result<i32, ErrorCode> {
    guest.guard(15, guard).await?;
    let derived = guest.call("net_guarded", &[new, net, 15]).await;
    guest.close(15).await.unwrap();
    derived
}

const EVERYTHING: &str = "connect tcp 127.0.0.1:*; connect tcp any-name:*; bind,listen tcp 127.0.0.1:*; \
    accept tcp 127.0.0.1:* from 127.0.0.1; bind udp 127.0.0.1:*; connect,send udp 127.0.0.1:*; \
    receive udp 127.0.0.1:* from 127.0.0.1; names to loopback";

/// What a guest can do with a Net, and what guards are asked meanwhile.
const ATTEMPTS: &[(&str, &[Act])] = &[
    ("connect", &[Act::Connect]),
    ("connect from", &[Act::Connect]),
    ("name", &[Act::Resolve, Act::Answer, Act::Connect]),
    ("accept", &[Act::Listen, Act::Accept]),
    ("send", &[Act::Bind, Act::Send]),
    ("connect udp", &[Act::Bind, Act::Connect]),
    ("receive", &[Act::Bind, Act::Receive]),
];

/// Does one of them with the Net in slot 2. What is refused to a peer is `Denied` here.
async fn attempt(guest: &mut Puppet, what: &str, server: &Silent) -> Result<i32, ErrorCode> {
    match what {
        "connect" => guest.connect(3, 2, server.address).await,
        "connect from" => {
            let local = "127.0.0.1:0".parse().unwrap();
            guest.connect_from(3, 2, server.address, local).await
        }
        "name" => {
            guest
                .resolve(4, 2, "api.example.com", server.address.port())
                .await?;
            guest.call("name_connect", &[3, 4, 0]).await
        }
        "accept" => {
            let address = guest.listen(4, 2, "127.0.0.1:0").await?;
            let _client = TcpStream::connect(address).await.unwrap();
            let _ = guest.call("socket_wait", &[4, refcap_abi::WAIT_READ, 200]).await;
            let accepted = guest.call("listener_accept", &[3, 4]).await;
            accepted.map_err(|error| match error {
                ErrorCode::WouldBlock => ErrorCode::Denied,
                error => error,
            })
        }
        _ => {
            let own = guest.bind_udp(3, 2, "127.0.0.1:0").await?;
            let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = peer.local_addr().unwrap();
            match what {
                "send" => guest.send_to(3, b"x", Some(address)).await,
                "connect udp" => guest.udp_connect(3, address).await,
                _ => {
                    peer.send_to(b"x", own).await.unwrap();
                    guest
                        .call("socket_wait", &[3, refcap_abi::WAIT_READ, 2_000])
                        .await?;
                    match guest.receive(3).await {
                        Ok(_) => Ok(0),
                        Err(ErrorCode::WouldBlock) => {
                            assert_eq!(guest.call("udp_dropped", &[3]).await, Ok(1));
                            Err(ErrorCode::Denied)
                        }
                        Err(error) => Err(error),
                    }
                }
            }
        }
    }
}

// Every operation with a guard that says no to one act: it fails if and only if that act is part of it. So no way to
// do a thing forgets to ask (attack class 8).
#[tokio::test]
async fn class_08_guards_are_asked_about_every_operation() {
    let mut server = Silent::start().await;
    let resolver = Scripted::new(&[("api.example.com", &[addresses(&["127.0.0.1"])])]);
    for &denied in Act::ALL {
        for (what, acts) in ATTEMPTS {
            let grant = granted(EVERYTHING);
            let mut guest = Puppet::with_resolver(&grant, resolver.clone()).await;
            put_before(&mut guest, 2, 1, &all_but(denied)).await.unwrap();
            let (visits, asked) = (server.visits(), resolver.asked().len());
            let result = attempt(&mut guest, what, &server).await;
            if !acts.contains(&denied) {
                assert!(result.is_ok(), "{what} without {denied:?}: {result:?}");
                if acts.last() == Some(&Act::Connect) && *what != "connect udp" {
                    server.next().await;
                }
                continue;
            }
            assert_eq!(result, Err(ErrorCode::Denied), "{what} without {denied:?}");
            if !matches!(denied, Act::Accept | Act::Receive) {
                let why = guest.error_message().await;
                assert!(why.contains("said no to"), "{what} without {denied:?}: {why}");
                assert!(why.contains(denied.word()), "{what} without {denied:?}: {why}");
            }
            assert_eq!(server.visits(), visits, "{what} without {denied:?}");
            if denied == Act::Resolve {
                assert_eq!(resolver.asked().len(), asked);
            }
        }
    }
}

// Every act is part of something that is tried above.
#[test]
fn every_act_is_tried() {
    for act in Act::ALL {
        assert!(ATTEMPTS.iter().any(|(_, acts)| acts.contains(act)), "{act:?}");
    }
}

/// What a guard sees at one place of its record when a connection is tried. A guard answers with it, and what is
/// neither yes nor no is told to the guest.
async fn seen(net: &Capability, load: &str, mut act: impl AsyncFnMut(&mut Puppet)) -> i64 {
    let mut guest = guarded(net, &says(&format!("(i32.add ({load}) (i32.const 1000))"))).await;
    act(&mut guest).await;
    let why = guest.error_message().await;
    let answer = why.split_once("answered ").unwrap_or_else(|| panic!("{why}")).1;
    let number: i64 = answer.split(' ').next().unwrap().parse().unwrap();
    number - 1000
}

#[tokio::test]
async fn a_guard_sees_what_is_about_to_be_done() {
    let grant =
        net("connect tcp 127.0.0.1:*; connect tcp 127.0.0.2:80 from 127.0.0.3:20000-20009; bind udp [::1]:*");
    let to = "127.0.0.1:7777".parse().unwrap();
    let mut connects = async |guest: &mut Puppet| {
        assert_eq!(guest.connect(3, 2, to).await, Err(ErrorCode::Denied));
    };
    let word = |offset: i32| format!("i32.load offset={offset} (i32.const 0)");
    let half = |offset: i32| format!("i32.load16_u offset={offset} (i32.const 0)");
    let byte = |offset: i32| format!("i32.load8_u offset={offset} (i32.const 0)");
    assert_eq!(
        seen(&grant, &word(0), &mut connects).await,
        i64::from(Act::Connect.code())
    );
    assert_eq!(seen(&grant, &word(4), &mut connects).await, i64::from(TCP));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (low, minute) = (i64::from(now as u32 as i32), 60);
    let seconds = seen(&grant, &word(8), &mut connects).await;
    assert!((low..low + minute).contains(&seconds), "{low} {seconds}");
    assert_eq!(seen(&grant, &half(20), &mut connects).await, 0, "the local port");
    assert_eq!(seen(&grant, &half(22), &mut connects).await, 7777);
    assert_eq!(
        seen(&grant, &byte(24), &mut connects).await,
        0,
        "the system chooses"
    );
    assert_eq!(seen(&grant, &byte(25), &mut connects).await, 4);
    assert_eq!(seen(&grant, &half(26), &mut connects).await, 0, "no name");
    assert_eq!(seen(&grant, &byte(48), &mut connects).await, 127);
    assert_eq!(seen(&grant, &byte(51), &mut connects).await, 1);

    // Where the local end is part of the grant it is bound before the guard is asked.
    let to = "127.0.0.2:80".parse().unwrap();
    let mut from = async |guest: &mut Puppet| {
        assert_eq!(guest.connect(3, 2, to).await, Err(ErrorCode::Denied));
    };
    assert!((20_000..20_010).contains(&seen(&grant, &half(20), &mut from).await));
    assert_eq!(seen(&grant, &byte(24), &mut from).await, 4);
    assert_eq!(seen(&grant, &byte(35), &mut from).await, 3);

    let mut binds = async |guest: &mut Puppet| {
        assert_eq!(guest.bind_udp(3, 2, "[::1]:0").await, Err(ErrorCode::Denied));
    };
    assert_eq!(seen(&grant, &word(4), &mut binds).await, i64::from(UDP));
    assert_eq!(seen(&grant, &byte(24), &mut binds).await, 6);
    assert_eq!(seen(&grant, &byte(47), &mut binds).await, 1);
    assert_eq!(seen(&grant, &byte(25), &mut binds).await, 0, "no remote end");
    assert!(seen(&grant, &half(20), &mut binds).await > 0);
}

#[tokio::test]
async fn a_guard_counts_what_it_was_asked_and_what_is_open() {
    let server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    // Yes until there were three questions or two sockets.
    let answer = "(i32.and (i32.lt_u (i32.load offset=64 (i32.const 0)) (i32.const 4))
                           (i32.lt_u (i32.load offset=28 (i32.const 0)) (i32.const 2)))";
    let mut guest = guarded(&grant, &says(answer)).await;
    guest.connect(3, 2, server.address).await.unwrap();
    guest.connect(4, 2, server.address).await.unwrap();
    assert_eq!(
        guest.connect(5, 2, server.address).await,
        Err(ErrorCode::Denied),
        "two are open"
    );
    guest.close(4).await.unwrap();
    guest.connect(4, 2, server.address).await.unwrap();
    guest.close(3).await.unwrap();
    assert_eq!(
        guest.connect(5, 2, server.address).await,
        Err(ErrorCode::Denied),
        "four questions"
    );
    // Those it said yes to are counted apart.
    let answer = "(i32.lt_u (i32.load offset=72 (i32.const 0)) (i32.const 2))";
    let mut guest = guarded(&grant, &says(answer)).await;
    for expected in [true, true, false, false] {
        assert_eq!(guest.connect(3, 2, server.address).await.is_ok(), expected);
    }
}

#[tokio::test]
async fn a_guard_only_narrows() {
    let server = Silent::start().await;
    // Says yes to everything, and remembers nothing but how often it was asked.
    let mut guest = guarded(&net("connect tcp 127.0.0.1:1"), &says(YES)).await;
    let result = guest.connect(3, 2, server.address).await;
    assert_eq!(result, Err(ErrorCode::Denied));
    let why = guest.error_message().await;
    assert!(!why.contains("guard"), "the authority is asked first: {why}");
    // What the authority refuses, the guard never hears of.
    let grant = net(&format!("connect tcp {}", server.address));
    let mut guest = guarded(&grant, &says(ONCE)).await;
    for _ in 0..3 {
        let elsewhere = "127.0.0.1:1".parse().unwrap();
        assert_eq!(guest.connect(3, 2, elsewhere).await, Err(ErrorCode::Denied));
    }
    guest.connect(3, 2, server.address).await.unwrap();
    assert_eq!(guest.connect(4, 2, server.address).await, Err(ErrorCode::Denied));
    // What is derived behind a guard is behind it too, and what is before it is not.
    guest.only(5, 2, "connect tcp *:*").await.unwrap();
    assert_eq!(guest.connect(4, 5, server.address).await, Err(ErrorCode::Denied));
    guest.connect(4, 1, server.address).await.unwrap();
    // Its own rules are as they were.
    assert_eq!(guest.describe(2).await, guest.describe(1).await);
    assert!(
        guest
            .allows(2, &format!("connect tcp {}", server.address))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn all_that_is_derived_shares_one_guard_and_its_memory() {
    let server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let once = Guard::compile("once", &says(ONCE)).unwrap();
    let behind = grant.guarded(&once).unwrap();
    let child = behind.only(&"connect tcp *:*".parse().unwrap()).unwrap();
    let mut first = Puppet::start(&behind).await;
    let mut second = Puppet::start(&child).await;
    second.call("net_revocable", &[5, 6, 1]).await.unwrap();
    second.limit(7, 5, "label deep").await.unwrap();
    second.connect(2, 7, server.address).await.unwrap();
    for (guest, net) in [(&mut first, 1), (&mut second, 5)] {
        assert_eq!(
            guest.connect(3, net, server.address).await,
            Err(ErrorCode::Denied)
        );
        let why = guest.error_message().await;
        assert!(
            why.contains("the guard `once` said no to connect tcp 127.0.0.1:"),
            "{why}"
        );
    }
    // Another Net has another memory.
    let other = grant.guarded(&once).unwrap();
    let mut third = Puppet::start(&other).await;
    third.connect(2, 1, server.address).await.unwrap();
    assert_eq!(other.info().unwrap().guards, ["`once`"]);
    assert_eq!(grant.info().unwrap().guards, [""; 0]);
}

#[tokio::test]
async fn guards_in_a_row_are_all_asked_the_outermost_first() {
    let server = Silent::start().await;
    let mut guest = guarded(&net("connect tcp 127.0.0.1:*"), &says(YES)).await;
    put_before(&mut guest, 3, 2, &says(ONCE)).await.unwrap();
    put_before(&mut guest, 4, 3, &says(NO)).await.unwrap();
    // The second one is asked before the third says no.
    assert_eq!(guest.connect(5, 4, server.address).await, Err(ErrorCode::Denied));
    assert_eq!(guest.connect(5, 3, server.address).await, Err(ErrorCode::Denied));
    guest.connect(5, 2, server.address).await.unwrap();
    // There is an end to it.
    guest.raw("copy", &[3, 2]).await;
    for _ in 1..MAX_GUARDS {
        put_before(&mut guest, 3, 3, &says(YES)).await.unwrap();
    }
    guest.connect(5, 3, server.address).await.unwrap();
    assert_eq!(
        put_before(&mut guest, 6, 3, &says(YES)).await,
        Err(ErrorCode::LimitReached)
    );
    assert!(guest.error_message().await.contains("guards in a row"));
}

#[tokio::test]
async fn a_vat_has_so_many_guards_and_gets_back_those_that_it_gives_up() {
    let server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::with_limits(&grant, Limits::default().guards(3)).await;
    guest.guard(2, &says(YES)).await.unwrap();
    guest.call("net_guarded", &[3, 1, 2]).await.unwrap();
    guest.call("net_guarded", &[4, 1, 2]).await.unwrap();
    assert_eq!(
        guest.call("net_guarded", &[5, 1, 2]).await,
        Err(ErrorCode::LimitReached)
    );
    assert!(guest.error_message().await.contains("3 guards"));
    assert_eq!(guest.guard(5, &says(YES)).await, Err(ErrorCode::LimitReached));
    // What stands before a Net stays for as long as anything asks it.
    guest.connect(6, 4, server.address).await.unwrap();
    guest.close(4).await.unwrap();
    assert_eq!(guest.guard(5, &says(YES)).await, Err(ErrorCode::LimitReached));
    guest.close(6).await.unwrap();
    guest.guard(5, &says(YES)).await.unwrap();
    // A module is kept by what was made of it, and closing the Guard leaves that as it is.
    guest.close(2).await.unwrap();
    guest.connect(6, 3, server.address).await.unwrap();
    // What is not a guard costs nothing.
    for _ in 0..10 {
        guest.guard(7, b"\0asm").await.unwrap_err();
    }
    guest.guard(7, &says(YES)).await.unwrap();
}

#[tokio::test]
async fn revoking_and_narrowing_work_through_guards() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*; bind,listen tcp 127.0.0.1:*");
    let guard = Guard::compile("yes", &says(YES)).unwrap();
    let behind = grant.guarded(&guard).unwrap();
    let mut guest = Puppet::start(&behind).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    let elsewhere = servers::echo().await;
    guest.connect(3, 1, elsewhere).await.unwrap();
    let bound = authority(&format!("connect tcp {elsewhere}"));
    grant.narrow(&bound).unwrap();
    servers::closed(&mut peer).await;
    assert_eq!(guest.connect(4, 1, server.address).await, Err(ErrorCode::Denied));
    guest.write_stream(3, b"still").await.unwrap();
    guest.connect(4, 1, elsewhere).await.unwrap();
    assert_eq!(behind.info().unwrap().guards, ["`yes`"]);
    // Two Nets, the vat's own, and two streams.
    assert_eq!(grant.revoke(), 5);
    assert_eq!(guest.connect(5, 1, elsewhere).await, Err(ErrorCode::Revoked));
    assert_eq!(guest.write_stream(3, b"no more").await, Err(ErrorCode::Revoked));
    assert!(matches!(behind.guarded(&guard), Err(DeriveError::Revoked(_))));
}

#[tokio::test]
async fn what_may_not_be_derived_from_may_not_be_guarded() {
    let policy: Policy = "connect tcp 127.0.0.1:*; no derive".parse().unwrap();
    let grant = Capability::granted("net", &policy, ambient_authority()).unwrap();
    let guard = Guard::compile("yes", &says(YES)).unwrap();
    assert!(matches!(grant.guarded(&guard), Err(DeriveError::NotDerivable(_))));
    let mut guest = Puppet::start(&grant).await;
    assert_eq!(
        put_before(&mut guest, 2, 1, &says(YES)).await,
        Err(ErrorCode::NotDerivable)
    );
}

#[tokio::test]
async fn a_guard_may_keep_some_addresses_of_a_name_and_not_others() {
    let server = Silent::start().await;
    let grant = granted("connect tcp any-name:*; names to loopback");
    let reply = addresses(&["127.0.0.5", "127.0.0.1", "127.0.0.6"]);
    let resolver = Scripted::new(&[
        ("api.example.com", &[reply]),
        ("b.example.com", &[addresses(&["127.0.0.5"])]),
    ]);
    let mut guest = Puppet::with_resolver(&grant, resolver).await;
    // Of answers only 127.0.0.1; the name is in the record, and its length.
    let answer = "(if (i32.eq (i32.load (i32.const 0)) (i32.const 8))
            (then (return (i32.eq (i32.load offset=48 (i32.const 0)) (i32.const 0x0100007f)))))
        (i32.or (i32.eq (i32.load16_u offset=26 (i32.const 0)) (i32.const 13))
                (i32.eq (i32.load offset=80 (i32.const 0)) (i32.const 0x2e697061)))";
    put_before(&mut guest, 2, 1, &says(answer)).await.unwrap();
    guest
        .resolve(3, 2, "api.example.com", server.address.port())
        .await
        .unwrap();
    let described = guest.describe_name(3).await.unwrap();
    assert!(described.contains(" is 127.0.0.1, "), "{described}");
    guest.call("name_connect", &[4, 3, 0]).await.unwrap();
    assert_eq!(
        guest.resolve(3, 2, "b.example.com", 80).await,
        Err(ErrorCode::Denied)
    );
    let why = guest.error_message().await;
    assert!(
        why.contains("said no to answer tcp b.example.com:80 at 127.0.0.5"),
        "{why}"
    );
    assert_eq!(
        guest.resolve(3, 2, "c.example.org", 80).await,
        Err(ErrorCode::NameNotResolved)
    );
    assert_eq!(
        guest.resolve(3, 2, "longer.example.org", 80).await,
        Err(ErrorCode::Denied)
    );
}

#[tokio::test]
async fn a_grant_that_is_revoked_while_its_guard_compiles_is_revoked() {
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.guard(2, &says(YES)).await.unwrap();
    grant.revoke();
    assert_eq!(
        guest.call("net_guarded", &[3, 1, 2]).await,
        Err(ErrorCode::Revoked)
    );
    // The guard comes from nowhere, so it is still there.
    assert_eq!(guest.call("cap_kind", &[2]).await, Ok(refcap::Kind::Guard.code()));
}

// Many at once, and one of them dies: no check waits for ever, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_vats_share_one_guard_at_once() {
    let server = servers::echo().await;
    let answer = "(i32.lt_u (i32.load offset=64 (i32.const 0)) (i32.const 100))";
    let guard = Guard::compile("hundred", &says(answer)).unwrap();
    let behind = net("connect tcp 127.0.0.1:*").guarded(&guard).unwrap();
    let vats = (0..8).map(|_| {
        let behind = behind.clone();
        tokio::spawn(async move {
            let mut guest = Puppet::start(&behind).await;
            let mut made = 0;
            for _ in 0..20 {
                if guest.connect(2, 1, server).await.is_ok() {
                    guest.close(2).await.unwrap();
                    made += 1;
                }
            }
            made
        })
    });
    let mut made = 0;
    for vat in vats.collect::<Vec<_>>() {
        made += tokio::time::timeout(Duration::from_secs(60), vat)
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(made, 100);
}

#[test]
fn a_guards_no_is_in_the_log() {
    if is_alone("guards::a_guards_no_is_in_the_log", &[]) {
        block_on(be_refused());
    }
}

async fn be_refused() {
    let server = Silent::start().await;
    let log = logged(async {
        let no = Guard::compile("never", &says(NO)).unwrap();
        let grant =
            granted("connect tcp 127.0.0.1:*; bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from *");
        let mut guest = Puppet::start(&grant.guarded(&no).unwrap()).await;
        guest.connect(2, 1, server.address).await.unwrap_err();
        let mut guest = guarded(&grant, &all_but(Act::Accept)).await;
        let address = guest.listen(3, 2, "127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let waited = guest.call("socket_wait", &[3, refcap_abi::WAIT_READ, 200]).await;
        assert_eq!(waited, Err(ErrorCode::TimedOut));
    })
    .await;
    let of = |event: &str| -> Vec<&String> {
        let mark = format!("\"event\":\"{event}\"");
        log.iter().filter(|line| line.contains(&mark)).collect()
    };
    let refusals = of("refuse");
    assert_eq!(refusals.len(), 1, "{log:#?}");
    assert!(
        refusals[0].contains("the guard `never` said no to connect tcp"),
        "{refusals:?}"
    );
    assert!(refusals[0].contains("\"code\":1"), "{refusals:?}");
    let guards = of("guard");
    assert_eq!(guards.len(), 2, "{log:#?}");
    assert!(guards[0].contains("\"guard\":\"`never`\""), "{guards:?}");
    assert!(guards[1].contains("\"vat\":"), "{guards:?}");
    let away = of("turn-away");
    assert_eq!(away.len(), 1, "{log:#?}");
    assert!(away[0].contains("said no to accept tcp 127.0.0.1:"), "{away:?}");
}
