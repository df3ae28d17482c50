//! The attributes of `refcap_guest`. Their documentation is with their re-exports there.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;

mod errors;
mod expand;
mod interface;
mod link;
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

/// See `refcap_guest::export`.
#[proc_macro_attribute]
pub fn export(arguments: TokenStream, item: TokenStream) -> TokenStream {
    written(link::export(arguments.into(), item.into()))
}

/// See `refcap_guest::linked`.
#[proc_macro_attribute]
pub fn linked(arguments: TokenStream, item: TokenStream) -> TokenStream {
    written(link::linked(arguments.into(), item.into()))
}

/// See `refcap_guest::interface`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    written(interface::expand(arguments.into(), item.into()))
}

fn written(code: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    code.unwrap_or_else(|error| error.to_compile_error()).into()
}
