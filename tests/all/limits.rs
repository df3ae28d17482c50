//! Every limit is an error in the guest, and the guest goes on.

use std::time::Duration;

use refcap::{ErrorCode, Limits, RunError, StartError};
use refcap_authority::Rules;

use crate::support::servers::Silent;
use crate::support::{Puppet, net, soon};

const RULES: &str = "connect tcp 127.0.0.1:*";

#[tokio::test]
async fn capabilities_are_limited_and_closing_makes_room() {
    let mut guest = Puppet::with_limits(&net(RULES), Limits::default().capabilities(3)).await;
    guest.only(2, 1, RULES).await.unwrap();
    guest.only(3, 1, RULES).await.unwrap();
    assert_eq!(guest.only(4, 1, RULES).await, Err(ErrorCode::LimitReached));
    assert!(guest.error_message().await.contains("3 live capabilities"));
    guest.close(2).await.unwrap();
    guest.only(4, 1, RULES).await.unwrap();
    assert_eq!(
        guest.call("net_revocable", &[5, 6, 1]).await,
        Err(ErrorCode::LimitReached)
    );
}

#[tokio::test]
async fn endowments_count_as_capabilities() {
    let limits = Limits::default().capabilities(0);
    let error = Puppet::try_start(&net(RULES), limits)
        .await
        .err()
        .expect("one is too many");
    assert!(error.to_string().contains("0 live capabilities"), "{error}");
    // It once said that the grant was revoked.
    let limits = Limits::default().depth(0);
    let error = Puppet::try_start(&net(RULES), limits)
        .await
        .err()
        .expect("one is too deep");
    assert!(error.to_string().contains("0 derivations in a row"), "{error}");
}

// A guest that drops its references without closing them makes garbage, not a leak. (Attack class 26:
// garbage capabilities exhaust descriptors.)
#[tokio::test]
async fn class_26_dropped_references_are_collected_before_a_limit_is_an_error() {
    let mut guest = Puppet::with_limits(&net(RULES), Limits::default().capabilities(100)).await;
    let rules = Rules::parse(RULES).unwrap().encode();
    guest.write(1024, &rules).await;
    let length = i32::try_from(rules.len()).unwrap();
    assert_eq!(guest.raw("fan", &[10_000, 1024, length, 0]).await, 0);
    assert!(guest.handle().capabilities() <= 100);
    assert_eq!(guest.vat().collect().unwrap(), 1);
    assert_eq!(guest.handle().capabilities(), 1);
}

#[tokio::test]
async fn class_26_dropped_streams_are_closed_when_collected() {
    let mut server = Silent::start().await;
    let mut guest = Puppet::start(&net(RULES)).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    guest.raw("forget", &[2]).await;
    assert_eq!(guest.vat().collect().unwrap(), 1);
    crate::support::servers::closed(&mut peer).await;
    assert_eq!(guest.handle().sockets(), 0);
}

#[tokio::test]
async fn sockets_are_limited_and_closing_makes_room() {
    let server = Silent::start().await;
    let mut guest = Puppet::with_limits(&net(RULES), Limits::default().sockets(2)).await;
    guest.connect(2, 1, server.address).await.unwrap();
    guest.connect(3, 1, server.address).await.unwrap();
    assert_eq!(
        guest.connect(4, 1, server.address).await,
        Err(ErrorCode::LimitReached)
    );
    assert!(guest.error_message().await.contains("2 open sockets"));
    guest.close(2).await.unwrap();
    guest.connect(4, 1, server.address).await.unwrap();
    assert_eq!(guest.handle().sockets(), 2);
}

#[tokio::test]
async fn a_refused_or_failed_connection_gives_its_socket_back() {
    let mut guest = Puppet::with_limits(&net(RULES), Limits::default().sockets(1)).await;
    let nobody = {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.local_addr().unwrap()
    };
    for _ in 0..3 {
        assert_eq!(
            guest.connect(2, 1, nobody).await,
            Err(ErrorCode::ConnectionRefused)
        );
        assert_eq!(
            guest.connect(2, 1, "10.0.0.1:1".parse().unwrap()).await,
            Err(ErrorCode::Denied)
        );
    }
    assert_eq!(guest.handle().sockets(), 0);
    assert_eq!(guest.handle().capabilities(), 1);
}

#[tokio::test]
async fn class_27_a_derive_bomb_ends_at_the_limit_of_depth_or_width() {
    let limits = Limits::default().depth(10).fan_out(20);
    let mut guest = Puppet::with_limits(&net(RULES), limits).await;
    let rules = Rules::parse(RULES).unwrap().encode();
    guest.write(1024, &rules).await;
    let length = i32::try_from(rules.len()).unwrap();
    let full = ErrorCode::LimitReached.status();
    assert_eq!(guest.raw("chain", &[100, 1024, length]).await, full);
    assert!(guest.error_message().await.contains("10 derivations"));
    assert_eq!(guest.raw("fan", &[100, 1024, length, 1]).await, full);
    assert!(
        guest
            .error_message()
            .await
            .contains("20 capabilities derived from one")
    );
    guest.describe(1).await.unwrap();
}

#[tokio::test]
async fn class_27_rules_are_limited_in_size_and_complexity() {
    let mut guest = Puppet::with_limits(&net("connect tcp *:*"), Limits::default().rule_bytes(100)).await;
    guest.raw("grow_memory", &[1]).await;
    let result = guest.call("net_only", &[2, 1, 0, 101]).await;
    assert_eq!(result, Err(ErrorCode::LimitReached));
    assert!(guest.error_message().await.contains("101 bytes"));
    // Lengths that no memory could hold never become an allocation.
    assert_eq!(
        guest.call("net_only", &[2, 1, 0, -1]).await,
        Err(ErrorCode::BadPointer)
    );
}

