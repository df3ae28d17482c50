//! The plug-in host among the examples: three programs with one upstream each, of which one misbehaves.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::cli_lineage::{Shape, drawn_as_kept};
use crate::support::commands::{self, Scratch, guest, refcap_command};

/// A server that answers each line with a number, and remembers who came and what they said.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// For each connection the lines that came.
    visits: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Upstream {
    pub(crate) fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(Mutex::new(Vec::new()));
        let all = visits.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let visit = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let all = all.clone();
                thread::spawn(move || answer(stream, |line| all.lock().unwrap()[visit].push(line)));
            }
        });
        Upstream { address, visits }
    }

    /// How many visitors there were.
    pub(crate) fn visits(&self) -> usize {
        self.visits.lock().unwrap().len()
    }

    /// The one visitor's lines.
    pub(crate) fn only_visit(&self) -> Vec<String> {
        let visits = self.visits.lock().unwrap();
        assert_eq!(visits.len(), 1, "connections to {}: {visits:?}", self.address);
        visits[0].clone()
    }
}

fn answer(stream: TcpStream, mut note: impl FnMut(String)) {
    let mut to = stream.try_clone().unwrap();
    for (number, line) in BufReader::new(stream).lines().enumerate() {
        let Ok(line) = line else { return };
        note(line);
        if writeln!(to, "{number}").is_err() {
            return;
        }
    }
}

#[test]
fn a_plug_in_that_misbehaves_loses_what_it_was_given_and_the_others_go_on() {
    const NAMES: [&str; 3] = ["weather", "quotes", "news"];
    for profile in ["debug", "release"] {
        let scratch = Scratch::new(&format!("plugin_host_{profile}"));
        let (audit, svg) = (scratch.path("audit.jsonl"), scratch.path("tree.svg"));
        let upstreams = NAMES.map(|name| (name, Upstream::start()));
        let mut command = refcap_command();
        command.arg("run").arg(guest(profile, "plugin-host"));
        for (name, program) in NAMES.into_iter().zip(["plugin", "rogue-plugin", "plugin"]) {
            let program = guest(profile, program);
            command.args(["--spawn", &format!("{name}={}", program.display())]);
        }
        command.args(["--grant", "net=connect tcp 127.0.0.1:*"]);
        command.args(["--audit", &audit, "--lineage", &svg, "--"]);
        command.args(
            upstreams
                .iter()
                .map(|(name, upstream)| format!("{name}={}", upstream.address)),
        );
        let shown = commands::outcome(&mut command).ends_with(0);
        assert_eq!(shown.errors, "");

        let [weather, quotes, news] = &upstreams;
        let refused = |other: &Upstream| format!("no rule allows connect tcp {}", other.address);
        shown.shows(&[
            &format!("host: quotes gets `connect tcp {}`", quotes.1.address),
            &refused(&weather.1),
            &refused(&news.1),
            "host: quotes reports 60000 bytes that are no reading; I revoked what it has, 2 capabilities",
            "quotes: my connection: write: the capability was revoked",
            "quotes: another connection: connect: the capability was revoked",
            "host: weather has sent 3 readings since another one was taken out",
            "host: news has sent 3 readings since another one was taken out",
            "host: weather has ended: it exited with code 0",
            "host: quotes has ended: it exited with code 0",
            "host: news has ended: it exited with code 0",
            "host: 1 was taken out, the others did their work",
        ]);
        // Each upstream was visited by the plug-in that it was meant for, and by nobody else.
        for (name, upstream) in &upstreams {
            let lines = upstream.only_visit();
            assert!(lines.iter().all(|line| line == name), "{name}: {lines:?}");
            let expected = if *name == "quotes" { 1..=1 } else { 3..=usize::MAX };
            assert!(expected.contains(&lines.len()), "{name}: {} lines", lines.len());
        }
        drawn(&audit, &svg);
    }
}

/// Checks what the picture has to say.
#[track_caller]
fn drawn(audit: &str, svg: &str) {
    drawn_as_kept(svg, "plugin-host");
    let shape = Shape::of(audit);
    // Nobody but its upstream's plug-in has each.
    for (name, end) in [
        ("weather", "closed by its holder"),
        ("quotes", "ended with #9"),
        ("news", "closed by its holder"),
    ] {
        let stream = format!("TcpStream #9 `net/{name}` · connect tcp 9.9.9.9:9 · {name} (vat 9) · {end}");
        shape.has(1, &stream);
    }
    shape.has(3, "TcpStream");
    shape.has(1, "revoked by plugin-host.wasm");
}
