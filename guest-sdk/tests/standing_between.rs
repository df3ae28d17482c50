//! What a program puts between others and what it has: networks of its own, membranes, pairs of streams. On the
//! stand-in of native builds.

#![cfg(not(target_family = "wasm"))]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp};
use std::rc::Rc;
use std::time::Duration;

use refcap_guest::{
    Capability, ErrorCode, Interest, Kind, Membrane, Message, Name, Net, Network, Object, Poller, Result,
    TcpListener, TcpStream, UdpSocket, object, task, testing,
};

const MS: Duration = Duration::from_millis(1);

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

/// Opens all that it is asked for through its own network, at a server's address, and keeps a log.
struct Desk {
    net: Net,
    server: SocketAddr,
    log: RefCell<Vec<String>>,
}

impl Desk {
    fn new(net: Net, server: SocketAddr) -> Rc<Desk> {
        let log = RefCell::default();
        Rc::new(Desk { net, server, log })
    }

    fn note(&self, what: impl std::fmt::Debug) {
        self.log.borrow_mut().push(format!("{what:?}"));
    }
}

impl Network for Desk {
    fn connect(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Result<TcpStream> {
        self.note((remote, local));
        match remote.port() {
            81 => self.net.connect("10.9.9.9:81"),
            _ => self.net.connect(self.server),
        }
    }

    fn listen(&self, local: SocketAddr, backlog: u32) -> Result<TcpListener> {
        self.note((local, backlog));
        self.net.listen_with_backlog("127.0.0.1:0", backlog)
    }

    fn bind_udp(&self, local: SocketAddr) -> Result<UdpSocket> {
        self.note(local);
        self.net.bind_udp("127.0.0.1:0")
    }

    fn resolve(&self, name: &str, port: u16) -> Result<Name> {
        self.note((name, port));
        self.net.resolve("localhost", port)
    }
}

const ALL: &str = "connect tcp 127.0.0.1:*; connect tcp [::1]:*; connect tcp localhost.:*; names to loopback; \
                   bind,listen tcp 127.0.0.1:*; bind udp 127.0.0.1:*; send udp 127.0.0.1:*";

#[test]
fn a_network_is_asked_for_what_its_net_allows_and_for_nothing_else() {
    let server = StdListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let desk = Desk::new(testing::net(ALL), at);
    let net = Net::implemented(desk.clone(), "connect tcp 10.0.0.0/24:*").unwrap();
    assert_eq!(net.kind(), Ok(Kind::Net));
    assert_eq!(net.describe().unwrap(), "connect tcp 10.0.0.0/24:*");
    assert_eq!(code(net.connect("10.0.1.1:80")), ErrorCode::Denied);
    assert_eq!(code(net.listen("127.0.0.1:1")), ErrorCode::Denied);
    assert!(desk.log.borrow().is_empty());

    let mut stream = net.connect("10.0.0.1:80").unwrap();
    assert_eq!(stream.peer_addr(), Ok(at));
    stream.write_all(b"hello").unwrap();
    let (mut theirs, _) = server.accept().unwrap();
    let mut hello = [0; 5];
    theirs.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    let stream = net.connect_from("10.0.0.9:7", "10.0.0.2:80").unwrap();
    assert_eq!(stream.peer_addr(), Ok(at));
    // Its error is the holder's, by its code.
    assert_eq!(code(net.connect("10.0.0.1:81")), ErrorCode::Denied);
    let asked = [
        "(10.0.0.1:80, None)",
        "(10.0.0.2:80, Some(10.0.0.9:7))",
        "(10.0.0.1:81, None)",
    ];
    assert_eq!(*desk.log.borrow(), asked);

    // Narrowed, it asks less.
    let narrow = net.only("connect tcp 10.0.0.1:*").unwrap();
    assert_eq!(code(narrow.connect("10.0.0.2:80")), ErrorCode::Denied);
    narrow.connect("10.0.0.1:80").unwrap();
    assert_eq!(desk.log.borrow().len(), 4);
    drop((net, narrow));
    // Nobody holds it any more, which this program is told when it makes the next.
    Object::new(|_, _| Ok((0, Message::new()))).unwrap();
    assert_eq!(Rc::strong_count(&desk), 1);
}

#[test]
fn a_network_opens_listeners_datagram_sockets_and_names() {
    let desk = Desk::new(testing::net(ALL), "127.0.0.1:1".parse().unwrap());
    let net = Net::implemented(desk.clone(), ALL).unwrap();
    let listener = net.listen_with_backlog("127.0.0.1:0", 7).unwrap();
    let at = listener.local_addr().unwrap();
    let peer = StdUdp::bind("127.0.0.1:0").unwrap();
    let socket = net.bind_udp("127.0.0.1:0").unwrap();
    socket.send_to(b"hello", peer.local_addr().unwrap()).unwrap();
    assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 5);
    let name = net.resolve("localhost", at.port()).unwrap();
    assert!(
        name.describe()
            .unwrap()
            .starts_with(&format!("localhost:{} is ", at.port()))
    );
    let asked = [
        "(127.0.0.1:0, 7)".to_owned(),
        "127.0.0.1:0".to_owned(),
        format!("(\"localhost\", {})", at.port()),
    ];
    assert_eq!(*desk.log.borrow(), asked);
    // What it gives must be what was asked for: not a port or a name that its Net does not allow.
    let elsewhere =
        "bind,listen tcp 127.0.0.1:1; bind udp 127.0.0.1:1; connect tcp other.example:*; names to loopback";
    let net = Net::implemented(desk, elsewhere).unwrap();
    assert_eq!(code(net.listen("127.0.0.1:0")), ErrorCode::Denied);
    assert_eq!(code(net.bind_udp("127.0.0.1:0")), ErrorCode::Denied);
    assert_eq!(code(net.resolve("other.example", 80)), ErrorCode::CalleeFailed);
}

