//! What a vat's store carries, and what host functions work on.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use refcap_abi::{ErrorCode, Import};
use refcap_authority::{Authority, Query};
use tokio::sync::oneshot;
use wasmtime::{Instance, Memory};
use wasmtime_wasi::p1::WasiP1Ctx;

use super::StartError;
use super::kin::Kin;
use super::stdio::World;
use super::turn::Turn;
use crate::audit;
use crate::budget::{Account, Short};
use crate::capability::Key;
use crate::capability::NotEnclosed;
use crate::capability::entry::Entry;
use crate::capability::hand_over::NotHandedOver;
use crate::capability::lineage::Bounds;
use crate::capability::mailbox::{GuardPermit, Mailbox, SocketPermit};
use crate::capability::membrane::MAX_MEMBRANES;
use crate::capability::table::{CapTable, NoBirth};
use crate::limits::{Limits, Meter};
use crate::net::Permit;
use crate::object::{Frames, Line, Message, Reply, Spare};
use crate::references::Cells;
use crate::resolver::{Resolver, SystemResolver};

/// The state of one vat.
pub(crate) struct VatState {
    pub(crate) table: CapTable,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) kin: Kin,
    /// What is known of the references that are in use.
    pub(crate) cells: Cells,
    pub(crate) limits: Limits,
    pub(crate) meter: Meter,
    /// The vat's instances: the program that is run, and those that are linked to it.
    pub(crate) instances: Vec<InstanceState>,
    /// When the vat was started.
    pub(crate) started: Instant,
    /// Room for a datagram that nobody has checked yet; empty until the first.
    pub(crate) datagram: Vec<u8>,
    /// Made when a name is looked up first, unless the embedder gave one.
    resolver: OnceLock<Arc<dyn Resolver>>,
    turn: Turn,
    /// The calls of objects that are being answered, the innermost last, and whom those of other vats are for.
    pub(crate) frames: Frames,
    pub(crate) answers: Vec<oneshot::Sender<Reply>>,
    /// Room for messages.
    pub(crate) spare: Spare,
    /// Whether a program runs here, and the audit log was told.
    is_announced: bool,
}

/// What each instance of a vat has of its own.
pub(crate) struct InstanceState {
    /// Under which name it is linked; empty for the program that is run.
    pub(crate) name: Arc<str>,
    /// Itself, once it is instantiated.
    pub(crate) instance: Option<Instance>,
    /// Its memory. A cached handle costs 9 ns, a look-up by name 62.
    pub(crate) memory: Option<Memory>,
    /// What it sees of the world.
    pub(crate) wasi: WasiP1Ctx,
    /// The message that it left.
    pub(crate) report: Option<Box<str>>,
    /// The names of the programs that it is linked to, in the order of their numbers.
    pub(crate) links: Box<[Arc<str>]>,
    /// What came to it last: a call that it answers, or the answer to one that it made.
    pub(crate) received: Message,
    /// What it is about to send.
    pub(crate) outgoing: Message,
    /// A call to another vat that is about to be sent.
    pub(crate) calling: Option<(Arc<Line>, Message)>,
    /// In a box, for most vats have none; it is used again.
    last_error: Option<Box<LastError>>,
}

impl InstanceState {
    pub(crate) fn new(name: &str, wasi: WasiP1Ctx) -> Self {
        InstanceState {
            name: name.into(),
            instance: None,
            memory: None,
            wasi,
            report: None,
            links: Box::default(),
            received: Message::default(),
            outgoing: Message::default(),
            calling: None,
            last_error: None,
        }
    }
}

/// Why the last call that failed failed.
struct LastError {
    refusal: Refusal,
    /// The label of the capability that was used, where it has one of its own.
    label: Option<Arc<str>>,
}

impl VatState {
    pub(super) fn new(
        limits: Limits,
        world: World,
        resolver: Option<Arc<dyn Resolver>>,
        mut kin: Kin,
    ) -> Self {
        let mailbox = kin.mailbox.clone();
        kin.leave(&world, resolver.as_ref());
        let bounds = Bounds {
            depth: limits.depth,
            fan_out: limits.fan_out,
        };
        VatState {
            table: CapTable::new(mailbox.clone(), bounds, limits.capabilities),
            cells: Cells::new(mailbox.clone()),
            mailbox,
            kin,
            meter: Meter::new(&limits),
            limits,
            instances: vec![InstanceState::new("", world.build())],
            started: Instant::now(),
            datagram: Vec::new(),
            resolver: resolver.map(OnceLock::from).unwrap_or_default(),
            turn: Turn::default(),
            frames: Frames::default(),
            answers: Vec::new(),
            spare: Spare::default(),
            is_announced: false,
        }
    }

