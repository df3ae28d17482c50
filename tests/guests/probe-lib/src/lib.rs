//! A probe of the SDK as a `cdylib`.

use refcap_guest::Net;

#[refcap_guest::main]
fn main(net: Net, more: Option<Net>) -> Result<(), String> {
    probe_shared::probe(net, more)
}
