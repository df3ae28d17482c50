//! The boundary between safe Rust and the host: the only unsafe code of the SDK.
//!
//! The references lie in a table that only the object of the build script can name. A [`Slot`] owns one
//! element of it (see `slots`). Each function here is one host call, safe to call with whatever arguments; the stubs
//! that it goes through take a slot's number in place of a reference (see `build/stubs.rs`).

#![allow(
    unsafe_code,
    reason = "linked wasm functions and the list that is shared with them can only be used unsafely"
)]

use std::io::{IoSlice, IoSliceMut};

use refcap_abi::{ErrorCode, MAX_PIECES, PIECE_BYTES};

use crate::host::{Failure, Status, checked};
use slots::{FreeSlots, free_slots, with_book};

mod slots;

pub(crate) use slots::Slot;

// What is said below about the shared list and the book holds while a module has one thread. A module
// with several would need a table for each of them as well, since a table cannot be shared.
#[cfg(target_feature = "atomics")]
compile_error!("refcap-guest does not support threads: a table of references belongs to one thread");

#[cfg(not(target_pointer_width = "32"))]
compile_error!("refcap-guest supports 32-bit memories only: the host calls take 32-bit addresses");

// SAFETY: the build script's object defines each of these, with these types. Those that are `safe` take
// no address, and a slot outside the table makes them trap.
unsafe extern "C" {
    safe fn refcap_v1_table_grow(slots: u32) -> u32;
    safe fn refcap_v1_table_size() -> u32;
    safe fn refcap_v1_table_clear(slot: u32);
    safe fn refcap_v1_table_is_null(slot: u32) -> i32;
    safe fn refcap_v1_table_move(from: u32, to: u32);

    fn refcap_v1_stub_net_only(out: u32, net: u32, rules: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_net_exactly(out: u32, net: u32, rules: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_net_except(out: u32, net: u32, rules: *const u8, length: usize) -> i32;
    safe fn refcap_v1_stub_net_revocable(out: u32, revoker: u32, net: u32) -> i32;
    safe fn refcap_v1_stub_net_guarded(out: u32, net: u32, guard: u32) -> i32;
    fn refcap_v1_stub_guard_new(out: u32, module: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_net_connect(out: u32, net: u32, address: *const u8, length: usize, timeout: u32)
    -> i32;
    fn refcap_v1_stub_net_connect_from(
        out: u32,
        net: u32,
        remote: *const u8,
        remote_length: usize,
        local: *const u8,
        local_length: usize,
        timeout: u32,
    ) -> i32;
    fn refcap_v1_stub_net_limit(out: u32, net: u32, terms: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_net_listen(out: u32, net: u32, address: *const u8, length: usize, backlog: u32) -> i32;
    fn refcap_v1_stub_net_bind_udp(out: u32, net: u32, address: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_net_resolve(
        out: u32,
        net: u32,
        name: *const u8,
        length: usize,
        port: u32,
        timeout: u32,
    ) -> i32;
    safe fn refcap_v1_stub_name_connect(out: u32, name: u32, timeout: u32) -> i32;
    fn refcap_v1_stub_name_describe(name: u32, buffer: *mut u8, length: usize) -> i32;
    safe fn refcap_v1_stub_listener_accept(out: u32, listener: u32) -> i32;
    safe fn refcap_v1_stub_stream_no_delay(stream: u32, on: i32) -> i32;
    fn refcap_v1_stub_udp_connect(socket: u32, address: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_udp_send(
        socket: u32,
        data: *const u8,
        length: usize,
        address: *const u8,
        address_length: usize,
    ) -> i32;
    fn refcap_v1_stub_udp_receive(
        socket: u32,
        buffer: *mut u8,
        length: usize,
        address: *mut u8,
        address_length: usize,
    ) -> i32;
    safe fn refcap_v1_stub_udp_dropped(socket: u32) -> i32;
    safe fn refcap_v1_stub_poller_new(out: u32) -> i32;
    safe fn refcap_v1_stub_poller_add(poller: u32, socket: u32, token: u32, interest: i32) -> i32;
    safe fn refcap_v1_stub_poller_add_calls(poller: u32, token: u32) -> i32;
    safe fn refcap_v1_stub_poller_remove(poller: u32, token: u32) -> i32;
    fn refcap_v1_stub_poller_wait(poller: u32, buffer: *mut u8, length: usize, timeout: u32) -> i32;
    fn refcap_v1_stub_net_allows(net: u32, query: *const u8, length: usize) -> i32;
    safe fn refcap_v1_stub_net_flags(net: u32) -> i32;
    fn refcap_v1_stub_net_describe(net: u32, buffer: *mut u8, length: usize) -> i32;
    safe fn refcap_v1_stub_stream_pair(first: u32, second: u32) -> i32;
    fn refcap_v1_stub_stream_read(stream: u32, buffer: *mut u8, length: usize) -> i32;
    fn refcap_v1_stub_stream_write(stream: u32, data: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_stream_read_vectored(stream: u32, list: *const Piece, count: usize) -> i32;
    fn refcap_v1_stub_stream_write_vectored(stream: u32, list: *const Piece, count: usize) -> i32;
    safe fn refcap_v1_stub_stream_copy(from: u32, to: u32, most: u32) -> i32;
    safe fn refcap_v1_stub_socket_wait(stream: u32, until: i32, timeout: u32) -> i32;
    safe fn refcap_v1_stub_stream_shutdown(stream: u32, how: i32) -> i32;
    fn refcap_v1_stub_socket_address(stream: u32, end: i32, buffer: *mut u8, length: usize) -> i32;
    safe fn refcap_v1_stub_membrane_new(out: u32) -> i32;
    safe fn refcap_v1_stub_membrane_wrap(out: u32, membrane: u32, capability: u32) -> i32;
    safe fn refcap_v1_stub_membrane_cut(membrane: u32) -> i32;
    safe fn refcap_v1_stub_revoker_revoke(revoker: u32) -> i32;
    fn refcap_v1_stub_spawner_program(out: u32, spawner: u32, name: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_spawner_load(out: u32, spawner: u32, module: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_child_grant(child: u32, capability: u32, name: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_child_argument(child: u32, text: *const u8, length: usize) -> i32;
    safe fn refcap_v1_stub_child_limit(child: u32, which: i32, low: u32, high: u32) -> i32;
    safe fn refcap_v1_stub_child_start(child: u32) -> i32;
    fn refcap_v1_stub_child_wait(child: u32, buffer: *mut u8, length: usize, timeout: u32) -> i32;
    safe fn refcap_v1_stub_child_stop(child: u32) -> i32;
    safe fn refcap_v1_stub_cap_kind(capability: u32) -> i32;
    safe fn refcap_v1_stub_cap_close(capability: u32) -> i32;
    safe fn refcap_v1_stub_object_new(out: u32, number: i32) -> i32;
    safe fn refcap_v1_stub_object_revocable(out: u32, revoker: u32, object: u32) -> i32;
    fn refcap_v1_stub_object_as_net(out: u32, object: u32, rules: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_object_forgotten(number: *mut i32) -> i32;
    fn refcap_v1_stub_object_call(
        object: u32,
        method: u32,
        bytes: *const u8,
        length: usize,
        timeout: u32,
    ) -> i32;
    safe fn refcap_v1_stub_object_serve(timeout: u32) -> i32;
    safe fn refcap_v1_stub_message_attach(capability: u32) -> i32;
    fn refcap_v1_stub_message_answer(bytes: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_message_read(buffer: *mut u8, length: usize) -> i32;
    safe fn refcap_v1_stub_message_count() -> i32;
    safe fn refcap_v1_stub_message_take(out: u32, place: u32) -> i32;
    fn refcap_v1_stub_link_find(name: *const u8, length: usize) -> i32;
    safe fn refcap_v1_stub_link_give(capability: u32, program: u32) -> i32;
    safe fn refcap_v1_stub_link_take(out: u32, program: u32) -> i32;
    fn refcap_v1_stub_grant_take(out: u32, name: *const u8, length: usize) -> i32;
    fn refcap_v1_stub_time_now(buffer: *mut u8, length: usize) -> i32;
    fn refcap_v1_stub_error_message(buffer: *mut u8, length: usize) -> i32;
    #[cfg(not(target_os = "wasi"))]
    fn refcap_v1_stub_report(text: *const u8, length: usize) -> i32;

    static refcap_v1_free_slots: FreeSlots;
}

/// Gives up a reference, and says what the host says to that.
pub(crate) fn cap_close(slot: Slot) -> Status {
    let result = checked(refcap_v1_stub_cap_close(slot.number()?));
    slot.release();
    result
}

/// The capability that the host handed over as the `index`th (from 0) before the program started.
///
/// To be called once for each index, in order, before any other slot is taken.
pub(crate) fn argument(index: u32) -> Option<Slot> {
    // Slot 0 is null for ever, and the table grew by one slot for each grant.
    let number = index + 1;
    let slot = with_book(|book| book.adopt(number))?;
    (refcap_v1_table_is_null(number) == 0).then_some(slot)
}

pub(crate) fn net_only(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_net_only, net, rules)
}

pub(crate) fn net_exactly(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_net_exactly, net, rules)
}

pub(crate) fn net_except(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_net_except, net, rules)
}

/// One of the stubs that derive by rules.
type Derive = unsafe extern "C" fn(out: u32, net: u32, rules: *const u8, length: usize) -> i32;

fn derive(stub: Derive, net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let (net, out) = (net.number()?, Slot::new()?);
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { stub(out.number, net, rules.as_ptr(), rules.len()) })?;
    Ok(out)
}

pub(crate) fn net_revocable(net: &Slot) -> Result<(Slot, Slot), Failure> {
    let (net, out, revoker) = (net.number()?, Slot::new()?, Slot::new()?);
    checked(refcap_v1_stub_net_revocable(out.number, revoker.number, net))?;
    Ok((out, revoker))
}

pub(crate) fn net_guarded(net: &Slot, guard: &Slot) -> Result<Slot, Failure> {
    let (net, guard, out) = (net.number()?, guard.number()?, Slot::new()?);
    checked(refcap_v1_stub_net_guarded(out.number, net, guard))?;
    Ok(out)
}

pub(crate) fn guard_new(module: &[u8]) -> Result<Slot, Failure> {
    let out = Slot::new()?;
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_guard_new(out.number, module.as_ptr(), module.len()) })?;
    Ok(out)
}

pub(crate) fn net_connect(net: &Slot, address: &[u8], timeout: u32) -> Result<Slot, Failure> {
    let (net, out) = (net.number()?, Slot::new()?);
    let (pointer, length) = (address.as_ptr(), address.len());
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_net_connect(out.number, net, pointer, length, timeout) })?;
    Ok(out)
}

pub(crate) fn net_connect_from(
    net: &Slot,
    remote: &[u8],
    local: &[u8],
    timeout: u32,
) -> Result<Slot, Failure> {
    let (net, out) = (net.number()?, Slot::new()?);
    // SAFETY: the pointers and lengths are those of slices, which the host only reads.
    checked(unsafe {
        refcap_v1_stub_net_connect_from(
            out.number,
            net,
            remote.as_ptr(),
            remote.len(),
            local.as_ptr(),
            local.len(),
            timeout,
        )
    })?;
    Ok(out)
}

pub(crate) fn net_limit(net: &Slot, terms: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_net_limit, net, terms)
}

pub(crate) fn net_listen(net: &Slot, address: &[u8], backlog: u32) -> Result<Slot, Failure> {
    let (net, out) = (net.number()?, Slot::new()?);
    let (pointer, length) = (address.as_ptr(), address.len());
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_net_listen(out.number, net, pointer, length, backlog) })?;
    Ok(out)
}

pub(crate) fn net_bind_udp(net: &Slot, address: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_net_bind_udp, net, address)
}

