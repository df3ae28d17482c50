//! Reading an audit log.
//!
//! One JSON object a line, as `refcap run --audit` writes them. What is not known (another event, another
//! field) is skipped, so that logs of later versions can be read. A line that is malformed is an error,
//! except for the last one when nothing ends it: then its writer was stopped in the middle of it.

use std::fmt;
use std::io::{BufRead, Read};

use serde::Deserialize;

use super::plain::Plain;
use super::tree::Tree;

/// Longer lines are not of an audit log.
const LONGEST: usize = 1 << 20;

/// One event, as far as it says something of the derivation tree.
#[derive(Debug)]
pub(super) enum Event {
    Start { vat: u64, program: Option<ProgramName> },
    End { vat: u64 },
    Grant(Birth),
    Derive { birth: Birth, parent: u64 },
    Use { id: u64, operation: Plain },
    Moved { id: u64, bytes: u64 },
    Refuse(Refusal),
    TurnAway { id: u64 },
    Expire { id: u64 },
    Close { id: u64 },
    Revoke { id: u64, by: Option<u64> },
    Narrow { id: u64, bound: Plain },
}

/// What a program was called by.
#[derive(Debug)]
pub(super) struct ProgramName {
    /// Its first argument.
    pub(super) whole: Plain,
    /// If that is a path, its last part.
    pub(super) short: Plain,
}

impl ProgramName {
    fn new(name: &str) -> ProgramName {
        // Of the text as it is, for what is written out has backslashes of its own.
        let last = name.rsplit(['/', '\\']).next();
        ProgramName {
            whole: Plain::new(name),
            short: Plain::new(last.filter(|last| !last.is_empty()).unwrap_or(name)),
        }
    }
}

/// A new capability.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) id: u64,
    pub(super) kind: Plain,
    pub(super) label: Plain,
    /// Who holds it; `None` is the host.
    pub(super) vat: Option<u64>,
    pub(super) authority: Option<Plain>,
    /// What a Revoker ends.
    pub(super) target: Option<u64>,
}

/// A call that the host refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The capability that was used, if it was one.
    pub(super) id: Option<u64>,
    pub(super) vat: u64,
    pub(super) import: Plain,
    pub(super) why: Plain,
}

/// Why a log can't be read.
#[derive(Debug)]
pub(crate) struct LogError {
    line: usize,
    problem: String,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// What a whole log says.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) tree: Tree,
    /// Whether the last line was not finished, and skipped.
    pub(crate) is_cut_short: bool,
}

/// Reads a log to its end.
pub(crate) fn read(mut input: impl BufRead) -> Result<Log, LogError> {
    let mut tree = Tree::default();
    let mut bytes = Vec::new();
    for line in 1.. {
        let fail = |problem| LogError { line, problem };
        bytes.clear();
        let mut limited = (&mut input).take(LONGEST as u64 + 1);
        limited
            .read_until(b'\n', &mut bytes)
            .map_err(|error| fail(error.to_string()))?;
        if bytes.len() > LONGEST {
            return Err(fail(format!(
                "it is longer than {LONGEST} bytes; this is not an audit log"
            )));
        }
        let is_whole = bytes.last() == Some(&b'\n');
        if bytes.is_empty() {
            break;
        }
        match parse(&bytes) {
            Ok(None) => {}
            Ok(Some(event)) => tree.apply(event).map_err(fail)?,
            Err(_) if !is_whole => {
                return Ok(Log {
                    tree,
                    is_cut_short: true,
                });
            }
            Err(problem) => return Err(fail(problem)),
        }
    }
    Ok(Log {
        tree,
        is_cut_short: false,
    })
}

/// The fields of all events; each has some of them.
#[derive(Debug, Deserialize)]
struct Fields {
    event: Option<String>,
    id: Option<u64>,
    parent: Option<u64>,
    vat: Option<u64>,
    target: Option<u64>,
    bytes: Option<u64>,
    kind: Option<String>,
    label: Option<String>,
    authority: Option<String>,
    operation: Option<String>,
    import: Option<String>,
    why: Option<String>,
    program: Option<String>,
}

