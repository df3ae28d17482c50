//! The same through the shims of the `externref` crate, whose processor goes over the module afterwards. Functions
//! with two results, which make capabilities, are not to be had that way: it holds the one that it is granted.

use std::cell::RefCell;

use externref::{Resource, externref};

/// Stands for refcap's Net.
pub struct Net(());

thread_local! {
    static NET: RefCell<Option<Resource<Net>>> = const { RefCell::new(None) };
}

#[unsafe(link_section = "refcap.endowments")]
#[used]
static ENDOWMENTS: [u8; 17] = *b"net Net required\n";

#[externref]
#[link(wasm_import_module = "refcap_v1")]
unsafe extern "C" {
    fn net_flags(net: &Resource<Net>) -> i32;
}

/// Takes the endowment.
#[externref]
#[unsafe(no_mangle)]
pub extern "C" fn refcap_grant(net: Resource<Net>) -> i32 {
    NET.set(Some(net));
    1
}

/// Does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn refcap_start() -> i32 {
    0
}

/// Uses it that often. Returns how many of the calls said what they should.
#[unsafe(export_name = "use")]
pub extern "C" fn use_it(count: u32) -> u32 {
    NET.with_borrow(|net| {
        let Some(net) = net else { return 0 };
        let mut good = 0;
        for _ in 0..count {
            // SAFETY: the host has a function of this type and name, which takes any reference.
            good += u32::from(unsafe { net_flags(net) } == 3);
        }
        good
    })
}
