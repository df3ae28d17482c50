//! What a wrong text is answered with: where, what would be right, what is there.

use refcap_authority::{Policy, Query, Rules, Terms};

const OPERATIONS: &str = "one of connect, send (outbound), bind, listen, accept, receive (inbound)";
const V4: &str = "an IPv4 address of four decimal parts from 0 to 255, without leading zeros";
const PORTS: &str = "`:` and ports behind the host";
const NAME: &str = "`*`, `any-name`, an address, a class (loopback, private, link-local, metadata, multicast, \
                    broadcast, unspecified, documentation, public) or a DNS name; a name of one label ends in a dot";

/// The text, the column, the beginning of what is expected, what is found.
const ERRORS: &[(&str, usize, &str, &str)] = &[
    ("conect tcp *:1", 1, OPERATIONS, "`conect`"),
    ("connect", 8, "tcp, udp or tcp,udp", "the end of the text"),
    (
        "connect,bind tcp *:1",
        1,
        "operations of one direction",
        "`connect,bind`",
    ),
    ("connect, send , tcp *:1", 17, OPERATIONS, "`tcp`"),
    ("connect icmp *:1", 9, "tcp, udp or tcp,udp", "`icmp`"),
    ("connect tcp", 12, "HOST:PORTS", "the end of the text"),
    ("connect tcp ; bind tcp *:1", 13, "HOST:PORTS", "`;`"),
    ("connect tcp 10.0.0.1", 13, PORTS, "`10.0.0.1`"),
    (
        "connect tcp 10.0.0.1:",
        22,
        "ports behind `:`",
        "the end of the text",
    ),
    ("connect tcp 10.0.0.1: 80", 22, "ports behind `:`", "nothing"),
    (
        "connect tcp 10.0.0.1:http",
        22,
        "a port from 0 to 65535",
        "`http`",
    ),
    (
        "connect tcp 10.0.0.1:65536",
        22,
        "a port from 0 to 65535",
        "`65536`",
    ),
    (
        "connect tcp 10.0.0.1:080",
        22,
        "a port without leading zeros: `80`",
        "`080`",
    ),
    (
        "connect tcp 10.0.0.1:1-70000",
        24,
        "a port from 0 to 65535",
        "`70000`",
    ),
    (
        "connect tcp 10.0.0.1:80-",
        22,
        "both ends of the range of ports",
        "`80-`",
    ),
    (
        "connect tcp 10.0.0.1:90-80",
        22,
        "the lower port first: `80-90`",
        "`90-80`",
    ),
    (
        "connect tcp 10.0.0.1:80,",
        25,
        "a port from 0 to 65535 behind `,`",
        "the end of the text",
    ),
    (
        "connect tcp 10.0.0.1:80,*",
        25,
        "no other ports beside `*`",
        "`*`",
    ),
    (
        "connect tcp 10.0.0.1:80, 10.0.0.2:80",
        26,
        "a port from 0 to 65535",
        "`10.0.0.2:80`",
    ),
    (
        "connect tcp 10.0.0.1/8:80",
        13,
        "`10.0.0.0/8`, the prefix without host bits",
        "`10.0.0.1/8`",
    ),
    (
        "connect tcp 10.0.0.0/33:80",
        22,
        "a prefix length from 0 to 32",
        "`33`",
    ),
    (
        "connect tcp [2001:db8::1/32]:80",
        14,
        "`2001:db8::/32`, the prefix without",
        "`2001:db8::1/32`",
    ),
    (
        "connect tcp [::/129]:80",
        17,
        "a prefix length from 0 to 128",
        "`129`",
    ),
    (
        "connect tcp 10.0.0.9-10.0.0.1:80",
        13,
        "the lower address first: `10.0.0.1-10.0.0.9`",
        "`10.0.0.9-10.0.0.1`",
    ),
    (
        "connect tcp 10.0.0.1-:80",
        13,
        "both ends of the range",
        "`10.0.0.1-`",
    ),
    ("connect tcp 010.8.8.8:80", 13, V4, "`010.8.8.8`"),
    ("connect tcp 127.1:80", 13, V4, "`127.1`"),
    (
        "connect tcp 0x7f.1:80",
        13,
        "an address, a class or a DNS name (a name that ends in a number",
        "`0x7f.1`",
    ),
    (
        "connect tcp ::1:80",
        13,
        "an IPv6 address in brackets",
        "`::1:80`",
    ),
    (
        "connect tcp [::1:80",
        13,
        "`]` behind the IPv6 address",
        "`[::1:80`",
    ),
    ("connect tcp [::1]80", 18, "`:` and the ports behind `]`", "`80`"),
    (
        "connect tcp [fe80::1%eth0]:80",
        14,
        "an address without a zone id",
        "`fe80::1%eth0`",
    ),
    ("connect tcp [10.0.0.1]:80", 14, "an IPv6 address", "`10.0.0.1`"),
    ("connect tcp privat:80", 13, NAME, "`privat`"),
    (
        "connect tcp b\u{fc}cher.example\u{3002}1:80",
        13,
        "an address, a class or a DNS name (a name ",
        "`b\u{fc}cher.example\u{3002}1`",
    ),
    (
        "connect tcp *example.com:80",
        13,
        "`*`, or `*.` and a DNS name",
        "`*example.com`",
    ),
    ("bind tcp *:1 from *", 14, "no remote end with bind", "`from`"),
    (
        "bind tcp *:1 without private",
        14,
        "no remote end with bind",
        "`without`",
    ),
    (
        "listen tcp a.com:1",
        12,
        "an address as the local end, not a name",
        "`a.com:1`",
    ),
    (
        "listen tcp *:1 from a.com",
        21,
        "an address as the source, not a name",
        "`a.com`",
    ),
    (
        "connect tcp *:1 from a.com",
        22,
        "an address as the local end, not a name",
        "`a.com`",
    ),
    (
        "connect tcp *:1 from",
        21,
        "HOST or HOST:PORTS",
        "the end of the text",
    ),
    (
        "connect tcp *:1 except private",
        17,
        "`;` or the end of the line",
        "`except`",
    ),
    (
        "connect tcp *:1 without private:80",
        33,
        "a host without ports",
        "`80`",
    ),
    (
        "except private link-local",
        16,
        "`;` or the end of the line",
        "`link-local`",
    ),
    ("except privat", 8, NAME, "`privat`"),
    ("except private,", 16, "HOST or HOST:PORTS", "the end of the text"),
    (
        "except 10.0.0.1; deny *",
        18,
        "one of connect, send (outbound), bind, listen, accept, receive (inbound), except or names to",
        "`deny`",
    ),
    ("names 10.0.0.1", 7, "`to` and the addresses", "`10.0.0.1`"),
    ("names to", 9, "a host", "the end of the text"),
    ("names to private,", 18, "a host", "the end of the text"),
    (
        "names to private, a.com",
        19,
        "addresses, a class or `*`: a name stands for addresses",
        "`a.com`",
    ),
    ("names to any-name", 10, "addresses, a class or `*`", "`any-name`"),
    ("names to *.a.com", 10, "addresses, a class or `*`", "`*.a.com`"),
    ("names to privat", 10, NAME, "`privat`"),
    ("names to 10.0.0.1:443", 19, "a host without ports", "`443`"),
    (
        "names to 10.0.0.1/8",
        10,
        "`10.0.0.0/8`, the prefix without host bits",
        "`10.0.0.1/8`",
    ),
    (
        "names to private loopback",
        18,
        "`;` or the end of the line",
        "`loopback`",
    ),
    ("no derive", 1, "a rule: limits", "`no`"),
    ("label a", 1, "a rule: limits", "`label`"),
    (
        "connect tcp *:1; limit sockets 1",
        18,
        "a rule: limits, flags and labels are terms",
        "`limit`",
    ),
    (
        "names to 10.0.0.1, a.com",
        20,
        "addresses, a class or `*`",
        "`a.com`",
    ),
    ("names to 10.0.0.1:80", 19, "a host without ports", "`80`"),
    (
        "connect tcp *:1\n  bind tcp *:1 from\n",
        16,
        "HOST or HOST:PORTS",
        "the end of the line",
    ),
];

