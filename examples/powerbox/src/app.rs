//! A program that holds nothing of the network. It asks for the addresses that its arguments name, and tries to make
//! more of what it gets.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use powerbox_api::{Answer, Powerbox, PowerboxRef};
use refcap_guest::{Error, Net, TcpStream};

#[refcap_guest::main]
fn main(powerbox: PowerboxRef) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, wishes) = arguments.split_first().context("the powerbox starts this")?;
    let wishes: Vec<SocketAddr> = wishes.iter().map(|wish| wish.parse()).collect::<Result<_, _>>()?;
    let mut held = Vec::new();
    for &address in &wishes {
        match powerbox.ask("to show a page".to_owned(), address)? {
            Answer::Refused(why) => println!("{name}: {address}: {why}"),
            Answer::Given(net) => {
                let stream = net.connect(address)?;
                println!("{name}: {address} says {:?}", talk(&stream, name)?);
                tries_more(name, &net, address, &wishes)?;
                held.push((address, net, stream));
            }
        }
    }
    for (address, net, stream) in held {
        match talk(&stream, name) {
            Ok(line) => println!("{name}: {address} still says {line:?}"),
            Err(error) => {
                println!("{name}: my connection to {address}: {error}");
                let Err(again) = net.connect(address) else {
                    bail!("connected once more through what was withdrawn");
                };
                println!("{name}: another one to {address}: {again}");
                ensure!(again.is_revoked());
            }
        }
    }
    Ok(())
}

/// What was given for one address is of no use for others, and nothing more can be made of it.
fn tries_more(name: &str, net: &Net, given: SocketAddr, wishes: &[SocketAddr]) -> anyhow::Result<()> {
    let mut others: Vec<_> = wishes.iter().filter(|&&wish| wish != given).collect();
    others.dedup();
    for other in others {
        match net.connect(*other) {
            Ok(_) => bail!("reached {other} by way of {given}"),
            Err(error) => println!("{name}: {other} by way of {given}: {error}"),
        }
    }
    match net.exactly("connect tcp *:*") {
        Ok(_) => bail!("made everything of {given}"),
        Err(error) => println!("{name}: everything by way of {given}: {error}"),
    }
    Ok(())
}

/// Says a line, and hears one.
fn talk(stream: &TcpStream, name: &str) -> Result<String, Error> {
    let mut line = String::new();
    let talked = (&mut &*stream)
        .write_all(format!("{name}\n").as_bytes())
        .and_then(|()| BufReader::with_capacity(64, stream).read_line(&mut line));
    match talked {
        Ok(_) => Ok(line.trim_end().to_owned()),
        Err(error) => Err(Error::from_io(&error).cloned().unwrap_or_else(|| {
            Error::new(
                refcap_guest::ErrorCode::ConnectionReset,
                "talk",
                error.to_string(),
            )
        })),
    }
}
