//! DNS names, and their place in the ordered space of all names.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A DNS name in its one spelling: ASCII lowercase, no dot at the end, an internationalised name as its
/// A-labels (`xn--...`).
///
/// Labels have 1 to 63 letters, digits, `-` and `_`, with no `-` at either end; the name has at most 253
/// characters. A last label that is a number (`1`, `0x7f`) is refused, because resolvers take such names
/// for IPv4 addresses (`127.1`, `2130706433`).
///
/// With the feature `idna` a name may be internationalised: it is mapped as [UTS 46] says, not
/// transitionally, and A-labels are checked wherever they come from. One name then has one spelling, and no
/// A-label stands for what another spelling would be mapped to. Without the feature a name has ASCII
/// characters only, and A-labels are labels like others.
///
/// ```
/// use refcap_authority::DnsName;
/// assert_eq!(DnsName::new("API.Example.COM.")?.as_str(), "api.example.com");
/// assert!(DnsName::new("127.1").is_err());
/// # #[cfg(feature = "idna")]
/// assert_eq!(DnsName::new("B\u{fc}cher.example")?.as_str(), "xn--bcher-kva.example");
/// # Ok::<(), refcap_authority::NameError>(())
/// ```
///
/// [UTS 46]: https://www.unicode.org/reports/tr46/
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName {
    text: Arc<str>,
    // Kept beside the text so that a look-up allocates nothing.
    key: NameKey,
}

impl DnsName {
    /// Checks a name and brings it into its canonical spelling.
    pub fn new(text: &str) -> Result<DnsName, NameError> {
        let text = &*to_ascii(text)?;
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

/// The name in ASCII. What is mapped goes first, so that every later check sees what a resolver would: digits
/// of full width are digits, and an ideographic full stop is a dot.
#[cfg(feature = "idna")]
fn to_ascii(text: &str) -> Result<Cow<'_, str>, NameError> {
    use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

    let is_a_label = |label: &str| {
        let start = label.get(..4);
        start.is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
    };
    if text.is_ascii() && !text.split('.').any(is_a_label) {
        return Ok(Cow::Borrowed(text));
    }
    // Mapping can make a long text short; nobody writes a name that way, and the work has a bound like this.
    if text.chars().count() > 254 {
        return Err(NameError::TooLong);
    }
    // Which characters a label has and how long it is, the checks of all names say.
    Uts46::new()
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::EMPTY,
            Hyphens::CheckFirstLast,
            DnsLength::Ignore,
        )
        .map_err(|_| NameError::Idna)
}

