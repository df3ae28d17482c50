//! Whether the fast way does on this engine what it relies on.

use refcap_abi::ErrorCode;
use wasmtime::{AsContext, AsContextMut, Engine, ExternRef, RootScope, Rooted, Store};

use super::ordinary::Ordinary;
use super::{MintError, Passage};
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::limits::Limits;
use crate::vat::VatState;

/// References that are made in each round.
const REFERENCES: usize = 24;
/// Rounds, with a collection in each.
const ROUNDS: usize = 3;

/// Makes references, collects, and compares each with the ordinary way. An engine whose collections a sentinel
/// does not notice, or whose raw values mean something else, fails.
pub(super) fn works<P: Passage>(engine: &Engine) -> bool {
    let mut store = Store::new(engine, VatState::blank(Limits::default()));
    matches!(try_it::<P>(&mut store), Ok(true))
}

fn try_it<P: Passage>(store: &mut Store<VatState>) -> Result<bool, MintError> {
    let mut made: Vec<(Rooted<ExternRef>, Key<Entry>)> = Vec::new();
    let mut scope = RootScope::new(&mut *store);
    if P::resolve(&mut scope, 0, false)? != Err(ErrorCode::NullReference) {
        return Ok(false);
    }
    for _ in 0..ROUNDS {
        for _ in 0..REFERENCES {
            let key = Key::to_nothing();
            let reference = P::mint(&mut scope, key)?;
            P::expose(&mut scope, &reference, key)?;
            // Garbage between them, so that the next collection moves them.
            ExternRef::new(RootScope::new(&mut scope), ())?;
            made.push((reference, key));
        }
        if scope.as_context().data().cells.is_stale() || !agree::<P>(&mut scope, &made)? {
            return Ok(false);
        }
        scope.as_context_mut().gc(None)?;
        if !scope.as_context().data().cells.is_stale() || !agree::<P>(&mut scope, &made)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether every reference is resolved to its key, twice, which is once from a cell if there are any.
fn agree<P: Passage>(
    scope: &mut RootScope<&mut Store<VatState>>,
    made: &[(Rooted<ExternRef>, Key<Entry>)],
) -> Result<bool, MintError> {
    for &(reference, key) in made {
        let raw = reference.to_raw(&mut *scope)?;
        let first = P::resolve(scope, raw, false)?;
        let second = P::resolve(scope, raw, false)?;
        let ordinary = Ordinary::resolve(scope, raw, false)?;
        if [first, second, ordinary] != [Ok(key); 3] {
            return Ok(false);
        }
    }
    Ok(true)
}
