//! Requests and answers, as bytes.

/// The longest head of a request.
pub(crate) const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// What has come so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not a whole request yet.
    Partial,
    /// A request of so many bytes, and what is answered.
    Answer {
        used: usize,
        answer: Vec<u8>,
        /// The connection can't be used again, or the client does not want to.
        close: bool,
    },
}

/// Reads the first request, and answers it.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let fatal = |status| Parsed::Answer {
        used: bytes.len(),
        answer: answer(status, &[], status, true, false),
        close: true,
    };
    let used = match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) if used <= MAX_HEAD => used,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD => return Parsed::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return fatal("431 Request Header Fields Too Large"),
        Err(_) => return fatal("400 Bad Request"),
    };
    let header = |name: &str| {
        let mut values = request
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        (values.next().map(|header| header.value), values.next().is_some())
    };
    let is_1_1 = request.version == Some(1);
    if is_1_1 && !matches!(header("host"), (Some(_), false)) {
        return fatal("400 Bad Request");
    }
    // No request that is answered has a body; what follows one would be taken for the next request.
    let has_body = header("transfer-encoding").0.is_some()
        || header("content-length").0.is_some_and(|length| length != b"0");
    let wants = |word: &str| {
        let value = header("connection").0.unwrap_or_default();
        value
            .split(|&byte| byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    let close = has_body || wants("close") || (!is_1_1 && !wants("keep-alive"));
    let (method, path) = (
        request.method.unwrap_or_default(),
        request.path.unwrap_or_default(),
    );
    let head_only = method == "HEAD";
    let answer = match (method, path.strip_prefix("/hello/")) {
        ("GET" | "HEAD", _) if path == "/" => answer("200 OK", &[], "it works\n", close, head_only),
        ("GET" | "HEAD", Some(name)) if is_name(name) => {
            answer("200 OK", &[], &format!("hello, {name}\n"), close, head_only)
        }
        ("GET" | "HEAD", _) => answer("404 Not Found", &[], "not found\n", close, head_only),
        _ => {
            let allow = ["Allow: GET, HEAD"];
            answer(
                "405 Method Not Allowed",
                &allow,
                "only GET and HEAD\n",
                close,
                false,
            )
        }
    };
    Parsed::Answer { used, answer, close }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn answer(status: &str, headers: &[&str], body: &str, close: bool, head_only: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n");
    head += &format!("Content-Length: {}\r\n", body.len());
    for header in headers {
        head += header;
        head += "\r\n";
    }
    if close {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    if !head_only {
        head += body;
    }
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: &str) -> (String, bool) {
        match parse(request.as_bytes()) {
            Parsed::Partial => panic!("not a whole request"),
            Parsed::Answer { answer, close, .. } => (String::from_utf8(answer).unwrap(), close),
        }
    }

    #[test]
    fn a_request_is_answered_when_it_is_whole() {
        let request = "GET /hello/you HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..request.len() {
            assert_eq!(parse(&request.as_bytes()[..cut]), Parsed::Partial);
        }
        let (answer, close) = text(request);
        assert!(answer.ends_with("\r\n\r\nhello, you\n"), "{answer}");
        assert!(!close);
    }

    #[test]
    fn each_mistake_has_its_status() {
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        let many = format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "A: b\r\n".repeat(MAX_HEADERS)
        );
        for (request, status, closes) in [
            ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "404", false),
            ("GET /hello/../x HTTP/1.1\r\nHost: x\r\n\r\n", "404", false),
            ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "405", false),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
                "405",
                true,
            ),
            ("GET / HTTP/1.1\r\n\r\n", "400", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400", true),
            ("nonsense\r\n\r\n", "400", true),
            (&long, "431", true),
            (&many, "431", true),
        ] {
            let (answer, close) = text(request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {answer}"
            );
            assert_eq!(close, closes, "{request}");
        }
    }

    #[test]
    fn the_connection_stays_as_the_client_wants() {
        for (request, closes) in [
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false),
        ] {
            assert_eq!(text(request).1, closes, "{request}");
        }
        let (head, _) = text("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            head.contains("Content-Length: 9\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
}
