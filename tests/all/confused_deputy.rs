//! The confused deputy among the examples: with references it can't be confused, with integers it is.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use crate::cli_lineage::drawn_as_kept;
use crate::support::commands::{self, Scratch, guest, refcap_command};
use crate::support::integers::{Host, Instance};

/// What the deputy writes into its books for each word, and what the clients have it write.
const ENTRY: &str = "1 word, 1 coin\n";
const ALICE: &str = "alice's\n";
const BOB: &str = "bob was\n";

/// A server for one connection, which remembers all that comes.
struct Server {
    address: SocketAddr,
    all: JoinHandle<String>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let all = thread::spawn(move || {
            let mut text = String::new();
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        Server { address, all }
    }

    /// All that came, when the other end is closed.
    fn all(self) -> String {
        self.all.join().unwrap()
    }
}

// Two parties that don't trust each other pass the deputy a capability each, and it has one of its own.
#[test]
fn a_deputy_that_is_passed_references_writes_to_each_what_is_meant_for_it() {
    for profile in ["debug", "release"] {
        let [books, alice, bob] = [(); 3].map(|()| Server::start());
        let scratch = Scratch::new(&format!("confused_deputy_{profile}"));
        let svg = scratch.path("tree.svg");
        let mut command = refcap_command();
        command.arg("run").arg(guest(profile, "confused-deputy"));
        for (name, program) in [("deputy", "deputy"), ("alice", "client"), ("bob", "client")] {
            let program = guest(profile, program);
            command.args(["--with", &format!("{name}={}", program.display())]);
        }
        command.args(["--grant", "net=connect tcp 127.0.0.1:*", "--lineage", &svg, "--"]);
        command.args([&books, &alice, &bob].map(|server| server.address.to_string()));
        let shown = commands::outcome(&mut command).ends_with(0);
        assert_eq!(
            shown.text(),
            "Alice wrote to 0 connections by their numbers\nBob wrote to 0 connections by their numbers\n"
        );
        assert_eq!(books.all(), ENTRY.repeat(4), "{profile}");
        assert_eq!(alice.all(), ALICE.repeat(2), "{profile}");
        assert_eq!(bob.all(), BOB.repeat(2), "{profile}");

        let drawn = fs::read_to_string(&svg).unwrap();
        for part in ["net/books", "net/alice", "net/bob"] {
            assert!(drawn.contains(part), "{part}");
        }
        drawn_as_kept(&svg, "confused-deputy");
    }
}

#[test]
fn a_deputy_that_is_passed_integers_writes_wherever_a_client_names_a_number() {
    for profile in ["debug", "release"] {
        let servers = [(); 3].map(|()| Server::start());
        let mut host = Host::new();
        // The same steps as in the program with references: everybody gets the one connection that it needs.
        let [books, for_alice, for_bob] = [0, 1, 2].map(|server: usize| {
            let stream = TcpStream::connect(servers[server].address).unwrap();
            host.open(stream)
        });
        let module = |name: &str| fs::read(guest(profile, name)).unwrap();
        let deputy = host.start(&module("integer_deputy-unknown"), None);
        let client = module("integer_client-unknown");
        let [alice, bob] = [(); 2].map(|()| host.start(&client, Some(deputy)));
        assert_eq!(host.call(deputy, "employ", books, None), 0);
        let word = |text: &str| u64::from_le_bytes(text.as_bytes().try_into().unwrap());
        let mut order = |who: Instance, output, text| host.call(who, "order", output, Some(word(text)));
        // Each names three connections, of which one is its own.
        assert_eq!(order(alice, for_alice, ALICE), 3, "{profile}");
        assert_eq!(order(bob, for_bob, BOB), 3, "{profile}");
        // The host is gone, and with it the connections.
        drop(host);

        let [books, alice, bob] = servers.map(Server::all);
        // Five words of each client are paid for, and one of the five is in the books.
        let of = |word: &str| format!("{ENTRY}{word}{}", ENTRY.repeat(4));
        assert_eq!(books, of(ALICE) + &of(BOB), "{profile}");
        assert_eq!(alice, ALICE.repeat(3) + BOB, "{profile}");
        assert_eq!(bob, ALICE.to_owned() + &BOB.repeat(3), "{profile}");
    }
}
