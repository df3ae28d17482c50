//! The picture of the supply chain among the examples: what a library that was taken over does not get.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use crate::cli_lineage::drawn_as_kept;
use crate::support::commands::{self, Scratch, guest, refcap_command};

#[test]
fn a_program_beside_a_library_that_was_taken_over_has_the_connection_that_it_made() {
    let scratch = Scratch::new("supply_chain");
    let svg = scratch.path("tree.svg");
    let rates = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = rates.local_addr().unwrap().to_string();
    let serve = thread::spawn(move || rates.accept().unwrap().0.write_all(b"920\n").unwrap());
    let converter = guest("release", "converter");
    let mut command = refcap_command();
    command.arg("run").arg(guest("release", "supply-chain-apart"));
    command.args(["--with", &format!("converter={}", converter.display())]);
    command.args(["--grant", "net=connect tcp 127.0.0.0/8:*", "--lineage", &svg]);
    let shown = commands::outcome(command.args(["--", &service])).ends_with(0);
    serve.join().unwrap();
    assert_eq!(shown.text(), "1000 cents are 920\n");

    let drawn = fs::read_to_string(&svg).unwrap();
    assert!(
        drawn.contains("supply-chain-apart.wasm (vat ") && drawn.contains("1 refused"),
        "{drawn}"
    );
    drawn_as_kept(&svg, "supply-chain");
}
