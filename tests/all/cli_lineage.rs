//! `refcap lineage` and `refcap run --lineage`: the derivation tree as text and as pictures.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::commands::{self, Outcome, Scratch, guest, refcap, refcap_command};
use crate::support::servers::Silent;

/// Asks for a network, and then ends as the test says.
fn asks_and(ends: &str) -> String {
    format!(
        r#"(module
  (@custom "refcap.endowments" "net Net required\n")
  (func (export "refcap_grant") (param externref) (result i32) (i32.const 1))
  (func (export "refcap_start") (result i32) {ends}))"#
    )
}

/// A log with one capability, whose program, label, rules and refusals are those.
fn log_with(text: &str) -> String {
    let mut log = String::new();
    for event in [
        serde_json::json!({"event": "grant", "id": 1, "kind": "Net", "label": text, "authority": text}),
        serde_json::json!({"event": "start", "vat": 1, "program": text}),
        serde_json::json!({"event": "derive", "id": 2, "parent": 1, "vat": 1, "kind": text, "label": text}),
        serde_json::json!({"event": "use", "id": 2, "vat": 1, "operation": text}),
        serde_json::json!({"event": "refuse", "id": 2, "vat": 1, "import": text, "code": 1, "why": text}),
        serde_json::json!({"event": "refuse", "vat": 1, "import": text, "code": 1, "why": text}),
        serde_json::json!({"event": "narrow", "id": 1, "label": text, "authority": text, "changed": 1}),
        serde_json::json!({"event": "revoke", "id": 2, "label": text, "vat": 1, "ended": 1}),
    ] {
        writeln!(log, "{event}").unwrap();
    }
    log
}

