//! Programs that hold objects of each other, and of themselves.

use super::*;
use crate::support::servers::{Silent, closed};
use crate::support::{is_alone, resident};

const GONE: &str = "the program that implements the object has ended";

#[tokio::test]
async fn two_vats_that_hold_each_others_objects_end_in_either_order_and_leave_nothing() {
    let (mut parent, net, spawner) = family().await;
    for (first, second) in [(A, B), (B, A)] {
        for (one, other) in WAYS.iter().flat_map(|one| WAYS.map(|other| (*one, other))) {
            for member in [A, B] {
                parent.member(member, NET, None).await;
            }
            // The parent holds both and both hold an object of the parent's: these are cycles, too.
            parent.introduce(A, B).await;
            parent.introduce(B, A).await;
            for member in [A, B] {
                let called = parent.tell(member, NOW, call(LENT, NOW, say(7))).await;
                assert_eq!(called, Ok(7));
            }
            // One that nobody holds but who ends first.
            parent.tell(second, NOW, offer(STREAM, LENT)).await.unwrap();
            one.ends(&mut parent, first).await;
            let called = parent.tell(second, NOW, call(LENT, NOW, say(7))).await;
            assert_eq!(called, Err(ErrorCode::CalleeFailed), "{one:?}");
            assert_eq!(parent.tell(second, NOW, forgotten()).await, Ok(STREAM));
            let called = parent.tell(first, NOW, say(7)).await;
            assert_eq!(called, Err(ErrorCode::CalleeFailed));
            assert_eq!(parent.error_message().await, GONE);
            other.ends(&mut parent, second).await;
            for member in [first, second] {
                parent.give_up(member).await;
            }
            parent.is_left_alone(&net, &spawner);
        }
    }
}

// A parent's end is its children's, so here it is the parent that ends first.
#[tokio::test]
async fn a_parent_that_ends_first_leaves_nothing_of_the_cycles_with_its_children() {
    for traps in [false, true] {
        let (mut parent, net, spawner) = family().await;
        for member in [A, B] {
            parent.member(member, NET, None).await;
        }
        parent.introduce(A, B).await;
        parent.introduce(B, A).await;
        let handle = parent.handle().clone();
        if traps {
            parent.vat().call_export("trap", &[]).await.unwrap_err();
            assert_eq!(handle.children(), 0);
        }
        drop(parent);
        soon(async {
            while handle.children() > 0 || net.lineage().len() > 1 || spawner.lineage().len() > 1 {
                a_moment().await;
            }
        })
        .await;
        assert_eq!((handle.capabilities(), handle.sockets()), (0, 0));
    }
}

#[tokio::test]
async fn an_object_that_holds_itself_and_two_that_hold_each_other_end_with_their_vat() {
    for collected in [true, false] {
        let net = net("");
        let mut guest = Puppet::start(&net).await;
        // What an object keeps comes into the slot of its number.
        for (object, number) in [(2, 8), (3, 9), (4, 10)] {
            guest.call("object_new", &[object, number]).await.unwrap();
        }
        for (object, kept) in [(2, 2), (3, 4), (4, 3)] {
            guest.introduce(object, kept).await;
        }
        for slot in [2, 3, 4] {
            guest.close(slot).await.unwrap();
        }
        // Each is there for the other.
        for slot in [8, 9, 10] {
            assert_eq!(guest.call("object_call", &[slot, 0, 0, 0, 0]).await, Ok(0));
        }
        let handle = guest.handle().clone();
        if collected {
            for slot in 2..=10 {
                guest.raw("forget", &[slot]).await;
            }
            // What the last answer brought is part of a message.
            guest.call("object_new", &[2, 0]).await.unwrap();
            guest.call("object_call", &[2, 1, 0, 0, 0]).await.unwrap();
            guest.close(2).await.unwrap();
            assert_eq!(guest.vat().collect().unwrap(), 1);
            let mut forgotten = Vec::new();
            while guest.call("object_forgotten", &[1024]).await == Ok(1) {
                forgotten.push(guest.read(1024, 1).await[0]);
            }
            forgotten.sort_unstable();
            assert_eq!(forgotten, [0, 8, 9, 10]);
        }
        drop(guest);
        assert_eq!(handle.capabilities(), 0);
        assert_eq!(net.lineage().len(), 1);
    }
}

