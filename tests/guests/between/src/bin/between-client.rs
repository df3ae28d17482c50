//! Has a Net that another program implements, and what it borrows through a membrane. With no lender it does less.

use std::io::Write;

use between_api::{ECHO, ELSEWHERE, ITSELF, Lender, LenderRef, REFUSED, code, echoes, ends_revoked};
use refcap_guest::{ErrorCode, Net, Result, TcpStream};

#[refcap_guest::main]
fn main(net: Net, mut report: TcpStream, lender: Option<LenderRef>) -> Result<()> {
    echoes(&net.connect(ECHO)?);
    if let Some(lender) = lender {
        watched(&net, &lender)?;
    }
    report.write_all(b"done").expect("the other program reads it");
    Ok(())
}

fn watched(net: &Net, lender: &LenderRef) -> Result<()> {
    // The program's own error, by its code, and the host's.
    let error = net.connect(REFUSED).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Exhausted);
    assert!(
        error.to_string().contains("the program that implements"),
        "{error}"
    );
    assert_eq!(code(net.connect(ELSEWHERE)), ErrorCode::Denied);
    assert_eq!(code(net.bind_udp("127.0.0.1:0")), ErrorCode::Denied);

    // Calls are served while this connection is, by tasks of one program.
    let itself = net.connect(ITSELF)?;
    echoes(&itself);
    let lent = lender.lend()?;
    echoes(&itself);
    let server = lent.describe()?.trim_start_matches("connect tcp ").to_owned();
    let borrowed = lent.connect(server)?;
    echoes(&borrowed);
    lender.keep(net.only("connect tcp *:*")?)?;
    echoes(&itself);

    // What came through the membrane is gone, and nothing else.
    assert_eq!(code(lender.cut()), ErrorCode::Revoked);
    // Its call ends as soon as the lender does; the rest may take a moment more.
    assert!(ends_revoked(&borrowed));
    assert_eq!(code(lent.describe()), ErrorCode::Revoked);
    assert_eq!(code(lender.lend()), ErrorCode::Revoked);
    echoes(&itself);
    echoes(&net.connect(ECHO)?);
    Ok(())
}
