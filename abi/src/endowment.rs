//! What a program asks to be started with.
//!
//! The custom section [`ENDOWMENT_SECTION`](crate::ENDOWMENT_SECTION) is text, one endowment a line:
//! a name, a kind and `required` or `optional`, parted by one space; each line ends with a line feed.
//!
//! ```text
//! net Net required
//! log Net optional
//! ```
//!
//! The order is the order in which the host hands them over. A program has one such section at most.

use std::fmt;

use crate::Kind;

/// The most endowments that a program can ask for.
pub const MAX_ENDOWMENTS: usize = 64;
/// The longest name of an endowment, in bytes.
pub const MAX_NAME: usize = 64;

/// One capability that a program asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endowment {
    /// The name under which it is granted.
    pub name: String,
    /// The kind that it must have.
    pub kind: Kind,
    /// Whether the program starts without it.
    pub optional: bool,
}

impl fmt::Display for Endowment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let need = if self.optional { "optional" } else { "required" };
        write!(f, "{} {} {need}", self.name, self.kind)
    }
}

/// Why an endowment section could not be read. Lines count from 1.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndowmentError {
    /// The section is not UTF-8.
    NotText,
    /// The line is not `NAME KIND required|optional`, or does not end with a line feed.
    Malformed {
        /// The line's number.
        line: usize,
    },
    /// The name has characters other than ASCII letters, digits, `_` and `-`, is empty or too long.
    BadName {
        /// The line's number.
        line: usize,
    },
    /// The kind is not one that this version knows.
    UnknownKind {
        /// The line's number.
        line: usize,
        /// What it says.
        kind: String,
    },
    /// Two lines have the same name.
    Duplicate {
        /// The second line's number.
        line: usize,
        /// The name.
        name: String,
    },
    /// There are more than [`MAX_ENDOWMENTS`].
    TooMany,
}

impl fmt::Display for EndowmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndowmentError::NotText => write!(f, "the endowment section is not UTF-8"),
            EndowmentError::Malformed { line } => write!(
                f,
                "line {line} of the endowment section is not `NAME KIND required` or `NAME KIND optional`"
            ),
            EndowmentError::BadName { line } => write!(
                f,
                "line {line} of the endowment section: a name has 1 to {MAX_NAME} ASCII letters, digits, `_` or `-`"
            ),
            EndowmentError::UnknownKind { line, kind } => write!(
                f,
                "line {line} of the endowment section asks for the unknown kind `{kind}`"
            ),
            EndowmentError::Duplicate { line, name } => {
                write!(f, "line {line} of the endowment section asks for `{name}` again")
            }
            EndowmentError::TooMany => {
                write!(f, "the program asks for more than {MAX_ENDOWMENTS} endowments")
            }
        }
    }
}

impl std::error::Error for EndowmentError {}

/// Writes an endowment section.
pub fn encode(endowments: &[Endowment]) -> String {
    endowments
        .iter()
        .map(|endowment| format!("{endowment}\n"))
        .collect()
}

/// Reads an endowment section.
pub fn decode(section: &[u8]) -> Result<Vec<Endowment>, EndowmentError> {
    let text = std::str::from_utf8(section).map_err(|_| EndowmentError::NotText)?;
    let mut endowments: Vec<Endowment> = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if index == MAX_ENDOWMENTS {
            return Err(EndowmentError::TooMany);
        }
        let endowment = decode_line(line, index + 1)?;
        if endowments.iter().any(|other| other.name == endowment.name) {
            return Err(EndowmentError::Duplicate {
                line: index + 1,
                name: endowment.name,
            });
        }
        endowments.push(endowment);
    }
    Ok(endowments)
}

/// Whether a string can be the name of an endowment.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn decode_line(text: &str, line: usize) -> Result<Endowment, EndowmentError> {
    let malformed = EndowmentError::Malformed { line };
    let Some(text) = text.strip_suffix('\n') else {
        return Err(malformed);
    };
    let mut words = text.split(' ');
    let (Some(name), Some(kind), Some(need), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed);
    };
    let optional = match need {
        "optional" => true,
        "required" => false,
        _ => return Err(malformed),
    };
    if !is_name(name) {
        return Err(EndowmentError::BadName { line });
    }
    let Some(kind) = Kind::from_name(kind) else {
        return Err(EndowmentError::UnknownKind {
            line,
            kind: kind.to_owned(),
        });
    };
    Ok(Endowment {
        name: name.to_owned(),
        kind,
        optional,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back() {
        let text = "net Net required\nup-stream TcpStream optional\n";
        let endowments = decode(text.as_bytes()).unwrap();
        assert_eq!(endowments.len(), 2);
        assert_eq!(encode(&endowments), text);
        assert_eq!(decode(b""), Ok(vec![]));
    }

    #[test]
    fn each_mistake_has_its_error() {
        use EndowmentError::*;
        let line = 1;
        for (text, error) in [
            ("net Net required", Malformed { line }),
            ("net Net", Malformed { line }),
            ("net Net perhaps\n", Malformed { line }),
            ("net  Net required\n", Malformed { line }),
            ("n\u{e9}t Net required\n", BadName { line }),
            (" Net required\n", BadName { line }),
            (
                "net Socket required\n",
                UnknownKind {
                    line,
                    kind: "Socket".into(),
                },
            ),
            (
                "net Net required\nnet Net optional\n",
                Duplicate {
                    line: 2,
                    name: "net".into(),
                },
            ),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(decode(&[0xff]), Err(NotText));
        let many: String = (0..=MAX_ENDOWMENTS)
            .map(|n| format!("n{n} Net required\n"))
            .collect();
        assert_eq!(decode(many.as_bytes()), Err(TooMany));
    }
}
