//! One connection.

use crate::{Act, Guard, Protocol, Request};

/// Says yes to one TCP connection, made or accepted, and no to every other one. What comes before a connection is
/// allowed: looking names up, listening. Datagrams belong to no connection, so they are not.
///
/// An attempt is a connection, whether or not anybody answers: of a name that stands for several addresses the first
/// is tried.
#[derive(Debug, Clone, Default)]
pub struct Once {
    used: bool,
}

impl Once {
    /// With its yes not given yet.
    pub const fn new() -> Once {
        Once { used: false }
    }
}

impl Guard for Once {
    fn allows(&mut self, request: &Request<'_>) -> bool {
        match (request.protocol(), request.act()) {
            (Protocol::Tcp, Act::Resolve | Act::Answer | Act::Listen) => !self.used,
            (Protocol::Tcp, Act::Connect | Act::Accept) => !std::mem::replace(&mut self.used, true),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Question, UDP, ask, connect, with_peer};

    #[test]
    fn there_is_one_connection() {
        for first in [connect("192.0.2.1:1"), with_peer(Act::Accept, "192.0.2.1:1")] {
            let mut once = Once::new();
            for _ in 0..2 {
                for before in [Act::Resolve, Act::Answer, Act::Listen] {
                    assert!(ask(&mut once, &Question::new(before)));
                }
            }
            assert!(ask(&mut once, &first));
            for act in Act::ALL {
                assert!(!ask(&mut once, &Question::new(*act)), "{act:?}");
            }
        }
    }

    #[test]
    fn datagrams_are_no_connections() {
        let mut once = Once::new();
        for &act in Act::ALL {
            let protocol = UDP;
            assert!(!ask(
                &mut once,
                &Question {
                    protocol,
                    ..Question::new(act)
                }
            ));
        }
        assert!(ask(&mut once, &connect("192.0.2.1:1")));
    }
}
