//! Interfaces and the objects below them, on the stand-in of native builds. `tests/all/interfaces.rs` has the same
//! between programs.

#![cfg(not(target_family = "wasm"))]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use refcap_guest::{
    Capability, Error, ErrorCode, Kind, Message, Net, Object, Poller, Result, Revoker, TcpStream, grants,
    object, testing,
};
use serde::{Deserialize, Serialize};

/// A bit of everything.
#[refcap_guest::interface]
trait Store {
    fn put(&self, key: String, value: Vec<u8>) -> Result<()>;
    fn get(&self, key: String) -> Result<Option<Vec<u8>>>;
    fn open(&self, net: Net, to: Target) -> Result<TcpStream>;
    fn watch(&self, watcher: WatcherRef) -> Result<()>;
    /// Gives back what it got, in another shape.
    fn shuffle(&self, all: Bundle) -> Result<Shuffled>;
    fn describe(&self) -> Result<String> {
        Ok("a store".to_owned())
    }
    fn fail(&self, code: u8, why: String) -> Result<()>;
}

#[refcap_guest::interface]
trait Watcher {
    fn changed(&self, store: StoreRef, key: String) -> Result<()>;
}

type Shuffled = (Option<Net>, Vec<Net>, BTreeMap<String, Revoker>);

#[derive(Debug, Serialize, Deserialize)]
struct Target {
    address: String,
    fallback: Option<Net>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Bundle {
    Nothing,
    Some {
        first: Option<Net>,
        others: Vec<Net>,
        revokers: BTreeMap<String, Revoker>,
    },
}

#[derive(Default)]
struct Memory {
    values: RefCell<BTreeMap<String, Vec<u8>>>,
    watchers: RefCell<Vec<WatcherRef>>,
    itself: RefCell<Option<StoreRef>>,
}

impl Store for Rc<Memory> {
    fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.values.borrow_mut().insert(key.clone(), value);
        for watcher in self.watchers.borrow().iter() {
            let store = self.itself.borrow().as_ref().unwrap().revocable()?.0;
            watcher.changed(store, key.clone())?;
        }
        Ok(())
    }

    fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.values.borrow().get(&key).cloned())
    }

    fn open(&self, net: Net, to: Target) -> Result<TcpStream> {
        net.connect(to.address.as_str())
            .or_else(|error| match to.fallback {
                Some(net) => net.connect(to.address.as_str()),
                None => Err(error),
            })
    }

    fn watch(&self, watcher: WatcherRef) -> Result<()> {
        self.watchers.borrow_mut().push(watcher);
        Ok(())
    }

    fn shuffle(&self, all: Bundle) -> Result<Shuffled> {
        match all {
            Bundle::Nothing => Ok((None, Vec::new(), BTreeMap::new())),
            Bundle::Some {
                first,
                mut others,
                revokers,
            } => {
                let last = others.pop();
                others.extend(first);
                Ok((last, others, revokers))
            }
        }
    }

    fn fail(&self, code: u8, why: String) -> Result<()> {
        Err(Error::new(
            ErrorCode::from_code(code.into()).unwrap(),
            "fail",
            why,
        ))
    }
}

