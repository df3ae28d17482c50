//! Calls that go round: from one vat to the next, and from the last to the first.

use super::*;

/// Three members, each of which has the object of the next.
async fn ring() -> (Puppet, Capability, Capability) {
    let (mut parent, net, spawner) = family().await;
    for member in [A, B, C] {
        parent.member(member, NET, None).await;
    }
    for (one, next) in [(A, B), (B, C), (C, A)] {
        parent.introduce(one, next).await;
    }
    (parent, net, spawner)
}

/// Calls the next one, that calls the next, which does this.
fn round(last: Order) -> Order {
    call(LENT, NOW, call(LENT, NOW, last))
}

#[tokio::test]
async fn who_waits_for_an_answer_serves_nobody_so_a_ring_of_calls_times_out() {
    let (mut parent, ..) = ring().await;
    let closes = call_within(LENT, NOW, 20, say(7));
    parent.tell(A, AFTER, round(closes)).await.unwrap();
    // The last one says so, and the one before passes it on.
    assert_eq!(parent.report().await, Err(ErrorCode::TimedOut));
    for member in [B, C] {
        assert_eq!(parent.heard_by(member).await, Err(ErrorCode::TimedOut));
    }
    // The call that was given up is not served afterwards, and the others work on.
    for member in [A, B, C] {
        assert_eq!(parent.tell(member, NOW, call(LENT, NOW, say(7))).await, Ok(7));
    }
    parent.tell(C, AFTER, round(say(8))).await.unwrap();
    assert_eq!(parent.report().await, Ok(8));
}

#[tokio::test]
async fn who_serves_in_the_middle_of_a_call_is_called_again_as_deep_as_the_limit() {
    let (mut parent, ..) = ring().await;
    parent.tell(A, AFTER, call(LENT, NOW, serve())).await.unwrap();
    a_moment().await;
    assert_eq!(parent.tell(B, NOW, say(7)).await, Ok(7));
    assert_eq!(parent.report().await, Ok(0));

    // Each of these calls is given up, and the next one comes in its middle.
    let mut last = Err(ErrorCode::TimedOut);
    for _ in 0..1_000 {
        last = parent.tell_within(B, NOW, 10, serve_deeper()).await;
        if last != Err(ErrorCode::TimedOut) {
            break;
        }
    }
    assert_eq!(last, Err(ErrorCode::LimitReached));
    assert_eq!(parent.tell(B, NOW, deepest()).await, Ok(64));
    assert_eq!(parent.tell(A, NOW, call(LENT, NOW, say(7))).await, Ok(7));
}

#[tokio::test]
async fn a_ring_of_calls_ends_when_any_of_it_is_stopped() {
    for stopped in [A, B, C] {
        let (mut parent, net, spawner) = ring().await;
        let closes = tell_and(call(LENT, NOW, say(7)));
        parent.tell(A, AFTER, round(closes)).await.unwrap();
        assert_eq!(parent.report().await, Ok(0));
        a_moment().await;
        Way::IsStopped.ends(&mut parent, stopped).await;
        let heard = match stopped {
            // Whom the last one calls; the one before hears it from that.
            A => [
                None,
                Some(Err(ErrorCode::CalleeFailed)),
                Some(Err(ErrorCode::CalleeFailed)),
            ],
            // The first one hears of it, and then answers the last one.
            B => [Some(Err(ErrorCode::CalleeFailed)), None, Some(Ok(7))],
            _ => [
                Some(Err(ErrorCode::CalleeFailed)),
                Some(Err(ErrorCode::CalleeFailed)),
                None,
            ],
        };
        if stopped != A {
            assert_eq!(parent.report().await, Err(ErrorCode::CalleeFailed));
        }
        for (member, heard) in [A, B, C].into_iter().zip(heard) {
            if let Some(heard) = heard {
                assert_eq!(
                    parent.heard_by(member).await,
                    heard,
                    "{member}, {stopped} was stopped"
                );
                assert_eq!(parent.tell(member, NOW, say(8)).await, Ok(8));
                Way::IsStopped.ends(&mut parent, member).await;
            }
            parent.give_up(member).await;
        }
        parent.is_left_alone(&net, &spawner);
    }
}
