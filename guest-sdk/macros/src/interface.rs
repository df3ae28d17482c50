//! Traits whose implementers are called from other programs.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, Ident, ItemTrait, Receiver, Result, ReturnType, Signature, TraitItem, TraitItemFn, Type,
};

use crate::errors::Errors;
use crate::link::is_result;

/// serde has tuples up to this length, and the arguments are one.
const MAX_PARAMETERS: usize = 16;

/// A trait, checked.
struct Interface {
    item: ItemTrait,
    methods: Vec<Method>,
}

struct Method {
    name: Ident,
    parameters: Vec<Type>,
    output: Type,
}

/// Writes the reference's type beside the trait.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let interface = Interface::parse(&arguments, item)?;
    let item = &interface.item;
    let reference = interface.reference();
    let implementation = interface.implementation();
    let dispatch = interface.dispatch();
    let passing = interface.passing();
    Ok(quote! {
        #item
        #reference
        #implementation
        #dispatch
        #passing
    })
}

impl Interface {
    fn name(&self) -> &Ident {
        &self.item.ident
    }

    /// The name of the reference's type.
    fn reference_name(&self) -> Ident {
        format_ident!("{}Ref", self.item.ident)
    }

    /// The reference's type, and what it can do beside the trait.
    fn reference(&self) -> TokenStream {
        let (name, reference, vis) = (self.name(), self.reference_name(), &self.item.vis);
        let about = format!(
            "A reference to something that implements [`{name}`], in this program or another.\n\n\
             It is a capability, and its methods are calls."
        );
        quote! {
            #[doc = #about]
            #[derive(Debug)]
            #vis struct #reference {
                object: ::refcap_guest::Object,
                timeout: ::core::option::Option<::core::time::Duration>,
            }

            #[allow(dead_code, reason = "not every program needs all of it")]
            impl #reference {
                /// Makes a reference that others can call the implementer by. It is kept for as long as anybody holds
                /// one, in whichever program.
                ///
                /// # Errors
                ///
                /// [`LimitReached`](::refcap_guest::ErrorCode::LimitReached) when this program has as many capabilities
                /// as it may have.
                #vis fn new(implementer: impl #name + 'static) -> ::refcap_guest::Result<Self> {
                    let object = ::refcap_guest::Object::new(move |method, message| {
                        Self::__dispatch(&implementer, method, message)
                    });
                    ::core::result::Result::Ok(Self::from(object?))
                }

                /// Derives a reference that is the same for who calls it, and the power to revoke it.
                #vis fn revocable(&self) -> ::refcap_guest::Result<(Self, ::refcap_guest::Revoker)> {
                    let (object, revoker) = self.object.revocable()?;
                    ::core::result::Result::Ok((Self { object, timeout: self.timeout }, revoker))
                }

                /// The same, whose calls fail with [`TimedOut`](::refcap_guest::ErrorCode::TimedOut) after the given
                /// time, and not after 30 s. Calls in the same vat are not interrupted. Whoever is sent the reference
                /// says anew how long it waits.
                #[must_use]
                #vis fn with_timeout(self, timeout: ::core::time::Duration) -> Self {
                    let timeout = ::core::option::Option::Some(timeout);
                    Self { timeout, ..self }
                }
            }

            impl ::core::convert::From<::refcap_guest::Object> for #reference {
                /// A reference to an object of which it is known, or hoped, that it implements the trait.
                fn from(object: ::refcap_guest::Object) -> Self {
                    Self { object, timeout: ::core::option::Option::None }
                }
            }

            impl ::core::convert::From<#reference> for ::refcap_guest::Object {
                fn from(reference: #reference) -> Self {
                    reference.object
                }
            }
        }
    }

    /// The trait, by calls.
    fn implementation(&self) -> TokenStream {
        let (name, reference) = (self.name(), self.reference_name());
        let methods = self.methods.iter().zip(0u32..).map(|(method, number)| {
            let Method {
                name,
                parameters,
                output,
            } = method;
            let whole_name = self.name_of(method);
            let names = names(parameters);
            // The output's own span, so that a type which can't be called for is what the error points to.
            let call = quote_spanned! { output.span() =>
                ::refcap_guest::__private::call(&self.object, METHOD, self.timeout, arguments)
            };
            quote! {
                fn #name(&self, #(#names: #parameters),*) -> #output {
                    const METHOD: ::refcap_guest::__private::Method =
                        ::refcap_guest::__private::Method { number: #number, name: #whole_name };
                    let arguments: (#(#parameters,)*) = (#(#names,)*);
                    #call
                }
            }
        });
        quote! {
            impl #name for #reference {
                #(#methods)*
            }
        }
    }

    /// Finds out which method is called.
    fn dispatch(&self) -> TokenStream {
        let (name, reference) = (self.name(), self.reference_name());
        let arms = self.methods.iter().zip(0u32..).map(|(method, number)| {
            let whole_name = self.name_of(method);
            let Method {
                name: function,
                parameters,
                ..
            } = method;
            let names = names(parameters);
            quote! {
                #number => ::refcap_guest::__private::answer(
                    #whole_name,
                    message,
                    |(#(#names,)*): (#(#parameters,)*)| #name::#function(implementer, #(#names),*),
                ),
            }
        });
        let (text, count) = (name.to_string(), self.methods.len() as u32);
        quote! {
            impl #reference {
                #[allow(deprecated, unused_variables, reason = "written for all methods, or for none")]
                fn __dispatch(
                    implementer: &impl #name,
                    method: u32,
                    message: ::refcap_guest::Message,
                ) -> ::refcap_guest::Result<(u32, ::refcap_guest::Message)> {
                    match method {
                        #(#arms)*
                        other => ::refcap_guest::__private::unknown(#text, other, #count),
                    }
                }
            }
        }
    }

    /// Lets the reference be a capability, and an argument or a result.
    fn passing(&self) -> TokenStream {
        let reference = self.reference_name();
        quote! {
            impl ::refcap_guest::__private::Proxy for #reference {
                fn from_object(object: ::refcap_guest::Object) -> Self {
                    Self::from(object)
                }

                fn object(&self) -> &::refcap_guest::Object {
                    &self.object
                }

                fn into_object(self) -> ::refcap_guest::Object {
                    self.object
                }
            }

            impl ::refcap_guest::__private::serde::Serialize for #reference {
                fn serialize<S: ::refcap_guest::__private::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    ::refcap_guest::__private::send(self, serializer)
                }
            }

            impl<'a> ::refcap_guest::__private::serde::Deserialize<'a> for #reference {
                fn deserialize<D: ::refcap_guest::__private::serde::Deserializer<'a>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    ::refcap_guest::__private::receive(deserializer)
                }
            }
        }
    }

    fn name_of(&self, method: &Method) -> String {
        format!("{}::{}", self.name(), method.name)
    }
}

