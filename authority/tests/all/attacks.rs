//! One test for each class of mistake that real systems made and that a set of rules can make: the numbers
//! are those of the project's list of attack classes.

use std::net::IpAddr;

use refcap_authority::{
    Authority, Class, DnsName, NameError, Operation, Protocol, Query, Rules, Tuple, canonical, classes_of,
};

fn authority(text: &str) -> Authority {
    text.parse().unwrap()
}

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap()
}

fn connects(authority: &Authority, remote: &str) -> bool {
    let tuple = Tuple::new(
        Operation::Connect,
        Protocol::Tcp,
        "10.9.9.9:5000".parse().unwrap(),
        remote.parse::<std::net::SocketAddr>().unwrap(),
    );
    authority.permits(&tuple)
}

/// CVE-2026-45254: asking for less, or leaving a limit out of the request, gave more than there was.
#[test]
fn class_01_narrowing_by_omission_never_widens() {
    let parent = authority(
        "connect tcp 10.0.0.0/8:443 from 10.1.1.1:1024-2048; listen tcp 127.0.0.1:80 from 192.168.0.0/16:5; \
         except 10.0.0.5",
    );
    for request in [
        "",
        "connect tcp 10.0.0.0/8:443 from 10.1.1.1:1024-2048",
        "connect tcp 10.0.0.0/8:443 from 10.1.1.1",
        "connect tcp 10.0.0.0/8:443",
        "connect tcp 10.0.0.0/8:*",
        "connect tcp *:*",
        "connect,send tcp,udp 0.0.0.0/0:*",
        "listen tcp 127.0.0.1:80 from 192.168.0.0/16",
        "listen tcp 127.0.0.1:80",
        "listen,accept tcp *:*",
    ] {
        let child = parent.only(&rules(request)).unwrap();
        assert!(child.is_subset(&parent), "{request}");
        assert!(!connects(&child, "10.0.0.5:443"), "{request}");
    }
    // Left out is as in the parent: the source and its ports are still those.
    let child = parent.only(&rules("connect tcp 10.0.0.0/8:443")).unwrap();
    assert_eq!(
        child.to_string(),
        "connect tcp 10.0.0.0/8:443 from 10.1.1.1:1024-2048; except 10.0.0.5"
    );
    // And asked for exactly, it is refused.
    assert!(parent.exactly(&rules("connect tcp 10.0.0.1:443")).is_err());
    assert!(
        parent
            .exactly(&rules("connect tcp 10.0.0.1:443 from 10.1.1.1"))
            .is_err()
    );
    assert!(
        parent
            .exactly(&rules("connect tcp 10.0.0.1:443 from 10.1.1.1:2000"))
            .is_ok()
    );
    assert!(parent.only(&Rules::new()).unwrap().is_empty());
}

/// CVE-2024-29415, deno#33223: a rule for 127.0.0.1 went by ::ffff:127.0.0.1.
#[test]
fn class_02_mapped_addresses_are_the_ipv4_addresses() {
    let denying = authority("connect tcp 0.0.0.0/0:*; connect tcp [::/0]:*; except 127.0.0.0/8, private");
    let allowing = authority("connect tcp 127.0.0.1:80; connect tcp 10.1.2.3:80");
    for spelling in [
        "[::ffff:127.0.0.1]:80",
        "[::ffff:7f00:1]:80",
        "[::FFFF:7F00:0001]:80",
        "[0:0:0:0:0:ffff:7f00:1]:80",
        "[0000:0000:0000:0000:0000:ffff:7f00:0001]:80",
        "[::ffff:10.1.2.3]:80",
        "[::ffff:0a01:0203]:80",
    ] {
        assert!(!connects(&denying, spelling), "{spelling}");
        assert!(connects(&allowing, spelling), "{spelling}");
    }
    // Said of the mapped block, a rule is about IPv4 as well.
    assert_eq!(
        authority("connect tcp [::ffff:10.0.0.0/104]:80"),
        authority("connect tcp 10.0.0.0/8:80")
    );
    assert_eq!(
        authority("connect tcp [::ffff:0:0/96]:80"),
        authority("connect tcp 0.0.0.0/0:80")
    );
    // IPv6 as a whole has no IPv4 in it.
    assert!(!connects(
        &authority("connect tcp [::/0]:80"),
        "[::ffff:8.8.8.8]:80"
    ));
    // Local ends too.
    assert_eq!(
        authority("bind tcp [::ffff:10.0.0.1]:80"),
        authority("bind tcp 10.0.0.1:80")
    );
}

