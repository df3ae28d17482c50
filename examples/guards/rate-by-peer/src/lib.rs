//! A guard. Says yes five times in ten seconds to each of 64 peers.

use refcap_guard::{RateByPeer, guard};

guard!(RateByPeer<64> = RateByPeer::new(5, 10));
