//! A plug-in that does what it is for, for as long as its host wants readings.

use plugin_api::{Desk, DeskRef, ask, reading, upstream};
use refcap_guest::Net;

#[refcap_guest::main]
fn main(net: Net, desk: DeskRef) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let stream = net.connect(upstream(&arguments)?)?;
    loop {
        let line = ask(&stream, &arguments[0])?;
        anyhow::ensure!(reading(&line).is_some(), "the upstream says {line:?}");
        if !desk.report(line)? {
            return Ok(());
        }
    }
}