    /// A state with nothing in it, for a store in which no guest runs.
    pub(crate) fn blank(limits: Limits) -> Self {
        VatState::new(limits, World::default(), None, Kin::default())
    }

    /// Makes room for one more instance.
    pub(crate) fn add_instance(&mut self, instance: InstanceState) {
        self.instances.push(instance);
        self.meter.allow_instances(self.instances.len());
    }

    /// One of the vat's instances. The program that is run is number 0, and always there.
    #[inline]
    pub(crate) fn instance(&self, number: usize) -> &InstanceState {
        &self.instances[number]
    }

    #[inline]
    pub(crate) fn instance_mut(&mut self, number: usize) -> &mut InstanceState {
        &mut self.instances[number]
    }

    /// Tells the audit log which program this is, and at the end that it has ended.
    pub(crate) fn announce(&mut self, program: Option<&str>) {
        audit::start(self.mailbox.vat(), program);
        self.is_announced = true;
    }

    pub(crate) fn has_letters(&self) -> bool {
        self.mailbox.has_letters()
    }

    pub(crate) fn read_letters(&mut self) {
        self.table.read_letters();
    }

    /// Takes one of the vat's sockets, and one of the capability's budget.
    pub(crate) fn socket_permit(&self, account: Option<&Arc<Account>>) -> Result<Permit, Refusal> {
        let vat =
            SocketPermit::take(&self.mailbox, self.limits.sockets).ok_or_else(|| self.socket_limit())?;
        let share = account.map(|account| account.take_socket()).transpose()?;
        Ok(Permit::new(vat, share, account.cloned()))
    }

    /// Takes one of the vat's guards.
    pub(crate) fn guard_permit(&self) -> Result<GuardPermit, Refusal> {
        GuardPermit::take(&self.mailbox, self.limits.guards)
            .ok_or_else(|| Refusal::limit(format_args!("{} guards", self.limits.guards)))
    }

    fn socket_limit(&self) -> Refusal {
        let most = self.limits.sockets;
        match self.mailbox.lent().sockets() {
            0 => Refusal::limit(format_args!("{most} open sockets")),
            lent => Refusal::limit(format_args!(
                "{most} open sockets, of which its children have {lent},"
            )),
        }
    }

    /// Who looks names up for this vat. A resolver of its own has a cache of its own, so that no vat learns
    /// from the time that an answer takes what another one has asked.
    pub(crate) fn resolver(&self) -> Arc<dyn Resolver> {
        self.resolver
            .get_or_init(|| Arc::new(SystemResolver::new()))
            .clone()
    }

    /// Counts a read or write. `WouldBlock` when the guest's turn is over.
    pub(crate) fn take_turn(&mut self) -> Result<(), ErrorCode> {
        match self.turn.take() {
            true => Ok(()),
            false => Err(ErrorCode::WouldBlock),
        }
    }

    /// The guest waits, which counts too: what it waits for may be there already. Returns whether its turn
    /// is over, and then a new one begins.
    pub(crate) fn end_turn(&mut self) -> bool {
        self.turn.wait()
    }

    /// Keeps why a call failed, for `error_message`, and tells the audit log.
    pub(crate) fn remember(
        &mut self,
        instance: usize,
        import: &Import,
        key: Option<Key<Entry>>,
        refusal: Refusal,
    ) {
        if refusal.code == ErrorCode::WouldBlock {
            return;
        }
        let label = key.and_then(|key| self.table.label(key)).cloned();
        if is_refusal(refusal.code) && audit::is_watched() {
            let (id, label, why) = (key.map(Key::id), label.as_deref(), refusal.to_string());
            let _span = match instance {
                0 => None,
                _ => Some(audit::instance(&self.instance(instance).name).entered()),
            };
            audit::refuse(id, label, self.mailbox.vat(), import.name, refusal.code, &why);
        }
        // Those that nobody labelled go by the name of their grant, which the guest knows.
        let label = label.filter(|label| label.contains('/'));
        let error = LastError { refusal, label };
        match &mut self.instance_mut(instance).last_error {
            Some(last) => **last = error,
            none => *none = Some(Box::new(error)),
        }
    }

