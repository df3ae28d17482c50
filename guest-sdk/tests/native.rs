//! The public API, on the stand-in of native builds: what guests' own tests rely on.

#![cfg(not(target_family = "wasm"))]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream as StdStream};
use std::thread;
use std::time::Duration;

use refcap_guest::authority::{Protocol, Rule};
use refcap_guest::{
    Capability, Error, ErrorCode, Interest, Kind, Net, Poller, Revoker, TcpStream, Terms, grants, testing,
};

fn server() -> (TcpListener, String) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    (server, address)
}

fn loopback() -> Net {
    testing::net("connect tcp 127.0.0.1:*")
}

/// A connection and its other end.
fn connected(net: &Net) -> (TcpStream, StdStream) {
    let (server, address) = server();
    let stream = net.connect(address).unwrap();
    (stream, server.accept().unwrap().0)
}

fn code<T: std::fmt::Debug>(result: refcap_guest::Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

fn io_code<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorCode {
    Error::from_io(&result.unwrap_err()).unwrap().code()
}

#[test]
fn a_spawner_says_that_it_starts_nothing() {
    let spawner = testing::spawner();
    let error = spawner.program("plugin").unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotStarted);
    assert!(error.to_string().contains("`plugin`"), "{error}");
    assert_eq!(spawner.load(b"").unwrap_err().code(), ErrorCode::NotStarted);
    assert_eq!(spawner.kind().unwrap(), Kind::Spawner);
}

#[test]
fn a_derived_capability_allows_no_more() {
    let net = loopback();
    let narrow = net.only("connect tcp *:80-90").unwrap();
    assert_eq!(narrow.describe().unwrap(), "connect tcp 127.0.0.1:80-90");
    assert!(narrow.allows("connect tcp 127.0.0.1:80").unwrap());
    assert!(!narrow.allows("connect tcp 127.0.0.1:91").unwrap());
    assert!(!narrow.allows("connect tcp 10.0.0.1:80").unwrap());
    assert_eq!(
        code(narrow.exactly("connect tcp 127.0.0.1:80-91")),
        ErrorCode::NotSubset
    );
    let exact = narrow.exactly("connect tcp 127.0.0.1:80").unwrap();
    assert!(!exact.allows("connect tcp 127.0.0.1:81").unwrap());
    let rest = narrow.except("connect tcp 127.0.0.1:80-89").unwrap();
    assert_eq!(rest.describe().unwrap(), "connect tcp 127.0.0.1:90");
}

#[test]
fn rules_can_be_text_or_built() {
    let net = loopback();
    let rule = Rule::connect(Protocol::Tcp).to("127.0.0.1:80").unwrap();
    let built = net.only(rule).unwrap();
    assert_eq!(built.describe().unwrap(), "connect tcp 127.0.0.1:80");
    let error = net.only("connect tcp 127.0.0.1").unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadArgument);
    assert!(error.to_string().starts_with("read the rules: "), "{error}");
    assert_eq!(code(net.allows("connect to nowhere")), ErrorCode::BadArgument);
}

#[test]
fn what_is_denied_says_which_rule_was_near() {
    let error = loopback().connect("10.0.0.1:80").unwrap_err();
    assert_eq!(error.code(), ErrorCode::Denied);
    assert!(error.is_denied());
    assert!(error.message().contains("connect tcp 10.0.0.1:80"), "{error}");
    assert!(error.message().contains("127.0.0.1"), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn streams_read_and_write_and_end() {
    let net = loopback();
    let (mut stream, mut peer) = connected(&net);
    assert_eq!(stream.peer_addr().unwrap(), peer.local_addr().unwrap());
    assert_eq!(stream.local_addr().unwrap(), peer.peer_addr().unwrap());
    // More than the buffers of the system hold, so that both directions have to wait.
    let data = vec![7; 8 << 20];
    let expected = data.clone();
    let echo = thread::spawn(move || {
        let mut data = Vec::new();
        peer.read_to_end(&mut data).unwrap();
        peer.write_all(&data).unwrap();
    });
    (&stream).write_all(&data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == expected);
    echo.join().unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn several_pieces_are_written_and_read_at_once() {
    let net = loopback();
    let (mut stream, mut peer) = connected(&net);
    let pieces = [&b"head"[..], b"", b", ", b"body"].map(IoSlice::new);
    assert_eq!(stream.write_vectored(&pieces).unwrap(), 10);
    let mut got = [0; 10];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"head, body");

    peer.write_all(b"abcdef").unwrap();
    let (mut first, mut second) = ([b'.'; 4], [b'.'; 4]);
    let mut buffers = [&mut first[..], &mut [], &mut second].map(IoSliceMut::new);
    // Waits for the first of them; loopback brings all that is written at once.
    assert_eq!(stream.read_vectored(&mut buffers).unwrap(), 6);
    assert_eq!((&first, &second), (b"abcd", b"ef.."));
    let mut buffers = [IoSliceMut::new(&mut first)];
    assert_eq!(
        code(stream.try_read_vectored(&mut buffers)),
        ErrorCode::WouldBlock
    );
    // Neither is the end of the stream.
    assert_eq!(stream.read_vectored(&mut []).unwrap(), 0);
    assert_eq!(stream.write_vectored(&[IoSlice::new(b"")]).unwrap(), 0);
    // One call of the host takes no more than so many, and the empty ones are not among them.
    let mut many = vec![IoSlice::new(b""); 100];
    many.extend([IoSlice::new(b"x"); 30]);
    assert_eq!(stream.try_write_vectored(&many).unwrap(), 16);
    drop(peer);
}

#[test]
fn streams_are_copied_into_each_other() {
    let net = loopback();
    let (from, mut near) = connected(&net);
    let (to, mut far) = connected(&net);
    assert_eq!(code(from.try_copy_to(&to, 10)), ErrorCode::WouldBlock);
    assert_eq!(code(from.try_copy_to(&from, 10)), ErrorCode::BadArgument);
    assert_eq!(code(from.copy_to(&from, 10)), ErrorCode::BadArgument);
    assert_eq!(from.copy_to(&to, 0).unwrap(), 0);

    near.write_all(b"0123456789").unwrap();
    assert_eq!(from.copy_to(&to, 4).unwrap(), 4);
    // What was not copied is still there.
    let mut rest = [0; 3];
    (&from).read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"456");
    assert_eq!(from.try_copy_to(&to, usize::MAX).unwrap(), 3);
    let mut got = [0; 7];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"0123789");

    // More than the buffers of the system hold, to somebody who is slow.
    let sent: Vec<u8> = (0..8 << 20).map(|number: u32| (number % 251) as u8).collect();
    let expected = sent.clone();
    let sending = thread::spawn(move || near.write_all(&sent).unwrap());
    let receiving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        got
    });
    while from.copy_to(&to, usize::MAX).unwrap() > 0 {}
    to.shutdown(Shutdown::Write).unwrap();
    sending.join().unwrap();
    assert!(receiving.join().unwrap() == expected);
}

