//! The forms of rules: text with lists, comments and lines; builders; binary; serde.

use refcap_authority::{
    Authority, Class, DecodeError, End, Exception, Host, MAX_RULES, MAX_TEXT, Operation, OperationSet,
    Policy, PortSet, Protocol, Query, Rule, RuleError, Rules,
};

fn authority(text: &str) -> Authority {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_example_of_the_manual_is_read() {
    let text = "connect tcp 10.0.0.0/8:443,8000-8999; listen tcp 127.0.0.1:8080 from 192.168.0.0/16; \
                send udp 8.8.8.8:53; connect tcp *.example.com:443; except private";
    let rules = Rules::parse(text).unwrap();
    assert_eq!((rules.rules.len(), rules.exceptions.len()), (4, 1));
    assert_eq!(rules.to_string(), text);
}

/// Every rule of the tables and lists in the crate's documentation and in the grammar.
#[test]
fn documented_rules_are_rules() {
    let mut rules = 0;
    let mut check = |text: &str| {
        assert!(
            Rules::parse(text).is_ok(),
            "{text}: {}",
            Rules::parse(text).unwrap_err()
        );
        rules += 1;
    };
    for line in include_str!("../../src/lib.rs")
        .lines()
        .filter(|line| line.starts_with("//! | "))
    {
        let cell = line.split(" | ").nth(2).unwrap_or_default();
        for text in cell
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|text| text.contains(' ') && text.contains(['.', ':']))
        {
            check(text);
        }
    }
    let grammar = include_str!("../../GRAMMAR.md");
    let examples = grammar.split("## Examples").nth(1).unwrap();
    check(examples.split("```").nth(1).unwrap().trim_start_matches("text"));
    let queries = examples
        .split("```text")
        .nth(2)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    for line in queries.lines().filter(|line| !line.is_empty()) {
        assert!(line.parse::<Query>().is_ok(), "{line}");
    }
    assert!(rules > 12, "{rules}");
    let policies = grammar.split("## Terms and policies").nth(1).unwrap();
    let policy = policies
        .split("```text")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let policy = Policy::parse(policy).unwrap();
    assert_eq!(policy.rules.names_to.len(), 1);
    assert_eq!(policy.terms.label.as_deref(), Some("billing"));
}

#[test]
fn lines_comments_and_lists() {
    let one = authority(
        "connect,send tcp,udp 10.0.0.0/8:1,2-4,65535; except 10.0.0.1, 10.0.0.2:1,2, connect tcp 10.0.0.3:4",
    );
    let many = "
        # who may be reached
        connect, send  tcp,
            udp  10.0.0.0/8:1,
            2-4, # and
            65535
        ;; except 10.0.0.1
        except 10.0.0.2:1, 2
        except connect tcp 10.0.0.3:4 ;
    ";
    assert_eq!(one, authority(many));
    assert_eq!(
        authority("connect tcp *:1\r\nconnect tcp *:2\r\n"),
        authority("connect tcp *:1-2")
    );
    assert_eq!(
        authority("connect tcp *:80,81,82,0"),
        authority("connect tcp *:0,80-82")
    );
    let list =
        Rules::parse("except 10.0.0.1:80, 443, private, connect tcp *:1, 2 from 10.0.0.1:3,4, loopback")
            .unwrap();
    assert_eq!(list.exceptions.len(), 4);
    let broken =
        Rules::parse("except connect tcp *:1 without private, loopback; except 10.0.0.1:1; except *")
            .unwrap();
    assert_eq!(broken.exceptions.len(), 3);
    assert_eq!(Rules::parse(&broken.to_string()), Ok(broken));
}

#[test]
fn an_exception_wins_wherever_it_stands() {
    let text = "except 10.0.0.5:22; connect tcp 10.0.0.0/8:22,80; except connect udp 10.0.0.6:*; connect udp 10.0.0.0/8:1";
    let authority = authority(text);
    for (query, allowed) in [
        ("connect tcp 10.0.0.5:22", false),
        ("connect tcp 10.0.0.5:80", true),
        ("connect tcp 10.0.0.6:22", true),
        ("connect udp 10.0.0.6:1", false),
        ("connect udp 10.0.0.5:1", true),
    ] {
        assert_eq!(authority.allows(&query.parse().unwrap()), allowed, "{query}");
    }
}

#[test]
fn no_operation_implies_another() {
    for operation in Operation::ALL {
        let authority = authority(&format!("{operation} tcp *:*"));
        for other in Operation::ALL {
            let query = Query::new(other, Protocol::Tcp);
            assert_eq!(
                authority.allows(&query),
                other == operation,
                "{operation} and {other}"
            );
            assert!(!authority.allows(&Query::new(other, Protocol::Udp)));
        }
    }
}