#[test]
fn what_a_network_does_not_have_it_refuses() {
    struct Nothing;
    impl Network for Nothing {}
    let net = Net::implemented(Nothing, "connect tcp *:*; bind,listen tcp *:*; bind udp *:*").unwrap();
    for refused in [
        net.connect("10.0.0.1:80").map(drop),
        net.connect_from("10.0.0.9:7", "10.0.0.2:80").map(drop),
        net.listen("127.0.0.1:1").map(drop),
        net.bind_udp("127.0.0.1:1").map(drop),
    ] {
        assert_eq!(code(refused), ErrorCode::Denied);
    }
    let local = "127.0.0.1:1".parse().unwrap();
    let error = Nothing.listen(local, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "listen: this network has no listener at 127.0.0.1:1"
    );
    assert_eq!(code(Nothing.resolve("example.com", 80)), ErrorCode::Denied);
    assert_eq!(
        code(Net::implemented(Nothing, "connect to the moon")),
        ErrorCode::BadArgument
    );
}

#[test]
fn what_was_obtained_ends_with_the_net_and_with_what_it_was_made_of() {
    let server = StdListener::bind("127.0.0.1:0").unwrap();
    for revoke_its_own in [true, false] {
        let (own, own_revoker) = testing::net(ALL).revocable().unwrap();
        let desk = Desk::new(own, server.local_addr().unwrap());
        let net = Net::implemented(desk, "connect tcp 10.0.0.1:80").unwrap();
        let (lent, revoker) = net.revocable().unwrap();
        let derived = lent.only("connect tcp *:*").unwrap();
        let stream = derived.connect("10.0.0.1:80").unwrap();
        // Also when what it came through is closed.
        drop(derived);
        match revoke_its_own {
            true => own_revoker.revoke().unwrap(),
            false => revoker.revoke().unwrap(),
        };
        assert_eq!(code(stream.try_write(b"hello")), ErrorCode::Revoked);
        assert_eq!(lent.describe().is_ok(), revoke_its_own);
    }
}

/// A network that answers every connection by itself.
struct Echo(RefCell<Vec<TcpStream>>);

impl Network for Echo {
    fn connect(&self, remote: SocketAddr, _local: Option<SocketAddr>) -> Result<TcpStream> {
        let (ours, theirs) = TcpStream::pair()?;
        ours.try_write(format!("you asked for {remote}").as_bytes())?;
        self.0.borrow_mut().push(ours);
        Ok(theirs)
    }
}

#[test]
fn a_network_can_answer_by_itself() {
    let echo = Rc::new(Echo(RefCell::default()));
    let net = Net::implemented(echo.clone(), "connect tcp 10.0.0.0/8:*").unwrap();
    let mut stream = net.connect("10.1.2.3:80").unwrap();
    echo.0.borrow_mut().clear();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "you asked for 10.1.2.3:80");
}

#[test]
fn what_goes_along_and_what_comes_back_crosses_a_membrane() {
    let kept = Rc::new(RefCell::new(None::<Net>));
    let net = testing::net("connect tcp 10.0.0.0/8:*");
    let own = net.only("connect tcp 10.0.0.1:*").unwrap();
    let keeps = {
        let kept = kept.clone();
        Object::new(move |_, mut message| {
            *kept.borrow_mut() = Some(message.take(0)?);
            let inner = Object::new(|_, _| Ok((7, Message::new())))?;
            Ok((0, Message::new().with(own.only("connect tcp *:80")?).with(inner)))
        })
        .unwrap()
    };
    let membrane = Membrane::new().unwrap();
    assert_eq!(membrane.kind(), Ok(Kind::Membrane));
    let wrapped = membrane.wrap(keeps).unwrap();
    let sent = net.only("connect tcp 10.0.0.2:*").unwrap();
    let (_, mut answer) = wrapped.call(0, Message::new().with(sent)).unwrap();
    let back: Net = answer.take(0).unwrap();
    let inner: Object = answer.take(1).unwrap();
    assert_eq!(inner.call(0, Message::new()).unwrap().0, 7);
    assert_eq!(back.describe().unwrap(), "connect tcp 10.0.0.1:80");
    let derived = back.only("connect tcp *:*").unwrap();
    // The object, what went in, what came back and what was derived from it, and the other object.
    assert_eq!(membrane.cut().unwrap(), 5);
    assert_eq!(membrane.cut().unwrap(), 0);
    assert_eq!(code(wrapped.call(0, Message::new())), ErrorCode::Revoked);
    assert_eq!(code(inner.call(0, Message::new())), ErrorCode::Revoked);
    for ended in [&back, &derived, kept.borrow().as_ref().unwrap()] {
        assert_eq!(code(ended.describe()), ErrorCode::Revoked);
    }
    // Each side has what it had.
    net.describe().unwrap();
    assert_eq!(code(membrane.wrap(net)), ErrorCode::Revoked);
}