/// The store, and a reference to it.
fn store() -> (Rc<Memory>, StoreRef) {
    let memory = Rc::new(Memory::default());
    let store = StoreRef::new(memory.clone()).unwrap();
    *memory.itself.borrow_mut() = Some(store.revocable().unwrap().0);
    (memory, store)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

/// The code and the sentence of an error.
fn said<T: std::fmt::Debug>(result: Result<T>) -> (ErrorCode, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

fn loopback() -> Net {
    testing::net("connect tcp 127.0.0.1:*")
}

#[test]
fn values_go_in_and_come_out() {
    let (memory, store) = store();
    store.put("a".to_owned(), vec![1, 2]).unwrap();
    assert_eq!(memory.values.borrow()["a"], [1, 2]);
    assert_eq!(store.get("a".to_owned()).unwrap(), Some(vec![1, 2]));
    assert_eq!(store.get("b".to_owned()).unwrap(), None);
    // A body that the trait has.
    assert_eq!(store.describe().unwrap(), "a store");
    // Who takes anything that implements the trait takes both.
    fn length(store: &impl Store) -> usize {
        store.get("a".to_owned()).unwrap().unwrap().len()
    }
    assert_eq!((length(&memory), length(&store)), (2, 2));
}

#[test]
fn capabilities_go_in_and_come_out_wherever_they_stand() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let (_memory, store) = store();
    let to = Target {
        address: address.clone(),
        fallback: None,
    };
    let mut stream = store.open(loopback(), to).unwrap();
    let mut peer = server.accept().unwrap().0;
    stream.write_all(b"there").unwrap();
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"there");

    // The second one is used: the order is kept.
    let to = Target {
        address,
        fallback: Some(loopback()),
    };
    store.open(testing::net(""), to).unwrap();

    let net = |port: u16| testing::net(format!("connect tcp 127.0.0.1:{port}").as_str());
    let (lent, revoker) = net(4).revocable().unwrap();
    let all = Bundle::Some {
        first: Some(net(1)),
        others: vec![net(2), net(3)],
        revokers: BTreeMap::from([("four".to_owned(), revoker)]),
    };
    let (last, others, revokers) = store.shuffle(all).unwrap();
    let rules = |net: &Net| net.describe().unwrap();
    assert_eq!(rules(&last.unwrap()), "connect tcp 127.0.0.1:3");
    let others: Vec<_> = others.iter().map(rules).collect();
    assert_eq!(others, ["connect tcp 127.0.0.1:2", "connect tcp 127.0.0.1:1"]);
    revokers["four"].revoke().unwrap();
    assert!(lent.describe().unwrap_err().is_revoked());
    let (none, empty, _) = store.shuffle(Bundle::Nothing).unwrap();
    assert!(none.is_none() && empty.is_empty());
}

#[test]
fn what_is_handed_over_ends_with_what_it_came_from() {
    let (_memory, store) = store();
    let (lent, revoker) = loopback().revocable().unwrap();
    let all = Bundle::Some {
        first: None,
        others: vec![lent],
        revokers: BTreeMap::new(),
    };
    let (came_back, _, _) = store.shuffle(all).unwrap();
    let came_back = came_back.unwrap();
    assert_eq!(came_back.describe().unwrap(), "connect tcp 127.0.0.1:*");
    // What it went through on its way is closed.
    assert_eq!(revoker.revoke().unwrap(), 1);
    assert!(came_back.describe().unwrap_err().is_revoked());
}

#[test]
fn references_of_interfaces_are_capabilities() {
    let (_memory, store) = store();
    assert_eq!(store.kind().unwrap(), Kind::Object);
    // Through a message of no type.
    let echo = Object::new(|_, mut message| {
        let store: StoreRef = message.take(0)?;
        store.put("by".to_owned(), b"hand".to_vec())?;
        Ok((7, Message::new().with(store)))
    });
    let (_, mut answer) = echo.unwrap().call(0, Message::new().with(store)).unwrap();
    let store: StoreRef = answer.take(0).unwrap();
    assert_eq!(store.get("by".to_owned()).unwrap().unwrap(), b"hand");
    // As something that is granted later.
    testing::grant("store", store);
    let store: StoreRef = grants::take("store").unwrap();
    // Without its type, and with it again.
    let object = Object::from(store);
    StoreRef::from(object).close().unwrap();
}

#[test]
fn a_call_comes_back_to_its_caller() {
    struct Follows {
        seen: RefCell<Vec<Vec<u8>>>,
        sent: Rc<Cell<u32>>,
    }
    impl Watcher for Follows {
        fn changed(&self, store: StoreRef, key: String) -> Result<()> {
            self.sent.set(self.sent.get() + 1);
            // The store calls, and is called.
            self.seen.borrow_mut().extend(store.get(key.clone())?);
            // And calls again, until it is enough.
            match self.sent.get() {
                3 => Ok(()),
                more => store.put(key, vec![more as u8]),
            }
        }
    }
    let (_memory, store) = store();
    let sent = Rc::new(Cell::new(0));
    let follows = Follows {
        seen: RefCell::default(),
        sent: sent.clone(),
    };
    store.watch(WatcherRef::new(follows).unwrap()).unwrap();
    store.put("a".to_owned(), vec![0]).unwrap();
    assert_eq!(sent.get(), 3);
    assert_eq!(store.get("a".to_owned()).unwrap(), Some(vec![2]));
}

