//! How a child ended, and its wire form: a byte for how, four for the exit code, then text.
//!
//! | byte | how | exit code | text |
//! |---|---|---|---|
//! | 1 | it returned, or exited by itself | its own | the message that it left with `report` |
//! | 2 | it trapped | 0 | what happened |
//! | 3 | it was stopped | 0 | none |
//! | 4 | its time was over | 0 | none |
//!
//! The exit code is a signed 32-bit number, little-endian; the text is UTF-8 and goes to the end.

use std::fmt;

/// The bytes before the text.
const HEAD: usize = 5;

/// How a child ended.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It returned, or exited by itself.
    Exited {
        /// Its exit code: 0 when it returned.
        code: i32,
        /// The message that it left with `report`; empty if it left none.
        report: String,
    },
    /// It trapped, or could not be run to its end.
    Trapped {
        /// What happened, and where.
        message: String,
    },
    /// It was stopped: by `child_stop`, because its handle was closed or revoked, or with its parent.
    Stopped,
    /// It ran longer than its limit.
    TimedOut,
}

impl Ending {
    /// Whether it returned, or exited with the code 0.
    pub fn is_success(&self) -> bool {
        matches!(self, Ending::Exited { code: 0, .. })
    }

    /// Writes it in its wire form.
    pub fn encode(&self) -> Vec<u8> {
        let (how, code, text) = match self {
            Ending::Exited { code, report } => (1, *code, report.as_str()),
            Ending::Trapped { message } => (2, 0, message.as_str()),
            Ending::Stopped => (3, 0, ""),
            Ending::TimedOut => (4, 0, ""),
        };
        let mut bytes = Vec::with_capacity(HEAD + text.len());
        bytes.push(how);
        bytes.extend(code.to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    /// Reads it from its wire form. What is not UTF-8 in a text, for it may have been cut, is replaced.
    pub fn decode(bytes: &[u8]) -> Option<Ending> {
        let (how, rest) = bytes.split_first()?;
        let (code, text) = rest.split_first_chunk::<4>()?;
        let code = i32::from_le_bytes(*code);
        let text = || String::from_utf8_lossy(text).into_owned();
        match (how, code) {
            (1, code) => Some(Ending::Exited { code, report: text() }),
            (2, 0) => Some(Ending::Trapped { message: text() }),
            (3, 0) => Some(Ending::Stopped),
            (4, 0) => Some(Ending::TimedOut),
            _ => None,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited { code, report } if report.is_empty() => write!(f, "it exited with code {code}"),
            Ending::Exited { code, report } => write!(f, "it exited with code {code}: {report}"),
            Ending::Trapped { message } => write!(f, "it trapped: {message}"),
            Ending::Stopped => write!(f, "it was stopped"),
            Ending::TimedOut => write!(f, "it ran longer than its limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_come_back() {
        for ending in [
            Ending::Exited {
                code: 0,
                report: String::new(),
            },
            Ending::Exited {
                code: -7,
                report: "a message".into(),
            },
            Ending::Trapped {
                message: "unreachable".into(),
            },
            Ending::Stopped,
            Ending::TimedOut,
        ] {
            assert_eq!(Ending::decode(&ending.encode()), Some(ending));
        }
    }

    #[test]
    fn what_is_no_ending_is_none() {
        for bytes in [
            &[][..],
            &[1],
            &[1, 0, 0, 0],
            &[0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0],
            &[3, 1, 0, 0, 0],
        ] {
            assert_eq!(Ending::decode(bytes), None, "{bytes:?}");
        }
        // A text that was cut within a character.
        let cut = [&[2, 0, 0, 0, 0][..], &"é".as_bytes()[..1]].concat();
        assert!(matches!(Ending::decode(&cut), Some(Ending::Trapped { .. })));
    }
}
