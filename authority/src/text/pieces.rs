//! Sets of hosts in the words of rules: `*`, classes, prefixes, names, and what has to be left out.

use std::collections::BTreeMap;

use crate::address::IpRange;
use crate::class::Class;
use crate::name::{DnsName, NameKey};
use crate::region::{Addresses, Budget, Compound, Op, Steps, spans};
use crate::rules::Host;

/// A set of addresses.
pub(super) type AddressSet = Addresses<bool>;

/// One word for many hosts, and the hosts that it says too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) host: Host,
    pub(super) without: Vec<Host>,
}

impl Piece {
    fn of(host: Host) -> Piece {
        Piece {
            host,
            without: Vec::new(),
        }
    }
}

/// What may be written for a set of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// `*` is every ordinary address, and addresses can be left out again.
    Remote,
    /// `*` is every address, and nothing can be left out.
    Local,
}

impl End {
    fn ranges(self, host: &Host) -> &[IpRange] {
        match self {
            End::Remote => host.remote_ranges(),
            End::Local => host.local_ranges(),
        }
    }
}

/// The order in which words are tried: the widest first.
const WORDS: [Host; 10] = [
    Host::Any,
    Host::Class(Class::Public),
    Host::Class(Class::Private),
    Host::Class(Class::Loopback),
    Host::Class(Class::LinkLocal),
    Host::Class(Class::Multicast),
    Host::Class(Class::Documentation),
    Host::Class(Class::Unspecified),
    Host::Class(Class::Broadcast),
    Host::Class(Class::Metadata),
];

/// Words for a set of addresses.
///
/// A word is taken when it makes the whole shorter, what it says too much counted in.
pub(super) fn of_addresses(ranges: &[IpRange], end: End) -> Vec<Piece> {
    if let [range] = ranges {
        return vec![Piece::of(Host::Range(*range))];
    }
    let set = AddressSet::on(ranges, &true);
    let mut rest = set.clone();
    let mut count = spans(&rest).len();
    let mut pieces = Vec::new();
    while count > 1 {
        let words = WORDS.iter().filter_map(|word| try_word(word, &rest, &set, end));
        match words.min_by_key(|attempt| attempt.cost) {
            Some(best) if best.cost <= count => {
                pieces.push(best.piece);
                rest = best.rest;
                count = spans(&rest).len();
            }
            _ => break,
        }
    }
    match end {
        End::Remote => filled(&spans(&rest), &mut pieces),
        End::Local => pieces.extend(
            spans(&rest)
                .into_iter()
                .map(|range| Piece::of(Host::Range(range))),
        ),
    }
    pieces
}

/// A word that can be taken, and what it would leave.
struct Attempt {
    piece: Piece,
    rest: AddressSet,
    /// How many words and ranges there would be then.
    cost: usize,
}

fn try_word(word: &Host, rest: &AddressSet, set: &AddressSet, end: End) -> Option<Attempt> {
    let covered = AddressSet::on(end.ranges(word), &true);
    if apply(&covered, rest, Op::Intersect).is_empty() {
        return None;
    }
    let too_much = apply(&covered, set, Op::Subtract);
    if end == End::Local && !too_much.is_empty() {
        return None;
    }
    let without = holes(too_much, set);
    let rest = apply(rest, &covered, Op::Subtract);
    let cost = 1 + without.len() + spans(&rest).len();
    Some(Attempt {
        piece: Piece {
            host: word.clone(),
            without,
        },
        rest,
        cost,
    })
}

/// Words for what a word says too much. They may say more still, as long as none of `wanted` is in it.
fn holes(all: AddressSet, wanted: &AddressSet) -> Vec<Host> {
    let mut hosts = Vec::new();
    let mut holes = all.clone();
    let mut count = spans(&holes).len();
    for word in WORDS.iter().skip(1) {
        if count == 0 {
            break;
        }
        let covered = AddressSet::on(word.remote_ranges(), &true);
        let less = apply(&holes, &covered, Op::Subtract);
        if less == holes || !apply(&covered, wanted, Op::Intersect).is_empty() {
            continue;
        }
        let less_count = spans(&less).len();
        // A class that is wholly in the holes is a good word even where it is no shorter.
        let slack = usize::from(covered.is_subset(&all));
        if less_count + 1 < count + slack {
            hosts.push(word.clone());
            holes = less;
            count = less_count;
        }
    }
    hosts.extend(spans(&holes).into_iter().map(Host::Range));
    hosts
}

