//! The powerbox among the examples: programs without a network ask for connections, and the user's rules decide.

use std::net::SocketAddr;

use crate::cli_lineage::{Shape, drawn_as_kept};
use crate::plugin_host::Upstream;
use crate::support::commands::{self, Outcome, Scratch, guest, refcap_command};
use crate::support::servers::nobody;

/// Runs the powerbox with these rules and programs.
#[track_caller]
fn powerbox(profile: &str, rules: &str, programs: &[(&str, &[SocketAddr])], more: &[&str]) -> Outcome {
    let mut command = refcap_command();
    command.arg("run").arg(guest(profile, "powerbox"));
    let app = guest(profile, "powerbox-app");
    for (name, _) in programs {
        command.args(["--spawn", &format!("{name}={}", app.display())]);
    }
    command.args(["--grant", "net=connect tcp 127.0.0.1:*"]);
    command.args(more).args(["--", rules]);
    command.args(programs.iter().map(|(name, wishes)| {
        let wishes: Vec<_> = wishes.iter().map(ToString::to_string).collect();
        format!("{name}={}", wishes.join(","))
    }));
    commands::outcome(&mut command)
}

#[test]
fn who_holds_nothing_of_the_network_gets_what_the_users_rules_say_until_it_is_withdrawn() {
    for profile in ["debug", "release"] {
        let scratch = Scratch::new(&format!("powerbox_{profile}"));
        let (audit, svg) = (scratch.path("audit.jsonl"), scratch.path("tree.svg"));
        let (page, other) = (Upstream::start(), Upstream::start());
        let (refused, unknown) = (nobody(), nobody());
        let rules = format!(
            "allow editor once connect tcp {0}\n\
             refuse * connect tcp {refused} # nobody\n\
             allow game connect tcp 127.0.0.1:{1},{2}",
            page.address,
            other.address.port(),
            refused.port()
        );
        let wishes = [page.address, refused, other.address, page.address];
        let programs: [(&str, &[SocketAddr]); 2] = [("editor", &wishes), ("game", &[other.address, unknown])];
        let more = ["--audit", &audit, "--lineage", &svg];
        let shown = powerbox(profile, &rules, &programs, &more).ends_with(0);
        assert_eq!(shown.errors, "");

        let first = format!("`allow editor once connect tcp {}`", page.address);
        let through = |what: SocketAddr, given: SocketAddr| {
            format!("{what} by way of {given}: connect: no rule allows connect tcp {what}")
        };
        shown.shows(&[
            // Given by a rule, and nothing else by way of that.
            &format!(
                "editor asks for {0}, \"to show a page\": yes, `connect tcp {0}`",
                page.address
            ),
            &format!("editor: {} says \"0\"", page.address),
            &through(refused, page.address),
            &through(other.address, page.address),
            &format!("editor: everything by way of {}", page.address),
            // Refused by a rule, also where a later one would allow it, and by default.
            &format!("editor: {refused}: no, by `refuse * connect tcp {refused}`"),
            &format!("editor: {}: no, no rule is about it", other.address),
            &format!("game: {unknown}: no, no rule is about it"),
            // Withdrawn in the middle: the Net, and the connection that was made with it.
            &format!(
                "editor: {}: no more, by {first}: 2 capabilities were withdrawn",
                page.address
            ),
            &format!(
                "editor: my connection to {}: write: the capability was revoked",
                page.address
            ),
            &format!(
                "editor: another one to {}: connect: the capability was revoked",
                page.address
            ),
            // And of nobody else.
            &format!("game: {} still says \"1\"", other.address),
            "powerbox: editor has ended: it exited with code 0",
            "powerbox: game has ended: it exited with code 0",
        ]);
        assert_eq!(page.only_visit(), ["editor"]);
        assert_eq!(other.only_visit(), ["game", "game"]);
        drawn(&audit, &svg);
    }
}

/// Checks what the picture has to say.
#[track_caller]
fn drawn(audit: &str, svg: &str) {
    drawn_as_kept(svg, "powerbox");
    let shape = Shape::of(audit);
    for (name, end) in [("editor", "ended with #9"), ("game", "closed by its holder")] {
        let stream = format!("TcpStream #9 `net/{name}` · connect tcp 9.9.9.9:9 · {name} (vat 9) · {end}");
        shape.has(1, &stream);
    }
    shape.has(2, "TcpStream");
    shape.has(1, "revoked by powerbox.wasm");
}

// A question is answered from what the powerbox has, whatever the rules allow.
#[test]
fn a_powerbox_gives_nothing_that_it_does_not_hold() {
    let elsewhere = "127.0.0.2:80".parse().unwrap();
    let shown = powerbox(
        "release",
        "allow * connect tcp *:*",
        &[("editor", &[elsewhere])],
        &[],
    );
    shown.ends_with(0).shows(&[
        "editor: 127.0.0.2:80: no, `allow * connect tcp *:*` allows it and I do not have it myself",
    ]);
}

#[test]
fn each_program_has_a_count_of_its_own() {
    let page = Upstream::start();
    let wishes: &[SocketAddr] = &[page.address, page.address];
    let programs = [("editor", wishes), ("game", wishes)];
    let rules = format!("allow * 2 times connect tcp {}", page.address);
    let shown = powerbox("release", &rules, &programs, &[]).ends_with(0);
    for (name, _) in programs {
        let still = format!("{name}: {} still says", page.address);
        assert_eq!(shown.text().matches(&still).count(), 2, "{}", shown.text());
    }
}

#[test]
fn rules_that_can_not_be_read_are_an_error_with_line_and_column() {
    let wishes: &[SocketAddr] = &[nobody()];
    for (rules, says) in [
        (
            "allow editor connect tcp 127.0.0.1:80\nallow editr connect tcp 127.0.0.1:80",
            "line 2, column 7: expected `*` or one of editor, found `editr`",
        ),
        (
            "refuse * connect tcp 10.0.0.0/8:*; allow * once connect tcp 10.0.0.1/8:80",
            "line 1, column 61: expected `10.0.0.0/8`, the prefix without host bits, found `10.0.0.1/8`",
        ),
    ] {
        let shown = powerbox("release", rules, &[("editor", wishes)], &[]);
        let shown = shown.ends_with(1).says(&[&format!("Error: the rules: {says}")]);
        // Nobody was started.
        assert_eq!(shown.text(), "");
    }
}