pub(crate) fn net_resolve(net: &Slot, name: &str, port: u16, timeout: u32) -> Result<Slot, Failure> {
    let (net, out) = (net.number()?, Slot::new()?);
    let (pointer, length) = (name.as_ptr(), name.len());
    // SAFETY: the pointer and length are those of a string, which the host only reads.
    checked(unsafe { refcap_v1_stub_net_resolve(out.number, net, pointer, length, port.into(), timeout) })?;
    Ok(out)
}

pub(crate) fn name_connect(name: &Slot, timeout: u32) -> Result<Slot, Failure> {
    let (name, out) = (name.number()?, Slot::new()?);
    checked(refcap_v1_stub_name_connect(out.number, name, timeout))?;
    Ok(out)
}

pub(crate) fn name_describe(name: &Slot, buffer: &mut [u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_name_describe(name.number()?, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn listener_accept(listener: &Slot) -> Result<Slot, Failure> {
    let (listener, out) = (listener.number()?, Slot::new()?);
    checked(refcap_v1_stub_listener_accept(out.number, listener))?;
    Ok(out)
}

pub(crate) fn stream_no_delay(stream: &Slot, on: bool) -> Status {
    checked(refcap_v1_stub_stream_no_delay(stream.number()?, on.into()))
}

pub(crate) fn udp_connect(socket: &Slot, address: &[u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_udp_connect(socket.number()?, address.as_ptr(), address.len()) })
}

pub(crate) fn udp_send(socket: &Slot, data: &[u8], to: &[u8]) -> Status {
    let socket = socket.number()?;
    // SAFETY: the pointers and lengths are those of slices, which the host only reads.
    checked(unsafe { refcap_v1_stub_udp_send(socket, data.as_ptr(), data.len(), to.as_ptr(), to.len()) })
}

pub(crate) fn udp_receive(socket: &Slot, buffer: &mut [u8], from: &mut [u8]) -> Status {
    let socket = socket.number()?;
    // SAFETY: the pointers and lengths are those of slices that are borrowed for writing.
    checked(unsafe {
        refcap_v1_stub_udp_receive(
            socket,
            buffer.as_mut_ptr(),
            buffer.len(),
            from.as_mut_ptr(),
            from.len(),
        )
    })
}

pub(crate) fn udp_dropped(socket: &Slot) -> Status {
    checked(refcap_v1_stub_udp_dropped(socket.number()?))
}

pub(crate) fn poller_new() -> Result<Slot, Failure> {
    let out = Slot::new()?;
    checked(refcap_v1_stub_poller_new(out.number))?;
    Ok(out)
}

pub(crate) fn poller_add(poller: &Slot, socket: &Slot, token: u32, interest: i32) -> Status {
    checked(refcap_v1_stub_poller_add(
        poller.number()?,
        socket.number()?,
        token,
        interest,
    ))
}

pub(crate) fn poller_add_calls(poller: &Slot, token: u32) -> Status {
    checked(refcap_v1_stub_poller_add_calls(poller.number()?, token))
}

pub(crate) fn poller_remove(poller: &Slot, token: u32) -> Status {
    checked(refcap_v1_stub_poller_remove(poller.number()?, token))
}

pub(crate) fn poller_wait(poller: &Slot, buffer: &mut [u8], timeout: u32) -> Status {
    let poller = poller.number()?;
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_poller_wait(poller, buffer.as_mut_ptr(), buffer.len(), timeout) })
}

