//! Implements a store for a program that it starts, and calls back into that one.

use std::rc::Rc;
use std::time::Duration;

use refcap_guest::{Ending, ErrorCode, Net, Result, Spawner, object};
use typed::{Shelf, StoreRef, Watcher, code};

#[refcap_guest::main]
fn main(net: Net, spawner: Spawner) -> Result<()> {
    let shelf = Rc::new(Shelf::default());
    let store = StoreRef::new(shelf.clone())?;
    let child = spawner.program("caller")?;
    let child = child.grant("store", &store)?.grant("net", &net)?.start()?;
    while shelf.watchers.borrow().is_empty() {
        match object::serve(Some(Duration::from_secs(20))) {
            Err(error) if error.code() == ErrorCode::TimedOut => panic!("{:?}", child.try_wait()?),
            served => served?,
        }
    }
    // The child has left a watcher, and serves: once in time, once too late, and once it panics.
    let watcher = shelf.watchers.take().remove(0);
    watcher.changed("well".to_owned())?;
    assert_eq!(code(watcher.changed("refuse".to_owned())), ErrorCode::Exhausted);
    let watcher = watcher.with_timeout(Duration::from_millis(20));
    assert_eq!(code(watcher.changed("call back".to_owned())), ErrorCode::TimedOut);
    let watcher = watcher.with_timeout(Duration::from_secs(20));
    let error = watcher.changed("panic".to_owned()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::CalleeFailed);
    assert_eq!(error.operation(), "Watcher::changed");
    let ending = child.wait()?;
    assert!(matches!(ending, Ending::Trapped { .. }), "{ending}");
    assert_eq!(code(watcher.changed("well".to_owned())), ErrorCode::CalleeFailed);
    Ok(())
}
