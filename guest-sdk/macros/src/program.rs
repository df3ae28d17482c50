//! What a `main` function says, checked.

use proc_macro2::TokenStream;
use refcap_abi::endowment::{MAX_ENDOWMENTS, MAX_NAME, is_name};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, ItemFn, LitStr, Pat, PatType, Result, Signature, Type};

use crate::errors::Errors;

/// A program: its `main` function and what that is to be given.
pub(crate) struct Program {
    /// The function as it was written, without the attributes that are ours.
    pub(crate) function: ItemFn,
    pub(crate) endowments: Vec<Endowment>,
}

/// One parameter.
pub(crate) struct Endowment {
    pub(crate) name: LitStr,
    pub(crate) kind: Type,
}

impl Program {
    /// Reads a function with the attribute, and everything that is wrong with it.
    pub(crate) fn parse(arguments: TokenStream, item: TokenStream) -> Result<Program> {
        let mut function: ItemFn = syn::parse2(item)
            .map_err(|error| Error::new(error.span(), "`#[refcap_guest::main]` belongs on a function"))?;
        let mut errors = Errors::default();
        if !arguments.is_empty() {
            errors.add(&arguments, "`#[refcap_guest::main]` takes no arguments");
        }
        check_signature(&function.sig, &mut errors);
        let mut endowments: Vec<Endowment> = Vec::new();
        for argument in &mut function.sig.inputs {
            match argument {
                FnArg::Receiver(receiver) => {
                    errors.add(receiver, "`main` is a function of its own, not a method");
                }
                FnArg::Typed(parameter) => match Endowment::parse(parameter) {
                    Ok(endowment) => endowments.push(endowment),
                    Err(error) => errors.push(error),
                },
            }
        }
        for (index, endowment) in endowments.iter().enumerate() {
            let name = endowment.name.value();
            if endowments[..index].iter().any(|other| other.name.value() == name) {
                errors.add(
                    &endowment.name,
                    format!("there are two endowments with the name `{name}`"),
                );
            }
        }
        if endowments.len() > MAX_ENDOWMENTS {
            let message = format!("a program has {MAX_ENDOWMENTS} endowments at most");
            errors.add(&function.sig.inputs, message);
        }
        errors.finish(Program { function, endowments })
    }
}

impl Endowment {
    fn parse(parameter: &mut PatType) -> Result<Endowment> {
        let renamed = take_name(&mut parameter.attrs)?;
        let Pat::Ident(pattern) = &*parameter.pat else {
            return Err(Error::new(
                parameter.pat.span(),
                "an endowment needs a plain name here",
            ));
        };
        if pattern.by_ref.is_some() || pattern.subpat.is_some() {
            return Err(Error::new(pattern.span(), "an endowment needs a plain name here"));
        }
        match &*parameter.ty {
            Type::Reference(reference) => {
                return Err(Error::new(
                    reference.span(),
                    "`main` is given its capabilities, not references to them: remove the `&`",
                ));
            }
            Type::ImplTrait(kind) => {
                return Err(Error::new(
                    kind.span(),
                    "say which kind of capability this is, such as `Net`",
                ));
            }
            _ => {}
        }
        let name =
            renamed.unwrap_or_else(|| LitStr::new(&pattern.ident.unraw().to_string(), pattern.ident.span()));
        if !is_name(&name.value()) {
            let message =
                format!("an endowment's name has 1 to {MAX_NAME} ASCII letters, digits, `_` or `-`");
            return Err(Error::new(name.span(), message));
        }
        Ok(Endowment {
            name,
            kind: (*parameter.ty).clone(),
        })
    }
}

/// Takes `#[endowment(name = "...")]` from a parameter. Lint attributes stay; there is no use for others.
fn take_name(attributes: &mut Vec<Attribute>) -> Result<Option<LitStr>> {
    let mut name = None;
    for attribute in attributes.iter() {
        let path = attribute.path();
        if path.is_ident("endowment") {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("name") {
                    return Err(meta.error("the only setting of an endowment is `name = \"...\"`"));
                }
                if name.is_some() {
                    return Err(meta.error("an endowment has one name"));
                }
                name = Some(meta.value()?.parse::<LitStr>()?);
                Ok(())
            })?;
        } else if !["allow", "expect", "warn", "deny", "forbid"]
            .iter()
            .any(|lint| path.is_ident(lint))
        {
            let message = "the only attribute of an endowment is `#[endowment(name = \"...\")]`";
            return Err(Error::new(attribute.span(), message));
        }
    }
    attributes.retain(|attribute| !attribute.path().is_ident("endowment"));
    Ok(name)
}

