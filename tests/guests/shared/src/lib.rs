//! What the probes do: everything that the SDK offers, without arguments or output, so that it runs on
//! every target. The capabilities pass through this crate, as they would through any library.

use std::io::{IoSlice, IoSliceMut, Read, Write};

use std::time::Duration;

use refcap_guest::{Ending, Error, ErrorCode, Guard, Message, Net, Object, Spawner, TcpStream, grants};

refcap_guest::answers_calls!();

/// Tries the SDK against an echo server, whose address is all that `net` allows. Where `more` is there,
/// it panics, to show how a panic is reported.
pub fn probe(net: Net, more: Option<Net>) -> Result<(), String> {
    assert!(more.is_none(), "the probe was told to panic");
    let server = net.describe().map_err(text)?;
    let Some(server) = server.strip_prefix("connect tcp ") else {
        return Err(format!("nothing to connect to in `{server}`"));
    };

    let copy = net.only("connect tcp *:*").map_err(text)?;
    let nothing = net.except("connect tcp *:*").map_err(text)?;
    check(nothing.describe().map_err(text)?.is_empty(), "an empty Net")?;
    check(
        nothing.connect(server).is_err_and(|error| error.is_denied()),
        "denied",
    )?;
    let wider = net.exactly("connect tcp *:*").map_err(|error| error.code());
    check(
        wider.is_err_and(|code| code == ErrorCode::NotSubset),
        "not a subset",
    )?;
    check(
        net.allows(format!("connect tcp {server}").as_str())
            .map_err(text)?,
        "allowed",
    )?;

    guarded(&net, server)?;
    objects(&net, server).map_err(text)?;
    let (lent, revoker) = copy.revocable().map_err(text)?;
    let mut stream = lent.connect(server).map_err(text)?;
    echo(&mut stream, 100_000).map_err(|error| error.to_string())?;
    vectored(&mut stream).map_err(|error| error.to_string())?;
    let mut other = lent.connect(server).map_err(text)?;
    copied(&mut stream, &mut other).map_err(|error| error.to_string())?;
    drop(other);
    check(revoker.revoke().map_err(text)? == 2, "the Net and its stream")?;
    let cut = stream
        .write_all(b"more")
        .map_err(|error| Error::from_io(&error).map(Error::code));
    check(cut == Err(Some(ErrorCode::Revoked)), "revoked")?;

    // Many references at once, so that the table grows and slots are used again.
    for _ in 0..3 {
        let many: Vec<Net> = (0..200)
            .map(|_| copy.only(""))
            .collect::<Result<_, _>>()
            .map_err(text)?;
        check(
            many.iter()
                .all(|net| net.describe().is_ok_and(|text| text.is_empty())),
            "many",
        )?;
    }
    children(&grants::take("spawner").map_err(text)?, &net, server).map_err(text)?;
    let late: Net = grants::take("late").map_err(text)?;
    check(
        late.describe().map_err(text)? == "connect tcp 192.0.2.1:1",
        "granted late",
    )
}

/// Sends bytes and gets them back, in both directions at once as far as the buffers go.
fn echo(stream: &mut (impl Read + Write), count: usize) -> std::io::Result<()> {
    let sent: Vec<u8> = (0..count).map(|n| (n % 251) as u8).collect();
    let mut back = vec![0; 1000];
    for block in sent.chunks(1000) {
        stream.write_all(block)?;
        stream.read_exact(&mut back[..block.len()])?;
        assert_eq!(block, &back[..block.len()]);
    }
    Ok(())
}

/// Sends several pieces at once and gets them back into several buffers: more than one call takes, some of them
/// empty.
fn vectored(stream: &mut TcpStream) -> std::io::Result<()> {
    let words: Vec<String> = (0..20).map(|number| format!("word {number}, ")).collect();
    let mut pieces: Vec<IoSlice<'_>> = (0..17).map(|_| IoSlice::new(&[])).collect();
    pieces.extend(words.iter().map(|word| IoSlice::new(word.as_bytes())));
    let sent = stream.write_vectored(&pieces)?;
    assert_eq!(sent, words[..16].concat().len());
    let mut got = String::new();
    while got.len() < sent {
        let (mut first, mut second) = ([0; 10], vec![0; sent]);
        let mut buffers = [&mut [][..], &mut first, &mut [], &mut second].map(IoSliceMut::new);
        let length = stream.read_vectored(&mut buffers)?;
        let bytes = [&first[..], &second].concat();
        got += &String::from_utf8_lossy(&bytes[..length]);
    }
    assert_eq!(got, words[..16].concat());
    assert_eq!(stream.read_vectored(&mut [IoSliceMut::new(&mut [])])?, 0);
    Ok(())
}

