//! DNS names, and their place in the ordered space of all names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A DNS name in its one spelling: ASCII lowercase, no dot at the end.
///
/// Labels have 1 to 63 letters, digits, `-` and `_`, with no `-` at either end; the name has at most 253
/// characters. A last label that is a number (`1`, `0x7f`) is refused, because resolvers take such names
/// for IPv4 addresses (`127.1`, `2130706433`).
///
/// ```
/// use refcap_authority::DnsName;
/// assert_eq!(DnsName::new("API.Example.COM.")?.as_str(), "api.example.com");
/// assert!(DnsName::new("127.1").is_err());
/// # Ok::<(), refcap_authority::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName {
    text: Arc<str>,
    // Kept beside the text so that a look-up allocates nothing.
    key: NameKey,
}

impl DnsName {
    /// Checks a name and brings it into its canonical spelling.
    pub fn new(text: &str) -> Result<DnsName, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if !text.is_ascii() {
            return Err(NameError::NotAscii);
        }
        if text.len() > 253 {
            return Err(NameError::TooLong);
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        let text = text.to_ascii_lowercase();
        let last = text.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x");
        if last.bytes().all(|byte| byte.is_ascii_digit())
            || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(NameError::EndsInNumber);
        }
        let key = NameKey::of(&text);
        Ok(DnsName {
            text: text.into(),
            key,
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has one label only, such as `localhost`. Rules write those with a dot at the end.
    pub fn is_single_label(&self) -> bool {
        !self.text.contains('.')
    }

    /// Whether this name lies under the other: `a.example.com` under `example.com`, and no name under itself.
    pub fn is_under(&self, other: &DnsName) -> bool {
        self.text
            .strip_suffix(&*other.text)
            .is_some_and(|rest| rest.ends_with('.'))
    }

    pub(crate) fn key(&self) -> &NameKey {
        &self.key
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > 63 {
        return Err(NameError::LabelTooLong);
    }
    if let Some(other) = label
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    {
        return Err(NameError::BadCharacter(other));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl FromStr for DnsName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<DnsName, NameError> {
        DnsName::new(text)
    }
}

/// Why a text is not a DNS name.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing, or only a dot.
    #[error("a name is empty")]
    Empty,
    /// It has characters outside of ASCII.
    #[error(
        "a name has ASCII characters only: write an internationalised name as its A-labels (`xn--...`, IDNA)"
    )]
    NotAscii,
    /// It has more than 253 characters.
    #[error("a name has at most 253 characters")]
    TooLong,
    /// Two dots follow one another, or one comes first.
    #[error("a label of a name is empty")]
    EmptyLabel,
    /// A label has more than 63 characters.
    #[error("a label of a name has at most 63 characters")]
    LabelTooLong,
    /// A label has a character other than letters, digits, `-` and `_`.
    #[error("a name has letters, digits, `-` and `_`, not {0:?}")]
    BadCharacter(char),
    /// A label begins or ends with `-`.
    #[error("a label of a name does not begin or end with `-`")]
    Hyphen,
    /// The last label is a number, which makes it an IPv4 address for many resolvers.
    #[error("a name that ends in a number is taken for an IPv4 address: write four decimal parts")]
    EndsInNumber,
}

/// A place in the ordered space of all names: the labels from the last to the first, each followed by a
/// zero byte. `example.com` is at `com\0example\0`.
///
/// A name's subdomains lie together right behind it, because every label begins with a byte above 1: they
/// are the keys from [`under`](NameKey::under) to before [`after`](NameKey::after). So exact names and
/// wildcards are both intervals, and the algebra of intervals is exact for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameKey(Arc<[u8]>);

impl NameKey {
    /// The place of a canonical name.
    fn of(text: &str) -> NameKey {
        let mut key = Vec::with_capacity(text.len() + 1);
        for label in text.rsplit('.') {
            key.extend_from_slice(label.as_bytes());
            key.push(0);
        }
        NameKey(key.into())
    }

    /// Before every name.
    pub(crate) fn bottom() -> NameKey {
        NameKey(Arc::from([]))
    }

    /// The first place behind this name, before all its subdomains.
    pub(crate) fn under(&self) -> NameKey {
        NameKey(self.0.iter().copied().chain([0]).collect())
    }

    /// The first place behind this name and all its subdomains.
    pub(crate) fn after(&self) -> NameKey {
        let mut key = self.0.to_vec();
        if let Some(last) = key.last_mut() {
            *last = 1;
        }
        NameKey(key.into())
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name that this place, which any of the functions above made, belongs to; `None` for the bottom.
    pub(crate) fn name(&self) -> Option<DnsName> {
        let ([bytes @ .., 0, 0] | [bytes @ .., 0 | 1]) = &*self.0 else {
            return None;
        };
        let labels: Vec<&str> = bytes
            .split(|byte| *byte == 0)
            .rev()
            .map(|label| std::str::from_utf8(label).unwrap_or_default())
            .collect();
        DnsName::new(&labels.join(".")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (text, name) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("_dns.resolver.arpa", "_dns.resolver.arpa"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
            ("0xyz", "0xyz"),
        ] {
            assert_eq!(DnsName::new(text).unwrap().as_str(), name);
        }
        let label = "a".repeat(63);
        let longest = [&*label, &label, &label, &"a".repeat(61)].join(".");
        assert_eq!(DnsName::new(&longest).unwrap().as_str(), longest);
        assert_eq!(DnsName::new(&format!("{longest}a")), Err(NameError::TooLong));
    }

    #[test]
    fn each_mistake_has_its_error() {
        for (text, error) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("b\u{fc}cher.example", NameError::NotAscii),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..", NameError::EmptyLabel),
            ("*.example.com", NameError::BadCharacter('*')),
            ("exa mple.com", NameError::BadCharacter(' ')),
            ("a\0b", NameError::BadCharacter('\0')),
            ("-a.example", NameError::Hyphen),
            ("a-.example", NameError::Hyphen),
            ("127.1", NameError::EndsInNumber),
            ("2130706433", NameError::EndsInNumber),
            ("0x7f.1", NameError::EndsInNumber),
            ("0X7F000001", NameError::EndsInNumber),
            ("example.0x", NameError::EndsInNumber),
        ] {
            assert_eq!(DnsName::new(text), Err(error), "{text:?}");
        }
        assert_eq!(DnsName::new(&"a".repeat(64)), Err(NameError::LabelTooLong));
    }

    #[test]
    fn subdomains_lie_between_under_and_after() {
        let name = DnsName::new("example.com").unwrap();
        let inside = [
            "a.example.com",
            "-1.example.com",
            "z.y.example.com",
            "_.example.com",
        ];
        let outside = [
            "example.com",
            "com",
            "example.org",
            "example-a.com",
            "aexample.com",
            "examplea.com",
        ];
        for text in inside {
            // A label with a hyphen in front is no name, but would still have its place.
            let key = NameKey::of(text);
            assert!(name.key().under() <= key && key < name.key().after(), "{text}");
        }
        for text in outside {
            let other = DnsName::new(text).unwrap();
            assert!(
                !(name.key().under() <= *other.key() && *other.key() < name.key().after()),
                "{text}"
            );
            assert!(!other.is_under(&name));
        }
        for key in [name.key().clone(), name.key().under(), name.key().after()] {
            assert_eq!(key.name(), Some(name.clone()));
        }
        assert_eq!(NameKey::bottom().name(), None);
    }
}