#[test]
fn calls_inside_one_another_end_at_a_limit_and_leave_nothing() {
    struct Again;
    impl Watcher for Again {
        fn changed(&self, store: StoreRef, key: String) -> Result<()> {
            store.put(key, Vec::new())
        }
    }
    let (_memory, store) = store();
    store.watch(WatcherRef::new(Again).unwrap()).unwrap();
    assert_eq!(
        code(store.put("a".to_owned(), Vec::new())),
        ErrorCode::LimitReached
    );
    assert_eq!(store.describe().unwrap(), "a store");
}

#[test]
fn an_implementers_error_comes_with_its_code_and_its_sentence() {
    let (_memory, store) = store();
    for &error in ErrorCode::ALL {
        let number = u8::try_from(error.code()).unwrap();
        let (code, sentence) = said(store.fail(number, "for a reason".to_owned()));
        assert_eq!(
            (code, sentence.as_str()),
            (error, "Store::fail: fail: for a reason")
        );
    }
    // A long one is cut where a character ends.
    let (_, sentence) = said(store.fail(1, "é".repeat(10_000)));
    assert!(
        sentence.len() > 1000 && sentence.len() < 1100,
        "{}",
        sentence.len()
    );
}

/// What somebody thinks that a store is.
#[refcap_guest::interface]
trait Other {
    fn put(&self, number: u64) -> Result<()>;
    fn get(&self, key: String) -> Result<u8>;
    fn open(&self, stream: TcpStream, to: Target) -> Result<TcpStream>;
    fn nothing(&self) -> Result<()>;
    fn shuffle(&self, too: u8, many: Vec<u8>) -> Result<()>;
    fn describe(&self) -> Result<u64>;
    fn fail(&self, code: u8, why: (u32, u32)) -> Result<()>;
    fn ninth(&self) -> Result<()>;
}

#[test]
fn what_does_not_fit_is_an_error_with_its_reason_and_calls_nobody() {
    let (memory, store) = store();
    let other = OtherRef::from(Object::from(store));
    let bad = |result: Result<()>, why: &[&str]| {
        let (code, sentence) = said(result);
        assert_eq!(code, ErrorCode::BadArgument, "{sentence}");
        for why in why {
            assert!(sentence.contains(why), "{why:?} is not in {sentence}");
        }
    };
    bad(
        other.put(0),
        &[
            "Other::put: `Store::put`: the arguments can't be read: ",
            "end of buffer",
        ],
    );
    bad(other.nothing(), &["`Store::watch`"]);
    bad(
        other.shuffle(0, vec![1, 2]),
        &["`Store::shuffle`", "3 bytes are left over"],
    );
    bad(other.fail(3, (1, 0xff)), &["`Store::fail`", "utf-8"]);
    bad(
        other.ninth(),
        &["`Store` has 7 methods here, and none of the number 7"],
    );
    assert!(memory.values.borrow().is_empty());

    // A capability of another kind: the caller's stream is gone, and closed.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let stream = loopback().connect(address.as_str()).unwrap();
    let to = Target {
        address,
        fallback: None,
    };
    let (code, sentence) = said(other.open(stream, to));
    assert_eq!(code, ErrorCode::BadArgument);
    assert!(
        sentence.contains("the capability at place 0 is a TcpStream, not a Net"),
        "{sentence}"
    );
    assert_eq!(server.accept().unwrap().0.read(&mut [0]).unwrap(), 0);

    // Answers that are not what was asked for.
    memory.values.borrow_mut().insert("a".to_owned(), vec![1]);
    let (code, sentence) = said(other.get("a".to_owned()));
    assert_eq!(code, ErrorCode::CalleeFailed, "{sentence}");
    let (code, sentence) = said(other.describe());
    assert_eq!(code, ErrorCode::CalleeFailed);
    assert!(
        sentence.starts_with("Other::describe: the answer can't be read: "),
        "{sentence}"
    );
    let odd = Object::new(|number, _| match number {
        0 => Ok((9, Message::new())),
        1 => Ok((1, Message::new())),
        _ => Ok((1, Message::new().bytes([0x80, 0x20, 2, b'n', b'o']))),
    });
    let odd = OtherRef::from(odd.unwrap());
    for (result, why) in [
        (odd.put(0), "the number 9"),
        (odd.get(String::new()).map(drop), "can't be read"),
        (odd.nothing(), "Other::nothing: no"),
    ] {
        let (code, sentence) = said(result);
        assert_eq!(code, ErrorCode::CalleeFailed);
        assert!(sentence.contains(why), "{why:?} is not in {sentence}");
    }
}

