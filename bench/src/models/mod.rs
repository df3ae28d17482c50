//! Who is compared: the same loops over the same work, with another handle each.
//!
//! | model | what a guest holds | file |
//! |---|---|---|
//! | `reference` | refcap's reference | [`reference`] |
//! | `ordinary` | the same, by wasmtime's own interface at every call | [`reference`] |
//! | `integer` | a number, the index of a slot in a vector | [`integer`] |
//! | `empty` | a number that nobody looks at | [`integer`] |
//! | `wasi-p1` | a descriptor of WASI preview 1 | [`wasi`] |
//! | `component` | a resource of the component model | [`component`] |

pub(crate) mod component;
pub(crate) mod guest;
pub(crate) mod integer;
pub(crate) mod reference;
pub(crate) mod wasi;

pub(crate) const REFERENCE: &str = "reference";
pub(crate) const ORDINARY: &str = "ordinary";
pub(crate) const INTEGER: &str = "integer";
pub(crate) const EMPTY: &str = "empty";
pub(crate) const WASI_P1: &str = "wasi-p1";
pub(crate) const COMPONENT: &str = "component";

/// Runs futures of guests: one thread, for all models.
pub(crate) fn executor() -> wasmtime::Result<std::rc::Rc<tokio::runtime::Runtime>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(std::rc::Rc::new(runtime))
}
