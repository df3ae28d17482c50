//! Lists of pieces of memory, as far as a budget goes.

use std::ops::Deref;

use refcap_abi::MAX_PIECES;

/// The length of all pieces together.
pub(super) fn total<P: Deref<Target = [u8]>>(pieces: &[P; MAX_PIECES]) -> usize {
    // Pieces of a write may be the same bytes many times over.
    pieces
        .iter()
        .fold(0, |total, piece| total.saturating_add(piece.len()))
}

/// Shortens pieces to `most` bytes in all, and says how many of them, from the first one on, have these.
pub(super) fn cut<P: Deref<Target = [u8]>>(
    pieces: &mut [P; MAX_PIECES],
    most: usize,
    shorten: impl Fn(&mut P, usize),
) -> usize {
    let mut left = most;
    for (index, piece) in pieces.iter_mut().enumerate() {
        if left == 0 {
            return index;
        }
        if piece.len() > left {
            shorten(piece, left);
        }
        left -= piece.len();
    }
    MAX_PIECES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_any_length() {
        let bytes = b"abcdefghijklmnop";
        let lengths = [3, 0, 1, 4, 0, 0, 2, 1];
        let mut pieces = [&[][..]; MAX_PIECES];
        let mut at = 0;
        for (piece, length) in pieces.iter_mut().zip(lengths) {
            *piece = &bytes[at..at + length];
            at += length;
        }
        assert_eq!(total(&pieces), 11);
        for most in 0..=12 {
            let mut pieces = pieces;
            let count = cut(&mut pieces, most, |piece, length| *piece = &piece[..length]);
            assert_eq!(pieces[..count].concat(), bytes[..most.min(11)], "{most}");
            // None is left over that has nothing to give.
            assert!(most > 11 || count == 0 || !pieces[count - 1].is_empty(), "{most}");
        }
        let mut full = [&bytes[..1]; MAX_PIECES];
        assert_eq!(cut(&mut full, usize::MAX, |_, _| unreachable!()), MAX_PIECES);
    }
}
