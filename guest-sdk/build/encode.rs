//! The encodings that the parts of a wasm binary are made of.

/// An unsigned number in LEB128.
pub(crate) fn number(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A signed number in LEB128.
pub(crate) fn signed(mut value: i32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        // The last byte's bit 6 is the sign of the whole.
        let rest = if low & 0x40 == 0 { 0 } else { -1 };
        if value == rest {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// An unsigned number in LEB128, always five bytes long: the linker writes its own number over it.
pub(crate) fn padded(value: u32) -> [u8; 5] {
    let mut out = [0; 5];
    for (index, byte) in out.iter_mut().enumerate() {
        let more = if index < 4 { 0x80 } else { 0 };
        *byte = (value >> (7 * index)) as u8 & 0x7f | more;
    }
    out
}

/// How many items or bytes there are, as wasm counts them.
pub(crate) fn count(items: usize) -> Vec<u8> {
    number(u32::try_from(items).expect("the object is far smaller than 4 GiB"))
}

/// A run of bytes with its length before it.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [count(bytes.len()), bytes.to_vec()].concat()
}

/// A string with its length before it.
pub(crate) fn name(text: &str) -> Vec<u8> {
    sized(text.as_bytes())
}

/// Encoded items with their number before them.
pub(crate) fn vector(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    [count(items.len()), items.concat()].concat()
}

/// A section, or a subsection of `linking`.
pub(crate) fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], sized(content)].concat()
}

/// A custom section.
pub(crate) fn custom_section(title: &str, content: &[u8]) -> Vec<u8> {
    section(0, &[name(title), content.to_vec()].concat())
}