/// NAT64, 6to4, Teredo, ISATAP, IPv4-compatible and translated addresses reach the IPv4 host inside them.
#[test]
fn class_03_embedded_addresses_need_the_ipv4_authority_too() {
    let careful = authority("connect tcp *:*; connect tcp [::/0]:*; except loopback, private");
    let reaching_loopback = [
        "[64:ff9b::7f00:1]:80",
        "[64:ff9b::127.0.0.1]:80",
        "[64:ff9b:1::7f00:1]:80",
        "[64:ff9b:1:7f00:0:100::]:80",
        "[64:ff9b:1:7f:0:1::]:80",
        "[64:ff9b:1:0:7f:0:100::]:80",
        "[2002:7f00:1::]:80",
        "[2002:7f00:1::1]:80",
        "[2001:0:808:808::80ff:fffe]:80",
        "[2001:0:7f00:1::f7f7:f7f7]:80",
        "[::127.0.0.1]:80",
        "[::ffff:0:127.0.0.1]:80",
        "[2606:4700::5efe:127.0.0.1]:80",
        "[2606:4700::200:5efe:7f00:1]:80",
    ];
    for address in reaching_loopback {
        let tuple = Tuple::new(
            Operation::Connect,
            Protocol::Tcp,
            "[2606:4700::1]:1".parse().unwrap(),
            address.parse::<std::net::SocketAddr>().unwrap(),
        );
        assert!(careful.contains(&tuple), "{address}");
        assert!(!careful.permits(&tuple), "{address}");
        let explanation = careful.explain(&Query::from(tuple));
        assert!(!explanation.is_allowed());
    }
    assert_eq!(
        careful
            .explain(&"connect tcp [64:ff9b::7f00:1]:80".parse().unwrap())
            .to_string(),
        "connect tcp [64:ff9b::7f00:1]:80 reaches 127.0.0.1, which must be allowed too:\n\
         connect tcp 127.0.0.1:80 is excepted by \"loopback\", though \"connect tcp *:*\" would allow it"
    );
    // An embedded address that is allowed is no obstacle.
    for address in [
        "[64:ff9b::808:808]:80",
        "[2002:808:808::1]:80",
        "[2001:0:808:808::f7f7:f7f7]:80",
    ] {
        assert!(connects(&careful, address), "{address}");
    }
    // A rule for the block alone gives no IPv4 host.
    assert!(!connects(
        &authority("connect tcp [64:ff9b::/96]:80"),
        "[64:ff9b::808:808]:80"
    ));
    assert!(connects(
        &authority("connect tcp [64:ff9b::/96]:80; connect tcp 8.8.8.8:80"),
        "[64:ff9b::808:808]:80"
    ));
}

/// CVE-2021-28918, CVE-2021-29921, CVE-2024-29415: one checker reads octal, another one does not.
#[test]
fn class_04_numeric_and_legacy_spellings_are_refused() {
    for spelling in [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "010.8.8.8",
        "10.08.8.8",
        "1.2.3.4.5",
        "256.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "1.2.3",
        "0",
        "+1.2.3.4",
        "127.0.0.0x1",
        "\u{ff11}.1.1.1",
        "[127.0.0.1]",
        "[::1",
        "::1",
        "[::1%eth0]",
        "[1::2::3]",
        "fe80::1%1",
    ] {
        for text in [
            format!("connect tcp {spelling}:80"),
            format!("connect tcp *:80; except {spelling}"),
            format!("listen tcp *:80 from {spelling}"),
        ] {
            assert!(Rules::parse(&text).is_err(), "{text}");
        }
        assert!(
            format!("connect tcp {spelling}:80").parse::<Query>().is_err(),
            "{spelling}"
        );
    }
    for name in ["2130706433", "0x7f000001", "127.1", "0x7f.1", "a.0x7f", "1.2.3.4"] {
        assert_eq!(DnsName::new(name), Err(NameError::EndsInNumber), "{name}");
    }
}