/// The event of one line; `None` for an empty line and for an event that says nothing of the tree.
pub(super) fn parse(line: &[u8]) -> Result<Option<Event>, String> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let fields: Fields = serde_json::from_slice(line)
        .map_err(|error| format!("not an event of an audit log, which is a JSON object: {error}"))?;
    let Some(event) = &fields.event else {
        return Err("the field `event` is missing; is this an audit log?".to_owned());
    };
    let need = Need { event };
    let fields = &fields;
    let id = || need.number("id", fields.id);
    let vat = || need.number("vat", fields.vat);
    let birth = || {
        Ok::<_, String>(Birth {
            id: need.number("id", fields.id)?,
            kind: need.text("kind", &fields.kind)?,
            label: need.text("label", &fields.label)?,
            vat: fields.vat,
            authority: optional(&fields.authority),
            target: fields.target,
        })
    };
    Ok(Some(match event.as_str() {
        "start" => Event::Start {
            vat: vat()?,
            program: fields.program.as_deref().map(ProgramName::new),
        },
        "end" => Event::End { vat: vat()? },
        "grant" => Event::Grant(birth()?),
        "derive" => Event::Derive {
            birth: birth()?,
            parent: need.number("parent", fields.parent)?,
        },
        "use" => match fields.bytes {
            Some(bytes) => Event::Moved { id: id()?, bytes },
            None => Event::Use {
                id: id()?,
                operation: need.text("operation", &fields.operation)?,
            },
        },
        "refuse" => Event::Refuse(Refusal {
            id: fields.id,
            vat: vat()?,
            import: need.text("import", &fields.import)?,
            why: need.text("why", &fields.why)?,
        }),
        "turn-away" => Event::TurnAway { id: id()? },
        "expire" => Event::Expire { id: id()? },
        "close" => Event::Close { id: id()? },
        "revoke" => Event::Revoke {
            id: id()?,
            by: fields.vat,
        },
        "narrow" => Event::Narrow {
            id: id()?,
            bound: need.text("authority", &fields.authority)?,
        },
        _ => return Ok(None),
    }))
}

fn optional(text: &Option<String>) -> Option<Plain> {
    text.as_deref().map(Plain::new)
}

/// Fields that an event must have.
struct Need<'a> {
    event: &'a str,
}

impl Need<'_> {
    fn number(&self, name: &str, value: Option<u64>) -> Result<u64, String> {
        value.ok_or_else(|| self.missing(name))
    }

    fn text(&self, name: &str, value: &Option<String>) -> Result<Plain, String> {
        optional(value).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> String {
        format!("the event `{}` has no field `{name}`", self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = r#"{"event":"grant","id":1,"kind":"Net","label":"net"}"#;

    #[track_caller]
    fn fails(log: &str) -> String {
        read(log.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (line, problem) in [
            (
                "grant",
                "line 2: not an event of an audit log, which is a JSON object: expected",
            ),
            ("[]", "line 2: not an event"),
            (r#"{"event":"grant""#, "line 2: not an event"),
            (r#"{"event":7}"#, "line 2: not an event"),
            (r#"{"id":7}"#, "line 2: the field `event` is missing"),
            (
                r#"{"event":"close"}"#,
                "line 2: the event `close` has no field `id`",
            ),
            (r#"{"event":"close","id":"7"}"#, "line 2: not an event"),
            (r#"{"event":"close","id":-7}"#, "line 2: not an event"),
            (
                r#"{"event":"derive","id":2,"kind":"Net","label":"a"}"#,
                "line 2: the event `derive` has no field `parent`",
            ),
            (
                r#"{"event":"refuse","import":"x","why":"y"}"#,
                "line 2: the event `refuse` has no field `vat`",
            ),
            (GRANT, "line 2: the capability #1 begins a second time"),
            (
                r#"{"event":"derive","id":2,"parent":2,"kind":"Net","label":"a"}"#,
                "line 2: the capability #2 is derived from #2, which is not older",
            ),
        ] {
            let error = fails(&format!("{GRANT}\n{line}\n{GRANT}\n"));
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn a_program_goes_by_the_last_part_of_its_path() {
        for (path, name) in [
            ("a/b.wasm", "b.wasm"),
            ("C:\\x\\b.wasm", "b.wasm"),
            ("a/\x1b.wasm", "\\u{1b}.wasm"),
            ("a/", "a/"),
            ("b", "b"),
        ] {
            assert_eq!(ProgramName::new(path).short.as_str(), name);
        }
    }

    #[test]
    fn what_is_not_known_is_skipped() {
        let log = format!("\n{GRANT}\r\n{{\"event\":\"applaud\",\"id\":\"x\"}}\n");
        assert!(
            fails(&log).contains("line 3"),
            "known fields have their types everywhere"
        );
        let log = format!("\n{GRANT}\r\n{{\"event\":\"applaud\",\"id\":1,\"hands\":[2]}}\n");
        let log = read(log.as_bytes()).unwrap();
        assert_eq!((log.tree.len(), log.is_cut_short), (1, false));
        assert_eq!(read(&b""[..]).unwrap().tree.len(), 0);
    }

    #[test]
    fn a_log_that_is_cut_short_is_read_up_to_there() {
        let second = r#"{"event":"grant","id":2,"kind":"Net","label":"größe"}"#;
        let whole = format!("{GRANT}\n{second}");
        for length in 0..=whole.len() {
            let log = read(&whole.as_bytes()[..length]).unwrap();
            let (first, both) = (GRANT.len(), whole.len());
            let is_cut = length > 0 && length != first && length != first + 1 && length != both;
            assert_eq!(log.is_cut_short, is_cut, "{length}");
            let grants = usize::from(length >= first) + usize::from(length == both);
            assert_eq!(log.tree.len(), grants, "{length}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let error = read(std::io::BufReader::new(std::io::repeat(b'x'))).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
