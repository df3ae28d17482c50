//! What a program puts between others and what it has: Nets that it implements, membranes, pairs of streams. `between`
//! starts `between-client`, which panics where something is not as it should be.

use std::io::{Read, Write};

use refcap_guest::{Error, ErrorCode, Net, Result, TcpStream};

/// Is behind a membrane.
#[refcap_guest::interface]
pub trait Lender {
    /// Gives a Net.
    fn lend(&self) -> Result<Net>;
    /// Keeps a Net.
    fn keep(&self, net: Net) -> Result<()>;
    /// Cuts the membrane, in the middle of the call.
    fn cut(&self) -> Result<()>;
}

/// Goes to an echo server, wherever that is.
pub const ECHO: &str = "10.0.0.1:80";
/// Is refused by the program that implements the Net.
pub const REFUSED: &str = "10.0.0.2:80";
/// Is answered by that program itself.
pub const ITSELF: &str = "10.0.0.3:80";
/// Is not what the Net allows, so that program is not asked.
pub const ELSEWHERE: &str = "10.0.0.4:80";

/// The code of an error.
pub fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

/// Whether what is written to a stream fails because it was revoked.
pub fn is_revoked(mut stream: &TcpStream) -> bool {
    let written = stream.write_all(b"more");
    written.is_err_and(|error| Error::from_io(&error).is_some_and(Error::is_revoked))
}

/// Whether a stream on which nobody says anything ends because it was revoked.
pub fn ends_revoked(mut stream: &TcpStream) -> bool {
    let read = stream.read(&mut [0]);
    read.is_err_and(|error| Error::from_io(&error).is_some_and(Error::is_revoked))
}

/// Sends something and waits until it comes back.
pub fn echoes(mut stream: &TcpStream) {
    let mut back = [0; 5];
    stream.write_all(b"there").expect("the stream is open");
    stream.read_exact(&mut back).expect("somebody answers");
    assert_eq!(&back, b"there");
}