fn check_signature(signature: &Signature, errors: &mut Errors) {
    if signature.ident != "main" {
        errors.add(
            &signature.ident,
            "the function with `#[refcap_guest::main]` is called `main`",
        );
    }
    if let Some(token) = &signature.asyncness {
        errors.add(
            token,
            "`main` can't be async: the SDK waits in its calls, and the host suspends the program",
        );
    }
    if let Some(token) = &signature.constness {
        errors.add(token, "`main` can't be const");
    }
    if let Some(token) = &signature.unsafety {
        errors.add(token, "`main` can't be unsafe");
    }
    if let Some(token) = &signature.abi {
        errors.add(
            token,
            "`main` is an ordinary Rust function; the entry that the host calls is written for it",
        );
    }
    if !signature.generics.params.is_empty() {
        errors.add(
            &signature.generics,
            "`main` can't be generic: the host gives it capabilities of fixed kinds",
        );
    }
    if let Some(token) = &signature.generics.where_clause {
        errors.add(token, "`main` can't have a where clause");
    }
    if let Some(token) = &signature.variadic {
        errors.add(token, "`main` can't be variadic");
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn endowments(item: TokenStream) -> Vec<String> {
        let program = Program::parse(TokenStream::new(), item).unwrap();
        program
            .endowments
            .iter()
            .map(|endowment| endowment.name.value())
            .collect()
    }

    #[test]
    fn parameters_are_endowments() {
        assert!(
            endowments(quote!(
                fn main() {}
            ))
            .is_empty()
        );
        let item = quote! {
            fn main(net: Net, #[endowment(name = "up-stream")] mut up: Option<TcpStream>, r#type: Net) {}
        };
        assert_eq!(endowments(item), ["net", "up-stream", "type"]);
    }

    #[test]
    fn our_attribute_is_taken_and_lints_stay() {
        let item = quote!(
            fn main(
                #[endowment(name = "a")]
                #[expect(unused)]
                net: Net,
            ) {
            }
        );
        let program = Program::parse(TokenStream::new(), item).unwrap();
        let FnArg::Typed(parameter) = &program.function.sig.inputs[0] else {
            panic!("no parameter");
        };
        assert_eq!(parameter.attrs.len(), 1);
    }

    #[test]
    fn each_mistake_has_its_message() {
        for (item, message) in [
            (
                quote!(
                    struct Main;
                ),
                "belongs on a function",
            ),
            (
                quote!(
                    fn start() {}
                ),
                "is called `main`",
            ),
            (
                quote!(
                    async fn main() {}
                ),
                "can't be async",
            ),
            (
                quote!(
                    const fn main() {}
                ),
                "can't be const",
            ),
            (
                quote!(
                    unsafe fn main() {}
                ),
                "can't be unsafe",
            ),
            (
                quote!(
                    extern "C" fn main() {}
                ),
                "ordinary Rust function",
            ),
            (
                quote!(
                    fn main<T>(net: T) {}
                ),
                "can't be generic",
            ),
            (
                quote!(
                    fn main()
                    where
                        u8: Copy,
                    {
                    }
                ),
                "where clause",
            ),
            (
                quote!(
                    fn main(&self) {}
                ),
                "not a method",
            ),
            (
                quote!(
                    fn main(net: &Net) {}
                ),
                "remove the `&`",
            ),
            (
                quote!(
                    fn main(net: impl Capability) {}
                ),
                "which kind",
            ),
            (
                quote!(
                    fn main(_: Net) {}
                ),
                "plain name",
            ),
            (
                quote!(
                    fn main((a, b): (Net, Net)) {}
                ),
                "plain name",
            ),
            (
                quote!(
                    fn main(ref net: Net) {}
                ),
                "plain name",
            ),
            (
                quote!(
                    fn main(#[grant] net: Net) {}
                ),
                "the only attribute",
            ),
            (
                quote!(
                    fn main(#[cfg(test)] net: Net) {}
                ),
                "the only attribute",
            ),
            (
                quote!(
                    fn main(#[endowment(kind = "Net")] net: Net) {}
                ),
                "the only setting",
            ),
            (
                quote!(
                    fn main(#[endowment(name = "a", name = "b")] net: Net) {}
                ),
                "one name",
            ),
            (
                quote!(
                    fn main(#[endowment(name = "a b")] net: Net) {}
                ),
                "ASCII letters",
            ),
            (
                quote!(
                    fn main(nét: Net) {}
                ),
                "ASCII letters",
            ),
            (
                quote!(
                    fn main(#[endowment(name = "b")] a: Net, b: Net) {}
                ),
                "two endowments",
            ),
        ] {
            let error = Program::parse(TokenStream::new(), item).err().unwrap();
            assert!(
                error.to_string().contains(message),
                "{error} is not about {message:?}"
            );
        }
        let error = Program::parse(
            quote!(flavor = "x"),
            quote!(
                fn main() {}
            ),
        )
        .err()
        .unwrap();
        assert!(error.to_string().contains("takes no arguments"));
    }

    #[test]
    fn all_mistakes_are_shown_at_once() {
        let item = quote!(
            async fn start(net: &Net) {}
        );
        let error = Program::parse(TokenStream::new(), item).err().unwrap();
        assert_eq!(error.into_iter().count(), 3);
    }
}
