//! Programs that end while others hold something of theirs, call them, or are called by them.
//!
//! The puppet is the parent. Its children, and theirs, are *members*: programs that serve calls and do what they are
//! told by them, at once (`NOW`) or when they have answered (`AFTER`). What they are told is an order, which may have
//! another one in it, for whomever they call.

mod called;
mod cycles;
mod parents;
mod rings;

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use refcap::{Capability, ErrorCode, Limits, Program, SpawnerTerms, ambient_authority};
use refcap_abi::ending::Ending;
use refcap_abi::{LIMIT_CAPABILITIES, LIMIT_MEMORY, LIMIT_SOCKETS, wire};

use crate::objects::module;
use crate::support::{Puppet, net, program, soon};

/// The puppet's slots: its Net, its spawner, what it has for a moment, and its members. The handle of a member as a child
/// is so many slots behind its object.
const NET: i32 = 1;
const SPAWNER: i32 = 2;
const TEMPORARY: i32 = 3;
const A: i32 = 6;
const B: i32 = 7;
const C: i32 = 8;
const CHILD: i32 = 4;

/// A member's slots: the object that it reports to, and what others have lent it. Its own members have the same slots as
/// the puppet's.
const HOME: i32 = 0;
const LENT: i32 = 4;
const STREAM: i32 = 5;

/// The methods of a member's objects, besides those of the puppet's.
const KEEP: i32 = 2;
const NOW: i32 = 20;
const AFTER: i32 = 21;
/// What a report is: a status and so much.
const REPORT: i32 = 10_000;

const EXIT_CODE: i32 = 9;

/// What a member can be told. All orders have four words, and then what is for whomever is called.
type Order = Vec<i32>;

fn order(words: [i32; 4], rest: Order) -> Order {
    [words.to_vec(), rest].concat()
}

/// Return this.
fn say(number: i32) -> Order {
    order([0, number, 0, 0], Order::new())
}

fn trap() -> Order {
    order([1, 0, 0, 0], Order::new())
}

fn exit() -> Order {
    order([2, 0, 0, 0], Order::new())
}

fn spin() -> Order {
    order([3, 0, 0, 0], Order::new())
}

/// Call an object with this order, and return what comes of it.
fn call(object: i32, method: i32, rest: Order) -> Order {
    call_within(object, method, 0, rest)
}

/// The same, for so many milliseconds.
fn call_within(object: i32, method: i32, time: i32, rest: Order) -> Order {
    order([4, object, method, time], rest)
}

/// Serve one call.
fn serve() -> Order {
    order([5, 0, 0, 0], Order::new())
}

/// Tell the parent that this is about to be done, and do it.
fn tell_and(rest: Order) -> Order {
    order([6, HOME, 0, 0], rest)
}

/// Call an object for so many milliseconds, and do this whatever came of it.
fn call_and(object: i32, time: i32, rest: Order) -> Order {
    order([6, object, 0, time], rest)
}

/// Return what came of the last call, as a report.
fn heard() -> Order {
    order([7, 0, 0, 0], Order::new())
}

/// Start a member of one's own, whose object comes into this slot.
fn start(slot: i32) -> Order {
    order([8, slot, 0, 0], Order::new())
}

/// Connect, read until there is nothing more, and return the last status.
fn read(address: SocketAddr) -> Order {
    let mut bytes = wire::encode_address(address);
    bytes.resize(8, 0);
    let words = bytes
        .chunks(4)
        .map(|word| i32::from_le_bytes(word.try_into().unwrap()));
    order([9, 0, 0, 0], words.collect())
}

/// Send what is in a slot along with a call.
fn lend(slot: i32, object: i32, time: i32) -> Order {
    order([10, slot, object, time], Order::new())
}

/// Make an object of that number, and send it along with a call.
fn offer(number: i32, object: i32) -> Order {
    order([11, number, object, 0], Order::new())
}

/// Return the number of an object that nobody holds any more, or 0.
fn forgotten() -> Order {
    order([12, 0, 0, 0], Order::new())
}

/// Connect, and keep the stream.
fn connect(address: SocketAddr) -> Order {
    let mut order = read(address);
    order[1] = 1;
    order
}

/// Serve one call in the middle of this one; return how many were in the middle of each other.
fn serve_deeper() -> Order {
    order([13, 0, 0, 0], Order::new())
}

/// Return how many calls were in the middle of each other at most.
fn deepest() -> Order {
    order([14, 0, 0, 0], Order::new())
}

