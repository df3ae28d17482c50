//! A program with a library inside: both are one module, and what the program may do, the library may do.

use refcap_guest::Net;

mod shop;

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    shop::show_price(&net, |cents, rate| Ok(converter::convert(cents, rate)))
}