/// Names for the arguments, whatever patterns the trait has.
fn names(parameters: &[Type]) -> Vec<Ident> {
    (0..parameters.len())
        .map(|index| format_ident!("argument{index}"))
        .collect()
}

impl Interface {
    /// Reads a trait, and everything that is wrong with it.
    fn parse(arguments: &TokenStream, item: TokenStream) -> Result<Interface> {
        let item: ItemTrait = syn::parse2(item)
            .map_err(|error| Error::new(error.span(), "`#[refcap_guest::interface]` belongs on a trait"))?;
        let mut errors = Errors::default();
        if !arguments.is_empty() {
            errors.add(arguments, "`#[refcap_guest::interface]` takes no arguments");
        }
        check_trait(&item, &mut errors);
        let mut methods = Vec::new();
        for item in &item.items {
            match item {
                TraitItem::Fn(function) => methods.extend(Method::parse(function, &mut errors)),
                TraitItem::Const(_) => {
                    errors.add(item, "an interface has no constants: what is called is a method");
                }
                TraitItem::Type(_) => {
                    errors.add(item, "an interface has no associated types: both sides know all");
                }
                _ => errors.add(item, "an interface has methods only"),
            }
        }
        errors.finish(Interface { item, methods })
    }
}

fn check_trait(item: &ItemTrait, errors: &mut Errors) {
    if let Some(token) = &item.unsafety {
        errors.add(
            token,
            "an interface can't be unsafe: its callers are other programs",
        );
    }
    if !item.generics.params.is_empty() {
        errors.add(
            &item.generics,
            "an interface can't be generic: another program knows its types only as they are written",
        );
    }
    if let Some(clause) = &item.generics.where_clause {
        errors.add(clause, "an interface can't have a where clause");
    }
    if !item.supertraits.is_empty() {
        errors.add(
            &item.supertraits,
            "an interface has no supertraits: what is to be called stands in it",
        );
    }
}

