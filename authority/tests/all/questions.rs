//! What an authority answers: explanations, errors of derivation, local ranges.

use refcap_authority::{
    Authority, DeriveError, Family, Field, MAX_CELLS, Nearest, Operation, Protocol, Query, Remote, Rules,
    Tuple, Verdict,
};

fn authority(text: &str) -> Authority {
    text.parse().unwrap()
}

#[test]
fn explanations_name_the_rule_and_the_field() {
    let text = "connect tcp 10.0.0.0/8:443; connect tcp *.example.com:443 from 10.0.0.1:1024-65535; \
                listen tcp 127.0.0.1:80 from 192.168.0.0/16; connect tcp [64:ff9b::/96]:443; \
                connect udp *:53 without 9.9.9.9; bind tcp 127.0.0.1:80; except 10.0.0.5, metadata:443";
    let rules = Rules::parse(text).unwrap();
    for (query, answer) in [
        (
            "connect tcp 10.1.2.3:443",
            "is allowed by \"connect tcp 10.0.0.0/8:443\"",
        ),
        (
            "connect tcp 10.1.2.3:80",
            "nearest is \"connect tcp 10.0.0.0/8:443\": port 80 is not in 443",
        ),
        (
            "connect tcp 11.1.2.3:443",
            "\"connect tcp 10.0.0.0/8:443\": 11.1.2.3 is not in 10.0.0.0/8",
        ),
        ("send tcp 10.1.2.3:443", "operation send is not in connect"),
        (
            "connect udp 10.1.2.3:443",
            "\"connect udp *:53 without 9.9.9.9\": port 443 is not in 53",
        ),
        (
            "connect tcp 10.0.0.5:443",
            "is excepted by \"10.0.0.5\", though \"connect tcp 10.0.0.0/8:443\" would allow it",
        ),
        (
            "connect tcp a.example.com:443 from 10.0.0.2:1024",
            "local address 10.0.0.2 is not in 10.0.0.1",
        ),
        (
            "connect tcp a.example.com:443 from 10.0.0.1:1023",
            "local port 1023 is not in 1024-65535",
        ),
        (
            "connect tcp example.com:443",
            "example.com is not in *.example.com",
        ),
        (
            "connect udp a.org:53",
            "a.org is a name, and `*` stands for addresses only",
        ),
        (
            "connect udp 224.0.0.1:53",
            "224.0.0.1 (multicast) is not an ordinary address, as `*` asks for",
        ),
        (
            "connect udp 9.9.9.9:53",
            "9.9.9.9 is in 9.9.9.9, which the rule leaves out",
        ),
        (
            "listen tcp 127.0.0.1:80 from 10.0.0.1:5",
            "10.0.0.1 is not in 192.168.0.0/16",
        ),
        ("bind tcp 127.0.0.1:81", "local port 81 is not in 80"),
        ("bind tcp 127.0.0.1:80", "is allowed by \"bind tcp 127.0.0.1:80\""),
        (
            "connect tcp [64:ff9b::808:808]:443",
            "reaches 8.8.8.8, which must be allowed too:\nno rule allows connect tcp 8.8.8.8:443; nearest is",
        ),
    ] {
        let explanation = rules.explain(&query.parse().unwrap()).to_string();
        assert!(explanation.contains(answer), "{explanation}");
        assert!(explanation.contains(query), "{explanation}");
    }
    let explanation = rules.explain(&"connect tcp 10.1.2.3:80".parse().unwrap());
    let Verdict::NoRule {
        nearest: Some(Nearest { rule, field, .. }),
    } = explanation.verdict
    else {
        panic!("{explanation}");
    };
    assert_eq!((rule.index, field), (0, Field::RemotePort));
    assert_eq!(
        Authority::nothing()
            .explain(&"bind tcp 1.2.3.4:5".parse().unwrap())
            .to_string(),
        "no rule allows bind tcp 1.2.3.4:5"
    );
}

#[test]
fn queries_with_open_ends_ask_for_any() {
    let authority =
        authority("connect tcp 10.0.0.0/8:443 from 10.0.0.1; accept tcp 10.0.0.1:80 from 192.168.0.0/16");
    for (query, allowed) in [
        ("connect tcp 10.1.2.3:443", true),
        ("connect tcp * from 10.0.0.1:5", true),
        ("connect tcp * from 10.0.0.2:5", false),
        ("connect tcp *", true),
        ("connect udp *", false),
        ("accept tcp 10.0.0.1:80", true),
        ("accept tcp 10.0.0.2:80", false),
        ("accept tcp * from 192.168.0.1:1", true),
        ("accept tcp * from 192.169.0.1:1", false),
        ("bind tcp *", false),
    ] {
        assert_eq!(
            authority.allows(&query.parse::<Query>().unwrap()),
            allowed,
            "{query}"
        );
    }
}

