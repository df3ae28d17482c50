//! Guards: programs that say yes or no to each use of a Net.

use crate::capability::capability;
use crate::host::{self, Slot};
use crate::{Error, Result};

/// A small program that says yes or no to each use of a [`Net`](crate::Net) that it is put before.
///
/// It is a wasm module without imports, and is written with the crate `refcap-guard`. Where it comes from is up to the
/// program: it may be built into it, or be received.
///
/// ```no_run
/// # fn example(net: refcap_guest::Net, module: &[u8]) -> refcap_guest::Result<()> {
/// use refcap_guest::Guard;
///
/// let office_hours = Guard::new(module)?;
/// let for_the_plugin = net.only("connect tcp *:443")?.guarded(&office_hours)?;
/// # Ok(())
/// # }
/// ```
///
/// In a native build there is no engine to run it in, and [`Guard::new`] is an error.
#[derive(Debug)]
pub struct Guard {
    slot: Slot,
}

capability!(Guard { slot });

impl Guard {
    /// Compiles a guard from a module in its binary form, which takes the host some milliseconds.
    ///
    /// # Errors
    ///
    /// `BadArgument` if the module is not a guard, with what is wrong with it; `LimitReached` if it is too large, or
    /// the program has too many guards.
    pub fn new(module: &[u8]) -> Result<Guard> {
        let slot = host::guard_new(module).map_err(|failure| Error::last(failure, "make a guard"))?;
        Ok(Guard { slot })
    }
}
