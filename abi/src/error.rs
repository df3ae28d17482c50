//! The errors that cross the boundary between a guest and its host.

use std::fmt;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $message:literal;)+) => {
        /// Why a host call failed. The same numbers on both sides of the boundary.
        ///
        /// A code says what class of thing went wrong; the import `error_message` gives the sentence,
        /// with the rule and the field where there is one.
        #[non_exhaustive]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)+];

            /// The number of this error: more than zero. An import returns it negated.
            pub const fn code(self) -> i32 {
                match self { $(ErrorCode::$name => $code,)+ }
            }

            /// What it means, in a few words.
            pub const fn message(self) -> &'static str {
                match self { $(ErrorCode::$name => $message,)+ }
            }
        }
    };
}

error_codes! {
    /// The capability does not allow this operation with these addresses.
    Denied = 1, "the capability does not allow this";
    /// The capability, or one that it was derived from, was revoked.
    Revoked = 2, "the capability was revoked";
    /// The holder closed this reference before.
    Closed = 3, "the reference was closed";
    /// The reference is null.
    NullReference = 4, "the reference is null";
    /// The reference was not made by this host for this vat.
    ForeignReference = 5, "the reference was not made by this host for this program";
    /// The reference names a capability of another kind.
    WrongKind = 6, "the reference names a capability of another kind";
    /// A pointer and length do not lie inside the guest's memory, or the guest exports none.
    BadPointer = 7, "the pointer and length do not lie inside the memory";
    /// An argument is malformed: an unknown flag, a broken rule, a name that is not an address.
    BadArgument = 8, "an argument is malformed";
    /// The rules asked for are not a subset of what the capability allows.
    NotSubset = 9, "the rules asked for are more than the capability allows";
    /// A limit of the vat was reached.
    LimitReached = 10, "a limit of this program was reached";
    /// The set of rules became too complex to represent.
    TooComplex = 11, "the rules are too complex";
    /// The operation did not finish in the time given.
    TimedOut = 12, "the operation timed out";
    /// The operation can't go on without waiting; wait and try again.
    WouldBlock = 13, "the operation would block";
    /// The remote end refused the connection.
    ConnectionRefused = 14, "the connection was refused";
    /// The remote end reset the connection.
    ConnectionReset = 15, "the connection was reset";
    /// The stream is not connected, or no longer open in this direction.
    NotConnected = 16, "the stream is not connected";
    /// The local address is in use.
    AddressInUse = 17, "the address is in use";
    /// The local address is not one of this machine, or none of the granted ones is.
    AddressNotAvailable = 18, "the address is not available";
    /// There is no way to the remote network or host.
    Unreachable = 19, "the network or host is unreachable";
    /// Nothing was granted under that name.
    NotFound = 20, "nothing was granted under that name";
    /// The operating system reported an error that has no code of its own.
    Io = 21, "the operating system reported an error";
    /// A budget that the capability was given is used up.
    Exhausted = 22, "a budget of the capability is exhausted";
    /// The capability's lease has ended, or that of the answer that a name was resolved to.
    Expired = 23, "the lease has ended";
    /// The capability may not be derived further.
    NotDerivable = 24, "the capability may not be derived further";
    /// The capability may not be handed to another program.
    NotTransferable = 25, "the capability may not be handed on";
    /// The name could not be resolved: it does not exist, has no address, or no server answered.
    NameNotResolved = 26, "the name could not be resolved";
    /// The datagram is longer than the network takes.
    MessageTooLong = 27, "the datagram is too long";
    /// The program could not be started, or has not been.
    NotStarted = 28, "the program was not started";
    /// The program that implements an object has ended, or answered what is no answer.
    CalleeFailed = 29, "the program that implements the object has failed";
}

impl ErrorCode {
    /// The error of that number. Also takes the negated form that an import returns.
    pub fn from_code(code: i32) -> Option<ErrorCode> {
        let code = code.unsigned_abs();
        ErrorCode::ALL
            .iter()
            .copied()
            .find(|error| error.code().unsigned_abs() == code)
    }

    /// What an import returns for this error: the number, negated.
    pub const fn status(self) -> i32 {
        -self.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_come_back() {
        for (index, &error) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(error.code() as usize, index + 1);
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
            assert_eq!(ErrorCode::from_code(error.status()), Some(error));
        }
        assert_eq!(ErrorCode::from_code(0), None);
        assert_eq!(ErrorCode::from_code(i32::MIN), None);
    }
}