#[cfg(not(feature = "idna"))]
fn to_ascii(text: &str) -> Result<Cow<'_, str>, NameError> {
    Ok(Cow::Borrowed(text))
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
    /// It has characters outside of ASCII, and the feature `idna` is off.
    #[error(
        "a name has ASCII characters only: write an internationalised name as its A-labels (`xn--...`, IDNA)"
    )]
    NotAscii,
    /// It is no internationalised name, or a label that begins with `xn--` is not the A-label of one.
    #[error(
        "a name beyond ASCII is valid in IDNA (UTS 46), and a label `xn--...` stands for one that is spelt so"
    )]
    Idna,
    /// It has more than 253 characters, before it is mapped or after.
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

    #[cfg(not(feature = "idna"))]
    #[test]
    fn names_beyond_ascii_are_an_error() {
        assert_eq!(DnsName::new("b\u{fc}cher.example"), Err(NameError::NotAscii));
    }

    #[cfg(feature = "idna")]
    #[test]
    fn internationalised_names_are_their_a_labels() {
        for spelling in [
            "b\u{fc}cher.example",
            "B\u{dc}CHER.EXAMPLE.",
            "bu\u{308}cher.example",
            "b\u{fc}cher\u{3002}example",
            "xn--bcher-kva.example",
            "XN--BCHER-KVA.example",
            "xn--Bcher-kva.example",
            "b\u{fc}cher.\u{ff45}xample",
        ] {
            let name = DnsName::new(spelling).unwrap();
            assert_eq!(name.as_str(), "xn--bcher-kva.example", "{spelling:?}");
        }
    }

    #[cfg(feature = "idna")]
    #[test]
    fn class_04_digits_of_other_widths_and_false_a_labels_are_no_names() {
        for (text, error) in [
            ("\u{ff11}\u{ff12}\u{ff17}.\u{ff11}", NameError::EndsInNumber),
            ("127\u{3002}1", NameError::EndsInNumber),
            ("0\u{ff58}7f.1", NameError::EndsInNumber),
            (
                "\u{ff11}\u{ff12}\u{ff17}\u{ff0e}\u{ff10}\u{ff0e}\u{ff10}\u{ff0e}\u{ff11}",
                NameError::EndsInNumber,
            ),
            ("b\u{fc}cher\u{ff61}\u{2460}", NameError::EndsInNumber),
            ("xn--.example", NameError::Idna),
            ("xn--a.example", NameError::Idna),
            ("xn--bcher-KVA9.example", NameError::Idna),
            ("a\u{200b}\u{2488}b.example", NameError::Idna),
            // All of it is ASCII, so that it needs no A-label.
            ("xn--abc-.example", NameError::Idna),
            ("xn--a.xn--b.xn--c", NameError::Idna),
            ("-\u{fc}.example", NameError::Idna),
            // A right-to-left label that goes on to the left.
            ("a\u{5d0}.example", NameError::Idna),
            ("b\u{fc}cher..example", NameError::EmptyLabel),
            ("\u{3002}b\u{fc}cher", NameError::EmptyLabel),
            ("b\u{fc}cher.example\u{3002}.", NameError::EmptyLabel),
            ("b\u{fc}cher\u{ff1a}443", NameError::BadCharacter(':')),
            ("\u{ff0a}.b\u{fc}cher.example", NameError::BadCharacter('*')),
            ("b\u{fc}cher.exa mple", NameError::BadCharacter(' ')),
        ] {
            assert_eq!(DnsName::new(text), Err(error), "{text:?}");
        }
        assert_eq!(DnsName::new(&"\u{fc}".repeat(63)), Err(NameError::LabelTooLong));
        assert_eq!(DnsName::new(&"\u{fc}.".repeat(40)), Err(NameError::TooLong));
        assert_eq!(DnsName::new(&"\u{ad}".repeat(300)), Err(NameError::TooLong));
    }

    /// An A-label of what would be mapped is another spelling of the same name, which resolvers may or may
    /// not take for it.
    #[cfg(feature = "idna")]
    #[test]
    fn a_labels_of_what_would_be_mapped_are_no_names() {
        for mapped in [
            "b\u{dc}cher",
            "bu\u{308}cher",
            "\u{ff42}\u{fc}cher",
            "b\u{fc}\u{ad}cher",
            "a\u{3002}\u{fc}",
            "\u{fc}.a",
        ] {
            let label = format!("xn--{}", idna::punycode::encode_str(mapped).unwrap());
            let name = format!("{label}.example");
            assert_eq!(DnsName::new(&name), Err(NameError::Idna), "{name} for {mapped:?}");
        }
        // An older standard took the first for `strasse`.
        for (text, name) in [
            ("stra\u{df}e.example", "xn--strae-oqa.example"),
            ("_srv.b\u{fc}cher.example", "_srv.xn--bcher-kva.example"),
            ("r3---sn.b\u{fc}cher.example", "r3---sn.xn--bcher-kva.example"),
        ] {
            for spelling in [text, name] {
                assert_eq!(DnsName::new(spelling).unwrap().as_str(), name);
            }
        }
    }

    #[cfg(feature = "idna")]
    #[test]
    fn internationalised_names_keep_their_place() {
        let name = DnsName::new("b\u{fc}cher.example").unwrap();
        for key in [name.key().clone(), name.key().under(), name.key().after()] {
            assert_eq!(key.name(), Some(name.clone()));
        }
        assert!(
            DnsName::new("\u{e4}.B\u{fc}cher.example")
                .unwrap()
                .is_under(&name)
        );
    }

    #[cfg(not(feature = "idna"))]
    #[test]
    fn a_labels_are_labels_like_others() {
        assert_eq!(DnsName::new("XN--A.example").unwrap().as_str(), "xn--a.example");
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
