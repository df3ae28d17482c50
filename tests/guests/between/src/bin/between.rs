//! Stands between a network and those that use it: itself, and a program that it starts.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use between_api::{ECHO, ELSEWHERE, ITSELF, Lender, LenderRef, REFUSED, code, echoes, is_revoked};
use refcap_guest::{
    Capability, Child, Ending, Error, ErrorCode, Interest, Kind, Membrane, Message, Net, Network, Object,
    Poller, Result, Revoker, Spawner, TcpStream, object, task,
};

refcap_guest::answers_calls!();

/// How long this program waits for the other one.
const PATIENCE: Duration = Duration::from_secs(20);

/// `net` allows the address of a server, which answers with what it gets.
#[refcap_guest::main]
fn main(net: Net, spawner: Spawner) -> Result<()> {
    pairs()?;
    what_tasks_waited_for()?;
    membranes(&net)?;
    networks(&net)?;
    serves_in_a_task(&net, &spawner)?;
    serves_with_a_poller(&net, &spawner)?;
    // This program is told what nobody holds any more when it serves.
    assert!(!object::try_serve()?);
    Ok(())
}

fn pairs() -> Result<()> {
    let (mut here, mut there) = TcpStream::pair()?;
    // What would block says so, and not why something else failed.
    assert_eq!(
        code(Membrane::new()?.wrap(Poller::new()?)),
        ErrorCode::NotTransferable
    );
    let error = there.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::WouldBlock);
    assert_eq!(error.message(), ErrorCode::WouldBlock.message());
    assert_eq!(here.kind()?, Kind::TcpStream);
    let nowhere: SocketAddr = ([0, 0, 0, 0], 0).into();
    assert_eq!((here.peer_addr()?, there.local_addr()?), (nowhere, nowhere));
    here.write_all(b"hello").expect("it is open");
    drop(here);
    let mut heard = String::new();
    there.read_to_string(&mut heard).expect("it ends");
    assert_eq!(heard, "hello");
    Ok(())
}

/// A socket stays in the poller of its tasks between two waits. Taken out of it, it goes where any other goes.
fn what_tasks_waited_for() -> Result<()> {
    let (here, there) = TcpStream::pair()?;
    (&here).write_all(b"hello").expect("it is open");
    let there = task::block_on(async {
        let there = task::Async::new(there)?;
        there.readable().await?;
        there.read_exact(&mut [0; 5]).await?;
        let refused = code(Poller::new()?.add(there.get_ref(), 0, Interest::READ));
        assert_eq!(refused, ErrorCode::BadArgument);
        Ok::<_, Error>(there.into_inner())
    })??;
    let membrane = Membrane::new()?;
    let there = membrane.wrap(there)?;
    (&there).write_all(b"bye").expect("it is open");
    let mut heard = [0; 3];
    (&here).read_exact(&mut heard).expect("it is said");
    assert_eq!(&heard, b"bye");
    assert_eq!(membrane.cut()?, 1);
    assert!(is_revoked(&there));
    Ok(())
}

fn membranes(net: &Net) -> Result<()> {
    let server = server(net)?;
    let kept = Rc::new(RefCell::new(None::<Net>));
    let (keeps, own) = (kept.clone(), net.only("connect tcp *:*")?);
    let object = Object::new(move |_, mut message| {
        *keeps.borrow_mut() = Some(message.take(0)?);
        let connected = own.connect(server)?;
        Ok((
            0,
            Message::new().with(own.only("connect tcp *:*")?).with(connected),
        ))
    })?;
    let membrane = Membrane::new()?;
    assert_eq!(membrane.kind()?, Kind::Membrane);
    let wrapped = membrane.wrap(object)?;
    let (_, mut answer) = wrapped.call(0, Message::new().with(net.only("connect tcp *:*")?))?;
    let (back, stream): (Net, TcpStream) = (answer.take(0)?, answer.take(1)?);
    echoes(&stream);
    let derived = back.only("connect tcp *:*")?;
    // A socket moves.
    let (here, there) = TcpStream::pair()?;
    let there = membrane.wrap(there)?;
    (&here).write_all(b"hello").expect("it is open");
    assert_eq!(code(membrane.wrap(Poller::new()?)), ErrorCode::NotTransferable);

    // The object, what went in, what came back and what was derived from it, the connection, and the end of the pair.
    assert_eq!(membrane.cut()?, 6);
    assert_eq!(membrane.cut()?, 0);
    for ended in [&back, &derived, kept.borrow().as_ref().expect("it is kept")] {
        assert_eq!(code(ended.describe()), ErrorCode::Revoked);
    }
    for ended in [&stream, &there] {
        assert!(is_revoked(ended));
    }
    assert_eq!(code(wrapped.call(0, Message::new())), ErrorCode::Revoked);
    let error = membrane.wrap(net.only("connect tcp *:*")?).unwrap_err();
    assert_eq!(error.to_string(), "put behind a membrane: the membrane was cut");
    // Each side keeps what it had, and the other end of the pair sees its end.
    echoes(&net.connect(server)?);
    assert_eq!((&here).read(&mut [0; 8]).unwrap_or(0), 0);
    Ok(())
}

