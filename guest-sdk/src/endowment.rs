//! What `#[refcap_guest::main]` expands to: the section that asks for endowments, handing them over,
//! and reporting how the program ended.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use refcap_abi::Kind;

use crate::Capability;
use crate::host::{self, Slot};

/// A parameter of `main`: a capability, or an `Option` of one that the program also starts without.
///
/// It is the type that says which kind is asked for, whatever name it goes by:
///
/// ```no_run
/// type Web = Option<refcap_guest::Net>;
///
/// #[refcap_guest::main]
/// fn main(web: Web) {}
/// ```
///
/// ```compile_fail,E0277
/// #[refcap_guest::main]
/// fn main(net: String) {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`main` cannot be given a `{Self}`",
    label = "not a capability",
    note = "its parameters are capabilities such as `Net`, or `Option`s of capabilities"
)]
pub trait Endowment: sealed::FromArgument {
    /// The capability's kind.
    const KIND: Kind;
    /// Whether the program starts without it.
    const OPTIONAL: bool;
}

mod sealed {
    use super::Slot;

    #[expect(
        private_interfaces,
        reason = "the slot is what must not be reachable from outside"
    )]
    pub trait FromArgument: Sized {
        /// Makes the parameter of what the host handed over, which has a name.
        fn from_argument(slot: Option<Slot>, name: &str) -> Self;
    }
}

impl<C: Capability> Endowment for C {
    const KIND: Kind = C::KIND;
    const OPTIONAL: bool = false;
}

impl<C: Capability> Endowment for Option<C> {
    const KIND: Kind = C::KIND;
    const OPTIONAL: bool = true;
}

#[expect(
    private_interfaces,
    reason = "the slot is what must not be reachable from outside"
)]
impl<C: Capability> sealed::FromArgument for C {
    fn from_argument(slot: Option<Slot>, name: &str) -> C {
        slot.map_or_else(|| not_granted(name, C::KIND), C::from_slot)
    }
}

#[expect(
    private_interfaces,
    reason = "the slot is what must not be reachable from outside"
)]
impl<C: Capability> sealed::FromArgument for Option<C> {
    fn from_argument(slot: Option<Slot>, _name: &str) -> Option<C> {
        slot.map(C::from_slot)
    }
}

fn not_granted(name: &str, kind: Kind) -> ! {
    let hint = if cfg!(target_family = "wasm") {
        "run the program with refcap, which hands over what it was granted"
    } else {
        "this is a native build, which has no host: build the program for wasm and run it with refcap"
    };
    panic!("the program was started without its endowment `{name}` of kind {kind}: {hint}")
}

/// One line of the endowment section, as far as it is known where the section's size must be.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    name: &'static str,
    kind: &'static str,
    need: &'static str,
}

/// Declares a parameter of `main`.
pub const fn declare<E: Endowment>(name: &'static str) -> Declaration {
    Declaration {
        name,
        kind: E::KIND.name(),
        need: if E::OPTIONAL { "optional" } else { "required" },
    }
}

/// How long the section is for these declarations.
pub const fn section_length(declarations: &[Declaration]) -> usize {
    let mut length = 0;
    let mut index = 0;
    while index < declarations.len() {
        let line = &declarations[index];
        let separators = 3;
        length += line.name.len() + line.kind.len() + line.need.len() + separators;
        index += 1;
    }
    length
}

/// The section for these declarations, as [`refcap_abi::endowment`] describes it. `LENGTH` must be
/// their [`section_length`].
pub const fn section<const LENGTH: usize>(declarations: &[Declaration]) -> [u8; LENGTH] {
    let mut section = [0; LENGTH];
    let mut at = 0;
    let mut index = 0;
    while index < declarations.len() {
        let line = &declarations[index];
        at = write(&mut section, at, line.name, b' ');
        at = write(&mut section, at, line.kind, b' ');
        at = write(&mut section, at, line.need, b'\n');
        index += 1;
    }
    assert!(at == LENGTH, "LENGTH is not the length of the section");
    section
}

