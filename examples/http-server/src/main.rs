//! A small HTTP/1.1 server, for many clients at once.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/http-server.wasm \
//!     --grant net='bind,listen,accept tcp 127.0.0.1:8080; limit sockets 200' -- 127.0.0.1:8080
//! ```
//!
//! It holds a network in which it can listen at one place and connect nowhere: whatever a client makes it
//! do, it can't be made to reach anything. It stops after as many requests as a second argument says.
//!
//! One thread serves all: each socket is in a poller, and only those that have something are looked at.

use std::collections::HashMap;

use anyhow::{Context, bail};
use refcap_guest::{Error, ErrorCode, Interest, Net, Poller, TcpListener, TcpStream};

use crate::http::{Parsed, parse};

mod http;

/// The number of the listener in the poller; clients have those behind it.
const LISTENER: u32 = 0;

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let requests = arguments.next().map(|count| count.parse()).transpose();
    let Ok(requests) = requests else {
        bail!("usage: http-server [ADDRESS:PORT] [REQUESTS]");
    };
    let listener = net
        .listen(&address)
        .with_context(|| format!("listening on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    serve(&listener, requests)
}

/// Answers clients until so many requests were answered.
fn serve(listener: &TcpListener, mut requests_left: Option<u64>) -> anyhow::Result<()> {
    let poller = Poller::new()?;
    poller.add(listener, LISTENER, Interest::READ)?;
    let mut clients: HashMap<u32, Client> = HashMap::new();
    let mut next = LISTENER + 1;
    let mut events = Vec::new();
    while requests_left != Some(0) || !clients.is_empty() {
        poller.wait(&mut events, None)?;
        for event in &events {
            if event.token == LISTENER {
                if event.ended {
                    bail!("the listener was taken back");
                }
                while let Some(stream) = accept(listener)? {
                    poller.add(&stream, next, Interest::READ)?;
                    clients.insert(next, Client::new(stream));
                    next = next.wrapping_add(1).max(LISTENER + 1);
                }
                continue;
            }
            let Some(client) = clients.get_mut(&event.token) else {
                continue;
            };
            let answered_before = client.answered;
            let goes_on = !event.ended && client.go_on(requests_left != Some(0));
            if let Some(left) = &mut requests_left {
                *left = left.saturating_sub(client.answered - answered_before);
            }
            if goes_on {
                poller.add(&client.stream, event.token, client.interest())?;
            } else {
                poller.remove(event.token)?;
                clients.remove(&event.token);
            }
        }
        if requests_left == Some(0) {
            // Nobody will be answered any more; who is in the middle of an answer gets it.
            clients.retain(|_, client| !client.output.is_empty());
        }
    }
    Ok(())
}

/// The next client, if there is one. One that comes when all sockets of the budget are open has to wait.
fn accept(listener: &TcpListener) -> anyhow::Result<Option<TcpStream>> {
    match listener.try_accept() {
        Err(error) if matches!(error.code(), ErrorCode::LimitReached | ErrorCode::Exhausted) => Ok(None),
        Err(error) if error.code() == ErrorCode::ConnectionReset => Ok(None),
        result => Ok(result?),
    }
}

/// A connection, what has come of its next request, and what is still to be sent.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    closing: bool,
    answered: u64,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        Client {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            closing: false,
            answered: 0,
        }
    }

    fn interest(&self) -> Interest {
        match self.output.is_empty() {
            true => Interest::READ,
            false => Interest::WRITE,
        }
    }

    /// Reads, answers and writes as far as that goes without waiting. Returns whether there is more to come.
    fn go_on(&mut self, may_answer: bool) -> bool {
        if self.output.is_empty() && may_answer && !self.read() {
            return false;
        }
        while may_answer && !self.closing && self.output.len() < http::MAX_HEAD {
            match parse(&self.input) {
                Parsed::Partial => break,
                Parsed::Answer { used, answer, close } => {
                    self.input.drain(..used);
                    self.output.extend(answer);
                    self.closing |= close;
                    self.answered += 1;
                }
            }
        }
        self.write() && !(self.closing && self.output.is_empty())
    }

    /// Takes what has arrived. Returns whether the client is still there.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match try_io(|| self.stream.try_read(&mut buffer)) {
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(length)) => self.input.extend_from_slice(&buffer[..length]),
                Ok(None) => return true,
            }
            if self.input.len() > http::MAX_HEAD {
                return true;
            }
        }
    }

    /// Sends what can be sent. Returns whether the client is still there.
    fn write(&mut self) -> bool {
        while !self.output.is_empty() {
            match try_io(|| self.stream.try_write(&self.output)) {
                Ok(Some(length)) => drop(self.output.drain(..length)),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

/// `None` for what would block.
fn try_io(attempt: impl FnOnce() -> refcap_guest::Result<usize>) -> Result<Option<usize>, Error> {
    match attempt() {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.code() == ErrorCode::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as StdStream;

    use refcap_guest::testing;

    use super::*;

    fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = StdStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_answers_and_stops_after_as_many_requests_as_told() {
        let net = testing::net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
        let listener = net.listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let two = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/you HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            (
                ask(address, two),
                ask(address, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
            )
        });
        serve(&listener, Some(3)).unwrap();
        let (two, post) = client.join().unwrap();
        assert_eq!(two.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{two}");
        assert!(two.ends_with("hello, you\n"), "{two}");
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    }
}