#[tokio::test]
async fn memory_and_tables_stop_growing_at_their_limits() {
    let limits = Limits::default().memory(4 << 20).table_elements(100);
    let mut guest = Puppet::with_limits(&net(RULES), limits).await;
    assert_eq!(guest.raw("grow_memory", &[1]).await, 1);
    assert_eq!(guest.raw("grow_memory", &[1000]).await, -1);
    assert_eq!(guest.raw("grow_table", &[76]).await, 24);
    assert_eq!(guest.raw("grow_table", &[80]).await, -1);
    guest.describe(1).await.unwrap();
}

#[tokio::test]
async fn references_that_find_no_memory_are_an_error_and_leave_no_capability() {
    // Less than the heap of references takes to begin with.
    let limits = Limits::default().memory(80 << 10);
    let error = Puppet::try_start(&net(RULES), limits)
        .await
        .err()
        .expect("no room for a reference");
    assert!(matches!(error, StartError::NotTaken { .. }), "{error}");

    // Room for about two thousand references, half of them live.
    let limits = Limits::default()
        .memory((64 << 10) + (64 << 10))
        .capabilities(1_000_000);
    let mut guest = Puppet::with_limits(&net(RULES), limits).await;
    let rules = Rules::parse(RULES).unwrap().encode();
    guest.write(1024, &rules).await;
    let length = i32::try_from(rules.len()).unwrap();
    assert_eq!(
        guest.raw("fan", &[5_000, 1024, length, 1]).await,
        ErrorCode::LimitReached.status()
    );
    let held = guest.vat().capabilities();
    assert!((500..2_500).contains(&held), "{held}");
    assert_eq!(guest.handle().capabilities(), held);
}

#[tokio::test]
async fn a_guest_that_computes_for_ever_is_cut_off_at_its_wall_time() {
    let limits = Limits::default().wall_time(Duration::from_millis(50));
    let mut guest = Puppet::with_limits(&net(RULES), limits).await;
    let error = soon(guest.vat().call_export("spin", &[])).await.unwrap_err();
    assert!(matches!(error, RunError::TimedOut(_)), "{error}");
    let error = guest.vat().call_export("peek", &[0]).await.unwrap_err();
    assert!(matches!(error, RunError::Ended), "{error}");
}

#[tokio::test]
async fn a_guest_that_sleeps_for_ever_is_cut_off_at_its_wall_time() {
    let server = Silent::start().await;
    let limits = Limits::default().wall_time(Duration::from_millis(500));
    let mut guest = Puppet::with_limits(&net(RULES), limits).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let wait = [2, refcap_abi::WAIT_READ, 0];
    let error = soon(guest.vat().call_export("socket_wait", &wait))
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::TimedOut(_)), "{error}");
}

// On one thread, a guest that computes and one that moves bytes without ever waiting let a timer run.
#[tokio::test]
async fn guests_on_one_thread_take_turns() {
    let server = crate::support::servers::echo().await;
    let mut busy = Puppet::start(&net(RULES)).await;
    let mut mover = Puppet::start(&net(RULES)).await;
    mover.connect(2, 1, server).await.unwrap();
    let ticks = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let spin = busy.vat().call_export("spin", &[]);
    let moving = async {
        loop {
            let sent = mover.call("stream_write", &[2, 0, 1]).await;
            if sent == Err(ErrorCode::WouldBlock) {
                mover
                    .call("socket_wait", &[2, refcap_abi::WAIT_WRITE, 0])
                    .await
                    .unwrap();
            }
        }
    };
    tokio::select! {
        () = soon(ticks) => {}
        _ = spin => panic!("the loop has no end"),
        () = moving => panic!("the loop has no end"),
    }
}

#[tokio::test]
async fn a_guest_must_wait_once_in_a_while() {
    let server = crate::support::servers::echo().await;
    let mut guest = Puppet::start(&net(RULES)).await;
    guest.connect(2, 1, server).await.unwrap();
    let mut moved = 0;
    let error = loop {
        match guest.call("stream_write", &[2, 0, 1]).await {
            Ok(count) => moved += count,
            Err(error) => break error,
        }
        assert!(moved < 1_000_000);
    };
    assert_eq!(error, ErrorCode::WouldBlock);
    assert_eq!(
        guest.call("stream_write", &[2, 0, 1]).await,
        Err(ErrorCode::WouldBlock)
    );
    guest
        .call("socket_wait", &[2, refcap_abi::WAIT_WRITE, 0])
        .await
        .unwrap();
    assert_eq!(guest.call("stream_write", &[2, 0, 1]).await, Ok(1));
}

// A connection to this machine is there at once, so a guest that makes them never waits: it is the engine's clock that
// lets others go on.
#[tokio::test]
async fn a_guest_that_connects_without_end_lets_others_go_on() {
    const MOST: u32 = 2_000;
    // Nobody accepts, and all have room in the queue.
    let listener = tokio::net::TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(2 * MOST).unwrap();
    let server = listener.local_addr().unwrap();
    let mut guest = Puppet::start(&net(RULES)).await;
    let busy = async {
        for _ in 0..MOST {
            guest.connect(2, 1, server).await.unwrap();
            guest.close(2).await.unwrap();
        }
    };
    let ticks = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = busy => panic!("nobody else had a turn"),
        () = ticks => {}
    }
}
