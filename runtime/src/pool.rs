//! Room for vats that is set up once and used again: starting one then maps no memory.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{DEFAULT_MEMORY, DEFAULT_TABLE_ELEMENTS, TABLES};

/// Bytes of a memory, of a table and of a stack that are cleared by writing zeros over them when a vat ends. What it
/// used beyond that is given back to the system, and costs a page fault each when the place is used again.
const KEPT: usize = 64 << 10;

/// How much a pool holds.
///
/// A place takes address space for what a vat in it may grow to, about 8 GiB, whatever `memory` is: the code of
/// guests needs no checks of bounds then. A process on x86-64 has 128 TiB, so about 15,000 places fit. It takes memory
/// only once it was used, and then keeps up to 64 KiB each of the memory, the heap of references, the tables and the
/// stack.
///
/// ```
/// use refcap::{PoolSize, Runtime};
///
/// let runtime = Runtime::builder().pooled(PoolSize::vats(100).memory(64 << 20)).build()?;
/// # Ok::<(), refcap::RuntimeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSize {
    pub(crate) vats: u32,
    memory: usize,
    table_elements: usize,
}

impl PoolSize {
    /// Room for so many vats at once, at least one. Programs that are linked to others take a place each.
    pub fn vats(count: u32) -> PoolSize {
        PoolSize {
            vats: count,
            memory: DEFAULT_MEMORY,
            table_elements: DEFAULT_TABLE_ELEMENTS,
        }
    }

    /// The most bytes that the memory of a vat can have, and again as many for its heap of references, without it
    /// [`DEFAULT_MEMORY`]; at most 4 GiB. [`Limits::memory`](crate::Limits::memory) holds besides, for both together.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> PoolSize {
        self.memory = bytes;
        self
    }

    /// The most elements that each table can have, without it [`DEFAULT_TABLE_ELEMENTS`].
    /// [`Limits::table_elements`](crate::Limits::table_elements) holds besides.
    #[must_use]
    pub fn table_elements(mut self, count: usize) -> PoolSize {
        self.table_elements = count;
        self
    }

    /// What makes no sense as a size.
    pub(crate) fn mistake(&self) -> Option<String> {
        if self.vats == 0 {
            return Some("a pool needs room for one vat at least".to_owned());
        }
        if self.memory as u64 > 4 << 30 {
            return Some(format!(
                "a vat of a pool can have 4 GiB of memory, not {} bytes",
                self.memory
            ));
        }
        None
    }

    pub(crate) fn configure(&self, config: &mut Config) {
        let mut pool = PoolingAllocationConfig::new();
        let tables = u32::try_from(TABLES).unwrap_or(u32::MAX);
        // A program may have a switchboard.
        pool.total_core_instances(self.vats.saturating_mul(2))
            // Memories and heaps of references are of one kind.
            .total_memories(self.vats.saturating_mul(2))
            .total_gc_heaps(self.vats)
            .total_tables(self.vats.saturating_mul(tables))
            .total_stacks(self.vats)
            .max_tables_per_module(tables)
            .max_memory_size(self.memory)
            .table_elements(self.table_elements)
            .linear_memory_keep_resident(KEPT)
            .table_keep_resident(KEPT)
            .async_stack_keep_resident(KEPT)
            // Linux from 6.7 on says which pages were written, so that others need not be cleared.
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
}
