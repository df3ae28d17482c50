//! Runs a deputy and two clients that don't trust each other, each with the one address that it needs.
//!
//! See the README in the folder above for how to run it, and for the same program with integers.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use refcap_guest::Net;

mod deputy {
    use refcap_guest::{Net, Result};

    #[refcap_guest::linked(name = "deputy")]
    extern "C" {
        pub(crate) fn employ(net: Net) -> Result<()>;
    }
}

mod alice {
    use refcap_guest::{Net, Result};

    #[refcap_guest::linked(name = "alice")]
    extern "C" {
        pub(crate) fn order(net: Net, word: u64) -> Result<u32>;
    }
}

mod bob {
    use refcap_guest::{Net, Result};

    #[refcap_guest::linked(name = "bob")]
    extern "C" {
        pub(crate) fn order(net: Net, word: u64) -> Result<u32>;
    }
}

const USAGE: &str = "usage: confused-deputy BOOKS ALICE BOB, each ADDRESS:PORT";

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let addresses: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|address| address.parse().with_context(|| format!("`{address}`: {USAGE}")))
        .collect::<anyhow::Result<_>>()?;
    let [books, for_alice, for_bob] = addresses[..] else {
        anyhow::bail!(USAGE);
    };
    let to = |address: SocketAddr, label: &str| {
        let terms = format!("label {label}");
        net.exactly(format!("connect tcp {address}"))?
            .limit(terms.as_str())
    };
    deputy::employ(to(books, "books")?)?;
    let named = alice::order(to(for_alice, "alice")?, word(b"alice's\n"))?;
    println!("Alice wrote to {named} connections by their numbers");
    let named_too = bob::order(to(for_bob, "bob")?, word(b"bob was\n"))?;
    println!("Bob wrote to {named_too} connections by their numbers");
    ensure!(
        named + named_too == 0,
        "the deputy is confused: it wrote to what it was not given"
    );
    Ok(())
}

/// A word of eight letters, as it is passed.
fn word(letters: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*letters)
}