/// The one address that a Net allows.
fn server(net: &Net) -> Result<SocketAddr> {
    let rules = net.describe()?;
    let address = rules.trim_start_matches("connect tcp ");
    Ok(address.parse().expect("it is one address"))
}

/// Logs, rewrites, refuses, and answers by itself.
struct Desk {
    net: Net,
    server: SocketAddr,
    log: RefCell<Vec<String>>,
    /// The ends of this program of connections that it answers by itself, where no task does.
    ends: RefCell<Vec<TcpStream>>,
    has_tasks: bool,
}

impl Desk {
    fn new(net: &Net, has_tasks: bool) -> Result<Rc<Desk>> {
        Ok(Rc::new(Desk {
            server: server(net)?,
            net: net.only("connect tcp *:*")?,
            log: RefCell::default(),
            ends: RefCell::default(),
            has_tasks,
        }))
    }
}

impl Network for Desk {
    fn connect(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Result<TcpStream> {
        let from = local.map_or(String::new(), |local| format!(" from {local}"));
        self.log.borrow_mut().push(format!("{remote}{from}"));
        match remote.to_string().as_str() {
            ECHO => self.net.connect(self.server),
            ITSELF => {
                let (ours, theirs) = TcpStream::pair()?;
                match self.has_tasks {
                    true => drop(task::spawn(echo(ours))),
                    false => self.ends.borrow_mut().push(ours),
                }
                Ok(theirs)
            }
            _ => Err(Error::new(ErrorCode::Exhausted, "connect", "no more of these")),
        }
    }
}

/// Sends back all that comes.
async fn echo(stream: TcpStream) -> Result<()> {
    let stream = task::Async::new(stream)?;
    let mut buffer = [0; 16];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

fn networks(net: &Net) -> Result<()> {
    let desk = Desk::new(net, false)?;
    let all = Net::implemented(desk.clone(), "connect tcp 10.0.0.0/30:*; bind udp 127.0.0.1:*")?;
    assert_eq!(all.kind()?, Kind::Net);
    tries(&all, &desk)?;
    drop(all);
    assert!(!object::try_serve()?);
    assert_eq!(Rc::strong_count(&desk), 1, "nobody holds the Net any more");
    Ok(())
}

/// Uses a Net that this program implements.
fn tries(all: &Net, desk: &Rc<Desk>) -> Result<()> {
    let stream = all.connect(ECHO)?;
    assert_eq!(stream.peer_addr()?, desk.server);
    echoes(&stream);
    let error = all.connect(REFUSED).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Exhausted);
    assert!(
        error.to_string().contains("the program that implements"),
        "{error}"
    );
    let mut itself = all.connect_from("10.0.0.9:7", ITSELF)?;
    for mut ours in desk.ends.take() {
        ours.write_all(b"hello").expect("it is open");
    }
    let mut heard = String::new();
    itself.read_to_string(&mut heard).expect("it ends");
    assert_eq!(heard, "hello");
    // It has no method for this.
    assert_eq!(code(all.bind_udp("127.0.0.1:1")), ErrorCode::Denied);

    // Narrowed and lent as any other.
    let narrow = all.only("connect tcp 10.0.0.1:80")?;
    assert_eq!(code(narrow.connect(ITSELF)), ErrorCode::Denied);
    assert_eq!(code(narrow.connect(ELSEWHERE)), ErrorCode::Denied);
    let (lent, revoker) = narrow.revocable()?;
    let stream = lent.connect(ECHO)?;
    echoes(&stream);
    assert_eq!(revoker.revoke()?, 2);
    assert!(is_revoked(&stream));
    let asked = [
        "10.0.0.1:80",
        "10.0.0.2:80",
        "10.0.0.3:80 from 10.0.0.9:7",
        "10.0.0.1:80",
    ];
    assert_eq!(*desk.log.borrow(), asked);

    Ok(())
}

/// Lends its Net, and what it lent with what it got ends with its membrane.
struct Bank {
    net: Net,
    membrane: RefCell<Option<Membrane>>,
    kept: RefCell<Option<Net>>,
}

struct Teller(Rc<Bank>);

impl Lender for Teller {
    fn lend(&self) -> Result<Net> {
        self.0.net.only("connect tcp *:*")
    }

