//! A client as a component: `std::net` over the sockets of WASI 0.2. Does one job, given by its arguments, and says
//! how many nanoseconds it took; for round trips also the middle one, and the 99th of a hundred.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

const ECHO: u8 = 0;
const SINK: u8 = 1;
const SOURCE: u8 = 2;
const MESSAGE: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| -> u32 { arguments[place].parse().expect("a number") };
    let server: SocketAddr = arguments[0].parse().expect("an address");
    match arguments[1].as_str() {
        "connect" => connect(server, number(2)),
        "echo" => echo(server, number(2)),
        "write" => write(server, number(2), number(3)),
        _ => read(server, number(2), number(3)),
    }
    .expect("the server answers");
}

fn greet(server: SocketAddr, what: u8, length: u32) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    let mut greeting = vec![what];
    greeting.extend(length.to_le_bytes());
    stream.write_all(&greeting)?;
    Ok(stream)
}

fn connect(server: SocketAddr, count: u32) -> std::io::Result<()> {
    let start = Instant::now();
    for _ in 0..count {
        drop(TcpStream::connect(server)?);
    }
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}

fn echo(server: SocketAddr, count: u32) -> std::io::Result<()> {
    let mut stream = greet(server, ECHO, 0)?;
    let mut message = [7; MESSAGE];
    let mut times = Vec::with_capacity(count as usize);
    let start = Instant::now();
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        times.push(begun.elapsed().as_nanos());
    }
    let all = start.elapsed().as_nanos();
    times.sort_unstable();
    println!(
        "{all} {} {}",
        times[times.len() / 2],
        times[times.len() / 100 * 99]
    );
    Ok(())
}

fn write(server: SocketAddr, pieces: u32, size: u32) -> std::io::Result<()> {
    let mut stream = greet(server, SINK, pieces * size)?;
    let bytes = vec![7; size as usize];
    let start = Instant::now();
    for _ in 0..pieces {
        stream.write_all(&bytes)?;
    }
    stream.read_exact(&mut [0])?;
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}

fn read(server: SocketAddr, pieces: u32, size: u32) -> std::io::Result<()> {
    let mut bytes = vec![7; size as usize];
    let start = Instant::now();
    let mut stream = greet(server, SOURCE, pieces * size)?;
    let mut left = (pieces * size) as usize;
    while left > 0 {
        match stream.read(&mut bytes)? {
            0 => panic!("the server stopped early"),
            count => left -= count,
        }
    }
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}
