//! Only addresses that a name was resolved to.

use std::net::IpAddr;

use crate::{Act, Guard, Request};

/// Says yes to remote addresses that a name was resolved to before, through this capability or one derived from it, and
/// no to all others; so a program that works with addresses reaches no more than one that works with names. Which names
/// may be looked up the rules say.
///
/// `ADDRESSES` addresses are remembered; after so many others the oldest is forgotten. Listening is allowed, and peers
/// are judged as any remote address.
#[derive(Debug, Clone)]
pub struct AfterResolve<const ADDRESSES: usize> {
    addresses: [Option<IpAddr>; ADDRESSES],
    next: usize,
}

impl<const ADDRESSES: usize> AfterResolve<ADDRESSES> {
    /// With no address yet.
    pub const fn new() -> Self {
        AfterResolve {
            addresses: [None; ADDRESSES],
            next: 0,
        }
    }

    fn knows(&self, address: IpAddr) -> bool {
        self.addresses.contains(&Some(address))
    }

    fn remember(&mut self, address: IpAddr) {
        if self.knows(address) {
            return;
        }
        if let Some(place) = self.addresses.get_mut(self.next) {
            *place = Some(address);
            self.next = (self.next + 1) % ADDRESSES;
        }
    }
}

impl<const ADDRESSES: usize> Default for AfterResolve<ADDRESSES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const ADDRESSES: usize> Guard for AfterResolve<ADDRESSES> {
    fn allows(&mut self, request: &Request<'_>) -> bool {
        match (request.act(), request.remote_ip()) {
            (Act::Resolve | Act::Bind | Act::Listen, _) => true,
            (Act::Answer, Some(address)) => {
                self.remember(address);
                true
            }
            (Act::Connect | Act::Accept | Act::Send | Act::Receive, Some(address)) => self.knows(address),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Question, ask, connect, with_peer};

    #[test]
    fn an_address_is_allowed_after_it_was_an_answer() {
        let mut guard = AfterResolve::<4>::new();
        assert!(!ask(&mut guard, &connect("192.0.2.1:443")));
        assert!(ask(&mut guard, &Question::new(Act::Resolve)));
        assert!(!ask(&mut guard, &connect("192.0.2.1:443")));
        assert!(ask(&mut guard, &with_peer(Act::Answer, "192.0.2.1:443")));
        for act in [Act::Connect, Act::Send, Act::Receive, Act::Accept] {
            assert!(ask(&mut guard, &with_peer(act, "192.0.2.1:80")), "{act:?}");
            assert!(!ask(&mut guard, &with_peer(act, "192.0.2.2:443")), "{act:?}");
            assert!(!ask(&mut guard, &Question::new(act)), "{act:?}");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_and_one_that_comes_again_takes_no_place() {
        let mut guard = AfterResolve::<2>::new();
        let addresses = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.1:1", "192.0.2.3:1"];
        for answer in addresses {
            assert!(ask(&mut guard, &with_peer(Act::Answer, answer)));
        }
        let known = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|to| ask(&mut guard, &connect(to)));
        assert_eq!(known, [false, true, true]);
    }
}