/// Writes a log and shows its tree.
#[track_caller]
fn lineage(test: &str, log: &str, arguments: &[&str]) -> Outcome {
    let scratch = Scratch::new(test);
    let path = scratch.file("audit.jsonl", log);
    refcap(["lineage", &path].iter().chain(arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_drawn_with_who_held_what_and_how_it_ended() {
    let server = Silent::start().await;
    let scratch = Scratch::new("lineage_run");
    let (audit, svg) = (scratch.path("audit.jsonl"), scratch.path("tree.svg"));
    let mut command = refcap_command();
    command
        .arg("run")
        .arg(guest("release", "hand-over"))
        .args(["--grant", "net=connect tcp 127.0.0.1:*"])
        .args(["--audit", &audit, "--lineage", &svg])
        .args(["--", &server.address.to_string()]);
    commands::outcome(&mut command).ends_with(0);

    let text = refcap(["lineage", &audit]).ends_with(0);
    assert_eq!(text.errors, "");
    // Numbers are given by the process, and ports by the system.
    let port = server.address.port().to_string();
    let shape: Vec<String> = text
        .text()
        .lines()
        .map(|line| without_numbers(&line.replace(&port, "PORT")))
        .collect();
    let has = |beginning: &str, end: &str| {
        let is_it = |line: &&String| {
            line.trim_start_matches(['│', ' ']).starts_with(beginning) && line.ends_with(end)
        };
        assert!(
            shape.iter().any(|line| is_it(&line)),
            "{beginning}…{end}: {shape:#?}"
        );
    };
    has(
        "Net #9 `net` · connect tcp 9.9.9.9:*",
        "· the host · held at the end",
    );
    has(
        "└─ Net #9 `net` · connect tcp 9.9.9.9:*",
        "· hand-over.wasm (vat 9) · closed by its holder",
    );
    has(
        "├─ Net #9 `net` · connect tcp 9.9.9.9:PORT",
        "· revoked by hand-over.wasm",
    );
    has(
        "├─ TcpStream #9 `net` · connect tcp 9.9.9.9:PORT",
        "· ended with #9",
    );
    has("└─ Revoker #9 `net` · ends #9", "· closed by its holder");
    has(
        "! 9 refused, first net_connect: no rule allows connect tcp 9.9.9.9:9;",
        "",
    );
    has("9 calls were refused", "");
    assert_eq!(
        shape.iter().filter(|line| line.contains('#')).count(),
        8,
        "as many as in the log: {shape:#?}"
    );

    // The same picture with and without a log on the way, and each says all.
    let drawn = fs::read_to_string(&svg).unwrap();
    let from_log = refcap(["lineage", &audit, "--format", "svg"]).ends_with(0);
    assert_eq!(from_log.text(), drawn);
    for part in [
        "held by the host",
        "held by hand-over.wasm (vat ",
        "revoked by hand-over.wasm",
        "program: ",
    ] {
        assert!(drawn.contains(part), "{part}");
    }
    assert_eq!(drawn.matches("<title>").count(), 8);
    // Numbers and ports are others each time; the shape is that of the picture beside the example.
    let kept = fs::read_to_string(commands::root().join("examples/hand-over/lineage.svg")).unwrap();
    assert_eq!(
        tags(&drawn),
        tags(&kept),
        "draw it again, as examples/hand-over/src/main.rs says"
    );
}

/// A line with each number written as 9.
fn without_numbers(line: &str) -> String {
    let mut shape = String::new();
    for character in line.chars() {
        match character {
            '0'..='9' if shape.ends_with('9') => {}
            '0'..='9' => shape.push('9'),
            _ => shape.push(character),
        }
    }
    shape
}

// Also when it did not end well: then one wants to know.
#[test]
fn a_picture_is_drawn_however_a_program_ends() {
    for (name, ends, code) in [
        ("trap", "(unreachable)", 210),
        ("loop", "(loop $again (br $again)) (i32.const 0)", 211),
        ("code", "(i32.const 3)", 3),
    ] {
        let scratch = Scratch::new(&format!("lineage_{name}"));
        let module = scratch.file("guest.wat", asks_and(ends));
        for file in ["tree.svg", "tree.dot", "tree.gv", "tree.txt"] {
            let path = scratch.path(file);
            let arguments = [
                "run",
                &module,
                "--grant",
                "net=connect tcp 127.0.0.1:1",
                "--lineage",
                &path,
            ];
            refcap(arguments.iter().chain(&["--timeout", "300ms"])).ends_with(code);
            let drawn = fs::read_to_string(&path).unwrap();
            for part in [
                "guest.wat (vat ",
                "connect tcp 127.0.0.1:1",
                "held until its program ended",
            ] {
                assert!(drawn.contains(part), "{file}: {part} is not in {drawn}");
            }
        }
    }
}

#[test]
fn a_picture_that_can_not_be_drawn_is_said_before_the_run() {
    let scratch = Scratch::new("lineage_before");
    let module = scratch.file("guest.wat", asks_and("(i32.const 3)"));
    let run = |path: &str| refcap(["run", &module, "--grant", "net=", "--lineage", path]);
    run(&scratch.path("tree.png"))
        .ends_with(200)
        .says(&["tree.png does not say in which form", ".txt, .dot, .gv or .svg"]);
    run(&scratch.path("no/folder/tree.svg"))
        .ends_with(202)
        .says(&["cannot write the derivation tree", "tree.svg: "]);
    // A program that can't be started leaves no picture, and an older one as it was.
    let (new, old) = (scratch.path("new.svg"), scratch.file("old.svg", "mine"));
    for path in [&new, &old] {
        refcap(["run", &scratch.path("none.wat"), "--lineage", path]).ends_with(202);
    }
    assert!(!fs::exists(&new).unwrap());
    assert_eq!(fs::read_to_string(&old).unwrap(), "mine");
}

/// What could act where a tree is shown.
const HOSTILE: &[&str] = &[
    "</title></text><script>alert(1)</script>",
    "\"/><image href='http://x.example/'/>",
    "]]><!--",
    "&lt;b&gt;&#60;i&#62;",
    "\"];evil[label=\"x\"]}",
    "\\\"];evil[label=\\\"x",
    "\\N\\G\\l",
    "trailing \\",
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "\u{9b}31m",
    "line\nline\r\n\u{2028}line",
    "\u{202e}txt.exe\u{2066}",
    "\0\u{b}\u{ffff}\u{feff}\u{e0041}",
];

/// What stands outside of quotes in DOT.
fn outside_of_strings(dot: &str) -> String {
    let mut outside = String::new();
    let mut is_inside = false;
    let mut characters = dot.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_inside => drop(characters.next()),
            '"' => is_inside = !is_inside,
            _ if !is_inside => outside.push(character),
            _ => {}
        }
    }
    assert!(!is_inside, "{dot}");
    outside
}

/// The tags of XML, without what is in their quotes: the text may be longer or shorter.
fn tags(xml: &str) -> Vec<String> {
    let tags = xml
        .split('<')
        .skip(1)
        .map(|tag| tag.split_once('>').expect("a tag ends").0);
    tags.map(|tag| tag.split('"').step_by(2).collect()).collect()
}

/// The lines of the tree of a run, with their numbers made alike.
pub(crate) struct Shape(Vec<String>);

impl Shape {
    /// Of the run that an audit log tells.
    #[track_caller]
    pub(crate) fn of(audit: &str) -> Shape {
        let text = commands::refcap(["lineage", audit]).ends_with(0);
        Shape(text.text().lines().map(without_numbers).collect())
    }

    /// Checks in how many lines something stands.
    #[track_caller]
    pub(crate) fn has(&self, count: usize, part: &str) {
        let found = self.0.iter().filter(|line| line.contains(part)).count();
        assert_eq!(found, count, "{part}: {:#?}", self.0);
    }
}

/// Checks that the picture of a run is the one that an example keeps.
#[track_caller]
pub(crate) fn drawn_as_kept(svg: &str, example: &str) {
    let drawn = std::fs::read_to_string(svg).unwrap();
    let kept = commands::root().join("examples").join(example).join("tree.svg");
    let kept = std::fs::read_to_string(kept).unwrap();
    let again = format!("draw it again, as examples/{example}/README.md says");
    assert_eq!(tags(&drawn), tags(&kept), "{again}");
}

#[test]
fn nothing_that_a_guest_says_is_markup_or_moves_the_cursor() {
    let show = |text: &str, format| {
        let shown = lineage("lineage_hostile", &log_with(text), &["--format", format]).ends_with(0);
        assert_eq!(shown.errors, "", "{text:?}");
        shown.text().to_owned()
    };
    let (text, dot, svg) = (show("tame", "text"), show("tame", "dot"), show("tame", "svg"));
    for hostile in HOSTILE {
        let shown = show(hostile, "text");
        assert_eq!(shown.lines().count(), text.lines().count(), "{hostile:?}");
        assert_eq!(
            outside_of_strings(&show(hostile, "dot")),
            outside_of_strings(&dot),
            "{hostile:?}"
        );
        let drawn = show(hostile, "svg");
        assert_eq!(tags(&drawn), tags(&svg), "{hostile:?}");
        let is_entity = |rest: &str| {
            ["amp;", "lt;", "gt;", "quot;", "#39;"]
                .iter()
                .any(|entity| rest.starts_with(entity))
        };
        assert!(drawn.split('&').skip(1).all(is_entity), "{hostile:?}");
        for shown in [shown, show(hostile, "dot"), drawn] {
            let acts = |character: char| {
                (character.is_control() && character != '\n')
                    || (('\u{200b}'..'\u{2070}').contains(&character) && character != '…')
                    || "\u{feff}\u{ffff}\u{e0041}".contains(character)
            };
            assert!(!shown.contains(acts), "{hostile:?}: {shown:?}");
        }
    }
}

// Graphviz and an XML parser of others agree, where there are any.
#[test]
fn other_programs_read_what_is_drawn() {
    let scratch = Scratch::new("lineage_others");
    let log = scratch.file("audit.jsonl", log_with(&HOSTILE.concat()));
    let (dot, svg) = (scratch.path("tree.dot"), scratch.path("tree.svg"));
    for path in [&dot, &svg] {
        refcap(["lineage", &log, "--output", path]).ends_with(0);
    }
    let parse =
        "import sys, xml.dom.minidom as m; print(len(m.parse(sys.argv[1]).getElementsByTagName('title')))";
    for (program, arguments, answer) in [
        ("dot", ["-Tplain", &dot, ""], "node n1 "),
        ("python3", ["-c", parse, &svg], "2"),
    ] {
        let arguments = arguments.iter().filter(|argument| !argument.is_empty());
        match Command::new(program).args(arguments).output() {
            Err(error) => eprintln!("SKIPPED: this test needs {program}, and {error}"),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(
                    output.status.success() && text.contains(answer),
                    "{program}: {output:?}"
                );
                assert!(!text.contains("evil "), "{text}");
            }
        }
    }
}

