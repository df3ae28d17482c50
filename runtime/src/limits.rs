//! How much a vat may have of everything that costs the host something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Live capabilities, and closed ones that are kept because others were derived from them. At about
/// 400 bytes each with its reference, 10,000 are 4 MiB.
pub const DEFAULT_CAPABILITIES: usize = 10_000;
/// Open sockets, connecting ones included: half of the common soft limit of 1,024 open files.
pub const DEFAULT_SOCKETS: usize = 512;
/// Derivations between a grant and the last capability that comes from it. Each costs memory only; the
/// limit is there so that a runaway loop ends with an error that says what it did.
pub const DEFAULT_DEPTH: u32 = 1_000;
/// Capabilities derived from one capability.
pub const DEFAULT_FAN_OUT: u32 = 10_000;
/// Bytes of linear memory and of the heap that holds references, together.
pub const DEFAULT_MEMORY: usize = 256 << 20;
/// Elements of each table.
pub const DEFAULT_TABLE_ELEMENTS: usize = 100_000;
/// Guards that a guest has compiled, and guards that stand before a Net, together. Each has up to 2 MiB of memory
/// of its own, and code of up to some MiB.
pub const DEFAULT_GUARDS: usize = 64;
/// Bytes of rules that a guest can hand over in one call: about 2,000 rules.
pub const DEFAULT_RULE_BYTES: usize = 64 << 10;
/// How long one attempt to connect may take.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Tables of one program, with those of its switchboard. Rust guests have three.
pub(crate) const TABLES: usize = 8;
/// Bytes of the one message that a guest leaves with `report`.
pub(crate) const REPORT_BYTES: usize = 4 << 10;

/// The limits of one vat. Reaching one is an error in the guest, never trouble in the host.
///
/// Start from [`Limits::default`] and change what you need:
///
/// ```
/// use refcap::Limits;
/// use std::time::Duration;
///
/// let limits = Limits::default().sockets(16).wall_time(Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    pub(crate) capabilities: usize,
    pub(crate) sockets: usize,
    pub(crate) depth: u32,
    pub(crate) fan_out: u32,
    pub(crate) memory: usize,
    pub(crate) table_elements: usize,
    pub(crate) rule_bytes: usize,
    pub(crate) guards: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) wall_time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            capabilities: DEFAULT_CAPABILITIES,
            sockets: DEFAULT_SOCKETS,
            depth: DEFAULT_DEPTH,
            fan_out: DEFAULT_FAN_OUT,
            memory: DEFAULT_MEMORY,
            table_elements: DEFAULT_TABLE_ELEMENTS,
            rule_bytes: DEFAULT_RULE_BYTES,
            guards: DEFAULT_GUARDS,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            wall_time: None,
        }
    }
}

impl Limits {
    /// The most capabilities that the vat holds at once ([`DEFAULT_CAPABILITIES`]).
    pub fn capabilities(mut self, count: usize) -> Self {
        self.capabilities = count;
        self
    }

    /// The most sockets that the vat has open at once ([`DEFAULT_SOCKETS`]).
    pub fn sockets(mut self, count: usize) -> Self {
        self.sockets = count;
        self
    }

    /// The longest chain of derivations below a grant ([`DEFAULT_DEPTH`]).
    pub fn depth(mut self, count: u32) -> Self {
        self.depth = count;
        self
    }

    /// The most capabilities derived from one ([`DEFAULT_FAN_OUT`]).
    pub fn fan_out(mut self, count: u32) -> Self {
        self.fan_out = count;
        self
    }

    /// Bytes of linear memory and reference heap together ([`DEFAULT_MEMORY`]).
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// The most elements of each table ([`DEFAULT_TABLE_ELEMENTS`]).
    pub fn table_elements(mut self, count: usize) -> Self {
        self.table_elements = count;
        self
    }

    /// The most bytes of rules in one call ([`DEFAULT_RULE_BYTES`]).
    pub fn rule_bytes(mut self, bytes: usize) -> Self {
        self.rule_bytes = bytes;
        self
    }

    /// The most guards that the vat has brought and not given up: those that it has compiled, and those that it has
    /// put before a Net, together ([`DEFAULT_GUARDS`]).
    pub fn guards(mut self, count: usize) -> Self {
        self.guards = count;
        self
    }

    /// How long one attempt to connect may take ([`DEFAULT_CONNECT_TIMEOUT`]).
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// In each the smaller of the two.
    pub(crate) fn at_most(&self, most: &Limits) -> Limits {
        let wall_time = [self.wall_time, most.wall_time];
        Limits {
            capabilities: self.capabilities.min(most.capabilities),
            sockets: self.sockets.min(most.sockets),
            depth: self.depth.min(most.depth),
            fan_out: self.fan_out.min(most.fan_out),
            memory: self.memory.min(most.memory),
            table_elements: self.table_elements.min(most.table_elements),
            rule_bytes: self.rule_bytes.min(most.rule_bytes),
            guards: self.guards.min(most.guards),
            connect_timeout: self.connect_timeout.min(most.connect_timeout),
            wall_time: wall_time.into_iter().flatten().min(),
        }
    }

    /// The same limits for a child of a program with those of `parent`: what costs memory only for as long as a call
    /// takes, or is a bound on shape, is no more than the parent's. The rest is taken from what the parent has left.
    pub(crate) fn under(&self, parent: &Limits) -> Limits {
        let shape = self.at_most(parent);
        Limits {
            memory: self.memory,
            capabilities: self.capabilities,
            sockets: self.sockets,
            wall_time: self.wall_time,
            ..shape
        }
    }

    /// How long one call into the guest may take; without it there is no end.
    pub fn wall_time(mut self, time: Duration) -> Self {
        self.wall_time = Some(time);
        self
    }
}

/// Answers the engine when a guest wants more memory or larger tables.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Shared with its children, who give back to it.
    memory_left: Arc<AtomicUsize>,
    table_elements: usize,
    /// Programs in the vat.
    programs: usize,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Meter {
            memory_left: Arc::new(AtomicUsize::new(limits.memory)),
            table_elements: limits.table_elements,
            programs: 1,
        }
    }

    /// How many programs the vat has.
    pub(crate) fn allow_instances(&mut self, programs: usize) {
        self.programs = programs;
    }

    /// The bytes of memory that are left.
    pub(crate) fn memory(&self) -> &Arc<AtomicUsize> {
        &self.memory_left
    }
}

/// Takes bytes from those that are left, if there are so many.
pub(crate) fn take_memory(left: &AtomicUsize, bytes: usize) -> bool {
    let rest = |left: usize| left.checked_sub(bytes);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest)
        .is_ok()
}

impl ResourceLimiter for Meter {
    // Linear memories and the reference heap come through here alike, so one budget covers both.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && take_memory(&self.memory_left, more))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        // Each may have a switchboard.
        2 * self.programs
    }

    fn tables(&self) -> usize {
        TABLES * self.programs
    }

    fn memories(&self) -> usize {
        self.programs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_budget_covers_all_memories() {
        let mut meter = Meter::new(&Limits::default().memory(100));
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 41, None).unwrap());
        assert!(meter.memory_growing(60, 100, Some(100)).unwrap());
        assert!(!meter.memory_growing(0, 1, None).unwrap());
    }

    #[test]
    fn a_table_has_its_own_bound_and_the_modules() {
        let mut meter = Meter::new(&Limits::default().table_elements(10));
        assert!(meter.table_growing(0, 10, None).unwrap());
        assert!(!meter.table_growing(0, 11, None).unwrap());
        assert!(!meter.table_growing(0, 5, Some(4)).unwrap());
    }
}
