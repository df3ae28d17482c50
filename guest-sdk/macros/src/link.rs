//! Functions that are exported to, or imported from, programs in the same vat.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, ForeignItem, ForeignItemFn, Ident, ItemFn, ItemForeignMod, LitStr, Pat, PathArguments,
    Result, ReturnType, Signature, Type,
};

/// Writes the export beside the function.
pub(crate) fn export(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let name = name_setting(arguments, "export")?;
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "`#[refcap_guest::export]` belongs on a function"))?;
    let parameters = parameters(&function.sig, "an exported function")?;
    let ident = &function.sig.ident;
    let name = name.unwrap_or_else(|| LitStr::new(&ident.to_string(), ident.span()));
    check_export_name(&name)?;
    let types: Vec<_> = parameters.iter().map(|(_, ty)| ty).collect();
    let names = |name: &str| -> Vec<Ident> {
        let indexes = 0..types.len();
        indexes.map(|index| format_ident!("{name}{index}")).collect()
    };
    let (wires, received) = (names("wire"), names("received"));
    Ok(quote! {
        #function

        #[cfg(target_family = "wasm")]
        const _: () = {
            use ::refcap_guest::link::{Pass, Return, answer};

            #[unsafe(export_name = #name)]
            extern "C" fn exported(#(#wires: <#types as Pass>::Wire),*) -> i64 {
                // All are received before one of them can fail: nobody would close those after it.
                #(let #received = <#types as Pass>::receive(#wires);)*
                answer((move || Return::give_back(#ident(#(#received?),*)))())
            }
        };
    })
}

/// Writes a function for each that is declared.
pub(crate) fn linked(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let span = arguments.span();
    let Some(program) = name_setting(arguments, "linked")? else {
        return Err(Error::new(
            span,
            "say which program: `#[refcap_guest::linked(name = \"plugin\")]`",
        ));
    };
    let block: ItemForeignMod = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "`#[refcap_guest::linked]` belongs on a block `extern \"C\" { ... }`",
        )
    })?;
    let functions = block.items.iter().map(|item| match item {
        ForeignItem::Fn(function) => import(&program, function),
        other => Err(Error::new(other.span(), "a linked program has functions only")),
    });
    functions.collect()
}

fn import(program: &LitStr, function: &ForeignItemFn) -> Result<TokenStream> {
    let ForeignItemFn { attrs, vis, sig, .. } = function;
    let parameters = parameters(sig, "a function of a linked program")?;
    let output = match &sig.output {
        ReturnType::Type(_, output) if is_result(output) => output,
        other => {
            let message = "a call to a linked program can fail: let it return a `refcap_guest::Result`";
            return Err(Error::new(other.span(), message));
        }
    };
    let ident = &sig.ident;
    let name = ident.to_string();
    let (names, types): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
    Ok(quote! {
        #(#attrs)*
        #vis fn #ident(#(#names: #types),*) -> #output {
            use ::refcap_guest::link::{Linked, Pass, outcome};

            #[cfg(target_family = "wasm")]
            #[link(wasm_import_module = #program)]
            unsafe extern "C" {
                #[link_name = #name]
                safe fn import(#(#names: <#types as Pass>::Wire),*) -> i64;
            }
            #[cfg(not(target_family = "wasm"))]
            fn import(#(_: <#types as Pass>::Wire),*) -> i64 {
                unreachable!("a native program is linked to none")
            }

            let program = Linked::find(#program)?;
            let wire = import(#(<#types as Pass>::pass(#names, program)?),*);
            outcome::<#output>(wire, program, #name)?
        }
    })
}

/// The parameters of a function that can cross: plain names, no generics, nothing but values.
fn parameters(sig: &Signature, what: &str) -> Result<Vec<(Ident, Type)>> {
    if let Some(generics) = sig.generics.params.first() {
        return Err(Error::new(
            generics.span(),
            format!("{what} has no generic parameters"),
        ));
    }
    if let Some(asyncness) = &sig.asyncness {
        return Err(Error::new(asyncness.span(), format!("{what} is not `async`")));
    }
    let parameter = |argument: &FnArg| match argument {
        FnArg::Receiver(receiver) => Err(Error::new(
            receiver.span(),
            format!("{what} is a function of its own, not a method"),
        )),
        FnArg::Typed(parameter) => match (&*parameter.pat, &*parameter.ty) {
            (_, Type::Reference(reference)) => {
                let message = "only values can be passed: each program has its own memory";
                Err(Error::new(reference.span(), message))
            }
            (Pat::Ident(name), ty) if name.by_ref.is_none() && name.subpat.is_none() => {
                Ok((name.ident.clone(), ty.clone()))
            }
            (pattern, _) => Err(Error::new(pattern.span(), "a parameter needs a plain name here")),
        },
    };
    sig.inputs.iter().map(parameter).collect()
}

pub(crate) fn is_result(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.ident == "Result" && matches!(last.arguments, PathArguments::AngleBracketed(_))
        }),
        _ => false,
    }
}

/// The one setting that there is: `name = "..."`.
fn name_setting(arguments: TokenStream, attribute: &str) -> Result<Option<LitStr>> {
    let mut name = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("name") {
            return Err(meta.error(format!("the only setting of `{attribute}` is `name = \"...\"`")));
        }
        name = Some(meta.value()?.parse::<LitStr>()?);
        Ok(())
    });
    syn::parse::Parser::parse2(parser, arguments)?;
    Ok(name)
}

/// What begins so is for the host, and no program could import it.
fn check_export_name(name: &LitStr) -> Result<()> {
    let text = name.value();
    match text.is_empty() || text.starts_with("refcap_") || text.starts_with('_') {
        true => Err(Error::new(
            name.span(),
            "an export for other programs begins neither with `refcap_` nor with `_`",
        )),
        false => Ok(()),
    }
}