// The name of a program is the one thing that a file brings along.
#[cfg(unix)]
#[test]
fn a_program_may_have_any_name() {
    let scratch = Scratch::new("lineage_name");
    let module = scratch.file("<b>\"&\u{1b}[1m.wat", asks_and("(i32.const 0)"));
    let svg = scratch.path("tree.svg");
    refcap(["run", &module, "--grant", "net=", "--lineage", &svg]).ends_with(0);
    let drawn = fs::read_to_string(&svg).unwrap();
    assert!(
        drawn.contains("held by &lt;b&gt;&quot;&amp;\\u{1b}[1m.wat (vat "),
        "{drawn}"
    );
}

const GRANT: &str = "{\"event\":\"grant\",\"id\":1,\"kind\":\"Net\",\"label\":\"net\",\"authority\":\"\"}\n";

#[test]
fn what_is_wrong_with_a_log_is_said_with_its_line() {
    let malformed =
        lineage("lineage_bad", &format!("{GRANT}\n{{\"event\":\"close\"}}\n"), &[]).ends_with(202);
    assert_eq!(malformed.text(), "");
    malformed.says(&[
        "cannot read the audit log ",
        "audit.jsonl: line 3: the event `close` has no field `id`",
    ]);
    lineage("lineage_bad", &format!("{GRANT}not json\n{GRANT}"), &[])
        .ends_with(202)
        .says(&["line 2: not an event of an audit log, which is a JSON object: "]);
    lineage("lineage_bad", &format!("{GRANT}{GRANT}"), &[])
        .ends_with(202)
        .says(&["line 2: the capability #1 begins a second time; a log is of one process"]);
    refcap(["lineage", "/no/such/audit.jsonl"])
        .ends_with(202)
        .says(&["cannot read the audit log /no/such/audit.jsonl: "]);
}

