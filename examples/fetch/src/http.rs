//! One HTTP request and its response.

use std::io::{self, BufRead, BufReader, Read, Write};

use anyhow::{Context, bail, ensure};

use crate::url::Url;

/// The largest head of a response.
const MAX_HEAD: usize = 64 * 1024;
/// The most fields in it.
const MAX_FIELDS: usize = 100;
/// The longest line of a chunk's length, and of a trailer.
const MAX_LINE: u64 = 1024;

/// Requests a page and writes its body.
pub(crate) fn get<S>(stream: S, url: &Url, body: &mut impl Write) -> anyhow::Result<()>
where
    S: Read + Write,
{
    let mut stream = BufReader::with_capacity(MAX_HEAD, stream);
    let Url { host, path, .. } = url;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let (length, rest) = read_head(&mut stream)?;
    let mut stream = rest.chain(stream);
    match length {
        Length::Known(length) => copy_exactly(&mut stream, length, body),
        Length::UntilClose => {
            io::copy(&mut stream, body)?;
            Ok(())
        }
        Length::Chunked => copy_chunks(&mut stream, body),
    }
}

/// How the end of the body is found.
enum Length {
    Known(u64),
    UntilClose,
    Chunked,
}

/// Reads a response's head. What was read after it is the second result.
fn read_head(stream: &mut impl BufRead) -> anyhow::Result<(Length, io::Cursor<Vec<u8>>)> {
    let mut head = Vec::new();
    loop {
        let more = stream.fill_buf()?;
        ensure!(!more.is_empty(), "the response ended in the middle of its head");
        head.extend(more);
        let read = more.len();
        stream.consume(read);
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(&head).context("this is not an HTTP response")?;
        if let httparse::Status::Complete(end) = parsed {
            let length = body_length(&response)?;
            return Ok((length, io::Cursor::new(head.split_off(end))));
        }
        ensure!(
            head.len() < MAX_HEAD,
            "the response's head is larger than {MAX_HEAD} bytes"
        );
    }
}

fn body_length(response: &httparse::Response<'_, '_>) -> anyhow::Result<Length> {
    let (status, reason) = (
        response.code.unwrap_or_default(),
        response.reason.unwrap_or_default(),
    );
    ensure!(status == 200, "the server answered {status} {reason}");
    let value = |name: &str| {
        let field = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    if let Some(encoding) = value("Transfer-Encoding") {
        ensure!(
            encoding.eq_ignore_ascii_case("chunked"),
            "the transfer encoding `{encoding}` is not supported"
        );
        return Ok(Length::Chunked);
    }
    match value("Content-Length") {
        // Unlike `parse`, the standard allows no sign here.
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Length::Known(
            length
                .parse()
                .with_context(|| format!("`{length}` is not a length"))?,
        )),
        Some(length) => bail!("`{length}` is not a length"),
        None => Ok(Length::UntilClose),
    }
}

fn copy_exactly(from: &mut impl Read, length: u64, to: &mut impl Write) -> anyhow::Result<()> {
    let copied = io::copy(&mut from.take(length), to)?;
    ensure!(
        copied == length,
        "the connection ended after {copied} of {length} bytes"
    );
    Ok(())
}

fn copy_chunks(from: &mut impl BufRead, to: &mut impl Write) -> anyhow::Result<()> {
    loop {
        let line = read_line(from)?;
        let Ok(httparse::Status::Complete((_, length))) = httparse::parse_chunk_size(line.as_bytes()) else {
            bail!("{line:?} is not the length of a chunk");
        };
        if length == 0 {
            break;
        }
        copy_exactly(from, length, to)?;
        let end = read_line(from)?;
        ensure!(end == "\r\n", "a chunk is longer than its length");
    }
    // Trailers say nothing that is needed here.
    while read_line(from)? != "\r\n" {}
    Ok(())
}

fn read_line(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.take(MAX_LINE).read_line(&mut line)?;
    ensure!(!line.is_empty(), "the response ended before its last chunk");
    ensure!(
        line.ends_with("\r\n"),
        "a line of the response is too long or has no end"
    );
    Ok(line)
}
