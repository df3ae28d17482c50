//! What the host and its plug-ins agree on, and what a plug-in is for: it asks its upstream for readings and reports
//! them.

use std::io::{BufRead, BufReader, Write};

use anyhow::Context;
use refcap_guest::{Result, TcpStream};

/// Where a plug-in reports what it has read.
#[refcap_guest::interface]
pub trait Desk {
    /// Takes a reading: a number and a line feed. Returns whether there can be more of them; `Denied` when the plug-in has
    /// no more to do with this host.
    fn report(&self, reading: String) -> Result<bool>;
}

/// The longest reading, in bytes.
const LONGEST: usize = 16;

/// What is a reading: a number and a line feed.
pub fn reading(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('\n').filter(|_| text.len() <= LONGEST)?;
    digits.parse().ok()
}

/// The address that the arguments have for this plug-in: its name, and then all plug-ins with their addresses.
pub fn upstream(arguments: &[String]) -> anyhow::Result<&str> {
    let (name, all) = arguments
        .split_first()
        .context("this is a plug-in of plugin-host")?;
    all.iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("there is no address for {name}"))
}

/// Asks the upstream once: a line that says who asks, and then a line with a reading.
pub fn ask(stream: &TcpStream, name: &str) -> anyhow::Result<String> {
    let mut to = stream;
    to.write_all(format!("{name}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::with_capacity(64, stream).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::reading;

    #[test]
    fn a_reading_is_a_number_and_a_line_feed() {
        assert_eq!(reading("17\n"), Some(17));
        assert_eq!(reading("-3\n"), Some(-3));
        for nonsense in ["17", "\n", "", "1 7\n", "0000000000000000000001\n"] {
            assert_eq!(reading(nonsense), None, "{nonsense:?}");
        }
    }
}