pub(crate) fn net_allows(net: &Slot, query: &[u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_net_allows(net.number()?, query.as_ptr(), query.len()) })
}

pub(crate) fn net_describe(net: &Slot, buffer: &mut [u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_net_describe(net.number()?, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn net_flags(net: &Slot) -> Status {
    checked(refcap_v1_stub_net_flags(net.number()?))
}

pub(crate) fn stream_pair() -> Result<(Slot, Slot), Failure> {
    let (first, second) = (Slot::new()?, Slot::new()?);
    checked(refcap_v1_stub_stream_pair(first.number, second.number))?;
    Ok((first, second))
}

pub(crate) fn stream_read(stream: &Slot, buffer: &mut [u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_stream_read(stream.number()?, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn stream_write(stream: &Slot, data: &[u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_stream_write(stream.number()?, data.as_ptr(), data.len()) })
}

pub(crate) fn stream_read_vectored(stream: &Slot, buffers: &mut [IoSliceMut<'_>]) -> Status {
    let stream = stream.number()?;
    let buffers = buffers
        .iter_mut()
        .map(|buffer| (buffer.as_mut_ptr().cast_const(), buffer.len()));
    let (list, count) = pieces(buffers);
    // SAFETY: the list has that many pieces at least, and each is a slice that is borrowed for writing, apart
    // from the others and from the list.
    checked(unsafe { refcap_v1_stub_stream_read_vectored(stream, list.as_ptr(), count) })
}

pub(crate) fn stream_write_vectored(stream: &Slot, data: &[IoSlice<'_>]) -> Status {
    let stream = stream.number()?;
    let (list, count) = pieces(data.iter().map(|piece| (piece.as_ptr(), piece.len())));
    // SAFETY: the list has that many pieces at least, and each is a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_stream_write_vectored(stream, list.as_ptr(), count) })
}

/// One element of a list of pieces, as the host reads it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Piece {
    pointer: *const u8,
    length: usize,
}

const _: () = assert!(size_of::<Piece>() == PIECE_BYTES);

/// The list of the first pieces that are not empty, and how many they are. If empty ones counted, the host
/// would move nothing for a list that begins with many of them, which would look like the end of the stream.
fn pieces(all: impl Iterator<Item = (*const u8, usize)>) -> ([Piece; MAX_PIECES], usize) {
    const NONE: Piece = Piece {
        pointer: std::ptr::null(),
        length: 0,
    };
    let mut list = [NONE; MAX_PIECES];
    let mut count = 0;
    let not_empty = all.filter(|&(_, length)| length > 0);
    for (place, (pointer, length)) in list.iter_mut().zip(not_empty) {
        *place = Piece { pointer, length };
        count += 1;
    }
    (list, count)
}

pub(crate) fn stream_copy(from: &Slot, to: &Slot, most: u32) -> Status {
    checked(refcap_v1_stub_stream_copy(from.number()?, to.number()?, most))
}

pub(crate) fn socket_wait(stream: &Slot, until: i32, timeout: u32) -> Status {
    checked(refcap_v1_stub_socket_wait(stream.number()?, until, timeout))
}

pub(crate) fn stream_shutdown(stream: &Slot, how: i32) -> Status {
    checked(refcap_v1_stub_stream_shutdown(stream.number()?, how))
}

pub(crate) fn socket_address(stream: &Slot, end: i32, buffer: &mut [u8]) -> Status {
    let stream = stream.number()?;
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_socket_address(stream, end, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn membrane_new() -> Result<Slot, Failure> {
    let out = Slot::new()?;
    checked(refcap_v1_stub_membrane_new(out.number))?;
    Ok(out)
}

pub(crate) fn membrane_wrap(membrane: &Slot, capability: &Slot) -> Result<Slot, Failure> {
    let (membrane, capability, out) = (membrane.number()?, capability.number()?, Slot::new()?);
    checked(refcap_v1_stub_membrane_wrap(out.number, membrane, capability))?;
    Ok(out)
}

pub(crate) fn membrane_cut(membrane: &Slot) -> Status {
    checked(refcap_v1_stub_membrane_cut(membrane.number()?))
}

pub(crate) fn revoker_revoke(revoker: &Slot) -> Status {
    checked(refcap_v1_stub_revoker_revoke(revoker.number()?))
}

pub(crate) fn spawner_program(spawner: &Slot, name: &str) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_spawner_program, spawner, name.as_bytes())
}

pub(crate) fn spawner_load(spawner: &Slot, module: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_spawner_load, spawner, module)
}

pub(crate) fn child_grant(child: &Slot, capability: &Slot, name: &str) -> Status {
    let (child, capability) = (child.number()?, capability.number()?);
    // SAFETY: the pointer and length are those of a string, which the host only reads.
    checked(unsafe { refcap_v1_stub_child_grant(child, capability, name.as_ptr(), name.len()) })
}

pub(crate) fn child_argument(child: &Slot, text: &str) -> Status {
    // SAFETY: the pointer and length are those of a string, which the host only reads.
    checked(unsafe { refcap_v1_stub_child_argument(child.number()?, text.as_ptr(), text.len()) })
}

pub(crate) fn child_limit(child: &Slot, which: i32, amount: u64) -> Status {
    let (low, high) = (amount as u32, (amount >> 32) as u32);
    checked(refcap_v1_stub_child_limit(child.number()?, which, low, high))
}

pub(crate) fn child_start(child: &Slot) -> Status {
    checked(refcap_v1_stub_child_start(child.number()?))
}

pub(crate) fn child_wait(child: &Slot, buffer: &mut [u8], timeout: u32) -> Status {
    let child = child.number()?;
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_child_wait(child, buffer.as_mut_ptr(), buffer.len(), timeout) })
}

pub(crate) fn child_stop(child: &Slot) -> Status {
    checked(refcap_v1_stub_child_stop(child.number()?))
}

pub(crate) fn cap_kind(capability: &Slot) -> Status {
    checked(refcap_v1_stub_cap_kind(capability.number()?))
}

pub(crate) fn object_new(number: i32) -> Result<Slot, Failure> {
    let out = Slot::new()?;
    checked(refcap_v1_stub_object_new(out.number, number))?;
    Ok(out)
}

pub(crate) fn object_revocable(object: &Slot) -> Result<(Slot, Slot), Failure> {
    let (object, out, revoker) = (object.number()?, Slot::new()?, Slot::new()?);
    checked(refcap_v1_stub_object_revocable(
        out.number,
        revoker.number,
        object,
    ))?;
    Ok((out, revoker))
}

pub(crate) fn object_as_net(object: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    derive(refcap_v1_stub_object_as_net, object, rules)
}

/// The number of an object that nobody holds any more, if there is one that was not told yet.
pub(crate) fn object_forgotten() -> Option<i32> {
    let mut number = 0;
    // SAFETY: the pointer is that of a number, of which the host writes the four bytes.
    let told = checked(unsafe { refcap_v1_stub_object_forgotten(&raw mut number) });
    (told == Ok(1)).then_some(number)
}

pub(crate) fn object_call(object: &Slot, method: u32, bytes: &[u8], timeout: u32) -> Status {
    let object = object.number()?;
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_object_call(object, method, bytes.as_ptr(), bytes.len(), timeout) })
}

pub(crate) fn object_serve(timeout: u32) -> Status {
    checked(refcap_v1_stub_object_serve(timeout))
}

/// Takes a reference out of a slot whose owner stays, with nothing in it.
pub(crate) fn take_out(capability: &Slot) -> Result<Slot, Failure> {
    const TAKEN: Failure = Failure::Guest(ErrorCode::NullReference, "the capability was sent before");
    let (number, out) = (capability.number()?, Slot::new()?);
    if refcap_v1_table_is_null(number) != 0 {
        return Err(TAKEN);
    }
    refcap_v1_table_move(number, out.number);
    Ok(out)
}

/// Drops what was attached to a call that is not made.
pub(crate) fn message_discard() {
    const NULL: u32 = 0;
    // Calling nothing fails, and a call that fails takes along what was attached to it.
    // SAFETY: no bytes are read.
    let _ = unsafe { refcap_v1_stub_object_call(NULL, 0, std::ptr::null(), 0, 0) };
}

/// Sends a capability along with the next message. What is left of it here is closed.
pub(crate) fn message_attach(capability: Slot) -> Status {
    checked(refcap_v1_stub_message_attach(capability.number()?))
}

pub(crate) fn message_answer(bytes: &[u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice, which the host only reads.
    checked(unsafe { refcap_v1_stub_message_answer(bytes.as_ptr(), bytes.len()) })
}

pub(crate) fn message_read(buffer: &mut [u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_message_read(buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn message_count() -> Status {
    checked(refcap_v1_stub_message_count())
}

pub(crate) fn message_take(place: u32) -> Result<Slot, Failure> {
    let out = Slot::new()?;
    checked(refcap_v1_stub_message_take(out.number, place))?;
    Ok(out)
}

pub(crate) fn link_find(name: &str) -> Status {
    // SAFETY: the pointer and length are those of a string, which the host only reads.
    checked(unsafe { refcap_v1_stub_link_find(name.as_ptr(), name.len()) })
}

/// Gives a reference to another program of the vat, and says which slot it is in there. It is not closed: it is
/// that program's now.
pub(crate) fn link_give(capability: Slot, program: u32) -> Status {
    let number = capability.number()?;
    let there = checked(refcap_v1_stub_link_give(number, program))?;
    capability.release();
    Ok(there)
}

pub(crate) fn link_take(program: u32) -> Result<Slot, Failure> {
    let out = Slot::new()?;
    checked(refcap_v1_stub_link_take(out.number, program))?;
    Ok(out)
}

/// What another program of the vat has put into a slot of this one.
pub(crate) fn received(number: u32) -> Option<Slot> {
    // The number is the other program's word. What is no slot, or an empty one, was not given: an empty one is on the
    // list of free slots, and would be there twice if it were adopted and dropped. What has an owner was not given either.
    let is_there = (1..refcap_v1_table_size()).contains(&number) && refcap_v1_table_is_null(number) == 0;
    is_there.then(|| with_book(|book| book.adopt(number)))?
}

/// Puts a reference out, for a program that is linked to this one to take. One that was not taken is lost.
pub(crate) fn put_out(capability: Slot) -> Status {
    let number = capability.number()?;
    let out = match free_slots().out() {
        0 => {
            let out = std::mem::ManuallyDrop::new(Slot::new()?).number;
            free_slots().set_out(out);
            out
        }
        out => out,
    };
    refcap_v1_table_move(number, out);
    capability.release();
    Ok(0)
}

pub(crate) fn grant_take(name: &str) -> Result<Slot, Failure> {
    let out = Slot::new()?;
    // SAFETY: the pointer and length are those of a string, which the host only reads.
    checked(unsafe { refcap_v1_stub_grant_take(out.number, name.as_ptr(), name.len()) })?;
    Ok(out)
}

pub(crate) fn time_now(buffer: &mut [u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_time_now(buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn error_message(buffer: &mut [u8]) -> Status {
    // SAFETY: the pointer and length are those of a slice that is borrowed for writing.
    checked(unsafe { refcap_v1_stub_error_message(buffer.as_mut_ptr(), buffer.len()) })
}

#[cfg(not(target_os = "wasi"))]
pub(crate) fn report(text: &str) {
    // SAFETY: the pointer and length are those of a string, which the host only reads. There is no one
    // to tell when the report itself fails.
    let _ = unsafe { refcap_v1_stub_report(text.as_ptr(), text.len()) };
}
