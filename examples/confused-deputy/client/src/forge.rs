//! What a client tries that wants more than its own.

/// More than there are connections.
const NUMBERS: u32 = 64;

/// Asks the deputy to write a word to each number in place of a connection, and returns for how many it did.
pub(crate) fn name_all(mut put_word: impl FnMut(u32) -> bool) -> u32 {
    (0..NUMBERS).map(|number| u32::from(put_word(number))).sum()
}
