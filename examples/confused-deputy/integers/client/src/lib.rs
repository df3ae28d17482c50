//! The client with integers: it does what the other one does. It has no function of the host at all.

#[path = "../../../client/src/forge.rs"]
mod forge;

#[link(wasm_import_module = "deputy")]
unsafe extern "C" {
    safe fn put_word(word: u64, output: u32) -> i64;
}

/// Has a word written to its connection, then to whatever has a number, and then again to its own. Returns for how many
/// numbers the deputy did it; less than zero if it did not do what it is for.
#[unsafe(no_mangle)]
extern "C" fn order(output: u32, word: u64) -> i64 {
    if put_word(word, output) < 0 {
        return -1;
    }
    let named = forge::name_all(|number| put_word(word, number) >= 0);
    match put_word(word, output) {
        0.. => named.into(),
        failed => failed,
    }
}
