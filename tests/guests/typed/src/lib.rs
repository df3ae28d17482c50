//! Interfaces between programs of one vat and of several: `typed-app` is linked to this one as `shelf`, and
//! `typed-keeper` starts `typed-caller`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use refcap_guest::{Error, ErrorCode, Net, Result, TcpStream};
use serde::{Deserialize, Serialize};

refcap_guest::answers_calls!();

/// Keeps values.
#[refcap_guest::interface]
pub trait Store {
    /// Keeps one, and tells the watchers.
    fn put(&self, key: String, value: Vec<u8>) -> Result<()>;
    /// Gives one back.
    fn get(&self, key: String) -> Result<Option<Vec<u8>>>;
    /// Connects through what came along.
    fn open(&self, net: Net, to: Target) -> Result<TcpStream>;
    /// Tells the watcher of every value that is kept from now on.
    fn watch(&self, watcher: WatcherRef) -> Result<()>;
    /// Gives a Net back that allows less, with those that it was given.
    fn narrow(&self, nets: Vec<Net>, rules: String) -> Result<(Net, BTreeMap<u32, Net>)>;
    /// Panics.
    fn panic(&self) -> Result<()>;
}

/// Is told.
#[refcap_guest::interface]
pub trait Watcher {
    /// A value was kept.
    fn changed(&self, key: String) -> Result<()>;
}

/// What somebody takes a store for.
#[refcap_guest::interface]
pub trait Mistaken {
    /// `put`, but for a number.
    fn put(&self, number: u64) -> Result<()>;
    /// `get`, but of a number.
    fn get(&self, key: String) -> Result<u64>;
    /// `open`, but with a stream.
    fn open(&self, stream: TcpStream, to: Target) -> Result<TcpStream>;
    /// There are more of them.
    fn fourth(&self) -> Result<()>;
    /// There are more of them.
    fn fifth(&self) -> Result<()>;
    /// There are more of them.
    fn sixth(&self) -> Result<()>;
    /// A store has none of this number.
    fn seventh(&self) -> Result<()>;
}

/// Where to connect to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    /// The address.
    pub address: String,
    /// Used where the first Net does not allow it.
    pub fallback: Option<Net>,
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct Shelf {
    values: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Those that are told.
    pub watchers: RefCell<Vec<WatcherRef>>,
}

impl Store for Rc<Shelf> {
    fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        if key.is_empty() {
            return Err(Error::new(ErrorCode::NotFound, "keep", "a value needs a key"));
        }
        self.values.borrow_mut().insert(key.clone(), value);
        self.watchers
            .borrow()
            .iter()
            .try_for_each(|watcher| watcher.changed(key.clone()))
    }

    fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.values.borrow().get(&key).cloned())
    }

    fn open(&self, net: Net, to: Target) -> Result<TcpStream> {
        match (net.connect(to.address.as_str()), to.fallback) {
            (Err(_), Some(net)) => net.connect(to.address.as_str()),
            (result, _) => result,
        }
    }

    fn watch(&self, watcher: WatcherRef) -> Result<()> {
        self.watchers.borrow_mut().push(watcher);
        Ok(())
    }

    fn narrow(&self, nets: Vec<Net>, rules: String) -> Result<(Net, BTreeMap<u32, Net>)> {
        let narrow = nets[0].only(rules.as_str())?;
        Ok((narrow, (0..).zip(nets).collect()))
    }

    fn panic(&self) -> Result<()> {
        panic!("the store was told to panic");
    }
}

