//! What a sequence is made of. A step says what is done and, in numbers, with what: they choose among what is there when
//! the step is taken, so that a sequence with a step less is a sequence too.

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// A program starts another, with some of what it has.
    Spawn,
    /// A Net is derived by rules.
    Derive,
    /// A Net is derived on terms.
    Limit,
    /// A Net or an object is derived, and what takes it back.
    Revocable,
    /// A Net is derived that ends by the clock, and one from it.
    Lease,
    /// A program makes an object.
    Object,
    /// A caller gives something to who implements an object.
    Give,
    /// A caller gets something from there.
    Fetch,
    /// An object is called.
    Call,
    /// An object is called, and calls another one.
    Relay,
    /// A reference goes from one program of a vat to the other as wasm passes it.
    Share,
    /// A program revokes.
    Revoke,
    /// A program gives something up.
    Close,
    /// A connection is made.
    Connect,
    /// A datagram socket is bound.
    Bind,
    /// A program returns, exits or traps.
    Exit,
    /// A program stops one that it started; it may be in the middle of a computation.
    Stop,
    /// The embedder derives, grants, narrows, revokes, gives up.
    HostDerive,
    HostGrant,
    HostNarrow,
    HostRevoke,
    HostClose,
    /// The embedder takes back all that a program of the first generation and those below it were started with.
    HostRevokeSpawner,
    /// Everything is looked at.
    Look,
}

/// How often each is chosen.
const WEIGHTS: [(Act, u32); 23] = [
    (Act::Spawn, 5),
    (Act::Derive, 14),
    (Act::Limit, 3),
    (Act::Revocable, 12),
    (Act::Object, 6),
    (Act::Give, 18),
    (Act::Fetch, 14),
    (Act::Call, 4),
    (Act::Relay, 2),
    (Act::Share, 5),
    (Act::Revoke, 10),
    (Act::Close, 6),
    (Act::Connect, 5),
    (Act::Bind, 3),
    (Act::Exit, 3),
    (Act::Stop, 2),
    (Act::HostDerive, 3),
    (Act::HostGrant, 4),
    (Act::HostNarrow, 2),
    (Act::HostRevoke, 2),
    (Act::HostClose, 1),
    (Act::HostRevokeSpawner, 1),
    (Act::Look, 3),
];

/// Of so many steps one has a lease, for which it waits.
const LEASES: u32 = 400;

pub(super) const NUMBERS: usize = 6;

#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) numbers: [u32; NUMBERS],
}

/// Numbers that look random, the same for the same seed on every machine (SplitMix64).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn of(seed: u64) -> Numbers {
        // Mixed, for the numbers of neighbours would be the same, one later.
        let mut numbers = Numbers(seed);
        let [high, low] = [numbers.next(), numbers.next()].map(u64::from);
        Numbers(high << 32 | low)
    }

    pub(super) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 32) as u32
    }

    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }
}

/// The steps of the sequence with this number.
pub(super) fn steps(seed: u64) -> Vec<Step> {
    let mut numbers = Numbers::of(seed);
    let count = 10 + numbers.below(30);
    (0..count)
        .map(|_| Step {
            act: act(&mut numbers),
            numbers: std::array::from_fn(|_| numbers.next()),
        })
        .collect()
}

fn act(numbers: &mut Numbers) -> Act {
    if numbers.below(LEASES) == 0 {
        return Act::Lease;
    }
    let all: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut place = numbers.below(all);
    for (act, weight) in WEIGHTS {
        if place < weight {
            return act;
        }
        place -= weight;
    }
    Act::Look
}
