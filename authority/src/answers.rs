//! Which addresses names may stand for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use crate::address::IpRange;
use crate::authority::{Authority, judged_too};
use crate::class::Class;
use crate::derive::DeriveError;
use crate::region::TooComplex;
use crate::request::Request;
use crate::rules::{End, Exception, Host, Rule, Rules};
use crate::sets::{OperationSet, PortSet, ProtocolSet};
use crate::tuple::{Direction, Operation, Protocol, Remote, Tuple};

/// What a name never stands for unless rules say so: what an attacker who answers for a public name would
/// point it at (DNS rebinding). The class that says most of an address comes first.
const NOT_BY_DEFAULT: [Class; 4] = [Class::Metadata, Class::Loopback, Class::Private, Class::LinkLocal];

/// What `*` leaves out, and names with it.
const NOT_ORDINARY: [Class; 3] = [Class::Multicast, Class::Broadcast, Class::Unspecified];

/// Which addresses the names of a capability may stand for.
///
/// A set of names has no addresses, so an [`Authority`] over `*.example.com` says nothing about `except
/// private`; this is where that counts. It is an authority over addresses, so it is as exact.
///
/// ```
/// use refcap_authority::{Answers, Operation, Protocol, Rules, Tuple};
///
/// let rules = Rules::parse("connect tcp *.example.com:443; except 203.0.113.0/24")?;
/// let answers = Answers::from_rules(&rules)?;
/// let connect = |remote: &str| -> Result<Tuple, std::net::AddrParseError> {
///     let remote: std::net::SocketAddr = remote.parse()?;
///     Ok(Tuple::new(Operation::Connect, Protocol::Tcp, "0.0.0.0:0".parse()?, remote))
/// };
/// assert!(answers.permits(&connect("198.51.100.7:443")?));
/// assert!(!answers.permits(&connect("203.0.113.9:443")?)); // excepted
/// assert_eq!(
///     answers.explain(&connect("10.0.0.1:443")?),
///     "10.0.0.1 is private, and the rules have no `names to` for it"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers(Authority);

impl Answers {
    /// Every ordinary address but loopback, private, link-local and metadata ones.
    pub fn standard() -> Answers {
        static STANDARD: LazyLock<Answers> = LazyLock::new(|| {
            let rules = NOT_BY_DEFAULT
                .into_iter()
                .fold(reaching(&[Host::Any]), |rules, class| rules.except(class));
            // A handful of classes is never too complex.
            Authority::from_rules(&rules).map_or_else(|TooComplex| Answers::nothing(), Answers)
        });
        STANDARD.clone()
    }

    /// Every address, not only the ordinary ones.
    pub fn everything() -> Answers {
        static EVERYTHING: LazyLock<Answers> = LazyLock::new(|| {
            // Two ranges are never too complex.
            Authority::from_rules(&reaching(&every())).map_or_else(|TooComplex| Answers::nothing(), Answers)
        });
        EVERYTHING.clone()
    }

    /// No address.
    pub fn nothing() -> Answers {
        Answers(Authority::nothing())
    }

    /// What rules that are granted say: the hosts of `names to`, or the [standard](Answers::standard)
    /// ones, without what an exception takes away.
    pub fn from_rules(rules: &Rules) -> Result<Answers, TooComplex> {
        match rules.names_to.is_empty() {
            true => Answers::standard(),
            false => Answers::of(&rules.names_to)?,
        }
        .without(&rules.exceptions)
    }

    /// Attenuates: the hosts of `names to`, as far as they are here, or all that are here if none are said;
    /// without what an exception takes away.
    pub fn only(&self, rules: &Rules) -> Result<Answers, TooComplex> {
        match rules.names_to.is_empty() {
            true => self.clone(),
            false => Answers(self.0.intersect(&Answers::of(&rules.names_to)?.0)?),
        }
        .without(&rules.exceptions)
    }

    /// [`Answers::only`] for a request that was read before. A simple one says nothing about answers, so that
    /// all that are here stay.
    pub fn only_request(&self, request: &Request) -> Result<Answers, TooComplex> {
        match request.leaves_answers() {
            true => Ok(self.clone()),
            false => self.only(&request.rules()),
        }
    }