#[test]
fn each_mistake_is_told_at_its_place() {
    for (text, column, expected, found) in ERRORS {
        let error = Rules::parse(text).expect_err(text);
        if text.contains('\n') {
            assert_eq!((error.line, error.column), (2, 20), "{text}");
        } else {
            assert_eq!((error.line, error.column), (1, *column), "{text}: {error}");
        }
        assert!(error.expected.starts_with(expected), "{text}: {error}");
        assert_eq!(error.found, *found, "{text}: {error}");
    }
}

#[test]
fn the_place_is_marked_under_the_line() {
    let text = "# policy\nconnect tcp *:443\n\tsend udp 8.8.8.8:53, 99999 # dns";
    let error = Rules::parse(text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3, column 23: expected a port from 0 to 65535, found `99999`"
    );
    assert_eq!(
        error.render(text),
        "3 | \tsend udp 8.8.8.8:53, 99999 # dns\n  | \t                     ^^^^^ expected a port from 0 to 65535"
    );
    let wide = "connect tcp b\u{fc}cher.example\u{3002}1:1";
    let error = Rules::parse(wide).unwrap_err();
    assert_eq!(
        error.render(wide).lines().nth(1).unwrap().matches('^').count(),
        16
    );
}

#[test]
fn queries_have_errors_too() {
    for (text, column, expected) in [
        ("conect tcp 1.2.3.4:5", 1, "one of connect"),
        ("connect tcp 1.2.3.4", 13, "`:` and a port"),
        ("connect tcp 1.2.3.4:*", 21, "a port from 0 to 65535"),
        ("connect tcp 1.2.3.4:1-2", 21, "a port from 0 to 65535"),
        ("connect tcp 1.2.3:5", 13, "an IPv4 address"),
        (
            "connect tcp private.:5 from a.com:5",
            29,
            "an address as the local end",
        ),
        (
            "accept tcp 1.2.3.4:5 from a.com:5",
            27,
            "an address as the source",
        ),
        ("bind tcp 1.2.3.4:5 from 1.2.3.4:5", 25, "no remote end with bind"),
        ("connect tcp 1.2.3.4:5 6", 23, "the end of the text"),
        ("connect tcp [::1]", 13, "`:` and a port"),
        ("connect tcp []:5", 14, "an IPv6 address"),
    ] {
        let error = text.parse::<Query>().expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.expected.starts_with(expected), "{text}: {error}");
    }
}

