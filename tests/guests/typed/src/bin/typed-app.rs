//! Is linked to the program `shelf`, and passes it capabilities of each kind.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;

use refcap_guest::{Error, ErrorCode, Net, Result, Revoker, TcpStream};
use typed::{Store, StoreRef, Watcher, WatcherRef, code, tries};

#[refcap_guest::linked(name = "shelf")]
extern "C" {
    fn open_shelf(watcher: WatcherRef) -> Result<StoreRef>;
    fn connect(net: Net, port: u32) -> Result<TcpStream>;
    fn leave(net: Net, revoker: Revoker) -> Result<Net>;
    fn is_left() -> Result<bool>;
    fn revoker() -> Result<Revoker>;
}

/// Asks the store that tells it for what it is told of, and puts another value there.
#[derive(Default)]
struct Follower {
    store: RefCell<Option<StoreRef>>,
    seen: RefCell<Vec<String>>,
}

struct Follows(Rc<Follower>);

impl Watcher for Follows {
    fn changed(&self, key: String) -> Result<()> {
        self.0.seen.borrow_mut().push(key.clone());
        let store = self.0.store.borrow();
        let store = store.as_ref().expect("it is told of what comes later");
        assert!(store.get(key.clone())?.is_some());
        match key.as_str() {
            "re-enter" => store.put("re-entered".to_owned(), Vec::new()),
            "refuse" => Err(Error::new(ErrorCode::Denied, "watch", "not that one")),
            "panic" => store.panic(),
            _ => Ok(()),
        }
    }
}

/// `more` lets the store panic at the end.
#[refcap_guest::main]
fn main(net: Net, more: Option<Net>) -> Result<()> {
    passes(&net)?;

    let follower = Rc::new(Follower::default());
    let watcher = WatcherRef::new(Follows(follower.clone()))?;
    let store = open_shelf(watcher)?;
    *follower.store.borrow_mut() = Some(store.revocable()?.0);
    tries(&store, &net)?;
    // Each calls the other, and is called meanwhile.
    store.put("re-enter".to_owned(), Vec::new())?;
    assert_eq!(*follower.seen.borrow(), ["a", "c", "re-enter", "re-entered"]);
    let error = store.put("refuse".to_owned(), Vec::new()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Denied);
    assert_eq!(error.message(), "Watcher::changed: watch: not that one");
    if more.is_some() {
        store.put("panic".to_owned(), Vec::new())?;
    }
    follower.store.take();
    Ok(())
}

/// Capabilities in, capabilities out.
fn passes(net: &Net) -> Result<()> {
    let rules = net.describe()?;
    let port = rules.rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.expect("one port");

    let mut stream = connect(net.only("connect tcp *:*")?, port)?;
    let mut back = [0; 5];
    stream.write_all(b"again").expect("the stream is open");
    stream.read_exact(&mut back).expect("the server answers");
    assert_eq!(&back, b"again");
    assert_eq!(code(connect(net.only("")?, port)), ErrorCode::Denied);

    // What is passed is the other program's from then on, and can be taken back all the same.
    assert_eq!(code(revoker()), ErrorCode::NotFound);
    assert!(!is_left()?);
    let (lent, revoker_of_it) = net.revocable()?;
    let derived = leave(lent, revoker_of_it)?;
    assert!(is_left()?);
    assert_eq!(derived.describe()?, rules);
    let revoker_of_it = revoker()?;
    assert!(!is_left()?);
    // The Net that was passed is given up; what came back is derived from it.
    assert_eq!(revoker_of_it.revoke()?, 1);
    assert!(derived.describe().unwrap_err().is_revoked());

    // One that is revoked is passed as it is, and is of no use there.
    let (lent, gone) = net.revocable()?;
    gone.revoke()?;
    assert!(leave(lent, gone).is_err());
    // Many, one after the other: the slots are used again on both sides.
    for _ in 0..200 {
        let (lent, gone) = net.revocable()?;
        drop((leave(lent, gone)?, revoker()?));
    }
    Ok(())
}