/// An object of our own: what goes along, what comes back, what it says of mistakes, and what is left of it.
fn objects(net: &Net, server: &str) -> refcap_guest::Result<()> {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = seen.clone();
    let server = server.to_owned();
    let object = Object::new(move |method, mut message| {
        kept.borrow_mut().push(method);
        match method {
            1 => {
                let net: Net = message.take(0)?;
                let stream = net.connect(server.as_str())?;
                let bytes = [message.as_bytes(), b", and back"].concat();
                Ok((42, Message::new().bytes(bytes).with(net).with(stream)))
            }
            2 => message.take::<TcpStream>(0).map(|_| (0, Message::new())),
            3 => message.take::<Object>(0)?.call(4, Message::new()),
            4 => Ok((4, Message::new())),
            _ => message.take::<Net>(9).map(|_| (0, Message::new())),
        }
    })?;
    let lent = |net: &Net| net.only("connect tcp *:*");

    let (number, mut answer) = object.call(1, Message::new().bytes("there").with(lent(net)?))?;
    assert_eq!(
        (number, answer.as_bytes(), answer.capabilities()),
        (42, &b"there, and back"[..], 2)
    );
    let mut stream: TcpStream = answer.take(1)?;
    echo(&mut stream, 10).expect("the stream that came back is open");
    assert_eq!(answer.take::<Net>(0)?.describe()?, net.describe()?);
    let code = |result: refcap_guest::Result<_>| result.map(drop).map_err(|error| error.code());
    assert_eq!(
        code(object.call(2, Message::new().with(lent(net)?))),
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(code(object.call(9, Message::new())), Err(ErrorCode::NotFound));

    // It is called while it calls.
    let (own, revoker) = object.revocable()?;
    assert_eq!(object.call(3, Message::new().with(own))?.0, 4);
    assert_eq!(*seen.borrow(), [1, 2, 9, 3, 4]);
    revoker.revoke()?;

    // Nobody holds it: what it kept is dropped when the next one is made.
    drop(object);
    let next = Object::new(|_, _| Ok((0, Message::new())))?;
    assert_eq!(std::rc::Rc::strong_count(&seen), 1);
    assert_eq!(next.call_timeout(0, Message::new(), Duration::from_secs(1))?.0, 0);
    let serving = refcap_guest::object::serve(Some(Duration::from_millis(1)));
    assert_eq!(serving.map_err(|error| error.code()), Err(ErrorCode::TimedOut));
    Ok(())
}

/// A Net behind a guard that says no to everything, and one behind a module that is no guard.
fn guarded(net: &Net, server: &str) -> Result<(), String> {
    const NEVER: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x05\x03\x01\0\x01\
        \x06\x06\x01\x7f\0\x41\0\x0b\x07\x35\x03\x06memory\x02\0\x13refcap_guard_record\x03\0\
        \x12refcap_guard_check\0\0\x0a\x06\x01\x04\0\x41\0\x0b";
    let never = Guard::new(NEVER).map_err(text)?;
    let behind = net.guarded(&never).map_err(text)?;
    drop(never);
    let Err(error) = behind.connect(server) else {
        return Err("not as it should be: a guard is asked".to_owned());
    };
    check(error.is_denied(), "denied by a guard")?;
    check(
        error.to_string().contains("said no to connect tcp"),
        "who said no",
    )?;
    let no_guard = Guard::new(&NEVER[..8]).map_err(|error| error.code());
    check(
        no_guard.is_err_and(|code| code == ErrorCode::BadArgument),
        "no guard",
    )
}

/// What comes back on one stream goes to the other one, and comes back there.
fn copied(stream: &mut TcpStream, other: &mut TcpStream) -> Result<(), Error> {
    let itself = stream.copy_to(stream, 10).map_err(|error| error.code());
    assert_eq!(itself, Err(ErrorCode::BadArgument));
    assert_eq!(stream.copy_to(other, 0)?, 0);
    let text = b"by way of another";
    stream.write_all(text).map_err(to_error)?;
    let mut moved = 0;
    while moved < text.len() {
        moved += stream.copy_to(other, 5)?;
    }
    let mut back = [0; 17];
    other.read_exact(&mut back).map_err(to_error)?;
    assert_eq!(&back, text);
    Ok(())
}

/// Starts programs: `reads`, which reads what comes from an endowment `stream`, adds up the bytes and exits with their
/// sum, or waits for ever where its endowment `net` is there; and one from bytes, which is refused.
fn children(spawner: &Spawner, net: &Net, server: &str) -> Result<(), Error> {
    let mut stream = net.connect(server)?;
    stream.write_all(&[1, 2, 3]).map_err(to_error)?;
    let first = spawner.program("reads")?.give("stream", stream)?;
    let first = first
        .argument("one")?
        .memory(1 << 20)?
        .capabilities(4)?
        .sockets(0)?;
    let first = first.time(Duration::from_secs(60))?.start()?;
    let report = String::new();
    assert_eq!(first.wait()?, Ending::Exited { code: 6, report });
    assert!(!first.stop()?);

    let (lent, revoker) = net.revocable()?;
    let second = spawner.program("reads")?.give("stream", lent.connect(server)?)?;
    let second = second.grant("net", &lent)?.memory(1 << 20)?.start()?;
    assert_eq!(second.try_wait()?, None);
    assert_eq!(second.wait_timeout(Duration::from_millis(1))?, None);
    // The Net and its stream, and what the child holds of them.
    assert_eq!(revoker.revoke()?, 3);
    assert!(second.stop()?);
    assert_eq!(second.wait()?, Ending::Stopped);

    let missing = spawner.program("reads")?.start().map_err(|error| error.code());
    assert!(matches!(missing, Err(ErrorCode::NotStarted)));
    let wrong = spawner
        .program("reads")?
        .grant("stream", net)
        .map_err(|error| error.code());
    assert!(matches!(wrong, Err(ErrorCode::BadArgument)));
    let unknown = spawner.program("writes").map_err(|error| error.code());
    assert!(matches!(unknown, Err(ErrorCode::NotFound)));
    let bytes = spawner.load(b"not wasm").map_err(|error| error.code());
    assert!(matches!(bytes, Err(ErrorCode::BadArgument)));
    Ok(())
}

fn to_error(error: std::io::Error) -> Error {
    Error::from_io(&error).expect("the host said it").clone()
}

fn text(error: Error) -> String {
    error.to_string()
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("not as it should be: {what}"))
    }
}