fn member() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let imports = [
            "object_new",
            "object_call",
            "object_serve",
            "object_forgotten",
            "message_read",
            "message_attach",
            "message_take",
            "net_connect",
            "socket_wait",
            "stream_read",
            "spawner_program",
            "child_grant",
            "child_limit",
            "child_start",
            "cap_close",
        ];
        program(&module(&imports, MEMBER))
    })
}

const MEMBER: &str = r#"
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (@custom "refcap.endowments" "home Object required\nnet Net optional\nspawner Spawner optional\n")
  (memory (export "memory") 2)
  (table $slots 16 externref)
  (global $granted (mut i32) (i32.const 0))
  ;; Messages are read one behind the other, for a call may come in the middle of another.
  (global $top (mut i32) (i32.const 1024))
  (global $pending (mut i32) (i32.const 0))
  (global $heard (mut i32) (i32.const 0))
  (global $depth (mut i32) (i32.const 0))
  (global $deepest (mut i32) (i32.const 0))
  (data (i32.const 16) "member") (data (i32.const 32) "homenetspawner")
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $slots (global.get $granted) (local.get 0))
    (global.set $granted (i32.add (global.get $granted) (i32.const 1)))
    (i32.const 0))
  (func $send (param $slot i32) (param $object externref) (param $time i32) (result i32) (local $s i32)
    (local.set $s (call $message_attach (local.get $object)))
    (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
    (call $object_call (table.get $slots (local.get $slot)) (i32.const 2) (i32.const 0) (i32.const 0) (local.get $time)))
  (func $do (param $at i32) (param $length i32) (result i32)
    (local $a i32) (local $b i32) (local $c i32) (local $s i32) (local $r externref)
    (local.set $a (i32.load offset=4 (local.get $at)))
    (local.set $b (i32.load offset=8 (local.get $at)))
    (local.set $c (i32.load offset=12 (local.get $at)))
    (local.set $length (i32.sub (local.get $length) (i32.const 16)))
    (block $deepest (block $deeper (block $forgotten (block $offer (block $lend (block $read (block $start (block $heard
      (block $tell (block $serve (block $call (block $spin (block $exit (block $trap (block $say
        (br_table $say $trap $exit $spin $call $serve $tell $heard $start $read $lend $offer $forgotten $deeper $deepest
          (i32.load (local.get $at))))
        ;; say
        (return (local.get $a)))
        ;; trap
        (unreachable))
        ;; exit
        (call $proc_exit (i32.const 9)) (unreachable))
        ;; spin
        (loop $again (br $again)) (unreachable))
        ;; call
        (global.set $heard
          (call $object_call (table.get $slots (local.get $a)) (local.get $b)
            (i32.add (local.get $at) (i32.const 16)) (local.get $length) (local.get $c)))
        (return (global.get $heard)))
        ;; serve
        (return (call $object_serve (i32.const 0))))
        ;; tell
        (drop (call $object_call (table.get $slots (local.get $a)) (i32.const 10000)
          (i32.const 0) (i32.const 0) (local.get $c)))
        (return (call $do (i32.add (local.get $at) (i32.const 16)) (local.get $length))))
        ;; heard
        (return (i32.add (global.get $heard) (i32.const 10000))))
        ;; start
        (call $spawner_program (table.get $slots (i32.const 2)) (i32.const 16) (i32.const 6))
        (local.set $s) (local.set $r)
        (if (local.get $s) (then (return (local.get $s))))
        (table.set $slots (i32.add (local.get $a) (i32.const 4)) (local.get $r))
        (drop (call $child_limit (local.get $r) (i32.const 1) (i32.const 0x400000) (i32.const 0)))
        (drop (call $child_limit (local.get $r) (i32.const 2) (i32.const 20) (i32.const 0)))
        (drop (call $child_limit (local.get $r) (i32.const 3) (i32.const 2) (i32.const 0)))
        (drop (call $child_grant (local.get $r) (table.get $slots (i32.const 1)) (i32.const 36) (i32.const 3)))
        (call $object_new (local.get $a)) (drop) (local.set $r)
        (drop (call $child_grant (table.get $slots (i32.add (local.get $a) (i32.const 4))) (local.get $r)
          (i32.const 32) (i32.const 4)))
        (drop (call $cap_close (local.get $r)))
        (local.set $s (call $child_start (table.get $slots (i32.add (local.get $a) (i32.const 4)))))
        (if (local.get $s) (then (return (local.get $s))))
        ;; It sends its object.
        (return (call $object_serve (i32.const 0))))
        ;; read, or only connect
        (call $net_connect (table.get $slots (i32.const 1)) (i32.add (local.get $at) (i32.const 16)) (i32.const 7)
          (i32.const 0))
        (local.set $s) (local.set $r)
        (table.set $slots (i32.const 5) (local.get $r))
        (if (i32.or (local.get $a) (local.get $s)) (then (return (local.get $s))))
        (loop $next
          (local.set $s (call $socket_wait (local.get $r) (i32.const 1) (i32.const 0)))
          (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
          (local.set $s (call $stream_read (local.get $r) (i32.const 512) (i32.const 64)))
          (br_if $next (i32.gt_s (local.get $s) (i32.const 0))))
        (return (local.get $s)))
        ;; lend
        (global.set $heard
          (call $send (local.get $b) (table.get $slots (local.get $a)) (local.get $c)))
        (return (global.get $heard)))
        ;; offer
        (call $object_new (local.get $a)) (drop) (local.set $r)
        (local.set $s (call $send (local.get $b) (local.get $r) (i32.const 0)))
        (drop (call $cap_close (local.get $r)))
        (return (local.get $s)))
        ;; forgotten
        (if (call $object_forgotten (local.get $at)) (then (return (i32.load (local.get $at)))))
        (return (i32.const 0)))
        ;; deeper
        (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
        (if (i32.gt_s (global.get $depth) (global.get $deepest)) (then (global.set $deepest (global.get $depth))))
        (local.set $s (call $object_serve (i32.const 0)))
        (global.set $depth (i32.sub (global.get $depth) (i32.const 1)))
        (return (local.get $s)))
        ;; deepest
        (global.get $deepest))
  (func (export "refcap_dispatch")
      (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
    (local $s i32) (local $r externref)
    (if (i32.eq (local.get $method) (i32.const 2)) (then
      (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
      ;; Its own object has the number 4, and the slot with what it is lent.
      (table.set $slots (local.get $number) (local.get $r))
      (return (local.get $s))))
    (if (i32.eq (local.get $method) (i32.const 21)) (then
      (drop (call $message_read (i32.const 256) (i32.const 256)))
      (global.set $pending (local.get $length))
      (return (i32.const 0))))
    (if (i32.eq (local.get $method) (i32.const 20)) (then
      (drop (call $message_read (global.get $top) (i32.const 256)))
      (global.set $top (i32.add (global.get $top) (i32.const 256)))
      (local.set $s (call $do (i32.sub (global.get $top) (i32.const 256)) (local.get $length)))
      (global.set $top (i32.sub (global.get $top) (i32.const 256)))
      (return (local.get $s))))
    (local.get $number))
  (func (export "refcap_start") (result i32) (local $s i32) (local $r externref)
    (call $object_new (i32.const 4)) (drop) (local.set $r)
    (local.set $s (call $send (i32.const 0) (local.get $r) (i32.const 0)))
    (drop (call $cap_close (local.get $r)))
    (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
    (loop $next
      (local.set $s (call $object_serve (i32.const 0)))
      (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
      (if (global.get $pending) (then
        (local.set $s (global.get $pending))
        (global.set $pending (i32.const 0))
        (local.set $s (call $do (i32.const 256) (local.get $s)))
        (drop (call $object_call (table.get $slots (i32.const 0)) (i32.add (local.get $s) (i32.const 10000))
          (i32.const 0) (i32.const 0) (i32.const 0)))))
      (br $next))
    (unreachable))"#;

/// A parent of members, its Net and its spawner.
async fn family() -> (Puppet, Capability, Capability) {
    let net = net("connect tcp 127.0.0.1:*");
    let spawner = spawner();
    let mut parent = Puppet::start(&net).await;
    parent.handle().grant("spawner", &spawner);
    parent.take(SPAWNER, "spawner").await.unwrap();
    (parent, net, spawner)
}

fn spawner() -> Capability {
    let terms = SpawnerTerms::new()
        .program("member", member())
        .children(100)
        .depth(2)
        .most(Limits::default());
    Capability::spawner("spawner", terms, ambient_authority()).unwrap()
}

impl Puppet {
    /// Starts a member, whose object comes into this slot. It has a Net, and if it is to have members of its own a
    /// spawner.
    async fn member(&mut self, slot: i32, net: i32, spawner: Option<i32>) {
        let child = slot + CHILD;
        self.prepare(child, "member").await.unwrap();
        self.call("object_new", &[TEMPORARY, slot]).await.unwrap();
        self.give(child, TEMPORARY, "home").await.unwrap();
        self.close(TEMPORARY).await.unwrap();
        self.give(child, net, "net").await.unwrap();
        let (memory, capabilities, sockets) = match spawner {
            Some(spawner) => {
                self.give(child, spawner, "spawner").await.unwrap();
                (32 << 20, 200, 20)
            }
            None => (4 << 20, 20, 2),
        };
        for (which, amount) in [
            (LIMIT_MEMORY, memory),
            (LIMIT_CAPABILITIES, capabilities),
            (LIMIT_SOCKETS, sockets),
        ] {
            self.limit_child(child, which, amount).await.unwrap();
        }
        let started = self.start_child(child).await;
        assert_eq!(started, Ok(0), "{}", self.error_message().await);
        self.serve_one().await;
    }

    /// Answers one call of a member's.
    async fn serve_one(&mut self) {
        soon(self.call("object_serve", &[0])).await.unwrap();
    }

    /// Gives an order and waits for what comes of it.
    async fn tell(&mut self, member: i32, method: i32, order: Order) -> Result<i32, ErrorCode> {
        self.tell_within(member, method, 0, order).await
    }

    async fn tell_within(
        &mut self,
        member: i32,
        method: i32,
        time: i32,
        order: Order,
    ) -> Result<i32, ErrorCode> {
        let bytes: Vec<u8> = order.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(1024, &bytes).await;
        let length = i32::try_from(bytes.len()).unwrap();
        soon(self.call("object_call", &[member, method, 1024, length, time])).await
    }

    /// What a member reports of what it was to do `AFTER` its answer, or that it is about to do something.
    async fn report(&mut self) -> Result<i32, ErrorCode> {
        self.serve_one().await;
        let status = self.raw("last_method", &[]).await - REPORT;
        match status {
            0.. => Ok(status),
            _ => Err(ErrorCode::from_code(status).unwrap()),
        }
    }

    /// Gives one member the object of another.
    async fn introduce(&mut self, to: i32, whom: i32) {
        self.call("message_attach", &[whom]).await.unwrap();
        let kept = soon(self.call("object_call", &[to, KEEP, 0, 0, 0])).await;
        kept.unwrap();
    }

    /// What a member heard when it called somebody last.
    async fn heard_by(&mut self, member: i32) -> Result<i32, ErrorCode> {
        let status = self.tell(member, NOW, heard()).await.unwrap() - REPORT;
        match status {
            0.. => Ok(status),
            _ => Err(ErrorCode::from_code(status).unwrap()),
        }
    }

    /// Gives up a member that has ended.
    async fn give_up(&mut self, member: i32) {
        self.close(member).await.unwrap();
        self.close(member + CHILD).await.unwrap();
    }

    /// Nothing of the members is there any more, and the parent has what it had before.
    fn is_left_alone(&self, net: &Capability, spawner: &Capability) {
        assert_eq!(self.handle().children(), 0);
        assert_eq!(self.handle().sockets(), 0);
        // Its Net and its spawner, each with the embedder's above it.
        assert_eq!(self.handle().capabilities(), 2);
        assert_eq!(net.lineage().len(), 2, "{:#?}", net.lineage());
        assert_eq!(spawner.lineage().len(), 2, "{:#?}", spawner.lineage());
    }
}

/// A way in which a member ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Exits,
    Traps,
    IsStopped,
}

const WAYS: [Way; 3] = [Way::Exits, Way::Traps, Way::IsStopped];

impl Way {
    /// Ends a member that serves, and waits until it is gone.
    async fn ends(self, parent: &mut Puppet, member: i32) {
        match self {
            Way::Exits => parent.tell(member, AFTER, exit()).await.unwrap(),
            Way::Traps => parent.tell(member, AFTER, trap()).await.unwrap(),
            Way::IsStopped => parent.stop_child(member + CHILD).await.unwrap(),
        };
        self.has_ended(parent, member).await;
    }

    /// Waits until it is gone.
    async fn has_ended(self, parent: &mut Puppet, member: i32) {
        let ending = parent.wait_for(member + CHILD, 0).await.unwrap();
        let is_so = match self {
            Way::Exits => {
                ending
                    == Ending::Exited {
                        code: EXIT_CODE,
                        report: String::new(),
                    }
            }
            Way::Traps => matches!(&ending, Ending::Trapped { message } if message.contains("unreachable")),
            Way::IsStopped => ending == Ending::Stopped,
        };
        assert!(is_so, "{self:?}: {ending:?}");
    }
}

/// Long enough for a call to be where it is going. Nothing depends on it but which way is tried.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