/// Ranges, where neighbours that are a prefix but for small gaps are written as that prefix.
fn filled(ranges: &[IpRange], pieces: &mut Vec<Piece>) {
    const LONGEST: usize = 8;
    let mut rest = ranges;
    while let [first, behind @ ..] = rest {
        let fill = (1..=behind.len().min(LONGEST)).rev().find_map(|more| {
            let whole = IpRange::new(first.first(), behind[more - 1].last())?;
            let gaps = gaps(&rest[..=more])?;
            let small = gaps.iter().map(size).fold(0u128, u128::saturating_add) < size(&whole) / 8;
            (whole.prefix_length().is_some() && small).then_some((more, whole, gaps))
        });
        let taken = match fill {
            Some((more, whole, gaps)) => {
                pieces.push(Piece {
                    host: Host::Range(whole),
                    without: gaps.into_iter().map(Host::Range).collect(),
                });
                more + 1
            }
            None => {
                pieces.push(Piece::of(Host::Range(*first)));
                1
            }
        };
        rest = &rest[taken..];
    }
}

/// What lies between the ranges, if all of it is prefixes.
fn gaps(ranges: &[IpRange]) -> Option<Vec<IpRange>> {
    ranges
        .windows(2)
        .map(|pair| {
            let gap = match (pair[0], pair[1]) {
                (IpRange::V4(_, last), IpRange::V4(first, _)) => {
                    IpRange::V4((u32::from(last) + 1).into(), (u32::from(first) - 1).into())
                }
                (IpRange::V6(_, last), IpRange::V6(first, _)) => {
                    IpRange::V6((u128::from(last) + 1).into(), (u128::from(first) - 1).into())
                }
                _ => return None,
            };
            gap.prefix_length().map(|_| gap)
        })
        .collect()
}

fn size(range: &IpRange) -> u128 {
    match *range {
        IpRange::V4(first, last) => u128::from(u32::from(last) - u32::from(first)) + 1,
        IpRange::V6(first, last) => (u128::from(last) - u128::from(first)).saturating_add(1),
    }
}

/// Applies an operation to sets of hosts, which always has a result.
pub(super) fn apply(a: &AddressSet, b: &AddressSet, op: Op) -> AddressSet {
    // The budget has no end, so there is no error.
    a.combine(b, op, &mut Budget::linear())
        .unwrap_or_else(|_| AddressSet::empty())
}

