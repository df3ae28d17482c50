//! What a wrong text is answered with: where, what would be right, what is there.

use refcap_authority::{Query, Rules};

const OPERATIONS: &str = "one of connect, send (outbound), bind, listen, accept, receive (inbound) or except";
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
        "connect tcp b\u{fc}cher.example:80",
        13,
        "an address, a class or a DNS name (a name has ASCII",
        "`b\u{fc}cher.example`",
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
    let wide = "connect tcp b\u{fc}cher.example:1";
    let error = Rules::parse(wide).unwrap_err();
    assert_eq!(
        error.render(wide).lines().nth(1).unwrap().matches('^').count(),
        14
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