/// "0.0.0.0 Day": systems connect to the loopback interface when asked for an unspecified address.
#[test]
fn class_05_unspecified_addresses_are_not_ordinary() {
    let open = authority("connect tcp *:*");
    for address in [
        "0.0.0.0:80",
        "0.0.0.1:80",
        "0.255.255.255:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "[::ffff:0:1]:80",
        "[64:ff9b::]:80",
        "[2002::]:80",
        "[::0.0.0.2]:80",
    ] {
        assert!(!connects(&open, address), "{address}");
    }
    assert!(connects(&open, "1.0.0.0:80") && connects(&open, "127.0.0.1:80") && connects(&open, "[::1]:80"));
    // Said, it is allowed; and as a local end `*` is every address, for a server that binds to all.
    assert!(connects(&authority("connect tcp unspecified:80"), "0.0.0.0:80"));
    assert!(authority("bind tcp *:80").allows(&"bind tcp 0.0.0.0:80".parse().unwrap()));
    assert!(classes_of("::ffff:0.0.0.0".parse().unwrap()).eq([Class::Unspecified]));
}

/// deno#21227, OWASP's list for server-side request forgery.
#[test]
fn class_06_link_local_and_metadata_addresses_have_names() {
    let careful = authority("connect tcp *:*; except link-local, metadata");
    for address in [
        "169.254.169.254:80",
        "169.254.0.0:80",
        "169.254.255.255:80",
        "169.254.170.2:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2002:a9fe:a9fe::]:80",
        "[::169.254.169.254]:80",
        "[fd00:ec2::254]:80",
        "[fe80::1]:80",
        "[febf:ffff::1]:80",
        "[fe80::1%3]:80",
        "100.100.100.200:80",
        "168.63.129.16:80",
        "[fd20:ce::254]:80",
    ] {
        assert!(!connects(&careful, address), "{address}");
    }
    assert!(connects(&careful, "169.253.255.255:80") && connects(&careful, "[fd00:ec2::253]:80"));
    let public = authority("connect tcp public:*");
    for class in Class::ALL.into_iter().filter(|class| *class != Class::Public) {
        for range in class.ranges() {
            for ip in [range.first(), range.last()] {
                assert!(
                    !connects(&public, &std::net::SocketAddr::new(ip, 80).to_string()),
                    "{ip}"
                );
            }
        }
    }
    assert!(Rules::parse("connect tcp [fe80::1%eth0]:80").is_err());
}

/// A rule set that denies in one family and is silent on the other: silence is no permission.
#[test]
fn class_14_one_family_says_nothing_of_the_other() {
    let v4 = authority("connect tcp 0.0.0.0/0:*");
    assert!(connects(&v4, "8.8.8.8:80") && !connects(&v4, "[2606:4700::1]:80"));
    let v6 = authority("connect tcp [::/0]:*");
    assert!(!connects(&v6, "8.8.8.8:80") && connects(&v6, "[2606:4700::1]:80"));
    // An exception of one family does not open the other, and a class has both.
    let excepted = authority("connect tcp [::/0]:*; except 0.0.0.0/0");
    assert!(!connects(&excepted, "8.8.8.8:80") && !connects(&excepted, "[::ffff:8.8.8.8]:80"));
    assert!(!connects(&excepted, "[64:ff9b::808:808]:80"));
    let classes = authority("connect tcp *:*; except private, loopback, link-local");
    for address in [
        "10.0.0.1:1",
        "[fd00::1]:1",
        "127.0.0.1:1",
        "[::1]:1",
        "169.254.0.1:1",
        "[fe80::1]:1",
    ] {
        assert!(!connects(&classes, address), "{address}");
    }
    // Local ends have families of their own.
    let bind = authority("bind tcp 0.0.0.0/0:80");
    assert!(!bind.allows(&"bind tcp [::]:80".parse().unwrap()));
    assert!(bind.allows(&"bind tcp 0.0.0.0:80".parse().unwrap()));
}

