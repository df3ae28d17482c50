//! A program that connects to each of its addresses, says hello, and reports what it hears. Nothing in it knows that
//! somebody stands in front of its network.

use std::io::{BufRead, BufReader, Write};

use refcap_guest::{Net, TcpStream};

#[refcap_guest::main]
fn main(net: Net, report: TcpStream) -> anyhow::Result<()> {
    let mut report = &report;
    for address in std::env::args().skip(1) {
        match visit(&net, &address) {
            Ok(heard) => writeln!(report, "{address} says {heard}")?,
            Err(error) => writeln!(report, "{address}: {error}")?,
        }
    }
    Ok(())
}

/// Says hello, and hears one line.
fn visit(net: &Net, address: &str) -> anyhow::Result<String> {
    let stream = net.connect(address)?;
    (&stream).write_all(b"hello\n")?;
    let mut heard = String::new();
    BufReader::with_capacity(64, &stream).read_line(&mut heard)?;
    Ok(heard.trim_end().to_owned())
}
