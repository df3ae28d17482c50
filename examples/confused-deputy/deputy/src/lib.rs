//! A deputy: it writes words for its clients, each to where the client says, and keeps books of its own.
//!
//! Where to write is a reference, which the client passes. So the client has to have it, and the deputy acts with the
//! client's authority and not with its own: there is no way to say "write it into your books".

use std::cell::RefCell;

use refcap_guest::{Error, ErrorCode, Net, Result, TcpStream};

mod service;

thread_local! {
    static BOOKS: RefCell<Option<TcpStream>> = const { RefCell::new(None) };
}

/// Gives the deputy the network for its books, which is one address.
#[refcap_guest::export]
fn employ(net: Net) -> Result<()> {
    let books = connect(&net)?;
    BOOKS.set(Some(books));
    Ok(())
}

/// Writes a word to where the client says, and gives the connection back.
#[refcap_guest::export]
fn put_word(word: u64, mut output: TcpStream) -> Result<TcpStream> {
    BOOKS.with_borrow_mut(|books| {
        let Some(books) = books else {
            return Err(Error::new(
                ErrorCode::Denied,
                "put a word",
                "nobody has employed the deputy",
            ));
        };
        match service::serve(word, &mut output, books) {
            Ok(()) => Ok(output),
            // What the SDK said comes back out of what `Write` says.
            Err(error) => Err(Error::from_io(&error)
                .cloned()
                .unwrap_or_else(|| Error::new(ErrorCode::Io, "put a word", error.to_string()))),
        }
    })
}

/// Connects to the one address that a Net allows.
fn connect(net: &Net) -> Result<TcpStream> {
    let rules = net.describe()?;
    net.connect(rules.strip_prefix("connect tcp ").unwrap_or(&rules))
}
