//! Authority that is derived by simple requests: it is told from its parent and the request until something
//! needs its set, and nobody may see the difference.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use refcap_authority::{
    Answers, Authority, End, Host, IpRange, MAX_CELLS, Operation, PortSet, Protocol, Query, Remote, Request,
    Rule, Rules, TooComplex, Tuple,
};

use crate::model::{MRules, rules, simple_rules, universe};
use crate::properties::cases;

thread_local! {
    static UNIVERSE: Vec<Tuple> = universe().into_iter().chain(embedding()).collect();
}

/// Tuples towards addresses that embed others, of which the universe has few, and in mapped spelling.
fn embedding() -> Vec<Tuple> {
    let remotes = [
        "[::ffff:10.0.0.1]:443",
        "[64:ff9b::808:808]:443",
        "[2002:a00:1::]:80",
        "[2001:0:a00:1::f5ff:fffe]:80",
        "[64:ff9b:1:a00:1:800:1::]:0",
        "[::10.0.0.2]:65535",
        "[fd00::5efe:a00:1]:443",
    ];
    let locals = ["0.0.0.0:0", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:443"];
    let mut tuples = Vec::new();
    for operation in Operation::ALL {
        for remote in remotes {
            let remote: std::net::SocketAddr = remote.parse().unwrap();
            tuples.extend(
                locals.map(|local| Tuple::new(operation, Protocol::Tcp, local.parse().unwrap(), remote)),
            );
        }
    }
    tuples
}

fn rules_of(model: &MRules) -> Rules {
    Rules::parse(&model.text()).unwrap()
}

/// The child by sets, made at once.
fn by_sets(parent: &Authority, request: &Rules) -> Result<Authority, TooComplex> {
    parent.intersect(&Authority::from_rules(request)?)
}

/// Every question about one tuple has the same answer.
fn same_answers(derived: &Authority, made: &Authority, tuple: &Tuple) {
    let context = || format!("{tuple} of {made}");
    assert_eq!(derived.contains(tuple), made.contains(tuple), "{}", context());
    assert_eq!(derived.permits(tuple), made.permits(tuple), "{}", context());
    let query = Query::from(tuple.clone());
    for query in [
        query.clone(),
        Query {
            local: None,
            ..query.clone()
        },
        Query {
            remote: None,
            ..query.clone()
        },
        Query {
            local: None,
            remote: None,
            ..query
        },
    ] {
        assert_eq!(derived.allows(&query), made.allows(&query), "{query} of {made}");
    }
    let locals = |authority: &Authority, remote: &Remote| {
        let ranges = authority.local_ranges(tuple.operation(), tuple.protocol(), remote);
        assert_eq!(
            ranges.contains(tuple.local()),
            ranges.iter().any(|(range, ports)| {
                range.contains(tuple.local().ip())
                    && ports
                        .iter()
                        .any(|(first, last)| (*first..=*last).contains(&tuple.local().port()))
            })
        );
        ranges.iter().collect::<Vec<_>>()
    };
    assert_eq!(
        locals(derived, tuple.remote()),
        locals(made, tuple.remote()),
        "{}",
        context()
    );
}

/// And so has every question about the whole.
fn same_whole(derived: &Authority, made: &Authority) {
    assert_eq!(derived.to_string(), made.to_string());
    assert_eq!(derived.to_rules(), made.to_rules());
    assert_eq!(derived, made);
    assert_eq!(derived.is_empty(), made.is_empty());
    assert_eq!(derived.cells(), made.cells());
    assert!(derived.is_subset(made) && made.is_subset(derived));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Each question is the first one that a child is asked, for some of the tuples: the answer is the same
    /// before the set is made and after.
    #[test]
    fn derived_authority_is_the_intersection(
        parent in rules(),
        requests in prop::collection::vec(simple_rules(), 1..5),
        start in 0usize..997,
    ) {
        let parent = parent.authority();
        let requests: Vec<Rules> = requests.iter().map(rules_of).collect();
        let derive = || requests.iter().fold(parent.clone(), |parent, rules| {
            parent.only_request(&Request::from(rules.clone())).unwrap()
        });
        let made = requests.iter().fold(parent.clone(), |parent, rules| by_sets(&parent, rules).unwrap());
        let derived = derive();
        UNIVERSE.with(|universe| {
            // These do not make the set of an outbound child, so they come first.
            for tuple in universe.iter().skip(start % 7).step_by(7) {
                assert_eq!(derived.contains(tuple), made.contains(tuple), "{tuple} of {made}");
                assert_eq!(derived.permits(tuple), made.permits(tuple), "{tuple} of {made}");
            }
            for tuple in universe.iter().skip(start).step_by(997) {
                same_answers(&derive(), &made, tuple);
            }
            prop_assert!(derived.is_subset(&parent));
            same_whole(&derived, &made);
            for tuple in universe.iter().skip(start).step_by(997) {
                same_answers(&derived, &made, tuple);
                let query = Query::from(tuple.clone());
                assert_eq!(derive().explain(&query), made.explain(&query));
            }
            Ok(())
        })?;
        let other = parent.except(&requests[0]).unwrap();
        prop_assert_eq!(derive().union(&other), made.union(&other));
        prop_assert_eq!(other.subtract(&derive()), other.subtract(&made));
        prop_assert_eq!(derive().exactly(&requests[0]), made.exactly(&requests[0]));
        prop_assert_eq!(
            derive().exactly_request(&Request::from(requests[0].clone())),
            made.exactly(&requests[0])
        );
    }

    /// Longer rows of requests than may wait, each of them wide enough to leave something.
    #[test]
    fn long_rows_are_intersections_too(parent in rules(), from in 0usize..40, start in 0usize..997) {
        let parent = parent.authority();
        let texts = [
            "connect,send tcp,udp *:*",
            "connect,send tcp,udp 0.0.0.0/0:0-65534",
            "connect,send tcp,udp 1.0.0.0-254.0.0.0:80,443,65535",
            "connect tcp,udp 10.0.0.0/8:*",
        ];
        let (mut derived, mut made) = (parent.clone(), parent);
        for step in from..from + 20 {
            let request = Rules::parse(texts[(step * step / 20) % texts.len()]).unwrap();
            derived = derived.only(&request).unwrap();
            made = by_sets(&made, &request).unwrap();
            UNIVERSE.with(|universe| {
                for tuple in universe.iter().skip(start).step_by(997) {
                    assert_eq!(derived.permits(tuple), made.permits(tuple), "{tuple} of {made}");
                }
            });
        }
        same_whole(&derived, &made);
    }

    #[test]
    fn what_answers_are_left_says_the_request(parent in rules(), model in prop_oneof![rules(), simple_rules()]) {
        let answers = Answers::from_rules(&rules_of(&parent)).unwrap();
        let asked = rules_of(&model);
        let request = Request::from(asked.clone());
        prop_assert_eq!(answers.only_request(&request), answers.only(&asked));
        prop_assert_eq!(answers.exactly_request(&request), answers.exactly(&asked));
        prop_assert_eq!(answers.except_request(&request), answers.except(&asked));
        if request.leaves_answers() {
            prop_assert_eq!(answers.only(&asked), Ok(answers.clone()));
            prop_assert_eq!(answers.exactly(&asked), Ok(answers));
        }
        let parent = parent.authority();
        prop_assert_eq!(parent.only_request(&request), by_sets(&parent, &asked));
        prop_assert_eq!(parent.except_request(&request), parent.except(&asked));
    }

    #[test]
    fn requests_are_read_as_rules_are(
        model in prop_oneof![3 => simple_rules(), 1 => rules()],
        changes in prop::collection::vec((0usize..64, 0u8..4, any::<u8>()), 0..4),
    ) {
        let mut bytes = rules_of(&model).encode();
        read_alike(&bytes);
        for (place, change, byte) in changes {
            let place = place % (bytes.len() + 1);
            match change {
                0 => bytes.insert(place, byte),
                1 => bytes.truncate(place),
                2 if place < bytes.len() => { bytes.remove(place); }
                _ if place < bytes.len() => bytes[place] = byte % 10,
                _ => bytes.push(byte % 10),
            }
            read_alike(&bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_as_rules_are(
        head in prop_oneof![
            Just(vec![]),
            Just(vec![1, 1, 1, 1, 0]),
            Just(vec![1, 1, 17, 3, 0]),
            Just(vec![1, 1, 2, 1, 0]),
            Just(vec![1, 1, 17, 3, 0, 7]),
        ],
        tail in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..24),
            prop::collection::vec(0u8..10, 0..24),
            prop::collection::vec(prop::sample::select(b"\x00\x01\x02\x03\x04\x05ab0x-._".to_vec()), 0..12),
        ],
    ) {
        read_alike(&[head, tail].concat());
    }
}

fn read_alike(bytes: &[u8]) {
    let rules = Rules::decode(bytes);
    let request = Request::decode(bytes);
    assert_eq!(
        request.as_ref().map(Request::to_rules),
        rules.as_ref().cloned(),
        "{bytes:?}"
    );
    assert_eq!(request, rules.map(Request::from), "{bytes:?}");
}

#[test]
fn the_edges_of_simple_requests_are_read_as_rules_are() {
    let ports: [&[u8]; 12] = [
        &[0],
        &[1, 0, 0, 255, 255],
        &[1, 0, 0, 255, 254],
        &[1, 255, 255, 255, 255],
        &[1, 0, 2, 0, 1],
        &[2, 0, 0, 0, 0, 0, 1, 0, 1],
        &[2, 0, 0, 0, 0, 0, 2, 255, 255],
        &[2, 0, 2, 255, 255, 0, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 2, 0, 2, 0, 4, 0, 4, 0, 6, 0, 6],
        &[5, 0, 0, 0, 0, 0, 2, 0, 2, 0, 4, 0, 4, 0, 6, 0, 6, 0, 8, 0, 8],
        &[0x81, 0, 0, 0, 0, 0],
        &[1, 0, 0],
    ];
    let v6 = |low: [u8; 6]| [&[0; 10][..], &low[..]].concat();
    let name = |tag: u8, name: &str| [&[tag, name.len() as u8][..], name.as_bytes()].concat();
    let mut hosts: Vec<Vec<u8>> = vec![
        vec![0],
        vec![1],
        vec![2, 0],
        vec![2, 8],
        vec![2, 9],
        vec![3, 10, 0, 0, 1],
        vec![4, 10, 0, 0, 1, 10, 0, 0, 2],
        vec![4, 10, 0, 0, 1, 10, 0, 0, 1],
        vec![4, 10, 0, 0, 2, 10, 0, 0, 1],
        vec![9],
    ];
    for low in [
        [0; 6],
        [255, 255, 10, 0, 0, 1],
        [255, 255, 255, 255, 255, 255],
        [255, 254, 0, 0, 0, 0],
    ] {
        hosts.push([&[5][..], &v6(low)].concat());
        hosts.push([&[6][..], &v6(low), &[255; 16]].concat());
        hosts.push([&[6][..], &[0; 16], &v6(low)].concat());
    }
    for tag in [7, 8] {
        let long = format!("{}.com", "a".repeat(60));
        for text in [
            "",
            "com",
            "example.com",
            "example.com.",
            "Example.com",
            "a..b",
            "-a.com",
            "a-.com",
            "a.-b",
            "a_b.c",
            "_a.b",
            "a.1",
            "a.0x",
            "a.1b",
            "xn--bcher-kva.example",
            "xn--a.example",
            "a--b.example",
            "1.2.3.4",
            "a.b\u{fc}",
            &long,
            &long[20..],
            &long[24..],
            &long[23..],
        ] {
            hosts.push(name(tag, text));
        }
    }
    for operations in [0, 1, 2, 17, 18, 46, 63, 64, 128] {
        for protocols in [0, 1, 2, 3, 4] {
            for host in &hosts {
                for ports in ports {
                    for end in [&[0][..], &[], &[0, 0], &[1, 0, 0, 0]] {
                        read_alike(&[&[1, 1, operations, protocols, 0], &host[..], ports, end].concat());
                    }
                }
            }
        }
    }
}

/// A program may derive from what it derived, and so on: neither dropping nor asking goes deep, and neither
/// costs more the longer the row is.
#[test]
fn a_hundred_thousand_derivations_in_a_row_cost_one_after_the_other() {
    const ALL: usize = 100_000;
    let start = Instant::now();
    let request = Request::from(Rules::parse("connect tcp 10.0.0.0/8:443").unwrap());
    assert!(request.leaves_answers());
    let tuple = |port: u16| {
        let remote: std::net::SocketAddr = ([10, 0, 0, 1], port).into();
        Tuple::new(
            Operation::Connect,
            Protocol::Tcp,
            "10.0.0.9:1".parse().unwrap(),
            remote,
        )
    };
    let mut all = vec![
        "connect tcp *:*; connect tcp any-name:*"
            .parse::<Authority>()
            .unwrap(),
    ];
    let mut first = Duration::ZERO;
    for step in 0..ALL {
        let child = all[step].only_request(&request).unwrap();
        assert!(child.contains(&tuple(443)) && !child.contains(&tuple(80)));
        all.push(child);
        if step == ALL / 10 {
            first = start.elapsed();
        }
    }
    let whole = start.elapsed();
    assert!(
        whole < first * 20 + Duration::from_secs(5),
        "{first:?}, then {whole:?}"
    );
    let last = all.pop().unwrap();
    assert_eq!(last, by_sets(&all[0], &request.to_rules()).unwrap());
    drop(all);
    assert!(last.permits(&tuple(443)));
    // Without anything else that holds on to those before.
    let mut last = last;
    for _ in 0..1000 {
        last = last.only_request(&request).unwrap();
    }
    assert!(last.permits(&tuple(443)));
}

/// A rule of every host and these ports.
fn connect(host: impl Into<Host>, ports: impl Into<PortSet>) -> Rule {
    Rule::new(Operation::Connect, Protocol::Tcp, End::new(host, ports)).unwrap()
}

fn host(n: u32) -> Host {
    // Every other address, so that no two touch.
    Host::from(IpRange::single(
        std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n).into(),
    ))
}

/// The same result or the same error, one link after the other.
fn the_same(parent: &Authority, requests: &[&str]) -> bool {
    let (mut derived, mut made) = (Ok(parent.clone()), Ok(parent.clone()));
    for request in requests {
        let request = Rules::parse(request).unwrap();
        derived = derived.and_then(|parent: Authority| parent.only(&request));
        made = made.and_then(|parent: Authority| by_sets(&parent, &request));
        assert_eq!(derived.is_err(), made.is_err(), "{request}");
    }
    if let (Ok(derived), Ok(made)) = (&derived, &made) {
        assert_eq!(derived.cells(), made.cells());
        assert!(derived == made, "{requests:?}");
    }
    made.is_ok()
}

#[test]
fn what_is_too_complex_is_so_at_once() {
    let ports = |offset: u16, step: usize, count: usize| {
        let ports = (offset..).step_by(step).take(count).map(|port| (port, port));
        PortSet::from_ranges(ports).unwrap()
    };
    // Two lists of ports that many hosts share. What is made of them is shared by none.
    let (one, other) = (ports(0, 2, 15), ports(40, 2, 15));
    let shared = |hosts: u32| {
        let rules = (0..hosts).map(|n| connect(host(n), [&one, &other][n as usize % 2].clone()));
        Authority::from_rules(&rules.collect()).unwrap()
    };
    let few = shared(61_000);
    assert!(few.cells() < MAX_CELLS / 10);
    assert!(the_same(&few, &["connect tcp *:1-65534"]));
    let many = shared(64_000);
    assert!(!the_same(&many, &["connect tcp *:*", "connect tcp *:1-65534"]));
    assert!(the_same(
        &many,
        &["connect tcp 10.0.0.2:1-65534", "connect tcp *:*"]
    ));

    // Lists that nobody shares, up to the most cells that there may be.
    let own = (0..66).map(|n| connect(host(n), ports(n as u16, 3, 15_000)));
    let own = Authority::from_rules(&own.collect()).unwrap();
    assert!(own.cells() > MAX_CELLS - 100_000);
    for requests in [
        &["connect tcp *:1-65534"][..],
        &[
            "connect tcp 10.0.0.4:1-65534",
            "connect tcp *:9,12,15",
            "connect udp *:*",
        ],
        &["listen tcp *:*"],
    ] {
        the_same(&own, requests);
    }
}

/// Towards an address that embeds others, the local ends are an intersection of their own.
#[test]
fn long_lists_of_local_ends_are_the_same() {
    let list = |offset: u16| {
        let ports = (offset..=65_000).step_by(2).map(|port| port.to_string());
        ports.collect::<Vec<_>>().join(",")
    };
    let text = format!(
        "connect tcp [64:ff9b::/96]:443 from 10.0.0.0/8:{}; connect tcp 10.0.0.1:443 from 10.0.0.0/16:{}",
        list(0),
        list(1)
    );
    for text in [
        &text,
        "connect tcp *:443 from 10.0.0.1:1-5,7; connect tcp [64:ff9b::/96]:443 from 10.0.0.0/8:3-9",
    ] {
        let parent: Authority = text.parse().unwrap();
        let request = Rules::parse("connect,send tcp *:443").unwrap();
        let (derived, made) = (
            parent.only(&request).unwrap(),
            by_sets(&parent, &request).unwrap(),
        );
        let remote: std::net::SocketAddr = "[64:ff9b::a00:1]:443".parse().unwrap();
        let ranges = |authority: &Authority| {
            let ranges = authority.local_ranges(Operation::Connect, Protocol::Tcp, &remote.into());
            ranges.iter().collect::<Vec<_>>()
        };
        assert_eq!(ranges(&derived), ranges(&made));
        let query = Query::new(Operation::Connect, Protocol::Tcp).remote(remote);
        assert_eq!(derived.allows(&query), made.allows(&query));
    }
}
