//! The deputy with integers: the same service, for clients that name a connection by the number of its descriptor.
//!
//! As with preview 1 of WASI, instances that are linked have one table of descriptors. A client that passes a number
//! does not have to have anything.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

#[path = "../../../deputy/src/service.rs"]
mod service;

#[link(wasm_import_module = "integers")]
unsafe extern "C" {
    /// Writes bytes to what the descriptor names, and returns their number, or less than zero.
    fn fd_write(descriptor: u32, data: *const u8, length: usize) -> i32;
}

static BOOKS: AtomicU32 = AtomicU32::new(u32::MAX);

/// A connection, by its number.
struct Descriptor(u32);

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are those of a slice, which the host only reads.
        let written = unsafe { fd_write(self.0, bytes.as_ptr(), bytes.len()) };
        usize::try_from(written).map_err(|_| io::ErrorKind::NotFound.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the deputy the connection for its books.
#[unsafe(no_mangle)]
extern "C" fn employ(books: u32) -> i64 {
    BOOKS.store(books, Ordering::Relaxed);
    0
}

/// Writes a word to where the client says. Returns less than zero if there is no such place.
#[unsafe(no_mangle)]
extern "C" fn put_word(word: u64, output: u32) -> i64 {
    let mut books = Descriptor(BOOKS.load(Ordering::Relaxed));
    match service::serve(word, &mut Descriptor(output), &mut books) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}
