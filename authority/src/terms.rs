//! On what terms a capability is held, besides its rules.

use std::fmt;
use std::time::Duration;

/// The longest label.
pub const MAX_LABEL: usize = 64;
/// The longest lease: ten years.
pub const MAX_LEASE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// On what terms a capability is held: how much it may use, until when, and whether it may be passed on.
///
/// Rules say what may be done; terms say how much of it. What is not said has no limit of its own. A
/// capability that is derived on terms stays under those of its parent as well, so terms only ever take away.
///
/// ```
/// use refcap_authority::Terms;
/// use std::time::Duration;
///
/// let terms: Terms = "limit sockets 10, out 1MiB/s, lease 30s; no derive; label billing".parse()?;
/// assert_eq!(terms.sockets, Some(10));
/// assert_eq!(terms.rate_out, Some(1 << 20));
/// assert_eq!(terms, Terms::new().sockets(10).rate_out(1 << 20).lease(Duration::from_secs(30)).no_derive().label("billing"));
/// # Ok::<(), refcap_authority::ParseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Terms {
    /// A name that errors and the audit log show, behind that of the parent: letters, digits, `.`, `_` and `-`.
    pub label: Option<String>,
    /// Sockets that may be open at once, those that are connecting included.
    pub sockets: Option<u64>,
    /// Connections that may be begun or accepted in all.
    pub connections: Option<u64>,
    /// Bytes that may be sent in all.
    pub bytes_out: Option<u64>,
    /// Bytes that may be received in all.
    pub bytes_in: Option<u64>,
    /// Bytes that may be sent in a second.
    pub rate_out: Option<u64>,
    /// Bytes that may be received in a second.
    pub rate_in: Option<u64>,
    /// How long the capability lives, from the moment when it is made.
    pub lease: Option<Duration>,
    /// No other capability may be derived from it.
    pub no_derive: bool,
    /// It may be held by one program only.
    pub no_hand_over: bool,
}

/// What is wrong with terms.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A rate of zero would wait for ever; a budget of zero bytes says that nothing may be moved.
    #[error("a rate of at least 1 byte per second; `limit {direction} 0` allows no byte at all")]
    NoRate {
        /// `out` or `in`.
        direction: &'static str,
    },
    /// A lease is too short or too long.
    #[error("a lease from 1ms to 3650d")]
    Lease,
    /// A label is empty, too long, or has other characters.
    #[error("a label of 1 to {MAX_LABEL} letters, digits, `.`, `_` and `-`")]
    Label,
}

impl Terms {
    /// No terms.
    pub fn new() -> Terms {
        Terms::default()
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Terms::default()
    }

    /// These terms with that label.
    pub fn label(mut self, label: impl Into<String>) -> Terms {
        self.label = Some(label.into());
        self
    }

    /// These terms with that many sockets at once.
    pub fn sockets(mut self, count: u64) -> Terms {
        self.sockets = Some(count);
        self
    }

    /// These terms with that many connections in all.
    pub fn connections(mut self, count: u64) -> Terms {
        self.connections = Some(count);
        self
    }

    /// These terms with that many bytes out in all.
    pub fn bytes_out(mut self, bytes: u64) -> Terms {
        self.bytes_out = Some(bytes);
        self
    }

    /// These terms with that many bytes in in all.
    pub fn bytes_in(mut self, bytes: u64) -> Terms {
        self.bytes_in = Some(bytes);
        self
    }

    /// These terms with that many bytes out in a second.
    pub fn rate_out(mut self, bytes: u64) -> Terms {
        self.rate_out = Some(bytes);
        self
    }

    /// These terms with that many bytes in in a second.
    pub fn rate_in(mut self, bytes: u64) -> Terms {
        self.rate_in = Some(bytes);
        self
    }

    /// These terms with that lease.
    pub fn lease(mut self, time: Duration) -> Terms {
        self.lease = Some(time);
        self
    }

    /// These terms, and nothing may be derived.
    pub fn no_derive(mut self) -> Terms {
        self.no_derive = true;
        self
    }

    /// These terms, and it may be held by one program only.
    pub fn no_hand_over(mut self) -> Terms {
        self.no_hand_over = true;
        self
    }

    /// Whether the terms can be kept.
    ///
    /// # Errors
    ///
    /// [`TermsError`] says what is wrong with them.
    pub fn check(&self) -> Result<(), TermsError> {
        if self.rate_out == Some(0) {
            return Err(TermsError::NoRate { direction: "out" });
        }
        if self.rate_in == Some(0) {
            return Err(TermsError::NoRate { direction: "in" });
        }
        if self
            .lease
            .is_some_and(|lease| lease < Duration::from_millis(1) || lease > MAX_LEASE)
        {
            return Err(TermsError::Lease);
        }
        match &self.label {
            Some(label) if !is_label(label) => Err(TermsError::Label),
            _ => Ok(()),
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl fmt::Display for Terms {
    /// The normal form: parsed, it gives the same terms, with the lease in whole milliseconds. Terms that
    /// fail their [check](Terms::check) have a text that is an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items = Vec::new();
        let mut count = |name: &str, count: Option<u64>| {
            items.extend(count.map(|count| format!("{name} {count}")));
        };
        count("sockets", self.sockets);
        count("connections", self.connections);
        for (name, bytes, rate) in [
            ("out", self.bytes_out, self.rate_out),
            ("in", self.bytes_in, self.rate_in),
        ] {
            items.extend(bytes.map(|bytes| format!("{name} {}", Size(bytes))));
            items.extend(rate.map(|rate| format!("{name} {}/s", Size(rate))));
        }
        items.extend(self.lease.map(|lease| format!("lease {}", Time(lease))));
        let mut clauses = Vec::new();
        if !items.is_empty() {
            clauses.push(format!("limit {}", items.join(", ")));
        }
        if self.no_derive {
            clauses.push("no derive".to_owned());
        }
        if self.no_hand_over {
            clauses.push("no hand-over".to_owned());
        }
        clauses.extend(self.label.as_ref().map(|label| match is_label(label) {
            true => format!("label {label}"),
            // What is no label must not be read back as anything else: a quote begins none.
            false => format!("label {label:?}"),
        }));
        f.write_str(&clauses.join("; "))
    }
}

/// Bytes in the largest binary unit that says them exactly.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZES
            .iter()
            .rev()
            .find(|(_, size)| self.0 != 0 && size.is_power_of_two() && self.0.is_multiple_of(*size));
        match unit {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A time in the largest unit that says it exactly, milliseconds at the smallest.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let unit = TIMES
            .iter()
            .rev()
            .find(|(_, length)| millis != 0 && millis.is_multiple_of(u128::from(*length)));
        match unit {
            Some((unit, length)) => write!(f, "{}{unit}", millis / u128::from(*length)),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// The units of sizes, in bytes, each kind rising.
pub(crate) const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The units of times, in milliseconds, rising.
pub(crate) const TIMES: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