#[test]
fn a_copy_waits_no_longer_than_it_may_and_ends_with_either() {
    let net = loopback();
    let (lent, revoker) = net.revocable().unwrap();
    let (from, mut near) = connected(&net);
    let (to, _far) = connected(&lent);
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(code(from.copy_to(&to, 10)), ErrorCode::TimedOut);
    near.write_all(b"kept").unwrap();
    revoker.revoke().unwrap();
    assert_eq!(code(from.copy_to(&to, 10)), ErrorCode::Revoked);
    assert_eq!(code(to.try_copy_to(&from, 10)), ErrorCode::Revoked);
    let mut kept = [0; 4];
    (&from).read_exact(&mut kept).unwrap();
    assert_eq!(&kept, b"kept");
}

#[test]
fn reads_time_out() {
    let net = loopback();
    let (mut stream, _peer) = connected(&net);
    assert_eq!(stream.read_timeout(), None);
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(stream.read_timeout(), Some(Duration::from_millis(20)));
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(
        code(stream.set_read_timeout(Some(Duration::ZERO))),
        ErrorCode::BadArgument
    );
}

#[test]
fn a_closed_port_is_refused() {
    let (server, address) = server();
    drop(server);
    let net = loopback();
    assert_eq!(code(net.connect(&address)), ErrorCode::ConnectionRefused);
    let timeout = Duration::from_secs(10);
    assert_eq!(
        code(net.connect_timeout(&address, timeout)),
        ErrorCode::ConnectionRefused
    );
}

#[test]
fn revoking_ends_everything_below_and_nothing_else() {
    let net = loopback();
    let (lent, revoker) = net.revocable().unwrap();
    let narrow = lent.only("connect tcp *:*").unwrap();
    let (mut stream, mut peer) = connected(&narrow);
    let (mut other, mut other_peer) = connected(&net);
    assert_eq!(revoker.revoke().unwrap(), 3);
    assert_eq!(io_code(stream.read(&mut [0; 8])), ErrorCode::Revoked);
    assert_eq!(io_code(stream.write(b"x")), ErrorCode::Revoked);
    assert_eq!(code(stream.peer_addr()), ErrorCode::Revoked);
    assert_eq!(code(narrow.connect("127.0.0.1:1")), ErrorCode::Revoked);
    assert_eq!(code(narrow.only("connect tcp *:*")), ErrorCode::Revoked);
    assert_eq!(code(lent.revocable()), ErrorCode::Revoked);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(revoker.revoke().unwrap(), 0);
    // The parent, and what was obtained through it, go on.
    other.write_all(b"x").unwrap();
    other_peer.read_exact(&mut [0; 1]).unwrap();
    assert!(net.allows("connect tcp 127.0.0.1:80").unwrap());
}

#[test]
fn revoking_reaches_what_was_derived_from_closed_capabilities() {
    let net = loopback();
    let (lent, revoker) = net.revocable().unwrap();
    let narrow = lent.only("connect tcp *:*").unwrap();
    let (mut stream, _peer) = connected(&narrow);
    narrow.close().unwrap();
    drop(lent);
    assert_eq!(revoker.revoke().unwrap(), 1);
    assert_eq!(io_code(stream.read(&mut [0; 8])), ErrorCode::Revoked);
}