impl Method {
    /// `None` if it is wrong, which is then among the errors.
    fn parse(function: &TraitItemFn, errors: &mut Errors) -> Option<Method> {
        let mut mistakes = Errors::default();
        for attribute in &function.attrs {
            if ["cfg", "cfg_attr"]
                .iter()
                .any(|name| attribute.path().is_ident(name))
            {
                let message = "methods are known by their place, so none may be there only sometimes";
                mistakes.add(attribute, message);
            }
        }
        let sig = &function.sig;
        check_signature(sig, &mut mistakes);
        let output = match &sig.output {
            ReturnType::Type(_, output) if is_result(output) => {
                check_values(output, "a method gives values", &mut mistakes);
                Some((**output).clone())
            }
            ReturnType::Type(_, output) => {
                mistakes.add(output, RETURNS);
                None
            }
            ReturnType::Default => {
                mistakes.add(&sig.ident, RETURNS);
                None
            }
        };
        let mut parameters = Vec::new();
        let mut inputs = sig.inputs.iter().peekable();
        match inputs.next_if(|input| matches!(input, FnArg::Receiver(_))) {
            Some(FnArg::Receiver(receiver)) => check_receiver(receiver, &mut mistakes),
            _ => mistakes.add(
                &sig.ident,
                "a method takes `&self`: whoever is called implements it",
            ),
        }
        for input in inputs {
            if let FnArg::Typed(parameter) = input {
                check_values(&parameter.ty, "a method takes values", &mut mistakes);
                parameters.push((*parameter.ty).clone());
            }
        }
        if parameters.len() > MAX_PARAMETERS {
            let message = format!("a method has {MAX_PARAMETERS} parameters at most: make a struct of them");
            mistakes.add(&sig.inputs, message);
        }
        match mistakes.finish(()) {
            Ok(()) => Some(Method {
                name: sig.ident.clone(),
                parameters,
                output: output?,
            }),
            Err(error) => {
                errors.push(error);
                None
            }
        }
    }
}

const RETURNS: &str = "a call can fail: let the method return a `refcap_guest::Result`";

fn check_signature(sig: &Signature, errors: &mut Errors) {
    if let Some(token) = &sig.asyncness {
        errors.add(token, "a method can't be async: a call waits for its answer");
    }
    if let Some(token) = &sig.constness {
        errors.add(token, "a method can't be const");
    }
    if let Some(token) = &sig.unsafety {
        errors.add(token, "a method can't be unsafe: its callers are other programs");
    }
    if let Some(token) = &sig.abi {
        errors.add(
            token,
            "a method is an ordinary Rust function; how it is called is written for it",
        );
    }
    if let Some(token) = &sig.variadic {
        errors.add(token, "a method can't be variadic");
    }
    if !sig.generics.params.is_empty() {
        errors.add(
            &sig.generics,
            "a method can't be generic: another program calls it with types that both know",
        );
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.add(clause, "a method can't have a where clause");
    }
}

fn check_receiver(receiver: &Receiver, errors: &mut Errors) {
    let plain = matches!(&receiver.reference, Some((_, None)))
        && receiver.mutability.is_none()
        && receiver.colon_token.is_none();
    if !plain {
        let message = "a method takes `&self`: it may be called while it runs, so what it changes is in a `Cell` or \
                       `RefCell`";
        errors.add(receiver, message);
    }
}

/// Checks that a type is one of values: each program has its own memory.
fn check_values(ty: &Type, what: &str, errors: &mut Errors) {
    if let Type::ImplTrait(kind) = ty {
        errors.add(kind, format!("{what} of types that both sides know"));
        return;
    }
    if let Some(reference) = find_reference(ty.to_token_stream()) {
        let message = format!(
            "{what}, for each program has its own memory: `String` for `&str`, `Vec<u8>` for `&[u8]`, `T` for `&T`"
        );
        errors.push(Error::new(reference.span(), message));
    }
}

