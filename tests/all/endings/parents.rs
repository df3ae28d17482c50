//! Parents that end while their children do something. That the children of the embedder's programs end with them, the
//! tests of children show; here the parent is a child itself, and is stopped, too.

use super::*;
use crate::support::servers::{Silent, closed};

/// A member's own members, in its slots.
const FIRST: i32 = A;
const SECOND: i32 = B;

/// What the children do when their parent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Compute,
    Read,
    /// The parent serves the call in which it ends.
    CallTheirParent,
    /// The parent does something else.
    WaitForTheirParent,
    AreCalledByASibling,
    /// It waits for the answer when it is stopped, and has given up to wait when it ends by itself.
    AreCalledByTheirParent,
}

#[tokio::test]
async fn a_parent_that_ends_in_any_way_takes_its_children_with_it_whatever_they_do() {
    use Doing::{
        AreCalledByASibling, AreCalledByTheirParent, CallTheirParent, Compute, Read, WaitForTheirParent,
    };
    let mut server = Silent::start().await;
    let (mut parent, net, spawner) = family().await;
    for doing in [
        Compute,
        Read,
        CallTheirParent,
        WaitForTheirParent,
        AreCalledByASibling,
        AreCalledByTheirParent,
    ] {
        for way in WAYS {
            println!("its children {doing:?}, and it {way:?}");
            parent.member(A, NET, Some(SPAWNER)).await;
            for child in [FIRST, SECOND] {
                assert_eq!(parent.tell(A, NOW, start(child)).await, Ok(0));
            }
            let introduced = parent.tell(A, NOW, lend(SECOND, FIRST, 0)).await;
            assert_eq!(introduced, Ok(0));
            // The two programs below count as well.
            assert_eq!(spawner.lineage().len(), 2 + 1 + 1 + 2);

            let ends = match way {
                Way::Exits => exit(),
                Way::Traps => trap(),
                Way::IsStopped => spin(),
            };
            let (first, itself) = match doing {
                Compute => (spin(), ends),
                Read => (read(server.address), ends),
                CallTheirParent => (call(HOME, NOW, ends), Order::new()),
                WaitForTheirParent => (call(HOME, NOW, say(7)), call_and(FIRST, 10, ends)),
                AreCalledByASibling => (call(LENT, NOW, spin()), ends),
                AreCalledByTheirParent if way == Way::IsStopped => (Order::new(), call(FIRST, NOW, spin())),
                AreCalledByTheirParent => {
                    let called = parent.tell(A, NOW, call_within(FIRST, NOW, 10, spin())).await;
                    assert_eq!(called, Err(ErrorCode::TimedOut));
                    (Order::new(), ends)
                }
            };
            if !first.is_empty() {
                let told = parent.tell(A, NOW, call(FIRST, AFTER, first)).await;
                assert_eq!(told, Ok(0));
            }
            let peer = match doing {
                Read => Some(server.next().await.0),
                _ => None,
            };
            a_moment().await;
            if !itself.is_empty() {
                assert_eq!(parent.tell(A, AFTER, itself).await, Ok(0));
            }
            if way == Way::IsStopped {
                a_moment().await;
                assert_eq!(parent.stop_child(A + CHILD).await, Ok(1));
            }
            way.has_ended(&mut parent, A).await;
            parent.give_up(A).await;
            parent.is_left_alone(&net, &spawner);
            if let Some(mut peer) = peer {
                closed(&mut peer).await;
            }
        }
    }
}
