//! Runs plug-ins, each with one upstream of its network, and takes back what it gave to the one that misbehaves.
//!
//! See the README beside this folder for how to run it, and for the picture of who got what from whom.
//!
//! A plug-in is a program of its own, in a vat of its own. It gets a network in which there is one address, and an
//! object to report readings to: each has its own, so the host knows who reports. A report that is no reading ends what
//! its plug-in was given of the network, with the connections that it has, before the plug-in has its answer. The others
//! keep what they have.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use plugin_api::{Desk, DeskRef, reading};
use refcap_guest::{Child, Error, ErrorCode, Net, Result, Revoker, Spawner};

refcap_guest::answers_calls!();

const USAGE: &str = "usage: plugin-host PLUGIN=ADDRESS:PORT...";
/// How many readings of each are wanted after one of them was taken out.
const WANTED: u32 = 3;
/// And at the most, if none is.
const MOST: u32 = 100_000;
/// How long the host waits for reports.
const PATIENCE: Duration = Duration::from_secs(10);

#[refcap_guest::main]
fn main(net: Net, spawner: Spawner) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!arguments.is_empty(), USAGE);
    let board = Rc::new(Board::default());
    let mut plugins = Vec::new();
    for argument in &arguments {
        let (name, address) = argument.split_once('=').context(USAGE)?;
        let address = address
            .parse()
            .with_context(|| format!("`{address}` is not an address: {USAGE}"))?;
        let child = start(&net, &spawner, &board, name, address, &arguments)
            .with_context(|| format!("starting {name}"))?;
        plugins.push((name, child));
    }
    println!("host: I hold `{}`", net.describe()?);
    while board.at_work.get() > 0 {
        refcap_guest::object::serve(Some(PATIENCE)).context("the plug-ins are silent")?;
    }
    for (name, child) in plugins {
        println!("host: {name} has ended: {}", child.wait()?);
    }
    match board.taken_out.get() {
        0 => bail!("none of the plug-ins misbehaved"),
        count => println!("host: {count} was taken out, the others did their work"),
    }
    Ok(())
}

/// What all plug-ins have in common.
#[derive(Default)]
struct Board {
    /// How many have more to report.
    at_work: Cell<u32>,
    taken_out: Cell<u32>,
}

/// Starts a plug-in. It is told all addresses, as any program may find them out: that one knows an address does
/// not mean that one can reach it.
fn start(
    net: &Net,
    spawner: &Spawner,
    board: &Rc<Board>,
    name: &str,
    upstream: SocketAddr,
    addresses: &[String],
) -> Result<Child> {
    let only = net
        .exactly(format!("connect tcp {upstream}"))?
        .limit(format!("label {name}"))?;
    let (lent, revoker) = only.revocable()?;
    println!("host: {name} gets `{}`", lent.describe()?);
    let desk = DeskRef::new(Plugin {
        name: name.to_owned(),
        board: board.clone(),
        revoker,
        before: Cell::new(0),
        after: Cell::new(0),
        is_out: Cell::new(false),
    })?;
    let mut launch = spawner
        .program(name)?
        .grant("net", &lent)?
        .grant("desk", &desk)?
        .argument(name)?;
    for address in addresses {
        launch = launch.argument(address)?;
    }
    let child = launch.start()?;
    board.at_work.set(board.at_work.get() + 1);
    // The host's own references are closed here; what the plug-in has of them is its own, and ends with the revoker.
    Ok(child)
}

/// What the host knows of one plug-in. It reports here.
struct Plugin {
    name: String,
    board: Rc<Board>,
    /// Of what it was given of the network.
    revoker: Revoker,
    /// Readings before one was taken out, and after.
    before: Cell<u32>,
    after: Cell<u32>,
    is_out: Cell<bool>,
}

impl Desk for Plugin {
    fn report(&self, report: String) -> Result<bool> {
        if self.is_out.get() || reading(&report).is_none() {
            return self.take_out(&report);
        }
        let count = match self.board.taken_out.get() {
            0 => &self.before,
            _ => &self.after,
        };
        count.set(count.get() + 1);
        if self.after.get() < WANTED && self.before.get() < MOST {
            return Ok(true);
        }
        println!(
            "host: {} has sent {} readings since another one was taken out",
            self.name,
            self.after.get()
        );
        self.leaves();
        Ok(false)
    }
}

impl Plugin {
    /// It has sent what is no reading: what it was given ends before it has its answer.
    fn take_out(&self, report: &str) -> Result<bool> {
        if !self.is_out.replace(true) {
            let ended = self.revoker.revoke()?;
            println!(
                "host: {} reports {} bytes that are no reading; I revoked what it has, {ended} capabilities",
                self.name,
                report.len()
            );
            self.board.taken_out.set(self.board.taken_out.get() + 1);
            self.leaves();
        }
        Err(Error::new(ErrorCode::Denied, "report", "it was no reading"))
    }

    fn leaves(&self) {
        self.board.at_work.set(self.board.at_work.get().saturating_sub(1));
    }
}
