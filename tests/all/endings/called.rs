//! Children that end, or lose what they were given, while they are called.

use tokio::net::TcpStream;

use super::*;
use crate::support::servers::{Silent, closed};

/// Where the puppet keeps another spawner, and what it can take back.
const OTHER_SPAWNER: i32 = 20;
const LEASED: i32 = 21;
const REVOKER: i32 = 22;

/// How a child comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Exits,
    Traps,
    IsStopped,
    /// Its Child is closed.
    IsClosed,
    /// The Spawner is revoked through which it was started.
    IsRevoked,
}

/// Like `family`, and B is there, started through a spawner of its own.
async fn family_with_b() -> (Puppet, Capability, Capability) {
    let (mut parent, net, _spawner) = family().await;
    let other = spawner();
    parent.raw("copy", &[OTHER_SPAWNER, SPAWNER]).await;
    parent.handle().grant("other", &other);
    parent.take(SPAWNER, "other").await.unwrap();
    parent.member(B, NET, None).await;
    parent.raw("copy", &[SPAWNER, OTHER_SPAWNER]).await;
    (parent, net, other)
}

impl End {
    /// What B is told to do in the call in which it ends.
    fn order(self) -> Order {
        match self {
            End::Exits => exit(),
            End::Traps => trap(),
            End::IsStopped | End::IsClosed | End::IsRevoked => spin(),
        }
    }

    /// Ends B, where it does not do so by itself.
    async fn comes(self, parent: &mut Puppet, spawner: &Capability) {
        match self {
            End::Exits | End::Traps => {}
            End::IsStopped => assert_eq!(parent.stop_child(B + CHILD).await, Ok(1)),
            End::IsClosed => assert_eq!(parent.close(B + CHILD).await, Ok(0)),
            // The embedder's spawner, the puppet's, and the child.
            End::IsRevoked => assert_eq!(spawner.revoke(), 3),
        }
    }
}

const ENDS: [End; 5] = [
    End::Exits,
    End::Traps,
    End::IsStopped,
    End::IsClosed,
    End::IsRevoked,
];

