//! A program with a library beside it: each is a module, and the library may do what it is given: nothing.

use refcap_guest::{Net, Result};

mod shop;

#[refcap_guest::linked(name = "converter")]
extern "C" {
    fn convert(cents: u32, rate: u32) -> Result<u32>;
}

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    shop::show_price(&net, convert)
}