const WHAT: &str = "sockets, connections, out, in or lease";
const NUMBER: &str = "a number from 0 to 18446744073709551615, without leading zeros";
const SIZE: &str = "a number of bytes, with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB behind it";
const TIME: &str = "a number with ms, s, m, h or d behind it";
const ONCE: &str = "each limit and the label once";

/// As above, for terms. What is wrong in terms alone is wrong in a policy, at the same place.
const TERMS: &[(&str, usize, &str, &str)] = &[
    ("limit", 6, WHAT, "the end of the text"),
    ("limit ;", 7, WHAT, "`;`"),
    ("limit socket 1", 7, WHAT, "`socket`"),
    ("limit sockets", 14, "a number", "the end of the text"),
    ("limit sockets -1", 15, NUMBER, "`-1`"),
    ("limit sockets 010", 15, NUMBER, "`010`"),
    ("limit sockets 1k", 15, NUMBER, "`1k`"),
    (
        "limit sockets 18446744073709551616",
        15,
        NUMBER,
        "`18446744073709551616`",
    ),
    ("limit sockets 1 2", 17, "`;` or the end of the line", "`2`"),
    ("limit sockets 1,", 17, WHAT, "the end of the text"),
    ("limit sockets 1, connections 2, sockets 3", 33, ONCE, "`sockets`"),
    ("limit out 1, out 1/s, in 1, in 1/s, out 2", 37, ONCE, "`out`"),
    ("limit in 1KiB/s; limit out 1; limit in 1/s", 37, ONCE, "`in`"),
    ("limit lease 1s; limit lease 1s", 23, ONCE, "`lease`"),
    ("limit out", 10, "bytes, such as `10MiB`", "the end of the text"),
    ("limit out MiB", 11, SIZE, "`MiB`"),
    ("limit out 1mib", 11, SIZE, "`1mib`"),
    ("limit out 1 MiB", 13, "`;` or the end of the line", "`MiB`"),
    ("limit out 1.5MiB", 11, SIZE, "`1.5MiB`"),
    ("limit out 1MiB/m", 11, SIZE, "`1MiB/m`"),
    ("limit out /s", 11, SIZE, "nothing"),
    ("limit out \u{661}", 11, SIZE, "`\u{661}`"),
    (
        "limit in 16777216TiB",
        10,
        "at most 18446744073709551615 B",
        "`16777216TiB`",
    ),
    (
        "limit in 18446744073709551616",
        10,
        NUMBER,
        "`18446744073709551616`",
    ),
    (
        "limit out 0/s",
        11,
        "a rate of at least 1 byte per second",
        "`0/s`",
    ),
    (
        "limit in 0MiB/s",
        10,
        "a rate of at least 1 byte per second",
        "`0MiB/s`",
    ),
    ("limit lease", 12, "a time, such as `30s`", "the end of the text"),
    ("limit lease 30", 13, TIME, "`30`"),
    ("limit lease 30sec", 13, TIME, "`30sec`"),
    ("limit lease 0s", 13, "a lease from 1ms to 3650d", "`0s`"),
    ("limit lease 3651d", 13, "a lease from 1ms to 3650d", "`3651d`"),
    (
        "limit lease 18446744073709551615d",
        13,
        "at most 18446744073709551615 ms",
        "`18446744073709551615d`",
    ),
    ("no", 3, "derive or hand-over", "the end of the text"),
    ("no handover", 4, "derive or hand-over", "`handover`"),
    ("no derive, hand-over", 10, "`;` or the end of the line", "`,`"),
    ("label", 6, "a label", "the end of the text"),
    ("label a\u{e4}", 7, "a label of 1 to 64 letters", "`a\u{e4}`"),
    ("label \"a\"", 7, "a label of 1 to 64 letters", "`\\\"a\\\"`"),
    ("label a; label b", 16, ONCE, "`b`"),
    ("label a b", 9, "`;` or the end of the line", "`b`"),
    (
        "limit sockets 1\n  limit in\n",
        11,
        "bytes, such as",
        "the end of the line",
    ),
];

#[test]
fn mistakes_in_terms_are_told_at_their_place() {
    for (text, column, expected, found) in TERMS {
        let errors = [
            text.parse::<Terms>().expect_err(text),
            Policy::parse(text).expect_err(text),
        ];
        for error in errors {
            let line = 1 + usize::from(text.contains('\n'));
            assert_eq!((error.line, error.column), (line, *column), "{text}: {error}");
            assert!(error.expected.starts_with(expected), "{text}: {error}");
            assert_eq!(error.found, *found, "{text}: {error}");
        }
    }
}

#[test]
fn terms_have_no_rules_and_policies_have_both() {
    for rule in ["connect tcp *:1", "except private", "names to private"] {
        let error = format!("no derive; {rule}").parse::<Terms>().unwrap_err();
        assert_eq!(error.column, 12);
        assert_eq!(
            error.expected,
            "limit, no or label: rules do not belong among terms"
        );
    }
    let error = "limits sockets 1".parse::<Terms>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1, column 1: expected limit, no or label, found `limits`"
    );
    let error = Policy::parse("# both\n deny *").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "line 2, column 2: expected {OPERATIONS}, except, names to, limit, no or label, found `deny`"
        )
    );
}
