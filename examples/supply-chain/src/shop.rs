//! What both programs do: ask a service for the rate of the day, and show a price.

use std::io::Read;

use anyhow::{Context, ensure};
use refcap_guest::Net;

/// Reads the rate from the service at the address in the first argument, and shows what 1,000 cents are.
pub(crate) fn show_price(
    net: &Net,
    convert: impl FnOnce(u32, u32) -> refcap_guest::Result<u32>,
) -> anyhow::Result<()> {
    let service = std::env::args()
        .nth(1)
        .context("usage: supply-chain ADDRESS:PORT")?;
    let mut rate = String::new();
    let mut stream = net.connect(service.as_str())?;
    stream.by_ref().take(16).read_to_string(&mut rate)?;
    let rate: u32 = rate
        .trim()
        .parse()
        .with_context(|| format!("{rate:?} is not a rate"))?;
    let price = convert(1_000, rate)?;
    ensure!(price > 0, "the converter says that everything is free");
    println!("1000 cents are {price}");
    Ok(())
}
