//! `refcap check`: what rules say of an operation, and why.

use crate::support::commands::refcap;

#[test]
fn check_says_which_rule_decides() {
    let rules = "connect tcp 10.0.0.0/8:443; connect tcp 192.0.2.1:80; except 10.9.0.0/16";
    let check = |query: &str| refcap(["check", rules].into_iter().chain(query.split(' ')));
    check("connect tcp 10.1.2.3:443")
        .ends_with(0)
        .shows(&[r#"is allowed by "connect tcp 10.0.0.0/8:443""#]);
    check("connect tcp 192.0.2.1:80")
        .ends_with(0)
        .shows(&[r#"is allowed by "connect tcp 192.0.2.1:80""#]);
    let excepted = r#"is excepted by "10.9.0.0/16", though "connect tcp 10.0.0.0/8:443" would allow it"#;
    check("connect tcp 10.9.0.1:443").ends_with(1).shows(&[excepted]);
    let denied = |query, rule, field| {
        check(query)
            .ends_with(1)
            .shows(&["no rule allows ", &format!("nearest is \"{rule}\": {field}")]);
    };
    denied(
        "connect tcp 10.1.2.3:80",
        "connect tcp 10.0.0.0/8:443",
        "port 80 is not in 443",
    );
    denied(
        "connect udp 10.1.2.3:443",
        "connect tcp 10.0.0.0/8:443",
        "protocol udp is not in tcp",
    );
    denied(
        "connect tcp 11.0.0.1:443",
        "connect tcp 10.0.0.0/8:443",
        "11.0.0.1 is not in 10.0.0.0/8",
    );
    denied(
        "listen tcp 10.1.2.3:443",
        "connect tcp 10.0.0.0/8:443",
        "operation listen is not in connect",
    );
    refcap(["check", "", "connect", "tcp", "10.1.2.3:443"])
        .ends_with(1)
        .shows(&["no rule allows"]);
    // The operation may be one argument or many.
    refcap(["check", rules, "connect tcp 10.1.2.3:443"]).ends_with(0);
}

#[test]
fn check_shows_where_its_arguments_are_malformed() {
    refcap([
        "check",
        "connect tcp 10.0.0.0/33:1",
        "connect",
        "tcp",
        "10.0.0.1:1",
    ])
    .ends_with(201)
    .says(&["the rules are malformed:\n1 | connect tcp 10.0.0.0/33:1\n", "^"]);
    refcap(["check", "connect tcp 10.0.0.0/8:1", "connect", "tcp", "10.0.0.1"])
        .ends_with(201)
        .says(&["the operation is malformed:\n1 | connect tcp 10.0.0.1\n", "^"]);
}

#[test]
fn terms_among_the_rules_say_nothing_of_an_operation() {
    let rules = "connect tcp 10.0.0.0/8:443; limit sockets 0; no derive; names to private";
    refcap(["check", rules, "connect tcp 10.1.2.3:443"]).ends_with(0);
}
