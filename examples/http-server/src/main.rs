//! A small HTTP/1.1 server, for many clients at once: a task for each.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/http-server.wasm \
//!     --grant net='bind,listen,accept tcp 127.0.0.1:8080; limit sockets 200' -- 127.0.0.1:8080
//! ```
//!
//! It holds a network in which it can listen at one place and connect nowhere: whatever a client makes it
//! do, it can't be made to reach anything. It stops after as many requests as a second argument says.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, bail};
use refcap_guest::task::{self, Async};
use refcap_guest::{ErrorCode, Net, Result, TcpListener, TcpStream};

use crate::http::{Parsed, parse};

mod http;

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client has to read the last answer and go.
const FAREWELL: Duration = Duration::from_secs(1);

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let requests = arguments.next().map(|count| count.parse()).transpose();
    let (Ok(requests), None) = (requests, arguments.next()) else {
        bail!("usage: http-server [ADDRESS:PORT] [REQUESTS]");
    };
    let listener = net
        .listen(&address)
        .with_context(|| format!("listening on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    task::block_on(serve(listener, requests))?
}

/// Answers clients until so many requests were answered, or the listener is taken back.
async fn serve(listener: TcpListener, requests: Option<u64>) -> anyhow::Result<()> {
    let listener = Async::new(listener)?;
    let requests = Rc::new(Requests::new(requests));
    let mut accepting = pin!(accept(&listener, &requests));
    poll_fn(|context| match requests.are_over(context) {
        true => Poll::Ready(Ok(())),
        false => accepting.as_mut().poll(context),
    })
    .await
}

/// Takes clients until the listener is taken back.
async fn accept(listener: &Async<TcpListener>, requests: &Rc<Requests>) -> anyhow::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                // However a connection ends, it is nobody else's affair.
                task::spawn(async move { answer(&stream, &requests).await });
            }
            Err(error) if matches!(error.code(), ErrorCode::Revoked | ErrorCode::Expired) => {
                return Err(error).context("the listener was taken back");
            }
            // That client is gone already, or all the sockets of the budget are open: somebody has to go first.
            Err(_) => task::sleep(Duration::from_millis(20)).await?,
        }
    }
}

/// Answers one client, as often as it asks.
async fn answer(stream: &Async<TcpStream>, requests: &Requests) -> Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match parse(&input) {
            Parsed::Partial => match task::timeout(PATIENCE, stream.read(&mut buffer)).await?? {
                0 => return Ok(()),
                length => input.extend_from_slice(&buffer[..length]),
            },
            Parsed::Answer { used, answer, close } => {
                let Some(turn) = requests.begin() else {
                    return Ok(());
                };
                stream.write_all(&answer).await?;
                drop(turn);
                if close {
                    break;
                }
                input.drain(..used);
            }
        }
    }
    // To close a connection from which not everything was read resets it, which may overtake the answer.
    stream.shutdown(Shutdown::Write)?;
    let rest = async {
        while stream.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    task::timeout(FAREWELL, rest).await?
}

/// How many requests are still answered.
struct Requests {
    /// `None` for all.
    left: Cell<Option<u64>>,
    /// Answers that are being written.
    in_progress: Cell<usize>,
    /// Who waits until the last one is answered.
    waker: RefCell<Option<Waker>>,
}

impl Requests {
    fn new(left: Option<u64>) -> Requests {
        Requests {
            left: Cell::new(left),
            in_progress: Cell::new(0),
            waker: RefCell::new(None),
        }
    }

    /// Whether the last one was answered. If not, wakes whoever asks when it is.
    fn are_over(&self, context: &Context<'_>) -> bool {
        self.waker.replace(Some(context.waker().clone()));
        self.left.get() == Some(0) && self.in_progress.get() == 0
    }

    /// Counts a request, unless there were enough.
    fn begin(&self) -> Option<Turn<'_>> {
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(1)?));
        }
        self.in_progress.set(self.in_progress.get() + 1);
        Some(Turn(self))
    }
}

/// An answer that is being written.
struct Turn<'a>(&'a Requests);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.in_progress.set(self.0.in_progress.get() - 1);
        if self.0.left.get() == Some(0)
            && let Some(waker) = self.0.waker.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream as StdStream};

    use refcap_guest::testing;

    use super::*;

    /// Serves so many requests, which the client makes.
    fn with_client<T: Send + 'static>(
        requests: u64,
        client: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let net = testing::net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
        let listener = net.listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || client(address));
        task::block_on(serve(listener, Some(requests))).unwrap().unwrap();
        client.join().unwrap()
    }

    fn connect(address: SocketAddr) -> StdStream {
        let stream = StdStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_answers_and_stops_after_as_many_requests_as_told() {
        let (two, post) = with_client(3, |address| {
            let two = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/you HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            (
                ask(address, two),
                ask(address, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
            )
        });
        assert_eq!(two.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{two}");
        assert!(two.ends_with("hello, you\n"), "{two}");
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    }

    #[test]
    fn many_requests_at_once_are_all_answered() {
        let answers = with_client(1_000, |address| {
            let request = "GET /hello/you HTTP/1.1\r\nHost: x\r\n\r\n";
            ask(address, &request.repeat(1_000))
        });
        assert_eq!(answers.matches("hello, you\n").count(), 1_000);
    }

    #[test]
    fn who_has_asked_and_says_no_more_is_answered() {
        let answer = with_client(1, |address| {
            let mut stream = connect(address);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        assert!(answer.ends_with("it works\n"), "{answer}");
    }

    #[test]
    fn an_answer_arrives_before_all_of_the_question_was_sent() {
        let answer = with_client(2, |address| {
            let mut stream = connect(address);
            let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&[b'x'; 1_000_000]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            ask(address, "GET / HTTP/1.0\r\n\r\n");
            answer
        });
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
}
