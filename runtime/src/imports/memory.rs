//! The guest's linear memory, from the host's side.

use refcap_abi::{ErrorCode, MEMORY_EXPORT};
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
        let memory = memory(call)?;
        let start = pointer.cast_unsigned() as usize;
        let end = start
            .checked_add(length.cast_unsigned() as usize)
            .filter(|&end| end <= memory.data_size(call.caller()))
            .ok_or(ErrorCode::BadPointer)?;
        Ok(Span { memory, start, end })
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
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

/// Bytes that the guest passes, at most `limit` of them; `what` names them in the error.
pub(super) fn copy_in(
    call: &mut Call<'_>,
    pointer: i32,
    length: i32,
    limit: usize,
    what: &str,
) -> Result<Vec<u8>, Refusal> {
    let span = Span::new(call, pointer, length)?;
    if span.len() > limit {
        let why = format!("{what} has {} bytes; at most {limit} are taken", span.len());
        return Err(Refusal::new(ErrorCode::LimitReached, why));
    }
    let (bytes, _) = span.bytes_and_state(call);
    Ok(bytes.to_vec())
}

fn memory(call: &mut Call<'_>) -> Result<Memory, ErrorCode> {
    if let Some(memory) = call.state().memory {
        return Ok(memory);
    }
    // Only a module's start function runs before the vat knows its memory.
    call.caller()
        .get_export(MEMORY_EXPORT)
        .and_then(wasmtime::Extern::into_memory)
        .ok_or(ErrorCode::BadPointer)
}