    fn keep(&self, net: Net) -> Result<()> {
        net.describe()?;
        *self.0.kept.borrow_mut() = Some(net);
        Ok(())
    }

    fn cut(&self) -> Result<()> {
        let membrane = self.0.membrane.take().expect("it is cut once");
        // The lender here and there, what it lent and the connection of that, and the Net that it was given.
        assert_eq!(membrane.cut()?, 5);
        Ok(())
    }
}

/// Starts the other program. Gives back this program's end of its report, and a revoker of its Net.
fn start(
    desk: &Rc<Desk>,
    spawner: &Spawner,
    lender: Option<&LenderRef>,
) -> Result<(Child, TcpStream, Revoker)> {
    let all = Net::implemented(desk.clone(), "connect tcp 10.0.0.0/24:*; bind udp 10.0.0.1:1")?;
    let (net, revoker) = all.only("connect tcp 10.0.0.0/30:80")?.revocable()?;
    let (ours, theirs) = TcpStream::pair()?;
    let mut launch = spawner
        .program("client")?
        .grant("net", &net)?
        .give("report", theirs)?;
    if let Some(lender) = lender {
        launch = launch.grant("lender", lender)?;
    }
    Ok((launch.start()?, ours, revoker))
}

fn has_ended_well(child: &Child) -> Result<()> {
    let ending = child.wait_timeout(PATIENCE)?;
    assert!(
        matches!(ending, Some(Ending::Exited { code: 0, .. })),
        "{ending:?}"
    );
    Ok(())
}

fn serves_in_a_task(net: &Net, spawner: &Spawner) -> Result<()> {
    let desk = Desk::new(net, true)?;
    let membrane = Membrane::new()?;
    let bank = Rc::new(Bank {
        net: net.only("connect tcp *:*")?,
        membrane: RefCell::default(),
        kept: RefCell::default(),
    });
    let lender = membrane.wrap(LenderRef::new(Teller(bank.clone()))?)?;
    *bank.membrane.borrow_mut() = Some(membrane);
    let (child, report, _revoker) = start(&desk, spawner, Some(&lender))?;
    let reported = task::block_on(task::timeout(PATIENCE, async {
        task::spawn(task::serve());
        let report = task::Async::new(report)?;
        let mut said = [0; 4];
        report.read_exact(&mut said).await?;
        Ok::<_, Error>(said)
    }))??;
    assert_eq!(reported.as_ref().map(|said| &said[..]), Ok(&b"done"[..]));
    has_ended_well(&child)?;
    assert_eq!(
        code(bank.kept.take().expect("it is kept").describe()),
        ErrorCode::Revoked
    );
    assert_eq!(code(lender.lend()), ErrorCode::Revoked);
    let asked = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80"];
    assert_eq!(*desk.log.borrow(), asked);
    Ok(())
}

fn serves_with_a_poller(net: &Net, spawner: &Spawner) -> Result<()> {
    const CALLS: u32 = 1;
    const REPORT: u32 = 2;
    let desk = Desk::new(net, false)?;
    let (child, report, _revoker) = start(&desk, spawner, None)?;
    let poller = Poller::new()?;
    poller.add_calls(CALLS)?;
    poller.add(&report, REPORT, Interest::READ)?;
    assert_eq!(code(poller.add_calls(REPORT)), ErrorCode::BadArgument);
    let (mut events, mut said, mut served) = (Vec::new(), Vec::new(), 0);
    while said.len() < 4 {
        assert!(
            poller.wait(&mut events, Some(PATIENCE))? > 0,
            "{:?}",
            child.try_wait()?
        );
        for event in &events {
            match event.token {
                CALLS => served += u32::from(object::try_serve()?),
                _ => {
                    let mut buffer = [0; 4];
                    let length = (&report).read(&mut buffer).expect("it is open");
                    assert!(length > 0, "it said {said:?}");
                    said.extend(&buffer[..length]);
                }
            }
        }
    }
    assert_eq!((said.as_slice(), served), (&b"done"[..], 1));
    assert!(poller.remove(CALLS)?);
    assert_eq!(*desk.log.borrow(), ["10.0.0.1:80"]);
    has_ended_well(&child)
}
