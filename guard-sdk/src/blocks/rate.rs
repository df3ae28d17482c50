//! So many times in a while for each peer.

use std::net::IpAddr;

use crate::{Guard, Request};

/// Says yes so many times in a while to each remote address, whatever the port: to connections made and accepted, and
/// to datagrams sent and received. What has no remote end it allows.
///
/// The while of a peer begins with its first use and ends so many seconds later; then the next one may begin. `PEERS`
/// addresses are remembered. While so many are in their while, one more is refused: forgetting one of them would let it
/// begin anew.
#[derive(Debug, Clone)]
pub struct RateByPeer<const PEERS: usize> {
    count: u32,
    seconds: u64,
    peers: [Option<Peer>; PEERS],
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    address: IpAddr,
    /// When its while ends.
    until: u64,
    left: u32,
}

impl<const PEERS: usize> RateByPeer<PEERS> {
    /// `count` times in so many seconds.
    pub const fn new(count: u32, seconds: u64) -> Self {
        RateByPeer {
            count,
            seconds,
            peers: [None; PEERS],
        }
    }

    /// The place of a peer that is in its while, or a free one.
    fn place(&mut self, address: IpAddr, now: u64) -> Option<&mut Option<Peer>> {
        let mut free = None;
        for (index, place) in self.peers.iter().enumerate() {
            match place {
                Some(peer) if peer.until > now => {
                    if peer.address == address {
                        free = Some(index);
                        break;
                    }
                }
                _ => free = free.or(Some(index)),
            }
        }
        self.peers.get_mut(free?)
    }
}

impl<const PEERS: usize> Guard for RateByPeer<PEERS> {
    fn allows(&mut self, request: &Request<'_>) -> bool {
        // An answer's address is no peer yet.
        let (Some(address), false) = (request.remote_ip(), request.act() == crate::Act::Answer) else {
            return true;
        };
        let now = request.time().as_secs();
        let (count, until) = (self.count, now.saturating_add(self.seconds));
        let Some(place) = self.place(address, now) else {
            return false;
        };
        let fresh = Peer {
            address,
            until,
            left: count,
        };
        let peer = place.get_or_insert(fresh);
        if peer.until <= now {
            *peer = fresh;
        }
        let may = peer.left > 0;
        peer.left = peer.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Act;
    use crate::testing::{Question, ask, with_peer};

    fn at<const PEERS: usize>(guard: &mut RateByPeer<PEERS>, peer: &str, seconds: u64) -> bool {
        ask(
            guard,
            &Question {
                seconds,
                ..with_peer(Act::Accept, peer)
            },
        )
    }

    #[test]
    fn each_peer_has_its_count_in_each_while() {
        let mut rate = RateByPeer::<4>::new(2, 10);
        for begin in [100, 110, 130] {
            assert!(at(&mut rate, "192.0.2.1:1", begin));
            assert!(at(&mut rate, "192.0.2.1:2", begin + 9));
            assert!(!at(&mut rate, "192.0.2.1:3", begin + 9));
            assert!(at(&mut rate, "[2001:db8::1]:3", begin + 9));
        }
    }

    #[test]
    fn one_peer_more_than_are_remembered_waits() {
        let mut rate = RateByPeer::<2>::new(5, 10);
        assert!(at(&mut rate, "192.0.2.1:1", 0) && at(&mut rate, "192.0.2.2:1", 5));
        assert!(!at(&mut rate, "192.0.2.3:1", 9));
        assert!(at(&mut rate, "192.0.2.1:1", 9));
        assert!(at(&mut rate, "192.0.2.3:1", 10));
        assert!(!at(&mut rate, "192.0.2.1:1", 11));
    }

    #[test]
    fn what_has_no_peer_is_allowed() {
        let mut rate = RateByPeer::<1>::new(0, 10);
        for act in [Act::Bind, Act::Listen, Act::Resolve] {
            assert!(ask(&mut rate, &Question::new(act)));
        }
        assert!(ask(&mut rate, &with_peer(Act::Answer, "192.0.2.1:1")));
        assert!(!ask(&mut rate, &with_peer(Act::Connect, "192.0.2.1:1")));
    }

    // The slowest there is: a peer that is not there, among as many as a guard can count in its time.
    #[test]
    fn the_clock_may_stand_at_the_end_of_time() {
        let mut rate = RateByPeer::<2>::new(1, u64::MAX);
        assert!(at(&mut rate, "192.0.2.1:1", u64::MAX - 1));
        assert!(!at(&mut rate, "192.0.2.1:1", u64::MAX - 1));
    }
}
