//! The watched network among the examples: a program whose network its parent implements.

use crate::cli_lineage::{Shape, drawn_as_kept};
use crate::plugin_host::Upstream;
use crate::support::commands::{self, Scratch, guest, refcap_command};

#[test]
fn a_watcher_logs_refuses_rewrites_and_answers_the_connections_of_another_program() {
    for profile in ["debug", "release"] {
        let scratch = Scratch::new(&format!("watched_net_{profile}"));
        let (audit, svg) = (scratch.path("audit.jsonl"), scratch.path("tree.svg"));
        let [elsewhere, direct, refused] = [(); 3].map(|()| Upstream::start());
        let mut command = refcap_command();
        command.arg("run").arg(guest(profile, "watched-net"));
        let program = guest(profile, "watched-program");
        command.args(["--spawn", &format!("program={}", program.display())]);
        command.args(["--grant", "net=connect tcp 127.0.0.1:*"]);
        command.args(["--audit", &audit, "--lineage", &svg, "--"]);
        command.args([
            format!("10.0.0.1:80={}", elsewhere.address),
            direct.address.to_string(),
            format!("{}=refused", refused.address),
            "10.0.0.4:80=here".to_owned(),
        ]);
        let shown = commands::outcome(&mut command).ends_with(0);
        assert_eq!(shown.errors, "");
        let lines = [
            format!(
                "watcher: a connection to 10.0.0.1:80: made to {}",
                elsewhere.address
            ),
            format!("watcher: a connection to {0}: made to {0}", direct.address),
            format!("watcher: a connection to {}: refused", refused.address),
            "watcher: a connection to 10.0.0.4:80: answered here".to_owned(),
            "10.0.0.1:80 says 0".to_owned(),
            format!("{} says 0", direct.address),
            format!(
                "{}: connect: the program that implements the object says: the capability does not allow this",
                refused.address
            ),
            "10.0.0.4:80 says you said hello, and nobody else is here".to_owned(),
            "192.0.2.1:9: connect: no rule allows connect tcp 192.0.2.1:9".to_owned(),
            "watcher: the program has ended: it exited with code 0".to_owned(),
        ];
        let text = shown.text();
        assert_eq!(text.lines().count(), lines.len(), "{text}");
        for (line, expected) in text.lines().zip(&lines) {
            assert!(
                line.starts_with(expected),
                "{expected:?} is not how {line:?} begins"
            );
        }
        for visited in [&elsewhere, &direct] {
            assert_eq!(visited.only_visit(), ["hello"]);
        }
        assert_eq!(refused.visits(), 0);
        drawn(&audit, &svg);
    }
}

/// Checks what the picture has to say.
#[track_caller]
fn drawn(audit: &str, svg: &str) {
    drawn_as_kept(svg, "watched-net");
    let shape = Shape::of(audit);
    // Two that were opened, each once more where it moved to; the ends of two pairs, of which one moved to the program as it
    // was started, and one as it connected.
    shape.has(10, "TcpStream");
    shape.has(2, "TcpStream #9 `net` ·");
    shape.has(3, "TcpStream #9 `net/watched` · program");
    shape.has(1, "! 9 refused");
}
