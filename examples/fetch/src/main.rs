//! Gets a page over HTTP and writes its body to the standard output.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/fetch.wasm --grant net='connect tcp 127.0.0.1:8000' -- http://127.0.0.1:8000/
//! ```
//!
//! Whatever it was granted, it first narrows its network to the one address that it needs. A mistake in
//! what follows, or in the parser of what an unknown server sends, cannot reach anything else.

use std::io::{Write, stdout};

use anyhow::{Context, bail};
use refcap_guest::Net;

use crate::url::Url;

mod http;
mod url;

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), None) = (arguments.next(), arguments.next()) else {
        bail!("usage: fetch http://ADDRESS[:PORT]/PATH");
    };
    let mut body = stdout().lock();
    fetch(net, &url, &mut body)?;
    body.flush().context("writing the body")
}

fn fetch(net: Net, url: &str, body: &mut impl Write) -> anyhow::Result<()> {
    let url = Url::parse(url).with_context(|| format!("`{url}` cannot be fetched"))?;
    let narrow = net.exactly(format!("connect tcp {}", url.address))?;
    // What is left is `narrow`: the wider one is given up.
    drop(net);
    let stream = narrow.connect(url.address)?;
    http::get(&stream, &url, body).with_context(|| format!("fetching {}", url.address))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{Shutdown, SocketAddr, TcpListener};
    use std::thread::JoinHandle;

    use refcap_guest::{ErrorCode, testing};

    use super::*;

    /// A server that answers one request, and then gives the request's first line.
    fn serve(answer: Vec<u8>) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            // A guest that has seen enough may have gone.
            let _ = stream.write_all(&answer);
            let _ = stream.shutdown(Shutdown::Write);
            first
        });
        (address, server)
    }

    fn fetch_answer(answer: impl Into<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
        let (address, server) = serve(answer.into());
        let mut body = Vec::new();
        let result = fetch(
            testing::net("connect tcp 127.0.0.1:*"),
            &format!("http://{address}/a/b?c"),
            &mut body,
        );
        assert_eq!(server.join().unwrap(), "GET /a/b?c HTTP/1.1");
        result.map(|()| body)
    }

    fn message(result: anyhow::Result<Vec<u8>>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    /// A MiB that has every byte and no short period.
    fn large() -> Vec<u8> {
        (0..1_u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    #[test]
    fn a_large_page_arrives_byte_for_byte() {
        let page = large();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
        assert!(fetch_answer([head.as_bytes(), &page].concat()).unwrap() == page);
        // What follows the length is not part of the page.
        assert!(fetch_answer([head.as_bytes(), &page, b"more"].concat()).unwrap() == page);
        assert!(fetch_answer([b"HTTP/1.0 200 OK\r\n\r\n", &*page].concat()).unwrap() == page);
    }

    #[test]
    fn a_large_page_in_chunks_arrives_byte_for_byte() {
        let page = large();
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in page.chunks(70_001) {
            answer.extend(format!("{:X};note=1\r\n", chunk.len()).bytes());
            answer.extend(chunk);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\nTrailer: x\r\n\r\n");
        assert!(fetch_answer(answer).unwrap() == page);
    }

    #[test]
    fn a_page_that_is_cut_short_is_an_error() {
        let message_of = |answer: &str| message(fetch_answer(answer));
        assert!(message_of("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").contains("3 of 10 bytes"));
        assert!(message_of("HTTP/1.1 200 OK\r\nContent-").contains("ended in the middle of its head"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(message_of(&format!("{chunked}5\r\nab")).contains("2 of 5 bytes"));
        assert!(message_of(&format!("{chunked}2\r\nab\r\n")).contains("ended before its last chunk"));
    }

    #[test]
    fn other_answers_are_errors_that_say_what_they_are() {
        let message_of = |answer: &str| message(fetch_answer(answer));
        assert!(message_of("HTTP/1.1 404 Not Found\r\n\r\n").contains("404 Not Found"));
        assert!(message_of("SSH-2.0-OpenSSH_9.2\r\n").contains("not an HTTP response"));
        assert!(message_of(&format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(70_000))).contains("larger than"));
        let bad = "HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n";
        assert!(message_of(bad).contains("`ten` is not a length"));
        let bad = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n";
        assert!(message_of(bad).contains("`gzip`"));
        let bad = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
        assert!(message_of(bad).contains("not the length of a chunk"));
    }

    #[test]
    fn nothing_but_what_was_granted_is_reached() {
        let net = testing::net("connect tcp 127.0.0.1:1");
        let error = fetch(net, "http://127.0.0.1:2/", &mut Vec::new()).unwrap_err();
        let error: &refcap_guest::Error = error.downcast_ref().unwrap();
        assert_eq!(error.code(), ErrorCode::NotSubset);
    }

    #[test]
    fn a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let net = testing::net("connect tcp 127.0.0.1:*");
        let error = fetch(net, &format!("http://{address}/"), &mut Vec::new()).unwrap_err();
        let error: &refcap_guest::Error = error.downcast_ref().unwrap();
        assert_eq!(error.code(), ErrorCode::ConnectionRefused);
    }
}
