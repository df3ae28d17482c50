//! Nets that a program implements: it is asked in the thread that made the object.

use refcap_abi::service::NetRequest;
use refcap_abi::{ErrorCode, Kind};
use refcap_authority::{Answers, Authority};

use super::objects::{Line, Message, call};
use super::{Object, Rights, Slot, cap_kind, decode_rules, failed_with, revoked, too_complex};
use crate::host::Failure;

pub(crate) fn object_as_net(object: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let by = Some(object.line()?.clone());
    let rules = decode_rules(rules)?;
    let authority = Authority::from_rules(&rules).map_err(too_complex)?;
    let answers = Answers::from_rules(&rules).map_err(too_complex)?;
    object.child(Object::Net(Rights {
        authority,
        answers,
        by,
    }))
}

/// Asks the program for what the Net allows. What it gives ends with the Net too.
pub(super) fn ask(net: &Slot, by: &Line, request: NetRequest<'_>) -> Result<Slot, Failure> {
    let (_, answer) = call(by, request.method(), Message::of(request.encode()))?;
    let given = of_kind(answer, request.answer())?;
    match net.lineage.adopt(&given.lineage) {
        true => Ok(given),
        false => Err(revoked()),
    }
}

/// The one capability of an answer, which must be of that kind.
fn of_kind(answer: Message, kind: Kind) -> Result<Slot, Failure> {
    let given = answer.capabilities.into_iter().flatten().next();
    let found = match &given {
        Some(given) => i32::try_from(cap_kind(given)?).ok().and_then(Kind::from_code),
        None => None,
    };
    match given {
        Some(given) if found == Some(kind) => Ok(given),
        _ => {
            let found = found.map_or("nothing".to_owned(), |found| format!("a {found}"));
            let message =
                format!("the program that implements the Net answered with {found}, and not with a {kind}");
            Err(failed_with(ErrorCode::CalleeFailed, message))
        }
    }
}
