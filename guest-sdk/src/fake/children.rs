//! Starting programs, which a native test has no host for: a spawner that starts none, and says so.

use refcap_abi::ErrorCode;

use super::{Lineage, Object, Slot, failed, failed_with};
use crate::host::{Failure, Status};

impl Slot {
    /// A spawner that is derived from no other.
    pub(crate) fn spawner() -> Slot {
        Slot::new(Object::Spawner, Lineage::root())
    }
}

pub(crate) fn spawner_program(spawner: &Slot, name: &str) -> Result<Slot, Failure> {
    refuse(spawner, format_args!("the program `{name}`"))
}

pub(crate) fn spawner_load(spawner: &Slot, _module: &[u8]) -> Result<Slot, Failure> {
    refuse(spawner, format_args!("a module"))
}

fn refuse(spawner: &Slot, what: std::fmt::Arguments<'_>) -> Result<Slot, Failure> {
    match *spawner.live()?.object {
        Object::Spawner => Err(failed_with(
            ErrorCode::NotStarted,
            format!("a native test can't start {what}: run this program with refcap"),
        )),
        _ => Err(failed(ErrorCode::WrongKind)),
    }
}

// Nothing makes a child, so nothing is one.

pub(crate) fn child_grant(_child: &Slot, _capability: &Slot, _name: &str) -> Status {
    Err(failed(ErrorCode::WrongKind))
}

pub(crate) fn child_argument(_child: &Slot, _text: &str) -> Status {
    Err(failed(ErrorCode::WrongKind))
}

pub(crate) fn child_limit(_child: &Slot, _which: i32, _amount: u64) -> Status {
    Err(failed(ErrorCode::WrongKind))
}

pub(crate) fn child_start(_child: &Slot) -> Status {
    Err(failed(ErrorCode::WrongKind))
}

pub(crate) fn child_wait(_child: &Slot, _buffer: &mut [u8], _timeout: u32) -> Status {
    Err(failed(ErrorCode::WrongKind))
}

pub(crate) fn child_stop(_child: &Slot) -> Status {
    Err(failed(ErrorCode::WrongKind))
}
