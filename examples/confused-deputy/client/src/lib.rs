//! A client of the deputy: it has a word written to where it may have it written, and tries everywhere else.
//!
//! It is linked to the deputy and to nothing else. The deputy's interface has a connection, which for this one is a
//! reference; but nobody keeps a client from declaring the interface with a number there.

use refcap_guest::{Net, Result};

mod forge;

/// The deputy as it is.
mod deputy {
    use refcap_guest::{Result, TcpStream};

    #[refcap_guest::linked(name = "deputy")]
    extern "C" {
        pub(crate) fn put_word(word: u64, output: TcpStream) -> Result<TcpStream>;
    }
}

/// The deputy as the client would like it: on the wire a number stands for what was given before the call.
mod forged {
    use refcap_guest::Result;

    #[refcap_guest::linked(name = "deputy")]
    extern "C" {
        pub(crate) fn put_word(word: u64, output: u32) -> Result<()>;
    }
}

/// Has a word written to the one address of `net`, then to whatever has a number, and then again to its own. Returns for
/// how many numbers the deputy did it.
#[refcap_guest::export]
fn order(net: Net, word: u64) -> Result<u32> {
    let rules = net.describe()?;
    let output = net.connect(rules.strip_prefix("connect tcp ").unwrap_or(&rules))?;
    let output = deputy::put_word(word, output)?;
    let named = forge::name_all(|number| forged::put_word(word, number).is_ok());
    deputy::put_word(word, output)?;
    Ok(named)
}
