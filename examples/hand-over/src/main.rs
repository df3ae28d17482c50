//! Hands a narrower network to code that is not trusted, and takes it back.
//!
//! ```text
//! cargo xtask guests
//! nc -lk 127.0.0.1 8000 &
//! refcap run target/guests/release/hand-over.wasm --grant net='connect tcp 127.0.0.1:*' -- 127.0.0.1:8000
//! ```
//!
//! With `--lineage examples/hand-over/lineage.svg` before the `--`, the last command draws who got what from
//! whom, and how it ended.
//!
//! `main` may reach every port of the machine. `plugin` gets one of them, and that revocably: see
//! what it can and cannot do in `plugin.rs`, and that its possibilities end when `main` says so.
//!
//! Both are in one module here, which is enough against mistakes and against safe code. Code that may
//! use `unsafe` belongs in a module of its own.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use refcap_guest::{ErrorCode, Net};

mod plugin;

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: hand-over ADDRESS:PORT")?;
    let address: SocketAddr = address
        .parse()
        .with_context(|| format!("`{address}` is not an address"))?;
    hand_over(&net, address)
}

fn hand_over(net: &Net, address: SocketAddr) -> anyhow::Result<()> {
    println!("main: I hold `{}`", net.describe()?);
    let (lent, revoker) = net.exactly(format!("connect tcp {address}"))?.revocable()?;
    println!("main: I lend the plugin `{}`", lent.describe()?);

    let mut plugin = plugin::Plugin::new(lent);
    plugin.work(address)?;
    plugin.try_more()?;

    let ended = revoker.revoke()?;
    println!("main: I revoked what I lent; {ended} capabilities ended, the plugin's connection among them");
    let error = plugin.read().expect_err("the connection outlived its capability");
    println!("plugin: reading from my connection: {error}");
    ensure!(refcap_guest::Error::from_io(&error).is_some_and(refcap_guest::Error::is_revoked));
    let error = plugin
        .work(address)
        .expect_err("the plugin works without its capability");
    println!("plugin: another connection to {address}: {error}");
    ensure!(error.code() == ErrorCode::Revoked);

    net.connect(address)?;
    println!("main: I can still reach {address} myself");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_plugin_gets_no_more_than_it_was_lent() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let net = refcap_guest::testing::net("connect tcp 127.0.0.1:*");
        hand_over(&net, server.local_addr().unwrap()).unwrap();
    }
}
