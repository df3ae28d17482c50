//! The host calls, in the form that the rest of the SDK uses: references are [`Slot`]s, numbers that
//! mean failure are error codes, and nothing is unsafe.
//!
//! In a guest they are the real ones; in a native build, where there is no host, a small stand-in in
//! the same process (see [`testing`](crate::testing)).

use refcap_abi::ErrorCode;

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::fake::*;
#[cfg(target_family = "wasm")]
pub(crate) use crate::raw::*;

/// What a host call gives: a count or other number, or why it failed.
pub(crate) type Status = Result<u32, Failure>;

/// Why a host call failed, and who has a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The host refused. It keeps its sentence until the next call.
    Host(ErrorCode),
    /// It was not even made. The host's sentence, if there is one, is about something else.
    #[cfg_attr(
        not(target_family = "wasm"),
        expect(dead_code, reason = "the stand-in has no slots to lack")
    )]
    Guest(ErrorCode, &'static str),
}

/// Reads the status of a host call.
#[cfg(any(target_family = "wasm", test))]
pub(crate) fn checked(status: i32) -> Status {
    // A newer host may have codes that this version does not know; its message still tells.
    u32::try_from(status).map_err(|_| Failure::Host(ErrorCode::from_code(status).unwrap_or(ErrorCode::Io)))
}

/// Asks for a text of unknown length: `fill` writes what fits and returns the length of the whole.
pub(crate) fn text(fill: impl Fn(&mut [u8]) -> Status) -> Result<String, Failure> {
    const USUAL_LENGTH: usize = 256;
    let mut buffer = vec![0; USUAL_LENGTH];
    loop {
        let length = fill(&mut buffer)? as usize;
        if length <= buffer.len() {
            buffer.truncate(length);
            return Ok(String::from_utf8_lossy(&buffer).into_owned());
        }
        buffer.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_counts_or_errors() {
        assert_eq!(checked(0), Ok(0));
        assert_eq!(checked(i32::MAX), Ok(i32::MAX.unsigned_abs()));
        for &code in ErrorCode::ALL {
            assert_eq!(checked(code.status()), Err(Failure::Host(code)));
        }
        assert_eq!(checked(i32::MIN), Err(Failure::Host(ErrorCode::Io)));
    }

    #[test]
    fn long_texts_come_whole() {
        for length in [0, 1, 255, 256, 257, 5000] {
            let whole = "x".repeat(length);
            let got = text(|buffer| {
                let fits = length.min(buffer.len());
                buffer[..fits].copy_from_slice(&whole.as_bytes()[..fits]);
                Ok(length as u32)
            });
            assert_eq!(got, Ok(whole));
        }
    }
}