async fn so_many_children(parent: &Puppet, count: usize) {
    soon(async {
        while parent.handle().children() != count {
            a_moment().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sibling_that_calls_a_child_hears_of_its_end_and_goes_on() {
    for end in ENDS {
        let (mut parent, _net, spawner) = family_with_b().await;
        parent.member(A, NET, None).await;
        parent.introduce(A, B).await;
        let told = parent.tell(A, AFTER, call(LENT, NOW, end.order())).await;
        told.unwrap();
        a_moment().await;
        end.comes(&mut parent, &spawner).await;
        assert_eq!(parent.report().await, Err(ErrorCode::CalleeFailed), "{end:?}");
        assert_eq!(parent.tell(A, NOW, say(7)).await, Ok(7));
        // The object is there, and has nobody behind it.
        for _ in 0..2 {
            let called = parent.tell(A, NOW, call(LENT, NOW, say(7))).await;
            assert_eq!(called, Err(ErrorCode::CalleeFailed), "{end:?}");
        }
        so_many_children(&parent, 1).await;
    }
}

// The parent can't stop whom it waits for: the child ends by itself, or the embedder ends it.
#[tokio::test]
async fn a_parent_that_calls_a_child_hears_of_its_end_and_goes_on() {
    for end in [End::Exits, End::Traps, End::IsRevoked] {
        let (mut parent, _net, spawner) = family_with_b().await;
        let revoking = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (end == End::IsRevoked).then(|| spawner.revoke())
        });
        let called = parent.tell(B, NOW, end.order()).await;
        assert_eq!(called, Err(ErrorCode::CalleeFailed), "{end:?}");
        let why = parent.error_message().await;
        assert_eq!(why, "the program that implements the object has ended");
        revoking.await.unwrap();
        so_many_children(&parent, 0).await;
        parent.member(A, NET, None).await;
        assert_eq!(parent.tell(A, NOW, say(7)).await, Ok(7));
    }
}

/// Starts A and C. A calls B, in that B calls C, and C reads from the server, whose end is returned.
async fn c_reads_in_calls_of_a_and_b(parent: &mut Puppet, server: &mut Silent) -> TcpStream {
    for member in [A, C] {
        parent.member(member, NET, None).await;
    }
    parent.introduce(A, B).await;
    parent.introduce(B, C).await;
    let calls = call(LENT, NOW, call(LENT, NOW, read(server.address)));
    parent.tell(A, AFTER, calls).await.unwrap();
    server.next().await.0
}

// B is in a call of C's, in the middle of one of A's.
#[tokio::test]
async fn a_child_that_ends_while_it_calls_in_a_call_is_missed_by_its_caller_alone() {
    for end in [End::IsStopped, End::IsClosed, End::IsRevoked] {
        let mut server = Silent::start().await;
        let (mut parent, _net, spawner) = family_with_b().await;
        let peer = c_reads_in_calls_of_a_and_b(&mut parent, &mut server).await;
        end.comes(&mut parent, &spawner).await;
        assert_eq!(parent.report().await, Err(ErrorCode::CalleeFailed), "{end:?}");
        // C does what it was asked to, to its end, and nobody wants the answer.
        assert_eq!(
            parent.tell_within(C, NOW, 10, say(7)).await,
            Err(ErrorCode::TimedOut)
        );
        drop(peer);
        assert_eq!(parent.tell(C, NOW, say(7)).await, Ok(7));
        assert_eq!(parent.tell(A, NOW, say(7)).await, Ok(7));
    }
    // And the one that it calls: B says so, and goes on.
    let mut server = Silent::start().await;
    let (mut parent, ..) = family_with_b().await;
    let mut peer = c_reads_in_calls_of_a_and_b(&mut parent, &mut server).await;
    Way::IsStopped.ends(&mut parent, C).await;
    closed(&mut peer).await;
    assert_eq!(parent.report().await, Err(ErrorCode::CalleeFailed));
    assert_eq!(parent.heard_by(B).await, Err(ErrorCode::CalleeFailed));
}

#[tokio::test]
async fn a_child_that_is_stopped_while_it_serves_in_a_call_is_missed_by_its_caller() {
    for end in [End::IsStopped, End::IsClosed, End::IsRevoked] {
        let (mut parent, _net, spawner) = family_with_b().await;
        parent.member(A, NET, None).await;
        parent.introduce(A, B).await;
        parent.tell(A, AFTER, call(LENT, NOW, serve())).await.unwrap();
        a_moment().await;
        end.comes(&mut parent, &spawner).await;
        assert_eq!(parent.report().await, Err(ErrorCode::CalleeFailed), "{end:?}");
        assert_eq!(parent.tell(A, NOW, say(7)).await, Ok(7));
    }
}

// Losing an endowment is no end: the child hears of it, answers, and serves on.
#[tokio::test]
async fn a_child_whose_endowment_is_revoked_in_a_call_answers_with_that_and_lives_on() {
    let mut server = Silent::start().await;
    let (mut parent, net, _spawner) = family().await;
    let revocable = [LEASED, REVOKER, NET];
    parent.call("net_revocable", &revocable).await.unwrap();
    parent.member(B, LEASED, None).await;
    parent.member(A, NET, None).await;
    parent.introduce(A, B).await;
    let told = parent.tell(A, AFTER, call(LENT, NOW, read(server.address)));
    told.await.unwrap();
    let (mut peer, _) = server.next().await;
    // What was lent, what B has of it, and the connection.
    assert_eq!(parent.call("revoker_revoke", &[REVOKER]).await, Ok(3));
    closed(&mut peer).await;
    assert_eq!(parent.report().await, Err(ErrorCode::Revoked));
    assert_eq!(parent.tell(B, NOW, say(7)).await, Ok(7));

    // The same by the embedder, while the parent calls.
    let address = server.address;
    let revoking = tokio::spawn(async move {
        let peer = server.next().await.0;
        (net.revoke(), peer)
    });
    let called = parent.tell(A, NOW, read(address)).await;
    assert_eq!(called, Err(ErrorCode::Revoked));
    assert!(revoking.await.unwrap().0 > 0);
    assert_eq!(parent.tell(A, NOW, say(7)).await, Ok(7));
}

// The call ends for its holder alone; who implements the object does what it was asked to, to its end.
#[tokio::test]
async fn an_object_that_is_revoked_in_the_middle_of_a_call_ends_it_for_its_holder() {
    let mut server = Silent::start().await;
    let (mut parent, ..) = family().await;
    for member in [A, B] {
        parent.member(member, NET, None).await;
    }
    let revocable = [LEASED, REVOKER, B];
    parent.call("object_revocable", &revocable).await.unwrap();
    parent.introduce(A, LEASED).await;
    let told = parent.tell(A, AFTER, call(LENT, NOW, read(server.address)));
    told.await.unwrap();
    let (peer, _) = server.next().await;
    assert_eq!(parent.call("revoker_revoke", &[REVOKER]).await, Ok(2));
    assert_eq!(parent.report().await, Err(ErrorCode::Revoked));
    assert_eq!(
        parent.tell_within(B, NOW, 10, say(7)).await,
        Err(ErrorCode::TimedOut)
    );
    drop(peer);
    assert_eq!(parent.tell(B, NOW, say(7)).await, Ok(7));
    let again = parent.tell(A, NOW, call(LENT, NOW, say(7))).await;
    assert_eq!(again, Err(ErrorCode::Revoked));
}