// What waits in a queue is nobody's yet: the caller's no more, and not the callee's.
#[tokio::test]
async fn what_goes_along_with_a_call_that_nobody_takes_ends_with_the_call() {
    for end in ["time", "stop", "exit of the callee", "revoked spawner"] {
        let mut server = Silent::start().await;
        let (mut parent, net, spawner) = family().await;
        for member in [A, B] {
            parent.member(member, NET, None).await;
        }
        parent.introduce(A, B).await;
        parent.tell(A, NOW, connect(server.address)).await.unwrap();
        let (mut peer, _) = server.next().await;
        // B is busy, and does not serve.
        parent.tell(B, AFTER, read(server.address)).await.unwrap();
        let (busy, _) = server.next().await;
        let time = if end == "time" { 10 } else { 0 };
        parent.tell(A, AFTER, lend(STREAM, LENT, time)).await.unwrap();
        a_moment().await;
        match end {
            "time" => assert_eq!(parent.report().await, Err(ErrorCode::TimedOut)),
            "stop" => Way::IsStopped.ends(&mut parent, A).await,
            "exit of the callee" => {
                parent.stop_child(B + CHILD).await.unwrap();
                assert_eq!(parent.report().await, Err(ErrorCode::CalleeFailed));
            }
            _ => {
                spawner.revoke();
                soon(async {
                    while parent.handle().children() > 0 {
                        a_moment().await;
                    }
                })
                .await;
            }
        }
        closed(&mut peer).await;
        if end == "time" || end == "stop" {
            // Nothing but B's own stream is left.
            let streams = net
                .lineage()
                .iter()
                .filter(|info| info.kind == refcap::Kind::TcpStream)
                .count();
            assert_eq!(streams, 1, "{end}");
        }
        drop(busy);
    }
}

// The queue was locked while what had been given up was dropped: that was the last to hold an object of the vat whose
// queue it is, which is told so by way of the same lock.
#[tokio::test]
async fn an_object_that_only_a_call_to_its_own_vat_holds_is_forgotten_when_that_is_given_up() {
    let server = Silent::start().await;
    let (mut parent, _net, _spawner) = family().await;
    for member in [A, B] {
        parent.member(member, NET, None).await;
    }
    parent.introduce(A, B).await;
    parent.introduce(B, A).await;
    // A gets an object of B's in place of the other one, and calls it with itself while B is busy.
    parent.tell(B, NOW, offer(STREAM, LENT)).await.unwrap();
    parent.tell(B, AFTER, read(server.address)).await.unwrap();
    parent.tell(A, AFTER, lend(LENT, LENT, 0)).await.unwrap();
    a_moment().await;
    Way::IsStopped.ends(&mut parent, A).await;
    let called = parent.tell_within(B, NOW, 10, say(7)).await;
    assert_eq!(called, Err(ErrorCode::TimedOut));
    // B goes on, and hears of it.
    drop(server);
    assert_eq!(parent.report().await, Ok(0));
    assert_eq!(parent.tell(B, NOW, forgotten()).await, Ok(STREAM));
}

// The host keeps a number of each, for as long as the program does not ask for it: so many times, and not for ever.
#[tokio::test]
async fn a_program_that_never_asks_what_was_forgotten_makes_no_more_objects_at_a_limit() {
    const MOST: i32 = 10_000;
    let mut guest = Puppet::start(&net("")).await;
    for number in 0..MOST {
        guest.call("object_new", &[2, number]).await.unwrap();
        guest.close(2).await.unwrap();
    }
    assert_eq!(
        guest.call("object_new", &[2, MOST]).await,
        Err(ErrorCode::LimitReached)
    );
    let why = guest.error_message().await;
    assert!(
        why.starts_with("the limit of 10000 objects that nobody holds any more"),
        "{why}"
    );
    assert_eq!(guest.call("object_forgotten", &[1024]).await, Ok(1));
    guest.call("object_new", &[2, MOST]).await.unwrap();
}

const ROUNDS: usize = 1_000;
const WARM_UP: usize = 200;

#[test]
fn a_thousand_cycles_that_ended_leave_nothing_behind() {
    let name = "endings::cycles::a_thousand_cycles_that_ended_leave_nothing_behind";
    if !is_alone(name, &[("MALLOC_ARENA_MAX", "1")]) {
        return;
    }
    crate::support::block_on(async {
        let (mut parent, net, spawner) = family().await;
        let mut before = None;
        for round in 0..ROUNDS {
            if round == WARM_UP {
                before = resident();
            }
            for member in [A, B] {
                parent.member(member, NET, None).await;
            }
            parent.introduce(A, B).await;
            parent.introduce(B, A).await;
            // An object of the vat itself that holds itself, besides.
            parent.call("object_new", &[TEMPORARY, C]).await.unwrap();
            parent.introduce(TEMPORARY, TEMPORARY).await;
            parent.close(TEMPORARY).await.unwrap();
            parent.close(C).await.unwrap();
            let (first, second) = if round % 2 == 0 { (A, B) } else { (B, A) };
            WAYS[round % 3].ends(&mut parent, first).await;
            WAYS[round / 3 % 3].ends(&mut parent, second).await;
            for member in [A, B] {
                parent.give_up(member).await;
            }
            parent.is_left_alone(&net, &spawner);
        }
        if let (Some(before), Some(after)) = (before, resident()) {
            println!(
                "{} KiB after {WARM_UP} rounds, {} after {ROUNDS}",
                before >> 10,
                after >> 10
            );
            assert!(after <= before + before / 10, "{before} bytes, then {after}");
        }
    });
}