#[test]
fn a_log_that_is_cut_short_is_shown_with_a_warning() {
    let shown = lineage("lineage_cut", &format!("{GRANT}{{\"event\":\"der"), &[]).ends_with(0);
    assert!(
        shown
            .text()
            .contains("Net #1 `net` · nothing · the host · held at the end"),
        "{}",
        shown.text()
    );
    shown.says(&["the last line of ", "audit.jsonl is not finished, and left out"]);
    let empty = lineage("lineage_cut", "", &[]).ends_with(0);
    assert_eq!((empty.text(), empty.errors.as_str()), ("no capabilities\n", ""));
}

#[test]
fn options_that_ask_for_what_there_is_not_are_refused() {
    let scratch = Scratch::new("lineage_options");
    let log = scratch.file("audit.jsonl", GRANT);
    refcap(["lineage", &log, "--of", "7"])
        .ends_with(200)
        .says(&["the log knows of no capability #7"]);
    refcap(["lineage", &log, "--format", "png"])
        .ends_with(200)
        .says(&["text, dot, svg"]);
    refcap(["lineage", &log, "--output", &scratch.path("tree")])
        .ends_with(200)
        .says(&["does not say in which form"]);
    refcap(["lineage", &log, "--output", &scratch.path("no/tree.svg")])
        .ends_with(202)
        .says(&["cannot write the derivation tree"]);
    // The form that is said counts, whatever the file's name.
    let path = scratch.path("tree.svg");
    refcap(["lineage", &log, "--output", &path, "--format", "dot"]).ends_with(0);
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .starts_with("digraph lineage {")
    );
}

/// A log of a Net with so many streams.
fn streams(count: usize) -> String {
    let mut log = GRANT.to_owned();
    for id in 2..count + 2 {
        writeln!(
            log,
            r#"{{"event":"derive","id":{id},"parent":1,"kind":"TcpStream","label":"net","vat":1}}"#
        )
        .unwrap();
    }
    log
}

#[test]
fn many_like_children_are_folded_unless_asked_for() {
    let log = streams(1000);
    for format in ["text", "dot", "svg"] {
        let lines = |arguments: &[&str]| {
            let arguments = [arguments, &["--format", format]].concat();
            lineage("lineage_many", &log, &arguments)
                .ends_with(0)
                .text()
                .to_owned()
        };
        let shown = lines(&[]);
        assert!(
            shown.contains("… and 988 more TcpStreams") && shown.contains("#13"),
            "{shown}"
        );
        assert!(!shown.contains("#14"), "{shown}");
        assert!(lines(&["--children", "3"]).contains("… and 997 more TcpStreams"));
        let all = lines(&["--children", "0"]);
        assert!(all.contains("#1001") && !all.contains("more TcpStreams"));
        let one = lines(&["--of", "77"]);
        assert!(
            one.contains("TcpStream #77") && !one.contains("TcpStream #76"),
            "{one}"
        );
    }
}

#[test]
fn a_hundred_thousand_events_are_read_at_once() {
    let wide = streams(100_000);
    let deep: String = (2..100_000)
        .map(|id| {
            let (parent, vat) = (id - 1, id % 2);
            format!("{{\"event\":\"derive\",\"id\":{id},\"parent\":{parent},\"kind\":\"Net\",\"label\":\"net\",\"vat\":{vat}}}\n")
        })
        .collect();
    let deep = format!("{GRANT}{deep}{{\"event\":\"revoke\",\"id\":1,\"label\":\"net\",\"ended\":99999}}\n");
    for log in [wide, deep] {
        for format in ["text", "dot", "svg"] {
            let start = Instant::now();
            let shown = lineage("lineage_large", &log, &["--format", format]).ends_with(0);
            // A second in a development build, and on a machine that does other things too.
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
            assert!(shown.output.len() < 1 << 20, "{} bytes", shown.output.len());
        }
    }
}
