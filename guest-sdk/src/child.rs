//! Starting other programs.

use std::time::Duration;

use refcap_abi::ending::Ending;
use refcap_abi::{ErrorCode, LIMIT_CAPABILITIES, LIMIT_MEMORY, LIMIT_SOCKETS, LIMIT_TIME, NO_WAIT};

use crate::capability::{Capability, capability};
use crate::host::{self, Slot};
use crate::interface::Proxy;
use crate::net::milliseconds;
use crate::{Error, Guard, Membrane, Name, Net, Object, Result, Revoker, TcpListener, TcpStream, UdpSocket};

/// The power to start programs, each with capabilities that this program chooses from its own.
///
/// ```no_run
/// use refcap_guest::{Net, Result, Spawner};
///
/// #[refcap_guest::main]
/// fn main(spawner: Spawner, net: Net) -> Result<()> {
///     let (upstream, revoker) = net.only("connect tcp 10.0.0.1:443")?.revocable()?;
///     let plugin = spawner
///         .program("plugin")?
///         .grant("net", &upstream)?
///         .argument("--verbose")?
///         .memory(4 << 20)?
///         .start()?;
///     // It misbehaves: take back what it was given, and let it see what it does without.
///     revoker.revoke()?;
///     println!("{}", plugin.wait()?);
///     Ok(())
/// }
/// ```
///
/// Which programs it starts, and how many, whoever runs this program has said: with `refcap run`,
/// `--spawn plugin=plugin.wasm`.
#[derive(Debug)]
pub struct Spawner {
    slot: Slot,
}

capability!(Spawner { slot });

impl Spawner {
    /// Prepares a program that the spawner has a name for.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorCode::NotFound), and the names that there are; [`LimitReached`](ErrorCode::LimitReached)
    /// when there are as many children as there may be, or this program is too far from the first to have any.
    pub fn program(&self, name: &str) -> Result<Launch> {
        let slot = host::spawner_program(&self.slot, name)
            .map_err(|failure| Error::last(failure, "prepare a program"))?;
        Ok(Launch::new(slot))
    }

    /// Prepares a program from the bytes of its module, where the spawner's terms allow that.
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorCode::Denied) where the spawner starts programs by name only,
    /// [`BadArgument`](ErrorCode::BadArgument) and the reasons for which the module is refused;
    /// [`LimitReached`](ErrorCode::LimitReached) for one that is too large, and as for
    /// [`program`](Spawner::program).
    pub fn load(&self, module: &[u8]) -> Result<Launch> {
        let slot = host::spawner_load(&self.slot, module)
            .map_err(|failure| Error::last(failure, "load a program"))?;
        Ok(Launch::new(slot))
    }
}

/// A capability of which another program gets one that is derived: [`Net`], [`Guard`], [`Membrane`], [`Object`] and the
/// references of [interfaces](mod@crate::interface), [`Revoker`], [`Spawner`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not derived when it is handed to another program",
    note = "sockets and names move: use `give`"
)]
pub trait Derived: Capability {}

impl Derived for Net {}
impl Derived for Guard {}
impl Derived for Membrane {}
impl Derived for Object {}
impl<P: Proxy> Derived for P {}
impl Derived for Revoker {}
impl Derived for Spawner {}

/// A capability that moves to another program: a socket, or a [`Name`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not move to another program",
    note = "of a `Net`, a `Revoker` or a `Spawner` the other program gets a derived one: use `grant`"
)]
pub trait Moved: Capability {}

impl Moved for Name {}
impl Moved for TcpListener {}
impl Moved for TcpStream {}
impl Moved for UdpSocket {}

/// A program that is prepared: what it will have is chosen, and then it is started.
///
/// It has no capabilities but those that are chosen here, no environment and an empty standard input. Dropping it gives
/// it up.
#[derive(Debug)]
#[must_use = "a program that is prepared runs when it is started"]
pub struct Launch {
    child: Child,
}

impl Launch {
    fn new(slot: Slot) -> Launch {
        Launch {
            child: Child { slot },
        }
    }

    /// Chooses one of the program's endowments: it gets a capability derived from this one, which ends with it.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) where the program does not ask for that name, or for another kind; it
    /// says what it asks for. [`NotTransferable`](ErrorCode::NotTransferable) where the capability was granted to this
    /// program alone.
    pub fn grant<C: Derived>(self, name: &str, capability: &C) -> Result<Launch> {
        self.hand_over(name, capability.slot())
    }

    /// Gives the program a socket or a [`Name`] for one of its endowments. This program has it no longer.
    ///
    /// # Errors
    ///
    /// As for [`grant`](Launch::grant). The socket is closed then.
    pub fn give<C: Moved>(self, name: &str, capability: C) -> Result<Launch> {
        // Dropping it afterwards closes a reference that names nothing any more.
        self.hand_over(name, capability.slot())
    }

    fn hand_over(self, name: &str, slot: &Slot) -> Result<Launch> {
        host::child_grant(&self.child.slot, slot, name)
            .map_err(|failure| Error::last(failure, "choose an endowment"))?;
        Ok(self)
    }