    /// Why the last failed call of an instance failed; empty if none has.
    pub(crate) fn last_error_message(&self, instance: usize) -> String {
        match self.instance(instance).last_error.as_deref() {
            None => String::new(),
            Some(LastError { refusal, label: None }) => refusal.to_string(),
            Some(LastError {
                refusal,
                label: Some(label),
            }) => format!("{refusal} (capability `{label}`)"),
        }
    }
}

impl Drop for VatState {
    fn drop(&mut self) {
        // Before its table, which gives up what the program still holds.
        if self.is_announced {
            audit::end(self.mailbox.vat());
        }
    }
}

/// Whether an error is the host's own no, rather than news from the network.
fn is_refusal(code: ErrorCode) -> bool {
    use ErrorCode::*;
    match code {
        Denied | Revoked | Closed | NullReference | ForeignReference | WrongKind | BadPointer
        | BadArgument | NotSubset | LimitReached | TooComplex | NotFound | Exhausted | Expired
        | NotDerivable | NotTransferable | NotStarted => true,
        TimedOut | WouldBlock | ConnectionRefused | ConnectionReset | NotConnected | AddressInUse
        | AddressNotAvailable | Unreachable | Io | NameNotResolved | MessageTooLong | CalleeFailed => false,
        _ => true,
    }
}

/// Why a host call gives the guest an error.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    code: ErrorCode,
    why: Why,
}

#[derive(Debug, Clone)]
enum Why {
    /// What the code says.
    Plain,
    Text(String),
    /// The authority and what it does not allow. Explained only if somebody asks: the nearest rule is
    /// looked for among all of them.
    Denied(Authority, Query),
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, why: impl fmt::Display) -> Self {
        Refusal {
            code,
            why: Why::Text(why.to_string()),
        }
    }

    /// A limit was reached; `what` says how much of what.
    pub(crate) fn limit(what: impl fmt::Display) -> Self {
        Refusal::new(
            ErrorCode::LimitReached,
            format_args!("the limit of {what} is reached"),
        )
    }

    pub(crate) fn denied(authority: Authority, query: Query) -> Self {
        Refusal {
            code: ErrorCode::Denied,
            why: Why::Denied(authority, query),
        }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Refusal {
            code,
            why: Why::Plain,
        }
    }
}

impl From<Short> for Refusal {
    fn from(short: Short) -> Self {
        match short {
            Short::Exhausted(spent) => Refusal::new(ErrorCode::Exhausted, spent),
            Short::Until(_) => ErrorCode::WouldBlock.into(),
        }
    }
}

impl From<NoBirth> for Refusal {
    fn from(no_birth: NoBirth) -> Self {
        match no_birth {
            NoBirth::Revoked | NoBirth::Stale => ErrorCode::Revoked.into(),
            NoBirth::Capabilities(limit) => Refusal::limit(format_args!("{limit} live capabilities")),
            NoBirth::Depth(limit) => Refusal::limit(format_args!("{limit} derivations in a row")),
            NoBirth::NotTransferable => ErrorCode::NotTransferable.into(),
            NoBirth::FanOut(limit) => Refusal::limit(format_args!("{limit} capabilities derived from one")),
        }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        Refusal::new(ErrorCode::NotStarted, error)
    }
}

impl From<NotEnclosed> for Refusal {
    fn from(kept: NotEnclosed) -> Self {
        match kept {
            NotEnclosed::Revoked => ErrorCode::Revoked.into(),
            NotEnclosed::TooMany => {
                Refusal::limit(format_args!("{MAX_MEMBRANES} membranes around one object"))
            }
        }
    }
}

impl From<NotHandedOver> for Refusal {
    fn from(kept: NotHandedOver) -> Self {
        match kept {
            NotHandedOver::Code(code) => code.into(),
            NotHandedOver::Barren(barren) => barren.into(),
            NotHandedOver::Never(kind) => Refusal::new(
                ErrorCode::NotTransferable,
                format_args!("a {kind} stays in its program"),
            ),
            NotHandedOver::InPoller => Refusal::new(
                ErrorCode::NotTransferable,
                "the socket is in a poller; take it out before it is handed on",
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Plain => write!(f, "{}", self.code),
            Why::Text(why) => f.write_str(why),
            Why::Denied(authority, query) => write!(f, "{}", authority.explain(query)),
        }
    }
}

impl fmt::Debug for VatState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VatState")
            .field("vat", &self.mailbox.vat())
            .field("capabilities", &self.table.len())
            .finish_non_exhaustive()
    }
}