#[test]
fn ports_and_prefixes_at_their_edges() {
    for (rule, inside, outside) in [
        ("connect tcp *:0", "1.2.3.4:0", "1.2.3.4:1"),
        ("connect tcp *:65535", "1.2.3.4:65535", "1.2.3.4:65534"),
        ("connect tcp *:1-65534", "1.2.3.4:65534", "1.2.3.4:65535"),
        ("connect tcp *:1-65534", "1.2.3.4:1", "1.2.3.4:0"),
        ("connect tcp 0.0.0.0/0:*", "255.255.255.255:0", "[::1]:0"),
        ("connect tcp 0.0.0.0/0:*", "0.0.0.0:65535", "[ff02::1]:0"),
        ("connect tcp 10.0.0.1/32:*", "10.0.0.1:0", "10.0.0.2:0"),
        (
            "connect tcp 255.255.255.255/32:*",
            "255.255.255.255:0",
            "255.255.255.254:0",
        ),
        ("connect tcp 128.0.0.0/1:*", "128.0.0.0:0", "127.255.255.255:0"),
        ("connect tcp [::/0]:*", "[::]:0", "0.0.0.0:0"),
        (
            "connect tcp [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128]:*",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:0",
            "[ffff::]:0",
        ),
        ("connect tcp [::1/128]:*", "[::1]:0", "[::2]:0"),
        ("connect tcp [8000::/1]:*", "[8000::]:0", "[7fff::]:0"),
    ] {
        let authority = authority(rule);
        let contains = |remote: &str| {
            let remote: std::net::SocketAddr = remote.parse().unwrap();
            let local = "10.0.0.1:1".parse().unwrap();
            authority.contains(&refcap_authority::Tuple::new(
                Operation::Connect,
                Protocol::Tcp,
                local,
                remote,
            ))
        };
        assert!(contains(inside) && !contains(outside), "{rule}");
    }
}

#[test]
fn builders_make_what_text_makes() {
    let rules: Rules = [
        Rule::connect(Protocol::Tcp)
            .over(Protocol::Udp)
            .to("10.0.0.0/8:443")
            .unwrap(),
        Rule::listen(Protocol::Tcp)
            .and(Operation::Accept)
            .at("127.0.0.1:80")
            .unwrap()
            .from("private")
            .unwrap(),
    ]
    .into_iter()
    .collect();
    let rules = rules
        .except(Class::Metadata)
        .except(End::new(Host::Any, PortSet::single(22)));
    assert_eq!(
        rules.to_string(),
        "connect tcp,udp 10.0.0.0/8:443; listen,accept tcp 127.0.0.1:80 from private; except metadata, *:22"
    );
    let typed = Rule::new(
        Operation::Connect,
        Protocol::Tcp,
        End::new("a.com".parse::<Host>().unwrap(), 443),
    )
    .unwrap();
    assert_eq!(typed.to_string(), "connect tcp a.com:443");
    assert!(Rule::connect(Protocol::Tcp).to("10.0.0.0/8").is_err());
    assert!(
        Rule::connect(Protocol::Tcp)
            .and(Operation::Bind)
            .to("*:1")
            .is_err()
    );
    assert!(Rule::bind(Protocol::Tcp).at("*:1").unwrap().from("*").is_err());
    let none: OperationSet = [].into_iter().collect();
    assert_eq!(
        Rule::new(none, Protocol::Tcp, End::any()),
        Err(RuleError::NoOperation)
    );
    assert_eq!(PortSet::from_ranges([(5, 4)]), None);
    assert_eq!(PortSet::from_ranges([]), None);
    assert_eq!(
        PortSet::from_ranges([(3, 9), (0, 2), (65535, 65535)])
            .unwrap()
            .to_string(),
        "0-9,65535"
    );
}