#[test]
fn a_socket_moves_behind_a_membrane_and_a_poller_stays() {
    let membrane = Membrane::new().unwrap();
    let (here, there) = TcpStream::pair().unwrap();
    let there = membrane.wrap(there).unwrap();
    here.try_write(b"hello").unwrap();
    let mut buffer = [0; 8];
    there.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!((&there).read(&mut buffer).unwrap(), 5);
    assert_eq!(
        code(membrane.wrap(Poller::new().unwrap())),
        ErrorCode::NotTransferable
    );
    assert_eq!(membrane.cut().unwrap(), 1);
    assert_eq!(code(there.try_read(&mut buffer)), ErrorCode::Revoked);
    // The other end sees the end of the stream.
    here.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!((&here).read(&mut buffer).unwrap_or(0), 0);
}

#[test]
fn of_several_membranes_each_ends_what_is_behind_it() {
    for first in [true, false] {
        let (one, other) = (Membrane::new().unwrap(), Membrane::new().unwrap());
        let gives =
            Object::new(|_, mut message| Ok((0, Message::new().with(message.take::<Net>(0)?)))).unwrap();
        let twice = other.wrap(one.wrap(gives).unwrap()).unwrap();
        let net = testing::net("connect tcp *:*");
        let (_, mut answer) = twice.call(0, Message::new().with(net)).unwrap();
        let back: Net = answer.take(0).unwrap();
        back.describe().unwrap();
        match first {
            true => one.cut().unwrap(),
            false => other.cut().unwrap(),
        };
        assert_eq!(code(back.describe()), ErrorCode::Revoked);
    }
    let mut object = Object::new(|_, _| Ok((0, Message::new()))).unwrap();
    for _ in 0..8 {
        object = Membrane::new().unwrap().wrap(object).unwrap();
    }
    assert_eq!(
        code(Membrane::new().unwrap().wrap(object)),
        ErrorCode::LimitReached
    );
}

#[test]
fn whoever_is_handed_a_membrane_can_cut_it() {
    let cuts = Object::new(|_, mut message| {
        let membrane: Membrane = message.take(0)?;
        Ok((u32::try_from(membrane.cut()?).unwrap(), Message::new()))
    })
    .unwrap();
    let membrane = Membrane::new().unwrap();
    let wrapped = membrane.wrap(testing::net("connect tcp *:*")).unwrap();
    let (ended, _) = cuts.call(0, Message::new().with(membrane)).unwrap();
    assert_eq!(ended, 1);
    assert_eq!(code(wrapped.describe()), ErrorCode::Revoked);
}

#[test]
fn calls_are_in_a_poller_beside_sockets() {
    let poller = Poller::new().unwrap();
    poller.add_calls(1).unwrap();
    poller.add_calls(1).unwrap();
    let (here, there) = TcpStream::pair().unwrap();
    poller.add(&there, 2, Interest::READ).unwrap();
    assert_eq!(code(poller.add_calls(2)), ErrorCode::BadArgument);
    here.try_write(b"hello").unwrap();
    let mut events = Vec::new();
    assert_eq!(poller.wait(&mut events, Some(1000 * MS)), Ok(1));
    assert_eq!(events[0].token, 2);
    assert_eq!(object::try_serve(), Ok(false));
    assert_eq!(poller.remove(2), Ok(true));
    // Nobody calls a native test: waiting for that alone would have no end.
    assert_eq!(code(poller.wait(&mut events, None)), ErrorCode::CalleeFailed);
    assert_eq!(poller.remove(1), Ok(true));
    assert_eq!(poller.remove(1), Ok(false));
}

#[test]
fn one_task_serves_and_the_others_run() {
    task::block_on(async {
        let serving = task::spawn(task::serve());
        let (here, there) = TcpStream::pair().unwrap();
        let (here, there) = (task::Async::new(here).unwrap(), task::Async::new(there).unwrap());
        let echo = task::spawn(async move {
            let mut buffer = [0; 8];
            let length = there.read(&mut buffer).await.unwrap();
            there.write_all(&buffer[..length]).await.unwrap();
        });
        here.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        here.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
        echo.await.unwrap();
        assert!(!serving.is_finished());
        // A second one is told so, and takes nothing from the first.
        assert_eq!(code(task::serve().await), ErrorCode::BadArgument);
        serving.abort();
        let again = task::spawn(task::serve());
        task::sleep(MS).await.unwrap();
        assert!(!again.is_finished());
    })
    .unwrap();
}
