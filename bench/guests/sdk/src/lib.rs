//! Holds references and uses them, through the SDK. The loops are those of the guest in text.

use std::cell::RefCell;

use refcap_guest::Net;

/// What the program holds.
struct Held {
    net: Net,
    /// Derived from it.
    nets: Vec<Net>,
}

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

#[refcap_guest::main]
fn main(net: Net) {
    HELD.set(Some(Held {
        net,
        nets: Vec::new(),
    }));
}

/// Derives until there are so many. Returns how many there are.
#[unsafe(no_mangle)]
extern "C" fn fill(live: u32) -> u32 {
    HELD.with_borrow_mut(|held| {
        let Some(Held { net, nets }) = held else { return 0 };
        while nets.len() < live as usize {
            match net.limit("") {
                Ok(made) => nets.push(made),
                Err(_) => break,
            }
        }
        nets.len() as u32
    })
}

/// Uses one after the other. Returns how many of the calls said what they should.
#[unsafe(export_name = "use")]
extern "C" fn use_them(count: u32, live: u32) -> u32 {
    HELD.with_borrow(|held| {
        let Some(nets) = held.as_ref().and_then(|held| held.nets.get(..live as usize)) else {
            return 0;
        };
        let (mut good, mut left) = (0, count);
        loop {
            for net in nets {
                if left == 0 {
                    return good;
                }
                good += u32::from(net.is_derivable().unwrap_or(false));
                left -= 1;
            }
        }
    })
}
