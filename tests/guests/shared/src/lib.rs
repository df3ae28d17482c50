//! What the probes do: everything that the SDK offers, without arguments or output, so that it runs on
//! every target. The capabilities pass through this crate, as they would through any library.

use std::io::{Read, Write};

use refcap_guest::{Error, ErrorCode, Net, grants};

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

    let (lent, revoker) = copy.revocable().map_err(text)?;
    let mut stream = lent.connect(server).map_err(text)?;
    echo(&mut stream, 100_000).map_err(|error| error.to_string())?;
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