/// Writes a word and what stands after it, and returns where that ends.
const fn write(section: &mut [u8], at: usize, word: &str, after: u8) -> usize {
    let mut index = 0;
    while index < word.len() {
        section[at + index] = word.as_bytes()[index];
        index += 1;
    }
    section[at + index] = after;
    at + index + 1
}

/// The endowments that `main` has not been given yet.
#[derive(Debug)]
pub struct Arguments {
    next: u32,
}

impl Arguments {
    /// The next one, in the order of the declarations.
    pub fn next<E: Endowment>(&mut self, name: &str) -> E {
        let index = self.next;
        self.next += 1;
        E::from_argument(host::argument(index), name)
    }
}

/// Runs a program's `main` and returns its exit code.
pub fn run<O: Outcome>(main: impl FnOnce(&mut Arguments) -> O) -> i32 {
    static STARTED: AtomicBool = AtomicBool::new(false);
    report_panics();
    // What was handed over already belongs to the first call.
    assert!(
        !STARTED.swap(true, Ordering::Relaxed),
        "`main` was called again: the endowments are handed over once"
    );
    main(&mut Arguments { next: 0 }).exit_code()
}

/// An exit code as `main` returns it.
pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// What a `main` can return: nothing, an `ExitCode`, or a `Result` of one of these, whose error is shown.
#[diagnostic::on_unimplemented(
    message = "`main` cannot return `{Self}`",
    note = "it returns `()`, `ExitCode`, or a `Result` of one of these with an error that is `Display`"
)]
pub trait Outcome {
    /// The program's exit code. An error is shown.
    fn exit_code(self) -> i32;
}

impl Outcome for () {
    fn exit_code(self) -> i32 {
        0
    }
}

impl Outcome for ExitCode {
    fn exit_code(self) -> i32 {
        // `ExitCode` can't be asked for its number, but compared. On wasm32-unknown-unknown, where it has
        // two values, each failure is 1.
        let number = (0..=u8::MAX).find(|&number| ExitCode::from(number) == self);
        number.unwrap_or(1).into()
    }
}

impl<O: Outcome, E: Display> Outcome for Result<O, E> {
    fn exit_code(self) -> i32 {
        match self {
            Ok(outcome) => outcome.exit_code(),
            Err(error) => {
                // The alternate form is, for errors that carry their causes, the one that shows them.
                show(&format!("Error: {error:#}"));
                1
            }
        }
    }
}

/// Shows a message to whoever runs the program.
#[cfg(any(target_os = "wasi", not(target_family = "wasm")))]
fn show(message: &str) {
    eprintln!("{message}");
}

/// Shows a message to whoever runs the program. There is no standard error, so the host takes it.
#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
fn show(message: &str) {
    host::report(message);
}

/// Makes panics show their message, where std does not do that.
fn report_panics() {
    #[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
    std::panic::set_hook(Box::new(|panic| show(&panic.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Net, TcpStream};

    #[test]
    fn the_section_is_what_the_abi_says() {
        const DECLARATIONS: &[Declaration] = &[
            declare::<Net>("net"),
            declare::<Option<Net>>("log"),
            declare::<TcpStream>("up-stream"),
        ];
        const SECTION: [u8; section_length(DECLARATIONS)] = section(DECLARATIONS);
        let endowments = refcap_abi::endowment::decode(&SECTION).unwrap();
        let lines: Vec<String> = endowments.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "net Net required",
                "log Net optional",
                "up-stream TcpStream required"
            ]
        );
    }

    #[test]
    fn outcomes_have_exit_codes() {
        assert_eq!(().exit_code(), 0);
        assert_eq!(ExitCode::from(7).exit_code(), 7);
        assert_eq!(Ok::<_, String>(ExitCode::from(7)).exit_code(), 7);
        assert_eq!(Ok::<_, String>(()).exit_code(), 0);
        assert_eq!(Err::<(), _>("shown by a test").exit_code(), 1);
    }
}
