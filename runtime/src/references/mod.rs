//! The boundary that references cross, and nothing else does.
//!
//! Every host function is registered here, from the one table in `refcap_abi`. A call comes in as raw
//! values; its references become [`Key`]s **before anything else happens**, and the function's body sees
//! only those. New capabilities go out the other way, as the last thing that a call does. A body
//! therefore can't hold an `externref` across something that collects (which would make it name another
//! object), and how a reference becomes a key can change without any body changing: that is the trait
//! [`Passage`].
//!
//! [`raw`] has the runtime's only `unsafe`; what may suspend the guest is registered in [`suspending`], without.

mod cells;
mod check;
mod compared;
#[cfg(test)]
mod directed;
mod fast;
mod ordinary;
mod raw;
#[cfg(test)]
mod stress;
mod suspending;

use refcap_abi::{ErrorCode, Import};
use wasmtime::{AsContextMut, Caller, Engine, ExternRef, GcHeapOutOfMemory, Linker, Rooted};

use crate::audit;
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::vat::VatState;

pub(crate) use cells::Cells;
pub(crate) use compared::Compared;
pub(crate) use fast::Fast;
pub(crate) use ordinary::Ordinary;

/// The most references that one import takes or returns.
const MAX_REFS: usize = 2;
/// The most numbers that one import takes.
const MAX_INTS: usize = 5;
/// The most numbers that one returns beside its status.
const MAX_EXTRA: usize = 4;

/// Where host functions are registered: the module that they are imported from, and the instance that imports
/// them. So it is the host, and never the guest, that says who calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) module: &'static str,
    /// Which of the vat's instances, from 0, which is the program that is run.
    pub(crate) instance: u8,
}

impl Site {
    /// Whether the events of a call are marked with whose they are: it is a linked program's, and somebody may listen.
    fn is_marked(self) -> bool {
        self.instance != 0 && audit::may_be_heard()
    }
}

/// Which way references take across the boundary. What a guest can do is the same with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum References {
    /// By a cache that every collection invalidates: about what an integer descriptor costs. The runtime checks
    /// when it starts that the engine behaves as this needs, and takes the ordinary way if not.
    #[default]
    Fast,
    /// By wasmtime's own interface at every call: about five times as much.
    Ordinary,
    /// Both ways at every call; a guest for which they disagree is stopped with an error. For tests, and for
    /// those who would rather pay than trust.
    Compared,
}

impl References {
    /// The way that was asked for, or the ordinary one where the engine does not do what the others rely on.
    pub(crate) fn that_work(self, engine: &Engine) -> References {
        let works = match self {
            References::Fast => check::works::<Fast>(engine),
            References::Compared => check::works::<Compared>(engine),
            References::Ordinary => true,
        };
        if works { self } else { References::Ordinary }
    }
}

/// A store, or what stands for one, whose references cross.
pub(crate) trait Heap: AsContextMut<Data = VatState> {
    /// Bytes of the heap of references now, where that can be asked.
    fn capacity(&self) -> Option<usize>;
}

/// How references become keys, and keys references.
pub(crate) trait Passage: 'static {
    /// The key that an argument is known to name, where that takes no more than a look and there are no letters to read
    /// first.
    #[inline(always)]
    fn known(_: &VatState, _raw: u32) -> Option<Key<Entry>> {
        None
    }

    /// The key that an argument names. With `consume`, the reference names nothing from now on.
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>>;

    /// Makes the reference for a key. May collect.
    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError>;

    /// What wasm gets to hold. Valid only until the next collection, so it is the last step of a call.
    fn expose<H: Heap>(
        store: &mut H,
        reference: &Rooted<ExternRef>,
        key: Key<Entry>,
    ) -> wasmtime::Result<u32>;
}

/// Makes the reference for a key, outside of a call.
pub(crate) fn mint<H: Heap>(
    way: References,
    store: &mut H,
    key: Key<Entry>,
) -> Result<Rooted<ExternRef>, MintError> {
    match way {
        References::Fast => Fast::mint(store, key),
        References::Ordinary => Ordinary::mint(store, key),
        References::Compared => Compared::mint(store, key),
    }
}

/// Why a reference could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// There is no memory for it within the vat's limits. The store goes on.
    #[error("no memory for references is left")]
    Full,
    /// The engine failed, and the store must go.
    #[error(transparent)]
    Engine(wasmtime::Error),
}

impl From<wasmtime::Error> for MintError {
    fn from(error: wasmtime::Error) -> Self {
        // Its parameter is the type of the object that found no room.
        let is_full = error.is::<GcHeapOutOfMemory<ordinary::Handle>>()
            || error.is::<GcHeapOutOfMemory<fast::Sentinel>>()
            || error.is::<GcHeapOutOfMemory<()>>();
        match is_full {
            true => MintError::Full,
            false => MintError::Engine(error),
        }
    }
}

