//! Real servers on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server that sends back what it gets.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// A place on loopback where nobody is, and where the system puts nobody by itself: below the ports that it gives
/// to those who do not ask for one.
pub(crate) fn nobody() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 10_000;
    static TRIED: AtomicUsize = AtomicUsize::new(0);
    // Processes that run at the same time begin at different places.
    let begin = (std::process::id() as usize).wrapping_mul(137);
    for _ in 0..PORTS {
        let next = begin + TRIED.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + (next % usize::from(PORTS)) as u16));
        let is_free =
            std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok();
        if is_free {
            return address;
        }
    }
    panic!("no port from {FIRST} on is free");
}

/// A server that accepts, hands the connections to the test, and never sends by itself.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<(TcpStream, SocketAddr)>,
    count: Arc<AtomicUsize>,
}

impl Silent {
    pub(crate) async fn start() -> Silent {
        Silent::on("127.0.0.1:0").await
    }

    pub(crate) async fn on(address: &str) -> Silent {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        tokio::spawn(async move {
            while let Ok(connection) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                if sender.send(connection).is_err() {
                    break;
                }
            }
        });
        Silent {
            address,
            accepted,
            count,
        }
    }

    /// The next connection, and where it comes from.
    pub(crate) async fn next(&mut self) -> (TcpStream, SocketAddr) {
        super::soon(self.accepted.recv()).await.expect("the server runs")
    }

    /// How many connections there were.
    pub(crate) fn visits(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Waits until the other end has closed the connection.
pub(crate) async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    super::soon(async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} }).await;
}

/// Sends bytes.
pub(crate) async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}
