//! The attribute `refcap_guest::main`. Its documentation is with its re-export there.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;

mod expand;
mod program;

/// See `refcap_guest::main`.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    program::Program::parse(arguments.into(), item.into())
        .map_or_else(
            |error| error.to_compile_error(),
            |program| expand::expand(&program),
        )
        .into()
}