#[test]
fn no_bytes_make_an_implementer_panic() {
    let (_memory, store) = store();
    let object = Object::from(store);
    let mut state = 1u64;
    for round in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..round % 40 {
            // Numerical Recipes' generator: it need not be good.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let byte = (state >> 56) as u8;
            bytes.push(if byte < 128 { byte % 8 } else { byte });
        }
        // Method 6 is told which error to fail with, and takes what is none for a mistake of the test's.
        let message = Message::new().bytes(bytes).with(loopback());
        let (number, _) = object.call((round % 6) as u32, message).unwrap();
        assert!(number <= 1);
    }
}

#[test]
fn a_capability_that_nobody_takes_is_closed() {
    let (_memory, store) = store();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = loopback().connect(server.local_addr().unwrap()).unwrap();
    let object = Object::from(store);
    let describe = 5;
    let (number, _) = object.call(describe, Message::new().with(stream)).unwrap();
    assert_eq!(number, 0);
    assert_eq!(server.accept().unwrap().0.read(&mut [0]).unwrap(), 0);
    // A place of the message is taken once, and one that there is not is no place.
    for places in [[0, 0], [0, 1]] {
        let open = 2;
        let bytes = [&[places[0], 1, b'x', 1, places[1]][..]].concat();
        let (number, answer) = object
            .call(open, Message::new().bytes(bytes).with(loopback()))
            .unwrap();
        let sentence = String::from_utf8_lossy(answer.as_bytes());
        assert_eq!(number, 1);
        assert!(sentence.contains("there is no capability at place"), "{sentence}");
    }
}

#[test]
fn a_capability_is_serialized_in_a_call_only() {
    /// Writes itself twice, and something in between.
    struct Odd(Net, Vec<u8>);
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (&self.0, &self.1, &self.0).serialize(serializer)
        }
    }
    impl<'a> Deserialize<'a> for Odd {
        fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Odd, D::Error> {
            let (net, bytes, _) = <(Net, Vec<u8>, Net)>::deserialize(deserializer)?;
            Ok(Odd(net, bytes))
        }
    }
    #[refcap_guest::interface]
    trait Takes {
        fn odd(&self, odd: Odd) -> Result<()>;
        fn all(&self, nets: Vec<Net>) -> Result<u32>;
        fn large(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
    }
    struct Any;
    impl Takes for Any {
        fn odd(&self, odd: Odd) -> Result<()> {
            assert!(odd.1.is_empty());
            Ok(())
        }
        fn all(&self, nets: Vec<Net>) -> Result<u32> {
            Ok(nets.len() as u32)
        }
        fn large(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
            Ok(bytes.repeat(2))
        }
    }
    let net = loopback();
    let error = serde_json::to_string(&net).unwrap_err();
    assert!(
        error.to_string().contains("as a part of a call to an interface"),
        "{error}"
    );
    let error = serde_json::from_str::<Net>("0").unwrap_err();
    assert!(
        error.to_string().contains("as a part of a call to an interface"),
        "{error}"
    );
    assert_eq!(net.describe().unwrap(), "connect tcp 127.0.0.1:*");

    let any = TakesRef::new(Any).unwrap();
    let (lent, revoker) = net.revocable().unwrap();
    let (code, sentence) = said(any.odd(Odd(lent, Vec::new())));
    assert_eq!(code, ErrorCode::NullReference);
    assert!(sentence.contains("sent before"), "{sentence}");
    // It was given up with the call that could not be made.
    assert_eq!(revoker.revoke().unwrap(), 0);

    assert_eq!(any.all((0..16).map(|_| loopback()).collect()).unwrap(), 16);
    let (code, sentence) = said(any.all((0..17).map(|_| loopback()).collect()));
    assert_eq!(code, ErrorCode::LimitReached);
    assert!(sentence.contains("no more than 16 capabilities"), "{sentence}");

    assert_eq!(any.large(vec![0; 30_000]).unwrap().len(), 60_000);
    for bytes in [40_000, 70_000] {
        let (code, sentence) = said(any.large(vec![0; bytes]));
        assert_eq!(code, ErrorCode::LimitReached);
        assert!(sentence.contains("may have 65536"), "{sentence}");
    }
}

