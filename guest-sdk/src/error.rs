//! Why something failed, and how that fits into `std::io`.

use std::borrow::Cow;
use std::{fmt, io};

use refcap_abi::ErrorCode;

use crate::host::{self, Failure};

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a capability failed.
///
/// It is made into an [`io::Error`] by `?` where a function returns one, and is found again in that
/// `io::Error` by [`Error::from_io`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: ErrorCode,
    operation: &'static str,
    message: Cow<'static, str>,
}

impl Error {
    /// An error of the program's own: what class it is of, what was being done, and a sentence about it. Programs that
    /// implement an [interface](mod@crate::interface) say with it why they do not do what they were called for.
    ///
    /// ```
    /// use refcap_guest::{Error, ErrorCode};
    ///
    /// let error = Error::new(ErrorCode::Denied, "lend", "it is lent to somebody else");
    /// assert_eq!(error.to_string(), "lend: it is lent to somebody else");
    /// ```
    pub fn new(code: ErrorCode, operation: &'static str, message: impl Into<String>) -> Error {
        Error {
            code,
            operation,
            message: Cow::Owned(message.into()),
        }
    }

    /// One whose sentence is always the same, and so need not be copied: programs that don't wait meet
    /// [`WouldBlock`](ErrorCode::WouldBlock) all the time.
    pub(crate) const fn fixed(code: ErrorCode, operation: &'static str, message: &'static str) -> Error {
        Error {
            code,
            operation,
            message: Cow::Borrowed(message),
        }
    }

    /// The error of the host call that has just failed.
    pub(crate) fn last(failure: Failure, operation: &'static str) -> Error {
        match failure {
            Failure::Guest(code, message) => Error::fixed(code, operation, message),
            // The host keeps no sentence about that: the one that it has is about what failed before.
            Failure::Host(ErrorCode::WouldBlock) => Error::plain(failure, operation),
            Failure::Host(code) => {
                let mut message = host::text(host::error_message).unwrap_or_default();
                if message.is_empty() {
                    message = code.message().to_owned();
                }
                Error::new(code, operation, message)
            }
        }
    }

    /// An error about which the host has no sentence: it was not asked.
    pub(crate) fn plain(failure: Failure, operation: &'static str) -> Error {
        match failure {
            Failure::Guest(code, message) => Error::fixed(code, operation, message),
            Failure::Host(code) => Error::fixed(code, operation, code.message()),
        }
    }

    /// The same, of what the program was doing rather than of the host call in which it was seen.
    pub(crate) fn during(self, operation: &'static str) -> Error {
        Error { operation, ..self }
    }

    /// What class of thing went wrong.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The host's sentence about it, with the rule and the field where there is one.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What was being done, in a few words, such as `connect`.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the capability, or one that it was derived from, was revoked.
    pub fn is_revoked(&self) -> bool {
        self.code == ErrorCode::Revoked
    }

    /// Whether the capability does not allow what was asked of it.
    pub fn is_denied(&self) -> bool {
        matches!(self.code, ErrorCode::Denied | ErrorCode::NotSubset)
    }

    /// The error that an `io::Error` was made of, if it was made of one.
    pub fn from_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

impl std::error::Error for Error {}

/// The `io::ErrorKind` is the one that the same event has with `std::net`, where there is one. A revoked
/// capability, or one whose lease has ended, is `ConnectionAborted`: this end, not the peer, ended the connection.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(io_kind(error.code), error)
    }
}

fn io_kind(code: ErrorCode) -> io::ErrorKind {
    use io::ErrorKind;
    match code {
        ErrorCode::Denied | ErrorCode::NotSubset | ErrorCode::NotDerivable | ErrorCode::NotTransferable => {
            ErrorKind::PermissionDenied
        }
        ErrorCode::Revoked | ErrorCode::Expired => ErrorKind::ConnectionAborted,
        ErrorCode::Closed | ErrorCode::NotConnected => ErrorKind::NotConnected,
        ErrorCode::NullReference
        | ErrorCode::ForeignReference
        | ErrorCode::WrongKind
        | ErrorCode::BadPointer
        | ErrorCode::BadArgument
        | ErrorCode::TooComplex
        | ErrorCode::MessageTooLong
        | ErrorCode::NotStarted => ErrorKind::InvalidInput,
        ErrorCode::LimitReached | ErrorCode::Exhausted => ErrorKind::QuotaExceeded,
        ErrorCode::TimedOut => ErrorKind::TimedOut,
        ErrorCode::WouldBlock => ErrorKind::WouldBlock,
        ErrorCode::ConnectionRefused => ErrorKind::ConnectionRefused,
        ErrorCode::ConnectionReset => ErrorKind::ConnectionReset,
        ErrorCode::AddressInUse => ErrorKind::AddrInUse,
        ErrorCode::AddressNotAvailable => ErrorKind::AddrNotAvailable,
        ErrorCode::Unreachable => ErrorKind::HostUnreachable,
        ErrorCode::NotFound | ErrorCode::NameNotResolved => ErrorKind::NotFound,
        ErrorCode::CalleeFailed => ErrorKind::BrokenPipe,
        // `Io`, and what later versions of the ABI add.
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_back_out_of_an_io_error() {
        for &code in ErrorCode::ALL {
            let error = Error::new(code, "connect", "why");
            let io_error = io::Error::from(error.clone());
            assert_eq!(Error::from_io(&io_error), Some(&error));
            assert_eq!(io_error.to_string(), "connect: why");
            let known = code != ErrorCode::Io;
            assert_eq!(io_error.kind() != io::ErrorKind::Other, known, "{code:?}");
        }
        assert_eq!(Error::from_io(&io::Error::other("another")), None);
    }

    #[test]
    fn std_programs_understand_the_kinds() {
        let kind = |code| io::Error::from(Error::new(code, "", "")).kind();
        assert_eq!(kind(ErrorCode::Denied), io::ErrorKind::PermissionDenied);
        assert_eq!(kind(ErrorCode::Revoked), io::ErrorKind::ConnectionAborted);
        assert_eq!(
            kind(ErrorCode::ConnectionRefused),
            io::ErrorKind::ConnectionRefused
        );
    }
}