/// The first `&` in a type, or lifetime of one.
fn find_reference(tokens: TokenStream) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Punct(ref punct) if matches!(punct.as_char(), '&' | '\'') => Some(token),
        TokenTree::Group(group) => find_reference(group.stream()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(item: TokenStream) -> Result<Interface> {
        Interface::parse(&TokenStream::new(), item)
    }

    /// The message for a trait with this method alone, and the source that it points to.
    fn mistake(method: &str) -> (String, String) {
        let text = format!("trait Store {{ {method} }}");
        let error = parse(text.parse().unwrap()).err().expect(&text);
        let range = error.span().byte_range();
        (error.to_string(), text.get(range).unwrap_or_default().to_owned())
    }

    #[test]
    fn methods_are_numbered_in_their_order_and_patterns_do_not_matter() {
        let interface = parse(quote! {
            pub(crate) trait Store {
                /// Documented.
                #[must_use]
                fn put(&self, key: String, (a, b): (u8, u8)) -> Result<()>;
                fn get(&self, _: String) -> refcap_guest::Result<Option<Vec<u8>>> { Ok(None) }
            }
        });
        let interface = interface.unwrap();
        let methods: Vec<_> = interface
            .methods
            .iter()
            .map(|method| method.name.to_string())
            .collect();
        assert_eq!(methods, ["put", "get"]);
        let code = interface.dispatch().to_string();
        assert!(
            code.contains(r#"0u32 => :: refcap_guest :: __private :: answer ("Store::put""#),
            "{code}"
        );
        assert!(
            code.contains(r#"1u32 => :: refcap_guest :: __private :: answer ("Store::get""#),
            "{code}"
        );
        // What is not written for it stays with the trait, where it was.
        let whole = expand(TokenStream::new(), interface.item.to_token_stream()).unwrap();
        assert_eq!(whole.to_string().matches("must_use").count(), 2, "{whole}");
        syn::parse2::<syn::File>(whole).unwrap();
    }

    #[test]
    fn each_mistake_in_a_method_has_its_message_and_its_place() {
        for (method, message, place) in [
            ("fn put(&mut self) -> Result<()>;", "takes `&self`", "&mut self"),
            ("fn put(self) -> Result<()>;", "takes `&self`", "self"),
            (
                "fn put(self: Rc<Self>) -> Result<()>;",
                "takes `&self`",
                "self: Rc<Self>",
            ),
            (
                "fn put(&'static self) -> Result<()>;",
                "takes `&self`",
                "&'static self",
            ),
            ("fn put() -> Result<()>;", "takes `&self`", "put"),
            ("fn put(key: String) -> Result<()>;", "takes `&self`", "put"),
            (
                "fn put(&self, key: &str) -> Result<()>;",
                "`String` for `&str`",
                "&",
            ),
            (
                "fn put(&self, value: &[u8]) -> Result<()>;",
                "`Vec<u8>` for `&[u8]`",
                "&",
            ),
            ("fn put(&self, net: &Net) -> Result<()>;", "`T` for `&T`", "&"),
            (
                "fn put(&self, all: Vec<(u8, &str)>) -> Result<()>;",
                "takes values",
                "&",
            ),
            (
                "fn put(&self, all: Cow<'static, str>) -> Result<()>;",
                "takes values",
                "'",
            ),
            (
                "fn put(&self, any: impl Into<String>) -> Result<()>;",
                "both sides know",
                "impl Into<String>",
            ),
            ("fn get(&self) -> Result<&str>;", "gives values", "&"),
            ("fn get(&self) -> Vec<u8>;", "a call can fail", "Vec<u8>"),
            ("fn get(&self) -> Result;", "a call can fail", "Result"),
            ("fn get(&self);", "a call can fail", "get"),
            ("fn get<T>(&self) -> Result<T>;", "can't be generic", "<T>"),
            ("fn get<'a>(&self) -> Result<()>;", "can't be generic", "<'a>"),
            (
                "fn get(&self) -> Result<()> where Self: Sized;",
                "where clause",
                "where Self: Sized",
            ),
            ("async fn get(&self) -> Result<()>;", "can't be async", "async"),
            ("const fn get(&self) -> Result<()>;", "can't be const", "const"),
            ("unsafe fn get(&self) -> Result<()>;", "can't be unsafe", "unsafe"),
            (
                "extern \"C\" fn get(&self) -> Result<()>;",
                "ordinary Rust function",
                "extern \"C\"",
            ),
            (
                "#[cfg(test)] fn get(&self) -> Result<()>;",
                "known by their place",
                "#[cfg(test)]",
            ),
            ("const MAX: usize;", "no constants", "const MAX: usize;"),
            ("type Value;", "no associated types", "type Value;"),
            ("values!();", "methods only", "values!();"),
        ] {
            let (said, points_to) = mistake(method);
            assert!(
                said.contains(message),
                "{method}: {said} is not about {message:?}"
            );
            assert_eq!(points_to, place, "{method}");
        }
        let parameters = vec!["a: u8"; MAX_PARAMETERS + 1].join(", ");
        let (said, _) = mistake(&format!("fn many(&self, {parameters}) -> Result<()>;"));
        assert!(said.contains("16 parameters at most"), "{said}");
    }

    #[test]
    fn each_mistake_in_a_trait_has_its_message() {
        for (item, message) in [
            ("struct Store;", "belongs on a trait"),
            ("unsafe trait Store {}", "can't be unsafe"),
            ("trait Store<T> {}", "can't be generic"),
            ("trait Store where Self: Sized {}", "where clause"),
            ("trait Store: Debug {}", "no supertraits"),
        ] {
            let error = parse(item.parse().unwrap()).err().expect(item);
            assert!(error.to_string().contains(message), "{item}: {error}");
        }
        let error = expand(
            quote!(name = "Shop"),
            quote!(
                trait Store {}
            ),
        )
        .unwrap_err();
        assert!(error.to_string().contains("takes no arguments"), "{error}");
    }

    #[test]
    fn all_mistakes_are_shown_at_once() {
        let item = quote! {
            trait Store: Debug {
                fn put(&mut self, key: &str);
                fn get(&self) -> u8;
            }
        };
        assert_eq!(parse(item).err().unwrap().into_iter().count(), 5);
    }
}
