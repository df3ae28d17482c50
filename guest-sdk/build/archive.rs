//! The `ar` format, as far as one object needs it.

/// An archive that holds one file. It has no symbol index: rustc, which repacks it, makes its own.
///
/// The name must be at most 15 bytes long, which is what fits in a header with its end mark.
pub(crate) fn with_one_member(name: &str, content: &[u8]) -> Vec<u8> {
    assert!(name.len() <= 15, "`{name}` does not fit in an archive header");
    let (modified, owner, group, mode) = (0, 0, 0, 644);
    let mut archive = b"!<arch>\n".to_vec();
    let name = format!("{name}/");
    let size = content.len();
    let header = format!("{name:<16}{modified:<12}{owner:<6}{group:<6}{mode:<8}{size:<10}`\n");
    archive.extend(header.bytes());
    archive.extend(content);
    // Members start at even offsets.
    if size % 2 == 1 {
        archive.push(b'\n');
    }
    archive
}
