//! Keeps objects in a store that speaks HTTP (`PUT /KEY`, `GET /KEY`, `GET /` for the list), as those that are
//! shaped like S3 do.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/object-store.wasm \
//!     --grant net='connect tcp store.example.com:80; limit out 10MiB' \
//!     -- store.example.com 80 put notes/today 'all is well'
//! ```
//!
//! The first thing it does is to turn its network into one name, and to give the network up. What follows, and
//! what parses whatever the store sends, holds a capability to that one server: no address, no other port, and
//! nobody can make the name stand for another machine later.

use std::io::{Read, Write};

use anyhow::{Context, bail, ensure};
use refcap_guest::{Name, Net};

/// The longest answer that is taken.
const MAX_ANSWER: u64 = 16 << 20;
const MAX_HEADERS: usize = 64;

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let [host, port, command @ ..] = &arguments[..] else {
        bail!(USAGE);
    };
    let port = port.parse().with_context(|| format!("`{port}` is not a port"))?;
    let name = net.resolve(host, port)?;
    drop(net);
    let store = Store { name, host };
    match command {
        ["put", key, text] => store.put(key, text.as_bytes()),
        ["get", key] => Ok(std::io::stdout().write_all(&store.get(key)?)?),
        ["list"] => Ok(std::io::stdout().write_all(&store.get("")?)?),
        _ => bail!(USAGE),
    }
}

const USAGE: &str = "usage: object-store HOST PORT put KEY TEXT | get KEY | list";

/// A store, and all that is needed to reach it.
struct Store<'a> {
    name: Name,
    host: &'a str,
}

impl Store<'_> {
    fn put(&self, key: &str, object: &[u8]) -> anyhow::Result<()> {
        ensure!(
            is_key(key),
            "`{key}` is not a key: letters, digits, `-`, `_`, `.` and `/`"
        );
        let (status, _) = self.ask("PUT", key, object)?;
        ensure!(
            (200..300).contains(&status),
            "the store answers {status} to `{key}`"
        );
        Ok(())
    }

    fn get(&self, key: &str) -> anyhow::Result<Vec<u8>> {
        ensure!(key.is_empty() || is_key(key), "`{key}` is not a key");
        let (status, object) = self.ask("GET", key, &[])?;
        ensure!(status != 404, "there is no `{key}`");
        ensure!(status == 200, "the store answers {status} to `{key}`");
        Ok(object)
    }

    /// One request, over a connection of its own.
    fn ask(&self, method: &str, key: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut stream = self.name.connect()?;
        let head = format!(
            "{method} /{key} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        (&stream).take(MAX_ANSWER + 1).read_to_end(&mut answer)?;
        ensure!(
            answer.len() as u64 <= MAX_ANSWER,
            "the answer is longer than {MAX_ANSWER} bytes"
        );
        parse(&answer)
    }
}

/// What may be a key: nothing that means something in a request.
fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    !key.is_empty() && key.bytes().all(is_plain) && !key.split('/').any(|part| part == "..")
}

/// The status and the body of an answer.
fn parse(answer: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer).context("the store speaks no HTTP")? else {
        bail!("the answer ends too early");
    };
    let header = |name: &str| {
        let mut headers = response.headers.iter();
        headers.find(|header| header.name.eq_ignore_ascii_case(name))
    };
    ensure!(
        header("transfer-encoding").is_none(),
        "the store sends chunks, which this does not read"
    );
    let body = &answer[head..];
    let body = match header("content-length") {
        None => body,
        Some(length) => {
            let length: usize = std::str::from_utf8(length.value)?
                .parse()
                .context("the answer's length is no number")?;
            body.get(..length).context("the answer ends too early")?
        }
    };
    Ok((response.code.unwrap_or_default(), body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain() {
        for key in ["a", "notes/today", "a-b_c.d"] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "a b", "a\r\nHost: x", "a/../b", "?x", "a%2e"] {
            assert!(!is_key(key), "{key:?}");
        }
    }

    #[test]
    fn answers_are_whole_or_an_error() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(parse(answer).unwrap(), (200, b"abc".to_vec()));
        for cut in 0..answer.len() {
            assert!(parse(&answer[..cut]).is_err(), "{cut}");
        }
        assert_eq!(
            parse(b"HTTP/1.1 404 Not Found\r\n\r\nno").unwrap(),
            (404, b"no".to_vec())
        );
        assert!(parse(b"nonsense\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").is_err());
    }
}
