//! The code that is written for a program.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::program::{Endowment, Program};

/// Writes a `main` that needs no arguments, the host's entry where there can be no `main`, and the
/// section that asks for the endowments.
///
/// The written tokens carry the span of the macro, not of the user's code. That is also why a crate with
/// `#![forbid(unsafe_code)]` can hold them: the lint does not look into other crates' macros.
pub(crate) fn expand(program: &Program) -> TokenStream {
    let function = &program.function;
    let arguments = program.endowments.iter().map(argument);
    let section = section(&program.endowments);
    let entry = entry();
    quote! {
        #[allow(dead_code, reason = "a library's main is called by the host's entry only")]
        fn main() -> ::std::process::ExitCode {
            ::refcap_guest::__private::exit_code(__refcap_guest_main())
        }

        #[allow(dead_code, reason = "likewise, where there is no entry")]
        fn __refcap_guest_main() -> i32 {
            #function
            ::refcap_guest::__private::run(|arguments| main(#(#arguments),*))
        }

        #section
        #entry
    }
}

fn argument(endowment: &Endowment) -> TokenStream {
    let Endowment { name, kind } = endowment;
    // The type's own span, so that a type which is no capability is what the error points to.
    quote_spanned! { kind.span() => arguments.next::<#kind>(#name) }
}

fn section(endowments: &[Endowment]) -> TokenStream {
    if endowments.is_empty() {
        return TokenStream::new();
    }
    let declarations = endowments.iter().map(|Endowment { name, kind }| {
        quote! { ::refcap_guest::__private::declare::<#kind>(#name) }
    });
    let section = refcap_abi::ENDOWMENT_SECTION;
    quote! {
        #[cfg(target_family = "wasm")]
        const _: () = {
            const DECLARATIONS: &[::refcap_guest::__private::Declaration] = &[#(#declarations),*];

            #[used]
            #[unsafe(link_section = #section)]
            static SECTION: [u8; ::refcap_guest::__private::section_length(DECLARATIONS)] =
                ::refcap_guest::__private::section(DECLARATIONS);
        };
    }
}

/// The entry for modules that have no `_start`: everything but the programs of WASI.
fn entry() -> TokenStream {
    // Cargo says for which kind of target it compiles by setting this variable or not.
    let condition = if std::env::var_os("CARGO_BIN_NAME").is_some() {
        quote! { all(target_family = "wasm", not(target_os = "wasi")) }
    } else {
        quote! { target_family = "wasm" }
    };
    let start = refcap_abi::START_EXPORT;
    quote! {
        #[cfg(#condition)]
        const _: () = {
            #[unsafe(export_name = #start)]
            extern "C" fn start() -> i32 {
                __refcap_guest_main()
            }
        };
    }
}
