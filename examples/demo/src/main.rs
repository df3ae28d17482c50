//! The guest of `cargo xtask demo`: what a capability is, in five lines of output.
//!
//! ```text
//! cargo xtask demo
//! ```
//!
//! The host starts it with three addresses: of a server that says hello, of one that says nothing, and
//! one that it is not to reach. While it waits for the silent one, the host revokes its network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use refcap_guest::{Error, ErrorCode, Net};

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [hello, silent, forbidden] = &arguments[..] else {
        bail!("usage: demo HELLO SILENT FORBIDDEN, three addresses with ports");
    };
    let parse = |text: &String| {
        text.parse()
            .with_context(|| format!("`{text}` is not an address"))
    };
    show(&net, parse(hello)?, parse(silent)?, parse(forbidden)?)
}

fn show(net: &Net, hello: SocketAddr, silent: SocketAddr, forbidden: SocketAddr) -> anyhow::Result<()> {
    step("granted", format_args!("the guest holds `{}`", net.describe()?));

    let narrow = net.exactly(format!("connect tcp {hello}; connect tcp {silent}"))?;
    step("derived", format_args!("from that, `{}`", narrow.describe()?));

    let mut line = String::new();
    BufReader::new(narrow.connect(hello)?).read_line(&mut line)?;
    ensure!(line.starts_with("hello"), "the server said {line:?}");
    step("allowed", format_args!("{hello} says {:?}", line.trim_end()));

    let Err(refused) = narrow.connect(forbidden) else {
        bail!("reached {forbidden}, which is not allowed");
    };
    ensure!(
        refused.code() == ErrorCode::Denied,
        "not reached, but for another reason: {refused}"
    );
    step("refused", format_args!("{}", refused.message()));

    let mut stream = narrow.connect(silent)?;
    // Lets the server, and so the host, know that the guest has come this far.
    stream.write_all(b"waiting\n")?;
    let Err(cut_off) = stream.read(&mut [0; 64]) else {
        bail!("the silent server said something, or the connection ended like any other");
    };
    ensure!(
        Error::from_io(&cut_off).is_some_and(Error::is_revoked),
        "cut off, but for another reason: {cut_off}"
    );
    step(
        "revoked",
        format_args!("in the middle of a read from {silent}: {cut_off}"),
    );
    ensure!(narrow.connect(hello).is_err_and(|error| error.is_revoked()));
    Ok(())
}

fn step(name: &str, text: std::fmt::Arguments<'_>) {
    println!("{name:10}{text}");
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_step_is_shown() {
        let hello = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [hello.local_addr().unwrap(), silent.local_addr().unwrap()];
        let (net, revoker) = refcap_guest::testing::net("connect tcp 127.0.0.1:*")
            .revocable()
            .unwrap();
        let host = std::thread::spawn(move || {
            hello.accept().unwrap().0.write_all(b"hello\n").unwrap();
            let (stream, _) = silent.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(line, "waiting\n");
            revoker.revoke().unwrap()
        });
        show(&net, addresses[0], addresses[1], "127.0.0.1:1".parse().unwrap()).unwrap();
        // The grant, what was derived from it, and the connection. The first connection was closed.
        assert_eq!(host.join().unwrap(), 3);
    }
}