    /// Gives the program one more argument. The first one, its own name, is there already.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for one with a zero byte, [`LimitReached`](ErrorCode::LimitReached) when
    /// all together are longer than 64 KiB.
    pub fn argument(self, text: &str) -> Result<Launch> {
        host::child_argument(&self.child.slot, text)
            .map_err(|failure| Error::last(failure, "give an argument"))?;
        Ok(self)
    }

    /// Sets how many bytes of memory the program may have. They are taken from this program's when it starts.
    ///
    /// # Errors
    ///
    /// [`LimitReached`](ErrorCode::LimitReached) for more than the spawner's terms allow. Whether this program
    /// has so much left shows when the other one starts.
    pub fn memory(self, bytes: u64) -> Result<Launch> {
        self.limit(LIMIT_MEMORY, bytes)
    }

    /// Sets how many capabilities the program may hold at once. They are taken from this program's when it starts.
    ///
    /// # Errors
    ///
    /// As for [`memory`](Launch::memory).
    pub fn capabilities(self, count: u64) -> Result<Launch> {
        self.limit(LIMIT_CAPABILITIES, count)
    }

    /// Sets how many sockets the program may have open at once. They are taken from this program's when it starts.
    ///
    /// # Errors
    ///
    /// As for [`memory`](Launch::memory).
    pub fn sockets(self, count: u64) -> Result<Launch> {
        self.limit(LIMIT_SOCKETS, count)
    }

    /// Sets how long the program may run, from its start to its end. It never runs longer than this one.
    ///
    /// # Errors
    ///
    /// As for [`memory`](Launch::memory), and [`BadArgument`](ErrorCode::BadArgument) for no time at all.
    pub fn time(self, time: Duration) -> Result<Launch> {
        let milliseconds = milliseconds(time, "limit a program")?;
        self.limit(LIMIT_TIME, milliseconds.into())
    }

    fn limit(self, which: i32, amount: u64) -> Result<Launch> {
        host::child_limit(&self.child.slot, which, amount)
            .map_err(|failure| Error::last(failure, "limit a program"))?;
        Ok(self)
    }

    /// Starts the program. It has its endowments and begins to run when this returns.
    ///
    /// # Errors
    ///
    /// [`NotStarted`](ErrorCode::NotStarted), with the reason: an endowment is missing, for example.
    /// [`LimitReached`](ErrorCode::LimitReached) when this program has less left than the other one is to have.
    pub fn start(self) -> Result<Child> {
        host::child_start(&self.child.slot).map_err(|failure| Error::last(failure, "start a program"))?;
        Ok(self.child)
    }
}

/// A program that this one started.
///
/// Dropping it stops the program, and so does the end of this one: keep it for as long as the program is to run.
#[derive(Debug)]
pub struct Child {
    slot: Slot,
}

capability!(Child { slot });

impl Child {
    /// Waits until the program has ended, and says how. By then nothing of it is left, and what it had of this
    /// program's limits is there again.
    ///
    /// # Errors
    ///
    /// [`Revoked`](ErrorCode::Revoked) when the spawner is revoked, which stops the program.
    pub fn wait(&self) -> Result<Ending> {
        self.ending(0)
    }

    /// Waits for the given time at most; `None` when the program has not ended by then.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Child::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Ending>> {
        in_time(self.ending(milliseconds(timeout, "wait for a program")?))
    }

    /// How the program has ended, if it has.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Child::wait).
    pub fn try_wait(&self) -> Result<Option<Ending>> {
        in_time(self.ending(NO_WAIT.cast_unsigned()))
    }

    fn ending(&self, timeout: u32) -> Result<Ending> {
        const USUAL_LENGTH: usize = 1024;
        let mut buffer = vec![0; USUAL_LENGTH];
        let wait = |buffer: &mut [u8]| {
            host::child_wait(&self.slot, buffer, timeout)
                .map_err(|failure| Error::last(failure, "wait for a program"))
        };
        let mut length = wait(&mut buffer)? as usize;
        if length > buffer.len() {
            // It is there, so this does not wait.
            buffer.resize(length, 0);
            length = wait(&mut buffer)? as usize;
        }
        buffer.truncate(length);
        Ending::decode(&buffer).ok_or_else(|| {
            let message = "the host says how it ended in a form that this version does not know";
            Error::new(ErrorCode::BadArgument, "wait for a program", message)
        })
    }

    /// Stops the program, with all that it started, and returns whether it was still there to be stopped. When this
    /// returns, no instruction of it runs, and nothing that it held works.
    ///
    /// # Errors
    ///
    /// [`Revoked`](ErrorCode::Revoked) when the spawner was revoked, which stops the program too.
    pub fn stop(&self) -> Result<bool> {
        let stopped =
            host::child_stop(&self.slot).map_err(|failure| Error::last(failure, "stop a program"))?;
        Ok(stopped != 0)
    }
}

fn in_time(ending: Result<Ending>) -> Result<Option<Ending>> {
    match ending {
        Err(error) if error.code() == ErrorCode::TimedOut => Ok(None),
        ending => ending.map(Some),
    }
}