/// spin#3152: a policy that panics its parser, or that two readers take for two things.
#[test]
fn class_33_policies_are_read_in_one_way_or_not_at_all() {
    for text in [
        "connect",
        "connect tcp",
        "connect tcp :",
        "connect tcp :80",
        "connect tcp 10.0.0.1",
        "connect tcp 10.0.0.1:",
        "connect tcp 10.0.0.1:80-",
        "connect tcp 10.0.0.1:-80",
        "connect tcp 10.0.0.1:1-70000",
        "connect tcp 10.0.0.1:65536",
        "connect tcp 10.0.0.1:080",
        "connect tcp 10.0.0.1:80,",
        "connect tcp 10.0.0.1:80,,81",
        "connect tcp 10.0.0.1:90-80",
        "connect tcp 10.0.0.1:80-90-100",
        "connect tcp 10.0.0.1:*,80",
        "connect tcp 10.0.0.1:80,*",
        "connect tcp 10.0.0.1:http",
        "connect tcp 10.0.0.1: 80",
        "connect tcp 10.0.0.1/8:80",
        "connect tcp 10.0.0.0/33:80",
        "connect tcp 10.0.0.0/08:80",
        "connect tcp 10.0.0.0/:80",
        "connect tcp 10.0.0.0/-1:80",
        "connect tcp 10.0.0.0/255.0.0.0:80",
        "connect tcp [::/129]:80",
        "connect tcp [::1/0]:80",
        "connect tcp [::]/0:80",
        "connect tcp 10.0.0.9-10.0.0.1:80",
        "connect tcp 10.0.0.1-:80",
        "connect tcp 10.0.0.1-10:80",
        "connect tcp **:80",
        "connect tcp *.*.com:80",
        "connect tcp *example.com:80",
        "connect tcp a.*.com:80",
        "connect tcp privat:80",
        "connect tcp PRIVATE:80",
        "connect tcp a..b:80",
        "connect icmp *:1",
        "CONNECT tcp *:1",
        "connect,bind tcp *:1",
        "connect,, tcp *:1",
        ",connect tcp *:1",
        "connect tcp, *:1",
        "bind tcp *:1 from *",
        "bind tcp *:1 without private",
        "listen tcp example.com:80",
        "listen tcp *:80 from example.com",
        "connect tcp *:80 from example.com",
        "connect tcp *:80 from",
        "connect tcp *:80 to *",
        "connect tcp *:80 connect tcp *:81",
        "except",
        "except ,",
        "except private private",
        "connect tcp *:80 except private",
        "connect tcp *:80 without",
        "connect tcp *:80 without private:80",
        "allow tcp *:80",
        "deny private",
        "connect tcp *:80 from *:80 from *:80",
    ] {
        let error = Rules::parse(text).expect_err(text);
        assert!(error.column <= text.chars().count() + 1);
        assert_eq!(error.render(text).lines().count(), 2);
    }
    // The whole space, both ways.
    assert!(connects(
        &authority("connect tcp 0.0.0.0/0:0-65535"),
        "255.255.255.255:65535"
    ));
    assert!(authority("").is_empty() && authority(" \n;;# nothing\n;").is_empty());
    assert!(authority("except private").is_empty());
    let ip: IpAddr = "::ffff:1.2.3.4".parse().unwrap();
    assert!(canonical(ip).is_ipv4());
}
