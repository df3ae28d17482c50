//! Calls a store of the program that started it, and leaves it a watcher.

use std::time::Duration;

use refcap_guest::{Error, ErrorCode, Net, Result, object};
use typed::{Store, StoreRef, Watcher, WatcherRef, code, tries};

struct Told(StoreRef);

impl Watcher for Told {
    fn changed(&self, key: String) -> Result<()> {
        match key.as_str() {
            "refuse" => Err(Error::new(ErrorCode::Exhausted, "watch", "no more")),
            // The other program waits for this answer and serves nobody: both give up in time.
            "call back" => {
                assert_eq!(code(self.0.get(key)), ErrorCode::TimedOut);
                Ok(())
            }
            "panic" => panic!("the watcher was told to panic"),
            _ => Ok(()),
        }
    }
}

#[refcap_guest::main]
fn main(store: StoreRef, net: Net) -> Result<()> {
    tries(&store, &net)?;
    let impatient = store.revocable()?.0.with_timeout(Duration::from_millis(100));
    store.watch(WatcherRef::new(Told(impatient))?)?;
    loop {
        object::serve(None)?;
    }
}
