//! The twin's sockets: the same operations as refcap's, on a connection that lies in a slot as it is. Who uses it is
//! asked for the authority once, when it is made.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use refcap_abi::{ErrorCode, WAIT_WRITE, wire};
use refcap_authority::{Operation, Protocol, Tuple};
use tokio::net::TcpStream;
use wasmtime::{Caller, Linker, Result};

use super::{Descriptors, Object, status};

/// Reads and writes in a row, as many as refcap allows.
const TURN: u32 = 64;

pub(super) fn define(linker: &mut Linker<Descriptors>) -> Result<()> {
    let module = "integers";
    linker.func_wrap_async(
        module,
        "net_connect",
        |mut caller: Caller<'_, Descriptors>, (net, at, length, _): (i32, i32, i32, i32)| {
            Box::new(async move {
                let made = connect(&mut caller, net, at, length).await;
                (made.unwrap_or(-1), status(made.map(|_| 0)))
            })
        },
    )?;
    linker.func_wrap(
        module,
        "stream_read",
        |mut caller: Caller<'_, Descriptors>, number: i32, at: i32, length: i32| {
            status(transfer(&mut caller, number, at, length, |stream, bytes| {
                stream.try_read(bytes)
            }))
        },
    )?;
    linker.func_wrap(
        module,
        "stream_write",
        |mut caller: Caller<'_, Descriptors>, number: i32, at: i32, length: i32| {
            status(transfer(&mut caller, number, at, length, |stream, bytes| {
                stream.try_write(bytes)
            }))
        },
    )?;
    linker.func_wrap_async(
        module,
        "socket_wait",
        |mut caller: Caller<'_, Descriptors>, (number, what, _): (i32, i32, i32)| {
            Box::new(async move { status(wait(&mut caller, number, what).await) })
        },
    )?;
    linker.func_wrap(
        module,
        "time_now",
        |mut caller: Caller<'_, Descriptors>, at: i32, _: i32| {
            let now = caller.data().started.elapsed().as_nanos() as u64;
            let written = memory(&mut caller, at, 8).map(|(bytes, _, range)| {
                bytes[range].copy_from_slice(&now.to_le_bytes());
                8
            });
            status(written)
        },
    )?;
    Ok(())
}

async fn connect(
    caller: &mut Caller<'_, Descriptors>,
    net: i32,
    at: i32,
    length: i32,
) -> Result<i32, ErrorCode> {
    let (bytes, descriptors, range) = memory(caller, at, length)?;
    let remote = wire::decode_address(&bytes[range]).ok_or(ErrorCode::BadArgument)?;
    let above = descriptors.get(net)?;
    let Object::Net { authority, .. } = &above.object else {
        return Err(ErrorCode::WrongKind);
    };
    let local = SocketAddr::from(([0, 0, 0, 0], 0));
    if !authority.permits(&Tuple::new(Operation::Connect, Protocol::Tcp, local, remote)) {
        return Err(ErrorCode::Denied);
    }
    let (label, tree) = (above.label.clone(), above.tree.clone());
    let stream = TcpStream::connect(remote).await.map_err(|_| ErrorCode::Io)?;
    let object = Object::Stream(Arc::new(stream));
    let made = caller
        .data_mut()
        .put(Some(net.cast_unsigned()), label, tree, object);
    Ok(made.cast_signed())
}

/// Moves what can be moved at once.
fn transfer(
    caller: &mut Caller<'_, Descriptors>,
    number: i32,
    at: i32,
    length: i32,
    how: impl FnOnce(&TcpStream, &mut [u8]) -> std::io::Result<usize>,
) -> Result<i32, ErrorCode> {
    let (bytes, descriptors, range) = memory(caller, at, length)?;
    let stream = stream(descriptors, number)?.clone();
    if descriptors.moves >= TURN {
        return Err(ErrorCode::WouldBlock);
    }
    descriptors.moves += 1;
    match how(&stream, &mut bytes[range]) {
        Ok(count) => Ok(count as i32),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(ErrorCode::WouldBlock),
        Err(_) => Err(ErrorCode::Io),
    }
}

async fn wait(caller: &mut Caller<'_, Descriptors>, number: i32, what: i32) -> Result<i32, ErrorCode> {
    let stream = stream(caller.data(), number)?.clone();
    let descriptors = caller.data_mut();
    descriptors.moves += 1;
    if descriptors.moves >= TURN {
        descriptors.moves = 0;
        tokio::task::yield_now().await;
    }
    let ready = match what {
        WAIT_WRITE => stream.writable().await,
        _ => stream.readable().await,
    };
    ready.map(|()| what).map_err(|_| ErrorCode::Io)
}

fn stream(descriptors: &Descriptors, number: i32) -> Result<&Arc<TcpStream>, ErrorCode> {
    match &descriptors.get(number)?.object {
        Object::Stream(stream) => Ok(stream),
        Object::Net { .. } => Err(ErrorCode::WrongKind),
    }
}

/// The guest's memory, and where in it something lies.
fn memory<'a>(
    caller: &'a mut Caller<'_, Descriptors>,
    at: i32,
    length: i32,
) -> Result<(&'a mut [u8], &'a mut Descriptors, Range<usize>), ErrorCode> {
    let memory = caller.data().memory.ok_or(ErrorCode::BadPointer)?;
    let (bytes, descriptors) = memory.data_and_store_mut(caller);
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    let range = at..at.saturating_add(length);
    match bytes.get(range.clone()) {
        Some(_) => Ok((bytes, descriptors, range)),
        None => Err(ErrorCode::BadPointer),
    }
}