#[test]
fn a_request_for_more_is_told_what_is_missing() {
    let parent = authority("connect tcp 10.0.0.0/8:443; listen tcp 127.0.0.1:80 from private");
    for (request, index, field, missing) in [
        (
            "connect tcp 10.0.0.1:443; connect tcp 10.0.0.1:443-444",
            1,
            Field::RemotePort,
            "connect tcp 10.0.0.1:444",
        ),
        (
            "connect tcp,udp 10.0.0.1:443",
            0,
            Field::Protocol,
            "connect udp 10.0.0.1:443",
        ),
        (
            "connect,send tcp 10.0.0.1:443",
            0,
            Field::Operation,
            "send tcp 10.0.0.1:443",
        ),
        (
            "connect tcp 10.0.0.0/7:443",
            0,
            Field::RemoteHost,
            "connect tcp 11.0.0.0/8:443",
        ),
        (
            "listen tcp 127.0.0.1:80-81 from 10.0.0.1",
            0,
            Field::LocalPort,
            "listen tcp 127.0.0.1:81 from 10.0.0.1",
        ),
        (
            "listen tcp loopback:80 from 10.0.0.1",
            0,
            Field::LocalHost,
            "listen tcp 127.0.0.0:80 from 10.0.0.1",
        ),
        (
            "connect tcp *.example.com:443",
            0,
            Field::RemoteHost,
            "connect tcp *.example.com:443",
        ),
    ] {
        match parent.exactly(&Rules::parse(request).unwrap()) {
            Err(DeriveError::NotSubset {
                index: at,
                field: what,
                missing: piece,
                ..
            }) => {
                assert_eq!((at, what, &*piece), (index, field, missing), "{request}");
            }
            other => panic!("{request}: {other:?}"),
        }
    }
    let error = parent
        .exactly(&Rules::parse("connect tcp 10.0.0.1:80").unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"connect tcp 10.0.0.1:80\" asks for more than is allowed: \"connect tcp 10.0.0.1:80\" is missing \
         (port 80 is not in 443)"
    );
}

#[test]
fn local_ranges_say_where_a_socket_may_be_bound() {
    let authority = authority(
        "connect tcp 8.8.8.8:1 from 10.0.0.1:5,7-9; connect tcp 8.8.8.8:1 from [2001:db8::/32]; \
         connect tcp [64:ff9b::/96]:1; connect tcp 9.9.9.9:1; bind tcp 127.0.0.1:80",
    );
    let towards = |remote: &str| {
        let remote = Remote::from(remote.parse::<std::net::SocketAddr>().unwrap());
        authority.local_ranges(Operation::Connect, Protocol::Tcp, &remote)
    };
    let listed: Vec<String> = towards("8.8.8.8:1")
        .iter()
        .map(|(range, ports)| format!("{range} {ports:?}"))
        .collect();
    assert_eq!(
        listed,
        ["10.0.0.1 [(5, 5), (7, 9)]", "[2001:db8::/32] [(0, 65535)]"]
    );
    assert!(towards("8.8.8.8:2").is_empty());
    assert!(!towards("8.8.8.8:1").is_unrestricted(Family::V4));
    assert!(
        towards("9.9.9.9:1").is_unrestricted(Family::V4) && towards("9.9.9.9:1").is_unrestricted(Family::V6)
    );
    // Through NAT64 only from where the IPv4 host may be reached too.
    let through: Vec<_> = towards("[64:ff9b::808:808]:1").iter().collect();
    assert_eq!(through, towards("8.8.8.8:1").iter().collect::<Vec<_>>());
    let anywhere = Remote::from(Tuple::NOWHERE);
    assert!(
        authority
            .local_ranges(Operation::Bind, Protocol::Tcp, &anywhere)
            .contains("127.0.0.1:80".parse().unwrap())
    );
}

#[test]
fn sizes_and_ends() {
    assert!(Authority::nothing().is_empty() && Authority::default() == Authority::nothing());
    assert!(!Authority::everything().is_empty() && Authority::everything().cells() < 200);
    let rules = authority("connect tcp 10.0.0.0/8:443");
    assert!((1..100).contains(&rules.cells()) && rules.cells() < MAX_CELLS);
    assert!(Authority::everything().contains(&Tuple::bind(Protocol::Udp, "0.0.0.0:0".parse().unwrap())));
    // A bind has no remote end, whatever its tuple is made with.
    let remote: std::net::SocketAddr = "1.2.3.4:5".parse().unwrap();
    let bind = Tuple::new(Operation::Bind, Protocol::Udp, remote, remote);
    assert_eq!(bind, Tuple::bind(Protocol::Udp, remote));
    assert_eq!(bind.to_string(), "bind udp 1.2.3.4:5");
    assert!(
        authority("bind udp *:5; except *").contains(&bind),
        "an exception of hosts does not touch binds"
    );
}