#[test]
fn a_reference_can_be_taken_back() {
    let (memory, store) = store();
    let (lent, revoker) = store.revocable().unwrap();
    lent.put("a".to_owned(), Vec::new()).unwrap();
    assert_eq!(revoker.revoke().unwrap(), 1);
    let (ended, sentence) = said(lent.get("a".to_owned()));
    assert_eq!(ended, ErrorCode::Revoked);
    assert!(sentence.starts_with("Store::get: "), "{sentence}");
    assert!(store.get("a".to_owned()).unwrap().is_some());
    // What a watcher of somebody else's was sent ends too.
    let (lent, revoker) = WatcherRef::new(Nobody).unwrap().revocable().unwrap();
    store.watch(lent).unwrap();
    revoker.revoke().unwrap();
    assert_eq!(code(store.put("b".to_owned(), Vec::new())), ErrorCode::Revoked);
    assert_eq!(memory.values.borrow().len(), 2);
}

struct Nobody;

impl Watcher for Nobody {
    fn changed(&self, _: StoreRef, _: String) -> Result<()> {
        Ok(())
    }
}

#[test]
fn an_implementer_is_dropped_when_nobody_holds_it() {
    let (memory, store) = store();
    let weak = Rc::downgrade(&memory);
    memory.itself.take();
    drop((memory, store));
    // It is told when the next object is made, or the program serves.
    let served = object::serve(Some(Duration::from_millis(1)));
    assert_eq!(code(served), ErrorCode::TimedOut);
    assert!(weak.upgrade().is_none());
    assert_eq!(code(object::serve(None)), ErrorCode::CalleeFailed);
}

#[test]
fn messages_without_types_do_the_same_as_at_the_host() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = seen.clone();
    let object = Object::new(move |method, mut message| {
        kept.borrow_mut().push((method, message.capabilities()));
        match method {
            0 => message.take::<TcpStream>(0).map(|_| (0, Message::new())),
            1 => Ok((1, Message::new().with(message.take::<Net>(0)?))),
            2 => Ok((u32::MAX, Message::new())),
            _ => Err(Error::new(ErrorCode::Denied, "answer", "nothing of this arrives")),
        }
    });
    let object = object.unwrap();
    let call = |method, message| object.call(method, message);
    assert_eq!(code(call(0, Message::new())), ErrorCode::NotFound);
    assert_eq!(
        code(call(0, Message::new().with(loopback()))),
        ErrorCode::WrongKind
    );
    assert_eq!(code(call(2, Message::new())), ErrorCode::CalleeFailed);
    let (code_of_3, sentence) = said(call(3, Message::new()));
    assert_eq!(code_of_3, ErrorCode::Denied);
    assert!(
        sentence.contains("the program that implements the object says"),
        "{sentence}"
    );
    let (number, mut answer) = call(1, Message::new().with(loopback())).unwrap();
    assert_eq!((number, answer.capabilities()), (1, 1));
    answer.take::<Net>(0).unwrap();
    assert_eq!(code(answer.take::<Net>(0)), ErrorCode::NotFound);

    // What can't go along takes what was before it with it, and nothing goes with the next call.
    let stays = Poller::new().unwrap();
    let message = Message::new().with(loopback()).with(stays);
    assert_eq!(code(call(1, message)), ErrorCode::NotTransferable);
    assert_eq!(code(call(1, Message::new())), ErrorCode::NotFound);
    assert_eq!(
        code(call(1, Message::new().bytes(vec![0; 70_000]))),
        ErrorCode::LimitReached
    );
    assert_eq!(*seen.borrow(), [(0, 0), (0, 1), (2, 0), (3, 0), (1, 1), (1, 0)]);

    // Only the thread that made it calls it.
    let elsewhere = std::thread::spawn(move || code(object.call(1, Message::new())));
    assert_eq!(elsewhere.join().unwrap(), ErrorCode::CalleeFailed);
}