#[test]
fn revoking_cuts_off_a_read_that_waits() {
    let (net, revoker) = loopback().revocable().unwrap();
    let (mut stream, _peer) = connected(&net);
    let reader = thread::spawn(move || io_code(stream.read(&mut [0; 8])));
    thread::sleep(Duration::from_millis(30));
    revoker.revoke().unwrap();
    assert_eq!(reader.join().unwrap(), ErrorCode::Revoked);
}

#[test]
fn dropping_a_stream_closes_it() {
    let net = loopback();
    let (stream, mut peer) = connected(&net);
    drop(stream);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn grants_are_taken_once_and_by_their_kind() {
    testing::grant("backend", loopback());
    testing::grant("other", loopback());
    let net: Net = grants::take("backend").unwrap();
    assert_eq!(net.kind(), Ok(Kind::Net));
    assert_eq!(code(grants::take::<Net>("backend")), ErrorCode::NotFound);
    assert_eq!(code(grants::take::<Revoker>("other")), ErrorCode::WrongKind);
}

#[test]
fn a_listener_takes_whom_it_may() {
    let net = testing::net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
    let listener = net.listen("127.0.0.1:0").unwrap();
    assert_eq!(listener.kind().unwrap(), Kind::TcpListener);
    let address = listener.local_addr().unwrap();
    assert!(listener.try_accept().unwrap().is_none());
    let mut client = StdStream::connect(address).unwrap();
    let (stream, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    client.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    (&stream).read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
    assert_eq!(code(net.listen(address)), ErrorCode::AddressInUse);
    assert_eq!(code(net.listen("127.0.0.2:0")), ErrorCode::Denied);
    drop(listener);
    assert!(StdStream::connect(address).is_err());
}

#[test]
fn datagrams_are_checked_in_both_directions() {
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap();
    let net = testing::net(
        format!("bind udp 127.0.0.1:0; connect,send udp {address}; receive udp 127.0.0.1:* from {address}")
            .as_str(),
    );
    let socket = net.bind_udp("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    assert_eq!(socket.send_to(b"hello", address).unwrap(), 5);
    assert_eq!(
        code(socket.send_to(b"x", stranger.local_addr().unwrap())),
        ErrorCode::Denied
    );
    assert_eq!(code(socket.send(b"x")), ErrorCode::NotConnected);
    stranger.send_to(b"spoofed", own).unwrap();
    peer.send_to(b"a longer answer", own).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(socket.recv_from(&mut buffer).unwrap(), (8, address));
    assert_eq!(&buffer, b"a longer");
    assert_eq!(socket.dropped().unwrap(), 1);
    socket.connect(address).unwrap();
    assert_eq!(socket.peer_addr().unwrap(), address);
    assert_eq!(socket.send(b"again").unwrap(), 5);
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    assert_eq!(code(socket.recv(&mut buffer)), ErrorCode::TimedOut);
}

#[test]
fn names_are_looked_up_only_if_they_may_be_connected_to() {
    let (server, address) = server();
    let port = server.local_addr().unwrap().port();
    let net = testing::net(format!("connect tcp localhost.:{port}; names to loopback").as_str());
    let name = net.resolve("localhost", port).unwrap();
    assert!(
        name.describe()
            .unwrap()
            .starts_with(&format!("localhost:{port} is "))
    );
    let stream = name.connect().unwrap();
    assert_eq!(stream.peer_addr().unwrap().to_string(), address);
    assert_eq!(code(net.resolve("other.example", port)), ErrorCode::Denied);
    assert_eq!(code(net.resolve("127.1", port)), ErrorCode::BadArgument);
    let by_default = testing::net(format!("connect tcp localhost.:{port}").as_str());
    assert_eq!(code(by_default.resolve("localhost", port)), ErrorCode::Denied);
}

#[test]
fn a_poller_tells_what_is_ready() {
    let net = testing::net("connect tcp 127.0.0.1:*");
    let (stream, mut peer) = connected(&net);
    let poller = Poller::new().unwrap();
    poller.add(&stream, 7, Interest::READ).unwrap();
    let mut events = Vec::new();
    assert_eq!(poller.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    assert_eq!(
        poller.wait(&mut events, Some(Duration::from_millis(3))).unwrap(),
        0
    );
    peer.write_all(b"x").unwrap();
    assert_eq!(poller.wait(&mut events, None).unwrap(), 1);
    let event = events[0];
    assert_eq!(
        (event.token, event.readable, event.writable, event.ended),
        (7, true, false, false)
    );
    drop(stream);
    poller.wait(&mut events, None).unwrap();
    assert!(events[0].ended);
    assert!(!poller.remove(7).unwrap());
}

#[test]
fn terms_are_read() {
    let net = loopback();
    net.limit("limit sockets 3; label small").unwrap();
    net.limit(Terms::new().sockets(3)).unwrap();
    assert_eq!(code(net.limit("limit nothing")), ErrorCode::BadArgument);
}
