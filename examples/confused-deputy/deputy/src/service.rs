//! What the deputy is for, whatever it holds its connections by.

use std::io::{self, Write};

/// What the deputy writes into its books for each word.
const ENTRY: &[u8] = b"1 word, 1 coin\n";

/// Writes a word of eight letters to where its client wants it, and a line about that into the deputy's books.
pub(crate) fn serve(word: u64, output: &mut impl Write, books: &mut impl Write) -> io::Result<()> {
    output.write_all(&word.to_le_bytes())?;
    books.write_all(ENTRY)
}

#[cfg(test)]
mod tests {
    use super::{ENTRY, serve};

    #[test]
    fn each_gets_what_is_meant_for_it() {
        let (mut output, mut books) = (Vec::new(), Vec::new());
        serve(u64::from_le_bytes(*b"a word!\n"), &mut output, &mut books).unwrap();
        assert_eq!((output.as_slice(), books.as_slice()), (&b"a word!\n"[..], ENTRY));
    }
}