#[test]
fn bytes_that_are_no_rules_are_refused() {
    let rules =
        Rules::parse("connect tcp 10.0.0.0/8:443 from 10.0.0.1 without a.com; except private").unwrap();
    let bytes = rules.encode();
    assert_eq!(Rules::decode(&bytes), Ok(rules));
    assert_eq!(Rules::decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(
        Rules::decode(&[3, 0, 0]),
        Err(DecodeError::Invalid {
            at: 1,
            what: "version"
        })
    );
    assert_eq!(Rules::decode(&[1, 0, 0, 0]), Err(DecodeError::Trailing { at: 3 }));
    // Version 2 has hosts that names stand for; that there are none is said by version 1.
    assert_eq!(Rules::decode(&[2, 0, 0]), Err(DecodeError::Truncated));
    assert_eq!(
        Rules::decode(&[2, 0, 0, 0]),
        Err(DecodeError::Invalid {
            at: 4,
            what: "list of hosts"
        })
    );
    assert!(Rules::decode(&[2, 0, 0, 1, 0]).is_ok_and(|rules| rules.names_to == [Host::Any]));
    assert_eq!(
        Rules::decode(&[2, 0, 0, 1, 0, 9]),
        Err(DecodeError::Trailing { at: 5 })
    );
    // A name stands for addresses, not for names.
    assert_eq!(
        Rules::decode(&[2, 0, 0, 1, 1]),
        Err(DecodeError::Rule {
            at: 5,
            error: RuleError::NameAsAnswer
        })
    );
    assert_eq!(
        Query::decode(&[2, 0, 0, 0, 0]),
        Err(DecodeError::Invalid {
            at: 1,
            what: "version"
        })
    );
    // Counts that promise much cost nothing, and counts have one spelling.
    assert_eq!(
        Rules::decode(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(DecodeError::TooMany)
    );
    assert_eq!(Rules::decode(&[1, 0x80, 0x80, 0x0f]), Err(DecodeError::Truncated));
    for bytes in [
        &[1, 0x80, 0x00, 0][..],
        &[1, 1, 0x40, 1, 0, 0, 0, 0],
        &[1, 1, 1, 4, 0, 0, 0, 0],
        &[1, 1, 1, 1, 4, 0, 0, 0],
        &[1, 1, 1, 1, 0, 9, 0, 0],
        &[1, 1, 1, 1, 0, 2, 9, 0, 0],
        &[1, 1, 1, 1, 0, 0, 1, 0, 2, 0, 1, 0],
        &[1, 1, 1, 1, 0, 0, 2, 0, 1, 0, 2, 0, 3, 0, 4, 0],
        &[1, 1, 1, 1, 0, 4, 10, 0, 0, 1, 10, 0, 0, 1, 0, 0],
        &[1, 1, 1, 1, 0, 7, 2, b'A', b'b', 0, 0],
        &[1, 1, 1, 1, 2, 0, 0, 0, 0],
    ] {
        assert!(
            matches!(Rules::decode(bytes), Err(DecodeError::Invalid { .. })),
            "{bytes:?}: {:?}",
            Rules::decode(bytes)
        );
    }
    // Connect and bind in one rule.
    assert!(matches!(
        Rules::decode(&[1, 1, 3, 1, 0, 0, 0, 0]),
        Err(DecodeError::Rule { .. })
    ));
    // No operation.
    assert!(matches!(
        Rules::decode(&[1, 1, 0, 1, 0, 0, 0, 0]),
        Err(DecodeError::Rule { .. })
    ));
    let query: Query = "connect tcp a.com:1 from [2001:db8::1]:2".parse().unwrap();
    assert_eq!(Query::decode(&query.encode()), Ok(query));
    assert!(Query::decode(&[1, 6, 0, 0, 0]).is_err());
    assert!(Query::decode(&[1, 0, 0, 7, 1, b'a', 0, 1, 0]).is_err());
    assert!(Query::decode(&[1, 1, 0, 0, 3, 1, 2, 3, 4, 0, 0]).is_err());
}

#[test]
fn a_policy_of_two_hundred_thousand_rules_is_read() {
    let mut text = String::new();
    for n in 0u32..200_000 {
        // A list as operators have them: single hosts in no order, a few kinds of ports.
        let ip = std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761));
        text.push_str(&format!("connect tcp {ip}:{}\n", [443, 80, 8443][n as usize % 3]));
    }
    assert!(text.len() < MAX_TEXT);
    let policy = authority(&text);
    assert!(policy.allows(&"connect tcp 0.0.0.0:443".parse().unwrap()));
    assert!(policy.cells() > 200_000);
    assert!(Rules::parse(&"#".repeat(MAX_TEXT + 1)).is_err());
    assert!(Rules::parse(&"bind udp *:1;".repeat(MAX_RULES + 1)).is_err());
    let exceptions = format!("except {}", vec!["*"; MAX_RULES + 1].join("; except "));
    assert!(Rules::parse(&exceptions).is_err());
}

#[test]
fn a_set_that_explodes_is_an_error() {
    // Each rule is small; the set of all of them is the product of their lists.
    let ports = |offset: usize, step: usize| {
        let list: Vec<String> = (offset..65536)
            .step_by(step)
            .map(|port| port.to_string())
            .collect();
        list.join(",")
    };
    let mut text = String::new();
    for n in 0..400usize {
        let (a, b) = (ports(n, 401), ports(n + 3, 409));
        text.push_str(&format!(
            "connect tcp 10.0.0.0-10.0.{}.{}:{a} from 10.{}.0.0-10.255.0.0:{b}\n",
            n / 200,
            n % 200,
            n / 2
        ));
    }
    let rules = Rules::parse(&text).unwrap();
    assert_eq!(Authority::from_rules(&rules), Err(refcap_authority::TooComplex));
    assert!(matches!(
        text.parse::<Authority>(),
        Err(refcap_authority::TextError::TooComplex(_))
    ));
    // The explanation of one query needs few of them.
    assert!(
        !rules
            .explain(&"connect tcp 10.0.0.1:1 from 9.0.0.1:1".parse().unwrap())
            .is_allowed()
    );
    let exception = Exception::from(Class::Private);
    assert_eq!(exception.to_string(), "private");
}
