//! The host side of `cargo xtask demo`: grants a guest the network, watches it, and takes it back in the
//! middle of a read.
//!
//! ```text
//! cargo xtask demo
//! ```
//!
//! It starts three servers on 127.0.0.1: one that says hello, one that accepts and stays silent, and one
//! that nobody may reach, which would tell if somebody did.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use refcap::{Capability, Limits, Output, Program, Runtime, ambient_authority};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What the guest is given. It makes a narrower one of this by itself.
const GRANT: &str = "connect tcp 127.0.0.0/8:*";
/// How long the guest's read stays blocked before the host revokes.
const SUSPENSE: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .context("usage: demo GUEST.wasm (run `cargo xtask demo`)")?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read the guest {path}"))?;

    let hello = TcpListener::bind("127.0.0.1:0").await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let forbidden = TcpListener::bind("127.0.0.1:0").await?;
    let addresses = [hello.local_addr()?, silent.local_addr()?, forbidden.local_addr()?];

    tokio::spawn(say_hello(hello));
    let (accepted, someone_waits) = oneshot::channel();
    let (closed, peer_gone) = oneshot::channel();
    tokio::spawn(stay_silent(silent, accepted, closed));
    let intruders = Arc::new(AtomicUsize::new(0));
    tokio::spawn(count_visits(forbidden, intruders.clone()));

    let runtime = Runtime::new()?;
    let program = Program::load(&runtime, &bytes)?;
    // The one line from which all of the guest's power comes.
    let net = Capability::net("net", GRANT.parse()?, ambient_authority());
    say(&format!("granted   {net:?} by the host: `{GRANT}`"));

    let mut vat = program
        .vat()
        .grant("net", &net)
        .args(arguments(addresses))
        .limits(Limits::default().wall_time(Duration::from_secs(30)))
        .stdout(Output::Inherit)
        .stderr(Output::Inherit)
        .start()
        .await?;

    let host = tokio::spawn(async move {
        someone_waits.await?;
        tokio::time::sleep(SUSPENSE).await;
        let descendants = net.lineage();
        say("          the tree now, as the host sees it:");
        for node in &descendants {
            let parent = node
                .parent
                .map_or("minted".to_owned(), |parent| format!("from {parent}"));
            say(&format!("            {} {} ({parent})", node.kind, node.id));
        }
        let start = Instant::now();
        let ended = net.revoke();
        say(&format!(
            "revoked   {net:?} by the host: {ended} capabilities ended in {:?}",
            start.elapsed()
        ));
        peer_gone.await?;
        say(&format!(
            "          the server saw its connection close {:?} after the revoke",
            start.elapsed()
        ));
        anyhow::Ok(start)
    });
    let exit = vat.run().await?;
    let ended = Instant::now();
    let revoked = host.await??;
    let delay = ended.duration_since(revoked);
    say(&format!(
        "          the guest was told, and had ended, {delay:?} after the revoke"
    ));

    let visits = intruders.load(Ordering::SeqCst);
    say(&format!(
        "          the server that nobody may reach was reached {visits} times"
    ));
    say(&format!(
        "          the guest holds {} capabilities; it ended with {}",
        vat.capabilities(),
        exit.code
    ));
    ensure!(
        exit.code == 0,
        "the guest found that something was not as it should be"
    );
    ensure!(visits == 0, "the guest reached a server that it was not granted");
    Ok(())
}

fn arguments(addresses: [SocketAddr; 3]) -> Vec<String> {
    let mut arguments = vec!["demo".to_owned()];
    arguments.extend(addresses.iter().map(ToString::to_string));
    arguments
}

/// Prints a line at once, for the guest writes to the same terminal.
fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

async fn say_hello(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(b"hello from the server\n").await;
    }
}

async fn stay_silent(listener: TcpListener, accepted: oneshot::Sender<()>, closed: oneshot::Sender<()>) {
    let Ok((mut stream, _)) = listener.accept().await else {
        return;
    };
    let mut buffer = [0; 64];
    // The guest says that it is about to wait.
    if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
        return;
    }
    let _ = accepted.send(());
    // Ends when the other side closes.
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    let _ = closed.send(());
}

async fn count_visits(listener: TcpListener, visits: Arc<AtomicUsize>) {
    while listener.accept().await.is_ok() {
        visits.fetch_add(1, Ordering::SeqCst);
    }
}