/// What a body gives back.
pub(crate) enum Outcome {
    /// Success, and a number that is not negative.
    Done(i32),
    /// One new capability.
    One(Key<Entry>),
    /// Two new capabilities.
    Two(Key<Entry>, Key<Entry>),
}

/// Why a body gives nothing back.
pub(crate) enum Failure {
    /// The guest gets an error.
    Refused(crate::vat::Refusal),
    /// The engine can't go on: the guest is stopped, and its store thrown away.
    Trap(wasmtime::Error),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Failure::Refused(code.into())
    }
}

impl From<crate::vat::Refusal> for Failure {
    fn from(refusal: crate::vat::Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

pub(crate) type Reply = Result<Outcome, Failure>;

/// A host function's body. [`now`], [`later`] and those that are named below make them.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// It answers at once: with a number, or with [`MORE`] and a reply that is left in the call.
    Now(fn(&mut Call<'_>) -> i32),
    /// It answers at once, and is compiled into what is registered. [`peek`] and [`inlined`] make them.
    Inlined(Registers),
    /// It may suspend the guest.
    Later(suspending::Later),
}

/// Registers one host function.
pub(crate) type Registers =
    fn(&mut Linker<VatState>, Site, &'static Import, wasmtime::FuncType) -> wasmtime::Result<()>;

/// There is more to say than a number. No number is that low: those below zero are errors' and few.
const MORE: i32 = i32::MIN;

/// A [`Body`] that answers at once. As a macro, so that the function is compiled into it: its reply is then a
/// number in a register, and not a value of a hundred bytes.
macro_rules! now {
    ($function:path) => {
        $crate::references::Body::Now(|call| {
            let reply = $function(call);
            call.reply(reply)
        })
    };
}

/// A [`Body`] that takes one reference and asks the vat's state about it, for a [`Passage`]. The question, of the type
/// `fn(&VatState, Key<Entry>) -> Result<i32, ErrorCode>`, is compiled into what is registered.
macro_rules! peek {
    ($passage:ty, $question:path) => {
        $crate::references::Body::Inlined(|linker, site, import, ty| {
            $crate::references::define_peek::<$passage, _>(linker, site, import, ty, $question)
        })
    };
}

/// A [`Body`] like those of [`now`], compiled into what is registered, for the few whose price counts most: it saves
/// the way through a pointer, and what is kept in memory for it. Takes the numbers of the import's references and
/// numbers, for a [`Passage`].
macro_rules! inlined {
    ($passage:ty, $refs:literal, $ints:literal, $function:path) => {
        $crate::references::Body::Inlined(|linker, site, import, ty| {
            $crate::references::define_of_shape::<$passage, _, $refs, $ints, false>(
                linker,
                site,
                import,
                ty,
                |call| {
                    let reply = $function(call);
                    call.reply(reply)
                },
            )
        })
    };
}

/// A [`Body`] that may suspend the guest.
macro_rules! later {
    ($function:path) => {
        $crate::references::Body::Later(|call| Box::pin($function(call)))
    };
}

pub(crate) use raw::{define_of_shape, define_peek};
pub(crate) use {inlined, later, now, peek};

/// One call of a host function, its references already resolved.
pub(crate) struct Call<'a> {
    import: &'static Import,
    instance: u8,
    caller: Caller<'a, VatState>,
    keys: [Option<Key<Entry>>; MAX_REFS],
    ints: [i32; MAX_INTS],
    /// What it returns beside its status.
    extra: [i32; MAX_EXTRA],
    /// What there is to say besides a number.
    more: More,
    /// The references that it returns, as wasm gets them.
    exposed: [u32; MAX_REFS],
}

/// A reply that is more than a number.
enum More {
    Nothing,
    One(Key<Entry>),
    Two(Key<Entry>, Key<Entry>),
    Failure(Failure),
}

impl<'a> Call<'a> {
    #[inline(always)]
    fn new(import: &'static Import, site: Site, caller: Caller<'a, VatState>) -> Self {
        Call {
            import,
            instance: site.instance,
            caller,
            keys: [None; MAX_REFS],
            ints: [0; MAX_INTS],
            extra: [0; MAX_EXTRA],
            more: More::Nothing,
            exposed: [0; MAX_REFS],
        }
    }

    /// Leaves a reply, or returns it where it is no more than a number. It is taken apart here, for a value that is moved as
    /// a whole soon after its parts were written waits for them to arrive in memory.
    #[inline(always)]
    pub(crate) fn reply(&mut self, reply: Reply) -> i32 {
        self.more = match reply {
            Ok(Outcome::Done(status)) => return status,
            Ok(Outcome::One(key)) => More::One(key),
            Ok(Outcome::Two(first, second)) => More::Two(first, second),
            Err(failure) => More::Failure(failure),
        };
        MORE
    }

    /// The key of reference argument `index`.
    #[inline]
    pub(crate) fn key(&self, index: usize) -> Result<Key<Entry>, ErrorCode> {
        match self.keys.get(index) {
            Some(&Some(key)) => Ok(key),
            _ => Err(ErrorCode::NullReference),
        }
    }

    /// Number argument `index`, counted without the references.
    pub(crate) fn int(&self, index: usize) -> i32 {
        self.ints.get(index).copied().unwrap_or_default()
    }

    /// Sets number `index` of those that are returned beside the status.
    pub(crate) fn set_extra(&mut self, index: usize, number: i32) {
        if let Some(place) = self.extra.get_mut(index) {
            *place = number;
        }
    }

    /// Which of the vat's instances calls.
    pub(crate) fn instance(&self) -> usize {
        usize::from(self.instance)
    }

    /// What events during a call by a linked program are marked with.
    fn span(&self) -> tracing::Span {
        audit::instance(&self.state().instance(self.instance()).name)
    }

    pub(crate) fn state(&self) -> &VatState {
        self.caller.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VatState {
        self.caller.data_mut()
    }

    pub(crate) fn caller(&mut self) -> &mut Caller<'a, VatState> {
        &mut self.caller
    }

    /// Runs the collector, so that capabilities that the guest can't reach any more are closed.
    pub(crate) fn collect(&mut self) -> Result<(), Failure> {
        self.caller.gc(None).map_err(Failure::Trap)?;
        self.state_mut().read_letters();
        Ok(())
    }
}

/// Registers a body for each of the host functions.
pub(crate) fn define_all<P: Passage>(
    linker: &mut Linker<VatState>,
    site: Site,
    imports: impl IntoIterator<Item = &'static Import>,
    body: impl Fn(&Import) -> Body,
) -> wasmtime::Result<()> {
    for import in imports {
        raw::define::<P>(linker, site, import, body(import))?;
    }
    Ok(())
}

/// Turns raw references into keys. They go first, before anything that could collect.
// Inlined with what calls it, here and below: values that are passed on through memory cost more than a look-up.
#[inline(always)]
fn enter<P: Passage, const REFS: usize, const CONSUMES: bool>(
    call: &mut Call<'_>,
    references: [u32; REFS],
) -> wasmtime::Result<Result<(), ErrorCode>> {
    let mut found = Ok(());
    let mut undisturbed = REFS > 0;
    for (place, raw) in references.into_iter().enumerate() {
        let known = match CONSUMES {
            false => P::known(call.state(), raw),
            true => None,
        };
        if known.is_some() {
            call.keys[place] = known;
            continue;
        }
        undisturbed = false;
        if let Err(code) = find_out::<P>(call, place, raw)? {
            found = Err(code);
        }
    }
    if !undisturbed && call.state().has_letters() {
        call.state_mut().read_letters();
    }
    Ok(found)
}

/// A reference of which nothing is known, or that is given up.
#[cold]
fn find_out<P: Passage>(
    call: &mut Call<'_>,
    place: usize,
    raw: u32,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    Ok(match P::resolve(&mut call.caller, raw, call.import.consumes)? {
        Ok(key) => {
            call.keys[place] = Some(key);
            Ok(())
        }
        Err(code) => Err(code),
    })
}

/// Does what a status that is [`MORE`] leaves to do, and returns the status that wasm gets. References are exposed last of
/// all.
fn leave<P: Passage>(call: &mut Call<'_>, status: i32) -> wasmtime::Result<i32> {
    if status != MORE {
        return Ok(status);
    }
    // Looked at where it is, for the sake of what is frequent: to move it would be to wait for it to arrive in memory.
    let handed_out = match call.more {
        More::Nothing => Ok(()),
        More::One(key) => hand_out_one::<P>(call, key),
        More::Two(first, second) => hand_out_two::<P>(call, [first, second]),
        More::Failure(_) => match std::mem::replace(&mut call.more, More::Nothing) {
            More::Failure(failure) => Err(failure),
            _ => Ok(()),
        },
    };
    match handed_out {
        Ok(()) => Ok(0),
        Err(Failure::Refused(refusal)) => Ok(refuse(call, refusal)),
        Err(Failure::Trap(error)) => Err(error),
    }
}

#[cold]
fn refuse(call: &mut Call<'_>, refusal: crate::vat::Refusal) -> i32 {
    let status = refusal.code().status();
    let key = call.keys.iter().flatten().next().copied();
    let instance = call.instance();
    call.caller
        .data_mut()
        .remember(instance, call.import, key, refusal);
    status
}

/// Makes the reference of a new capability.
fn hand_out_one<P: Passage>(call: &mut Call<'_>, key: Key<Entry>) -> Result<(), Failure> {
    match P::mint(&mut call.caller, key) {
        Ok(reference) => expose::<P>(call, 0, &reference, key),
        Err(error) => Err(not_made(call, error, &[key])),
    }
}

/// Makes the references of two. Both are made before the first is exposed, for making one may move the other.
fn hand_out_two<P: Passage>(call: &mut Call<'_>, keys: [Key<Entry>; MAX_REFS]) -> Result<(), Failure> {
    let mut made = [None; MAX_REFS];
    for (place, &key) in made.iter_mut().zip(&keys) {
        match P::mint(&mut call.caller, key) {
            Ok(reference) => *place = Some((reference, key)),
            Err(error) => return Err(not_made(call, error, &keys)),
        }
    }
    for (place, (reference, key)) in made.into_iter().flatten().enumerate() {
        expose::<P>(call, place, &reference, key)?;
    }
    Ok(())
}

#[inline(always)]
fn expose<P: Passage>(
    call: &mut Call<'_>,
    place: usize,
    reference: &Rooted<ExternRef>,
    key: Key<Entry>,
) -> Result<(), Failure> {
    call.exposed[place] = P::expose(&mut call.caller, reference, key).map_err(Failure::Trap)?;
    Ok(())
}

/// The reference of one of these could not be made, so all of them are given up.
#[cold]
fn not_made(call: &mut Call<'_>, error: MintError, keys: &[Key<Entry>]) -> Failure {
    match error {
        MintError::Full => {
            for &key in keys {
                call.state_mut().table.close(key);
            }
            Failure::Refused(crate::vat::Refusal::limit("memory for references"))
        }
        MintError::Engine(error) => Failure::Trap(error),
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Store;

    use super::ordinary::Handle;
    use super::*;
    use crate::ambient::ambient_authority;
    use crate::capability::Capability;
    use crate::limits::Limits;
    use crate::runtime::Runtime;

    fn store(runtime: &Runtime) -> Store<VatState> {
        Store::new(runtime.engine(), VatState::blank(Limits::default()))
    }

    fn resolve(
        store: &mut Store<VatState>,
        reference: Option<Rooted<ExternRef>>,
    ) -> Result<Key<Entry>, ErrorCode> {
        let raw = reference.map_or(0, |reference| reference.to_raw(&mut *store).unwrap());
        Ordinary::resolve(store, raw, false).unwrap()
    }

    // No guest can come by these; an embedder that mixes up its stores could.
    #[test]
    fn class_21_references_of_others_are_foreign() {
        let runtime = Runtime::new().unwrap();
        let (mut ours, mut theirs) = (store(&runtime), store(&runtime));
        let net = Capability::net("net", "".parse().unwrap(), ambient_authority());
        let their_key = theirs.data_mut().table.accept("net", &net).unwrap();

        assert_eq!(resolve(&mut ours, None), Err(ErrorCode::NullReference));
        let not_a_capability = ExternRef::new(&mut ours, 7_u32).unwrap();
        assert_eq!(
            resolve(&mut ours, Some(not_a_capability)),
            Err(ErrorCode::ForeignReference)
        );
        // A handle of another vat that has come into this store.
        let mailbox = theirs.data().mailbox.clone();
        let stolen = Handle::new(their_key, mailbox);
        let stolen = ExternRef::new(&mut ours, stolen).unwrap();
        assert_eq!(resolve(&mut ours, Some(stolen)), Err(ErrorCode::ForeignReference));

        let key = ours.data_mut().table.accept("net", &net).unwrap();
        let own = Ordinary::mint(&mut ours, key).unwrap();
        assert_eq!(resolve(&mut ours, Some(own)), Ok(key));
    }

    #[test]
    fn consuming_a_reference_marks_every_copy_closed() {
        let runtime = Runtime::new().unwrap();
        let mut store = store(&runtime);
        let net = Capability::net("net", "".parse().unwrap(), ambient_authority());
        let key = store.data_mut().table.accept("net", &net).unwrap();
        let reference = Ordinary::mint(&mut store, key).unwrap();
        let copy = reference;
        let raw = reference.to_raw(&mut store).unwrap();
        assert_eq!(Ordinary::resolve(&mut store, raw, true).unwrap(), Ok(key));
        assert_eq!(resolve(&mut store, Some(copy)), Err(ErrorCode::Closed));
    }
}
