//! Two streams that are connected to each other, and to nothing else.

use super::connect::unspecified;
use super::door::{TcpDoor, refusal};
use super::permit::Permit;
use super::stream::Stream;
use crate::vat::Refusal;

/// Makes both ends. They have no address, and none can be given to them: no network is involved. Where the system has no
/// such sockets it is an error.
pub(crate) fn pair(permits: [Permit; 2]) -> Result<[TcpDoor; 2], Refusal> {
    let streams = connected().map_err(|error| refusal(&error))?;
    let nowhere = unspecified(std::net::SocketAddr::from(([0; 4], 0)));
    let [first, second] = streams.map(Stream::apart);
    let [first_permit, second_permit] = permits;
    let door = |stream, permit| TcpDoor::accepted(stream, nowhere, nowhere, permit);
    Ok([door(first, first_permit), door(second, second_permit)])
}

/// Two local sockets without a name. Reading, writing and waiting is the same for them as for TCP, so one type does for both.
#[cfg(unix)]
fn connected() -> std::io::Result<[std::net::TcpStream; 2]> {
    let (first, second) = std::os::unix::net::UnixStream::pair()?;
    let streams = [first, second].map(|end| std::net::TcpStream::from(std::os::fd::OwnedFd::from(end)));
    for stream in &streams {
        stream.set_nonblocking(true)?;
    }
    Ok(streams)
}

#[cfg(not(unix))]
fn connected() -> std::io::Result<[std::net::TcpStream; 2]> {
    Err(std::io::ErrorKind::Unsupported.into())
}