    /// Attenuates as [`only`](Answers::only) does, or fails with [`DeriveError::Answers`] if the hosts of
    /// `names to` that no exception takes away are not all here.
    pub fn exactly(&self, rules: &Rules) -> Result<Answers, DeriveError> {
        if rules.names_to.is_empty() {
            return Ok(self.only(rules)?);
        }
        let asked = Answers::of(&rules.names_to)?.without(&rules.exceptions)?;
        let missing = asked.0.subtract(&self.0)?;
        match missing.printed().rules.first() {
            None => Ok(asked),
            Some(rule) => Err(DeriveError::Answers {
                missing: Exception::End(rule.main().clone()).to_string(),
            }),
        }
    }

    /// [`Answers::exactly`] for a request that was read before.
    pub fn exactly_request(&self, request: &Request) -> Result<Answers, DeriveError> {
        match request.leaves_answers() {
            true => Ok(self.clone()),
            false => self.exactly(&request.rules()),
        }
    }

    /// Attenuates: everything here but the addresses that the rules allow.
    pub fn except(&self, what: &Rules) -> Result<Answers, TooComplex> {
        Ok(Answers(self.0.except(what)?))
    }

    /// [`Answers::except`] for a request that was read before. It costs as much.
    pub fn except_request(&self, what: &Request) -> Result<Answers, TooComplex> {
        self.except(&what.rules())
    }

    /// Whether everything here is in the other.
    pub fn is_subset(&self, of: &Answers) -> bool {
        self.0.is_subset(&of.0)
    }

    /// Whether a name may stand for the remote end of this tuple. As with [`Authority::permits`], an address
    /// that carries an IPv4 address is judged by that as well.
    pub fn permits(&self, tuple: &Tuple) -> bool {
        matches!(tuple.remote(), Remote::Address(_)) && self.0.permits(tuple)
    }

    /// Why a name may or may not stand for the remote end of this tuple, in a sentence.
    pub fn explain(&self, tuple: &Tuple) -> String {
        if tuple.operation().direction() != Direction::Outbound {
            return format!("names are for connect and send, not for {}", tuple.operation());
        }
        let Remote::Address(remote) = tuple.remote() else {
            return format!("{} is a name, and names stand for addresses", tuple.remote());
        };
        let refused = std::iter::once(tuple.remote().clone())
            .chain(judged_too(tuple.remote()))
            .find(|remote| {
                let tuple = Tuple::new(tuple.operation(), tuple.protocol(), tuple.local(), remote.clone());
                !self.0.contains(&tuple)
            });
        match refused {
            Some(Remote::Address(inside)) if inside.ip() != remote.ip() => {
                let why = self.why_not(tuple, inside.ip());
                format!("{} reaches {}, which {why}", remote.ip(), inside.ip())
            }
            Some(_) => format!("{} {}", remote.ip(), self.why_not(tuple, remote.ip())),
            None => format!("names may stand for {}", remote.ip()),
        }
    }

    /// The rest of a sentence that begins with an address: why that one is refused for this tuple.
    fn why_not(&self, tuple: &Tuple, address: IpAddr) -> String {
        let remote = Remote::from((address, tuple.remote().port()));
        // Hosts come in with everything; only an exception leaves a part of that.
        if self.0.has_host(&remote) {
            let (operation, protocol) = (tuple.operation(), tuple.protocol());
            return format!("is excepted for {operation} {protocol} to port {}", remote.port());
        }
        let class = NOT_BY_DEFAULT
            .into_iter()
            .chain(NOT_ORDINARY)
            .find(|class| class.contains(address));
        match class {
            Some(class) if self.has_some(class) => {
                format!("is {class}, and names may stand for other {class} addresses only")
            }
            Some(class) => format!("is {class}, and the rules have no `names to` for it"),
            None => "is excepted, or in no `names to` of the rules".to_owned(),
        }
    }

    /// Whether some address of the class is here.
    fn has_some(&self, class: Class) -> bool {
        let both = Answers::of(&[Host::Class(class)]).and_then(|class| class.0.intersect(&self.0));
        both.is_ok_and(|both| !both.is_empty())
    }

    /// Those hosts, at every port.
    fn of(hosts: &[Host]) -> Result<Answers, TooComplex> {
        Ok(Answers(Authority::from_rules(&reaching(hosts))?))
    }

    /// What is here and in no exception.
    fn without(self, exceptions: &[Exception]) -> Result<Answers, TooComplex> {
        if exceptions.is_empty() {
            return Ok(self);
        }
        let others = Rules {
            exceptions: exceptions.to_vec(),
            ..reaching(&every())
        };
        Ok(Answers(self.0.intersect(&Authority::from_rules(&others)?)?))
    }
}

