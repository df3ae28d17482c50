//! A plug-in that does its work once, then tries what it has no business with, and then floods its host.

use std::io::Write;

use anyhow::ensure;
use plugin_api::{Desk, DeskRef, ask, reading, upstream};
use refcap_guest::{Error, Net};

/// More than any reading has, and less than a message may have.
const FLOOD: usize = 60_000;

#[refcap_guest::main]
fn main(net: Net, desk: DeskRef) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, upstream) = (&arguments[0], upstream(&arguments)?);
    let mut stream = net.connect(upstream)?;
    let line = ask(&stream, name)?;
    ensure!(reading(&line).is_some(), "the upstream says {line:?}");
    ensure!(desk.report(line)?, "the host has enough of the first reading");

    // It knows where the upstreams of the others are.
    for line in &arguments[1..] {
        let Some((other, address)) = line.split_once('=') else {
            continue;
        };
        if other == name {
            continue;
        }
        match net.connect(address) {
            Ok(_) => anyhow::bail!("reached the upstream of {other}"),
            Err(error) => println!("{name}: the upstream of {other}: {error}"),
        }
    }
    match net.exactly("connect tcp 127.0.0.0/8:*") {
        Ok(_) => anyhow::bail!("made more of what it has"),
        Err(error) => println!("{name}: all of this machine: {error}"),
    }

    match desk.report("!".repeat(FLOOD)) {
        Ok(_) => anyhow::bail!("the host takes nonsense"),
        Err(error) => println!("{name}: my report: {error}"),
    }

    // What it was given is gone: the connection that it had, and the way to another one.
    let Err(error) = stream.write_all(b"more\n") else {
        anyhow::bail!("its connection has outlived what it came from");
    };
    println!("{name}: my connection: {error}");
    ensure!(Error::from_io(&error).is_some_and(Error::is_revoked));
    match net.connect(upstream) {
        Ok(_) => anyhow::bail!("reached its upstream again"),
        Err(error) => {
            println!("{name}: another connection: {error}");
            ensure!(error.is_revoked());
        }
    }
    Ok(())
}
