//! The guest's linear memory, from the host's side.

use std::ops::Range;

use refcap_abi::{ErrorCode, MAX_PIECES, MEMORY_EXPORT, PIECE_BYTES};
use wasmtime::Memory;

use crate::references::Call;
use crate::vat::{Refusal, VatState};

/// A range of the guest's memory, checked.
pub(super) struct Span {
    memory: Memory,
    start: usize,
    end: usize,
}

impl Span {
    /// The range that a pointer and a length argument name. They are `u32`s on the guest's side.
    pub(super) fn new(call: &mut Call<'_>, pointer: i32, length: i32) -> Result<Span, ErrorCode> {
        let Some(memory) = memory(call) else {
            return Err(ErrorCode::BadPointer);
        };
        let size = memory.data_size(call.caller());
        let Range { start, end } = range(pointer.cast_unsigned(), length.cast_unsigned(), size)?;
        Ok(Span { memory, start, end })
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// `LimitReached` for more than `limit` bytes; `what` names them in the error.
    pub(super) fn at_most(&self, limit: usize, what: &str) -> Result<(), Refusal> {
        at_most(self.len(), limit, what)
    }

    /// The bytes, and the vat's state beside them.
    pub(super) fn bytes_and_state<'a>(&self, call: &'a mut Call<'_>) -> (&'a mut [u8], &'a mut VatState) {
        let (bytes, state) = self.memory.data_and_store_mut(call.caller());
        // Checked in `new`, and memories never shrink.
        (&mut bytes[self.start..self.end], state)
    }

    /// Writes the beginning of an answer, and returns the whole answer's length.
    pub(super) fn answer(&self, call: &mut Call<'_>, answer: &[u8]) -> i32 {
        let (bytes, _) = self.bytes_and_state(call);
        let fits = answer.len().min(bytes.len());
        bytes[..fits].copy_from_slice(&answer[..fits]);
        i32::try_from(answer.len()).unwrap_or(i32::MAX)
    }
}

/// The bytes that a pointer and a length argument name, and the vat's state beside them: what [`Span`] does in several
/// steps, in one.
#[inline]
pub(super) fn bytes_at<'a>(
    call: &'a mut Call<'_>,
    pointer: i32,
    length: i32,
) -> Result<(&'a mut [u8], &'a mut VatState), ErrorCode> {
    // Not by way of [`memory`], whose other way out makes the compiler copy the handle through memory.
    match call.state().instance(call.instance()).memory {
        Some(memory) => bytes_in(memory, call, pointer, length),
        None => bytes_by_name(call, pointer, length),
    }
}

#[cold]
#[inline(never)]
fn bytes_by_name<'a>(
    call: &'a mut Call<'_>,
    pointer: i32,
    length: i32,
) -> Result<(&'a mut [u8], &'a mut VatState), ErrorCode> {
    match memory_by_name(call) {
        Some(memory) => bytes_in(memory, call, pointer, length),
        None => Err(ErrorCode::BadPointer),
    }
}

#[inline(always)]
fn bytes_in<'a>(
    memory: Memory,
    call: &'a mut Call<'_>,
    pointer: i32,
    length: i32,
) -> Result<(&'a mut [u8], &'a mut VatState), ErrorCode> {
    let (bytes, state) = memory.data_and_store_mut(call.caller());
    let range = range(pointer.cast_unsigned(), length.cast_unsigned(), bytes.len())?;
    Ok((&mut bytes[range], state))
}

/// The range that a pointer and a length name in a memory of that size.
#[inline]
fn range(pointer: u32, length: u32, size: usize) -> Result<Range<usize>, ErrorCode> {
    let start = pointer as usize;
    match start.checked_add(length as usize) {
        Some(end) if end <= size => Ok(start..end),
        _ => Err(ErrorCode::BadPointer),
    }
}