/// Every address, as two hosts: `*` is only the ordinary ones.
fn every() -> [Host; 2] {
    [
        IpRange::V4(Ipv4Addr::from_bits(0), Ipv4Addr::from_bits(u32::MAX)).into(),
        IpRange::V6(Ipv6Addr::from_bits(0), Ipv6Addr::from_bits(u128::MAX)).into(),
    ]
}

/// Rules that reach these hosts in all ways. Names among them, which only a field written by hand can have,
/// stand for nothing here.
fn reaching(hosts: &[Host]) -> Rules {
    let operations = OperationSet::from_iter([Operation::Connect, Operation::Send]);
    let protocols = ProtocolSet::from_iter(Protocol::ALL);
    hosts
        .iter()
        .filter(|host| !host.is_name())
        // Outbound operations to addresses are always a rule.
        .filter_map(|host| Rule::new(operations, protocols, End::new(host.clone(), PortSet::any())).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Answers {
        Answers::from_rules(&Rules::parse(text).unwrap()).unwrap()
    }

    fn connect(remote: &str) -> Tuple {
        let remote: std::net::SocketAddr = remote.parse().unwrap();
        Tuple::new(
            Operation::Connect,
            Protocol::Tcp,
            "0.0.0.0:0".parse().unwrap(),
            remote,
        )
    }

    #[test]
    fn the_standard_answers_are_those_of_the_outside() {
        let standard = Answers::standard();
        for (remote, permitted) in [
            ("8.8.8.8:443", true),
            ("192.0.2.1:443", true),
            ("240.0.0.1:1", true),
            ("[2606:4700::1]:443", true),
            ("[64:ff9b::808:808]:443", true),
            ("127.0.0.1:443", false),
            ("10.0.0.1:443", false),
            ("100.64.0.1:443", false),
            ("169.254.169.254:80", false),
            ("168.63.129.16:80", false),
            ("0.0.0.0:443", false),
            ("224.0.0.1:443", false),
            ("255.255.255.255:443", false),
            ("[::]:443", false),
            ("[::1]:443", false),
            ("[ff02::1]:443", false),
            ("[fd00::1]:443", false),
            ("[::ffff:10.0.0.1]:443", false),
            ("[64:ff9b::a00:1]:443", false),
            ("[2002:7f00:1::]:443", false),
        ] {
            assert_eq!(standard.permits(&connect(remote)), permitted, "{remote}");
            assert!(Answers::everything().permits(&connect(remote)));
            assert!(!Answers::nothing().permits(&connect(remote)));
        }
        assert_eq!(answers("connect tcp *.example.com:443"), standard);
        assert_eq!(
            answers("names to *; except metadata, loopback, private, link-local"),
            standard
        );
        assert_eq!(answers("names to 0.0.0.0/0, [::/0]"), Answers::everything());
        assert!(standard.is_subset(&Answers::everything()) && Answers::nothing().is_subset(&standard));
        assert!(!Answers::everything().is_subset(&standard));
    }

    #[test]
    fn exceptions_of_addresses_survive_rules_of_names() {
        let text = "connect tcp *.example.com:443; names to *; except private";
        let authority: Authority = text.parse().unwrap();
        // The set of names is the same without the exception, so its normal form has none.
        assert_eq!(authority.to_string(), "connect tcp *.example.com:443");
        let answers = answers(text);
        assert!(!answers.permits(&connect("10.0.0.1:443")));
        assert!(answers.permits(&connect("127.0.0.1:443")));
    }

    #[test]
    fn an_exception_takes_no_more_than_it_says() {
        let answers = answers("connect tcp any-name:*; except connect tcp 203.0.113.9:25, example.com");
        assert!(!answers.permits(&connect("203.0.113.9:25")));
        assert!(answers.permits(&connect("203.0.113.9:26")));
        let local = "0.0.0.0:0".parse().unwrap();
        let remote: std::net::SocketAddr = "203.0.113.9:25".parse().unwrap();
        assert!(answers.permits(&Tuple::new(Operation::Connect, Protocol::Udp, local, remote)));
        assert!(answers.permits(&Tuple::new(Operation::Send, Protocol::Udp, local, remote)));
        // Names take nothing from addresses.
        assert!(answers.permits(&connect("203.0.113.8:25")));
    }

    #[test]
    fn only_addresses_answer_and_only_for_outbound_operations() {
        let everything = Answers::everything();
        let local = "10.0.0.1:80".parse().unwrap();
        let remote: std::net::SocketAddr = "8.8.8.8:80".parse().unwrap();
        let name: crate::DnsName = "example.com".parse().unwrap();
        for tuple in [
            Tuple::new(Operation::Connect, Protocol::Tcp, local, (name, 80)),
            Tuple::new(Operation::Accept, Protocol::Tcp, local, remote),
            Tuple::new(Operation::Receive, Protocol::Udp, local, remote),
            Tuple::bind(Protocol::Tcp, local),
        ] {
            assert!(!everything.permits(&tuple), "{tuple}");
            assert_eq!(everything.explain(&tuple).lines().count(), 1);
        }
        // A field that was written by hand, not by the builder.
        let rules = Rules {
            names_to: vec![Host::AnyName],
            ..Rules::default()
        };
        assert_eq!(Answers::from_rules(&rules), Ok(Answers::nothing()));
    }

    #[test]
    fn a_child_has_at_most_what_the_parent_has() {
        let parent = answers("names to 10.0.0.0/8, public; except 10.9.0.0/16, 10.0.0.5:25");
        let only = |text: &str| parent.only(&Rules::parse(text).unwrap()).unwrap();
        let exactly = |text: &str| parent.exactly(&Rules::parse(text).unwrap());
        assert_eq!(only("connect tcp *:1"), parent);
        assert_eq!(
            only("names to private"),
            answers("names to 10.0.0.0/8; except 10.9.0.0/16, 10.0.0.5:25")
        );
        assert_eq!(only("names to loopback"), Answers::nothing());
        assert_eq!(only("except public"), only("names to 10.0.0.0/8"));
        assert_eq!(exactly("names to 10.0.0.1"), Ok(answers("names to 10.0.0.1")));
        assert_eq!(exactly("except public"), Ok(only("except public")));
        assert_eq!(
            exactly("names to 10.0.0.0/8; except 10.9.0.0/16, 10.0.0.5:25"),
            Ok(only("names to private"))
        );
        for (text, missing) in [
            ("names to loopback", "loopback"),
            ("names to 10.0.0.1, 10.9.0.1", "10.9.0.1"),
            ("names to 10.0.0.5", "10.0.0.5:25"),
        ] {
            let missing = missing.to_owned();
            assert_eq!(exactly(text), Err(DeriveError::Answers { missing }), "{text}");
        }
        let less = parent.except(&Rules::parse("connect tcp 10.0.0.0/16:443; connect tcp a.com:*").unwrap());
        let less = less.unwrap();
        assert!(less.is_subset(&parent) && !parent.is_subset(&less));
        assert!(!less.permits(&connect("10.0.0.1:443")) && less.permits(&connect("10.0.0.1:80")));
    }

    #[test]
    fn refusals_say_why() {
        for (text, remote, why) in [
            (
                "",
                "10.0.0.1:443",
                "10.0.0.1 is private, and the rules have no `names to` for it",
            ),
            (
                "",
                "169.254.169.254:80",
                "169.254.169.254 is metadata, and the rules have no `names to` for it",
            ),
            (
                "",
                "[ff02::1]:80",
                "ff02::1 is multicast, and the rules have no `names to` for it",
            ),
            (
                "",
                "[64:ff9b::a00:1]:443",
                "64:ff9b::a00:1 reaches 10.0.0.1, which is private, and the rules have no `names to` for it",
            ),
            (
                "names to private; except 10.0.0.1",
                "10.0.0.1:443",
                "10.0.0.1 is private, and names may stand for other private addresses only",
            ),
            (
                "except 203.0.113.9:25",
                "203.0.113.9:25",
                "203.0.113.9 is excepted for connect tcp to port 25",
            ),
            (
                "except 203.0.113.9",
                "203.0.113.9:25",
                "203.0.113.9 is excepted, or in no `names to` of the rules",
            ),
            (
                "names to private",
                "203.0.113.9:25",
                "203.0.113.9 is excepted, or in no `names to` of the rules",
            ),
            ("", "8.8.8.8:443", "names may stand for 8.8.8.8"),
        ] {
            assert_eq!(answers(text).explain(&connect(remote)), why, "{text}");
        }
    }
}