/// Tries all of it on a store that somebody else implements, but `watch` and `panic`. `net` allows the address of a
/// server, which answers with what it gets.
pub fn tries(store: &StoreRef, net: &Net) -> Result<()> {
    use std::io::{Read, Write};

    let text = |text: &str| text.to_owned();
    store.put(text("a"), vec![1, 2])?;
    assert_eq!(store.get(text("a"))?, Some(vec![1, 2]));
    assert_eq!(store.get(text("b"))?, None);
    let error = store.put(text(""), Vec::new()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert_eq!(error.to_string(), "Store::put: keep: a value needs a key");

    // A Net in, a stream out.
    let rules = net.describe()?;
    let address = rules.trim_start_matches("connect tcp ").to_owned();
    let to = Target {
        address,
        fallback: Some(net.only("connect tcp *:*")?),
    };
    let mut stream = store.open(net.only("")?, to)?;
    let mut back = [0; 5];
    stream.write_all(b"there").expect("the stream is open");
    stream.read_exact(&mut back).expect("the server answers");
    assert_eq!(&back, b"there");

    // What comes back ends with what went in.
    let (lent, revoker) = net.revocable()?;
    let (narrow, nets) = store.narrow(vec![lent, net.only("")?], rules.clone())?;
    assert_eq!(narrow.describe()?, rules);
    assert_eq!((nets[&0].describe()?, nets[&1].describe()?), (rules, text("")));
    // The Net that came back and the one that is narrower.
    assert_eq!(revoker.revoke()?, 2);
    assert!(narrow.describe().unwrap_err().is_revoked());
    assert!(nets[&0].describe().unwrap_err().is_revoked());
    nets[&1].describe()?;

    mistaken(store, stream)?;
    let (lent, revoker) = store.revocable()?;
    lent.put(text("c"), Vec::new())?;
    revoker.revoke()?;
    assert_eq!(code(lent.get(text("c"))), ErrorCode::Revoked);
    let error = lent.get(text("c")).unwrap_err();
    assert!(error.to_string().starts_with("Store::get: "), "{error}");
    Ok(())
}

/// What a store says to who takes it for something else.
fn mistaken(store: &StoreRef, stream: TcpStream) -> Result<()> {
    let mistaken = MistakenRef::from(refcap_guest::Object::from(store.revocable()?.0));
    let address = stream.peer_addr()?.to_string();
    let fallback = None;
    for (result, why) in [
        (mistaken.put(7), "`Store::put`: the arguments can't be read: "),
        (
            mistaken.open(stream, Target { address, fallback }).map(drop),
            "`Store::open`: the arguments can't be read: the capability at place 0 is a TcpStream, not a Net",
        ),
        (
            mistaken.seventh(),
            "`Store` has 6 methods here, and none of the number 6",
        ),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadArgument, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(code(mistaken.get("a".to_owned())), ErrorCode::CalleeFailed);
    Ok(())
}

/// The code of an error.
pub fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

/// For programs that are linked to this one.
mod exports {
    use super::{Rc, Result, Shelf, Store, StoreRef, WatcherRef};
    use refcap_guest::{Net, Revoker, TcpStream};
    use std::cell::RefCell;

    thread_local! {
        /// A capability of each kind that was left here.
        static LEFT: RefCell<Option<(Net, Revoker)>> = const { RefCell::new(None) };
    }

    /// A store that this program implements, which tells the watcher.
    #[refcap_guest::export]
    fn open_shelf(watcher: WatcherRef) -> Result<StoreRef> {
        let shelf = Rc::new(Shelf::default());
        shelf.watch(watcher)?;
        StoreRef::new(shelf)
    }

    /// A connection to a port of this machine.
    #[refcap_guest::export]
    fn connect(net: Net, port: u32) -> Result<TcpStream> {
        net.connect(format!("127.0.0.1:{port}"))
    }

    /// Keeps what it is given, and gives back a Net that is derived from it.
    #[refcap_guest::export]
    fn leave(net: Net, revoker: Revoker) -> Result<Net> {
        let derived = net.only("connect tcp *:*")?;
        LEFT.set(Some((net, revoker)));
        Ok(derived)
    }

    /// Whether the Net that was left can be used.
    #[refcap_guest::export]
    fn is_left() -> bool {
        LEFT.with_borrow(|left| left.as_ref().is_some_and(|(net, _)| net.describe().is_ok()))
    }

    /// Gives back the revoker that was left, and gives up the Net.
    #[refcap_guest::export]
    fn revoker() -> Result<Revoker> {
        let left = LEFT.take();
        let none =
            || refcap_guest::Error::new(refcap_guest::ErrorCode::NotFound, "give back", "nothing was left");
        left.map(|(_, revoker)| revoker).ok_or_else(none)
    }
}
