//! The token that marks where authority comes from nothing.

/// Proof that the caller means to make authority that nothing gave it.
///
/// Every function that mints authority takes one, so that a search for [`ambient_authority`] finds every
/// place where a program's power begins. The idea is cap-std's.
#[derive(Debug, Clone, Copy)]
pub struct AmbientAuthority(());

/// Makes the token. Call it in `main` and pass it on; code that does not have it cannot mint.
pub const fn ambient_authority() -> AmbientAuthority {
    AmbientAuthority(())
}