/// `LimitReached` for more than `limit` bytes; `what` names them in the error.
#[inline]
pub(super) fn at_most(length: usize, limit: usize, what: &str) -> Result<(), Refusal> {
    match length <= limit {
        true => Ok(()),
        false => Err(too_long(length, limit, what)),
    }
}

#[cold]
fn too_long(length: usize, limit: usize, what: &str) -> Refusal {
    let why = format!("{what} has {length} bytes; at most {limit} are taken");
    Refusal::new(ErrorCode::LimitReached, why)
}

/// Several ranges of the guest's memory, checked: those that the pieces of a list name.
pub(super) struct Spans {
    memory: Memory,
    /// Those that were not named are empty.
    ranges: [Range<usize>; MAX_PIECES],
}

impl Spans {
    /// The ranges that a list of so many pieces names: the first [`MAX_PIECES`] of them. The list may lie
    /// in one of them, for it has been read when they are used.
    pub(super) fn new(call: &mut Call<'_>, list: i32, count: i32) -> Result<Spans, ErrorCode> {
        let count = count.cast_unsigned();
        // The whole list must be there, not only what is taken of it.
        let length = count
            .checked_mul(PIECE_BYTES as u32)
            .ok_or(ErrorCode::BadPointer)?;
        let list = Span::new(call, list, length.cast_signed())?;
        let (all, _) = list.memory.data_and_store_mut(call.caller());
        let (pieces, _) = all[list.start..list.end].as_chunks::<PIECE_BYTES>();
        let mut ranges = [const { 0..0 }; MAX_PIECES];
        for (place, piece) in ranges.iter_mut().zip(pieces) {
            let ([pointer, length], _) = piece.as_chunks::<4>() else {
                return Err(ErrorCode::BadPointer);
            };
            let named = range(
                u32::from_le_bytes(*pointer),
                u32::from_le_bytes(*length),
                all.len(),
            )?;
            // An empty piece has no place, so that it is in nobody's way.
            if !named.is_empty() {
                *place = named;
            }
        }
        Ok(Spans {
            memory: list.memory,
            ranges,
        })
    }

    /// The pieces, to read. They may overlap.
    pub(super) fn pieces<'a>(&self, call: &'a mut Call<'_>) -> [&'a [u8]; MAX_PIECES] {
        let bytes = self.memory.data(call.caller());
        // Checked in `new`, and memories never shrink.
        std::array::from_fn(|index| &bytes[self.ranges[index].clone()])
    }

    /// The pieces, to fill. If two have bytes in common, it would be anybody's guess which of them counts:
    /// `BadArgument`.
    pub(super) fn buffers<'a>(&self, call: &'a mut Call<'_>) -> Result<[&'a mut [u8]; MAX_PIECES], Refusal> {
        let bytes = self.memory.data_mut(call.caller());
        bytes
            .get_disjoint_mut(self.ranges.clone())
            .map_err(|_| Refusal::new(ErrorCode::BadArgument, "two of the buffers overlap"))
    }
}

/// Bytes that the guest passes, at most `limit` of them; `what` names them in the error.
pub(super) fn copy_in(
    call: &mut Call<'_>,
    pointer: i32,
    length: i32,
    limit: usize,
    what: &str,
) -> Result<Vec<u8>, Refusal> {
    let (bytes, _) = bytes_at(call, pointer, length)?;
    at_most(bytes.len(), limit, what)?;
    Ok(bytes.to_vec())
}

// Not a result with an error: that is laid out so that the handle is written and read in different pieces, for which
// a processor waits.
#[inline]
fn memory(call: &mut Call<'_>) -> Option<Memory> {
    match call.state().instance(call.instance()).memory {
        Some(memory) => Some(memory),
        None => memory_by_name(call),
    }
}

/// Only a module's start function runs before the vat knows its memory.
#[cold]
fn memory_by_name(call: &mut Call<'_>) -> Option<Memory> {
    call.caller()
        .get_export(MEMORY_EXPORT)
        .and_then(wasmtime::Extern::into_memory)
}