/// Words for a set of names.
///
/// The set is a tree: each name that has a boundary is in it or not, and so is everything below it that
/// has no boundary of its own. A change from out to in begins a piece, a change from in to out is left out
/// of the piece around it.
pub(super) fn of_names(intervals: &[(NameKey, Option<NameKey>)]) -> Vec<Piece> {
    let set: Steps<NameKey, bool> = Steps::on(intervals.to_vec(), &true);
    let boundaries: BTreeMap<NameKey, DnsName> = set
        .keys()
        .iter()
        .filter_map(|key| key.name())
        .map(|name| (name.key().clone(), name))
        .collect();
    let mut pieces = Vec::new();
    // For each name around the present one: where its subdomains end, and the piece they are in.
    let mut around: Vec<(Option<NameKey>, Option<usize>)> = vec![(None, None)];
    if *set.at(&NameKey::bottom()) {
        pieces.push(Piece::of(Host::AnyName));
        around[0].1 = Some(0);
    }
    for (key, name) in boundaries {
        while around.len() > 1
            && around
                .last()
                .is_some_and(|(end, _)| end.as_ref().is_some_and(|end| *end <= key))
        {
            around.pop();
        }
        let outer = around.last().and_then(|(_, piece)| *piece);
        let mut change = |host: Host, inside: bool| -> Option<usize> {
            match (outer, inside) {
                (None, true) => {
                    pieces.push(Piece::of(host));
                    Some(pieces.len() - 1)
                }
                (Some(piece), false) => {
                    pieces[piece].without.push(host);
                    None
                }
                (same, _) => same,
            }
        };
        change(Host::Name(name.clone()), *set.at(&key));
        let below = change(Host::Under(name), *set.at(&key.under()));
        around.push((Some(key.after()), below));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use crate::rules::Rules;

    /// What the rules are printed as.
    fn printed(text: &str) -> String {
        let rules = Rules::parse(text).unwrap();
        let authority = crate::Authority::from_rules(&rules).unwrap();
        let printed = authority.to_string();
        assert_eq!(printed.parse(), Ok(authority), "{text} printed as {printed}");
        printed
    }

    #[test]
    fn what_is_written_well_is_printed_as_it_was() {
        for text in [
            "",
            "connect tcp *:443; except private",
            "connect tcp *:443; except private, loopback, link-local, metadata",
            "connect tcp *:443; except 10.0.0.5",
            "connect tcp 10.0.0.0/8:443; except 10.0.0.5",
            "connect tcp 10.0.0.0/8:443,8000-8999; send udp 8.8.8.8:53",
            "connect tcp *:443; connect tcp 10.0.0.5:22",
            "connect tcp private:*",
            "connect tcp public:443",
            "connect tcp,udp loopback:*",
            "connect tcp 10.0.0.1:80; connect udp 10.0.0.2:80",
            "connect tcp 10.0.0.7-10.0.0.9:80",
            "connect tcp [2001:db8::/32]:80",
            "connect tcp [::/0]:80",
            "connect tcp 0.0.0.0/0:80",
            "connect tcp *.example.com:443",
            "connect tcp localhost.:443",
            "connect tcp any-name:443 without example.com, *.example.com",
            "connect tcp *.example.com:443 without a.example.com; connect tcp *.b.a.example.com:80",
            "connect,send tcp,udp *:*",
            "bind,listen,accept tcp *:8080",
            "bind tcp 127.0.0.1:80; listen tcp 127.0.0.1:80 from 192.168.0.0/16",
            "bind udp loopback:1024-65535",
            "listen tcp *:80 from *:1024-65535",
            "listen,accept,receive tcp,udp *:* from 10.0.0.1",
            "connect tcp 10.0.0.0/8:443 from 192.168.0.1; connect tcp 10.1.0.0/16:443 from 192.168.0.2:1024-65535",
            "connect tcp *:443 without private; connect udp 10.0.0.1:53",
        ] {
            assert_eq!(printed(text), text);
        }
    }

    #[test]
    fn other_spellings_have_the_same_normal_form() {
        for (text, normal) in [
            (
                "connect tcp 10.0.0.0/9:443; connect tcp 10.128.0.0/9:443",
                "connect tcp 10.0.0.0/8:443",
            ),
            ("connect tcp *:1-80; connect tcp *:81-90", "connect tcp *:1-90"),
            ("connect tcp *:80; connect tcp 10.0.0.1:80", "connect tcp *:80"),
            ("connect tcp *:80; connect udp *:80", "connect tcp,udp *:80"),
            (
                "connect tcp 127.0.0.0/8:80; connect tcp [::1]:80",
                "connect tcp loopback:80",
            ),
            (
                "connect tcp [::ffff:10.0.0.0/104]:80",
                "connect tcp 10.0.0.0/8:80",
            ),
            ("connect tcp *:80; except *", ""),
            (
                "connect tcp any-name:1; except *.com, a.b.com",
                "connect tcp any-name:1 without *.com",
            ),
        ] {
            assert_eq!(printed(text), normal);
        }
        assert_eq!(
            crate::Authority::everything().to_string(),
            "connect,send tcp,udp 0.0.0.0/0:*; connect,send tcp,udp [::/0]:*; connect,send tcp,udp any-name:*; \
             bind tcp,udp *:*; listen,accept,receive tcp,udp *:* from 0.0.0.0/0; \
             listen,accept,receive tcp,udp *:* from [::/0]"
        );
    }

    #[test]
    fn names_may_be_let_in_again_under_one_that_was_left_out() {
        let wide: crate::Authority = "connect tcp *.com:1 without *.example.com".parse().unwrap();
        let both = wide
            .union(&"connect tcp a.example.com:1".parse().unwrap())
            .unwrap();
        assert_eq!(
            both.to_string(),
            "connect tcp *.com:1 without *.example.com; connect tcp a.example.com:1"
        );
        assert_eq!(both.to_string().parse(), Ok(both));
    }
}
