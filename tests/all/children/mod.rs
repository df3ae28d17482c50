//! Programs that programs start.

mod ends;
mod limits;
mod log;
mod many;
mod starting;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use refcap::{
    Capability, Captured, ChildOutput, ErrorCode, Kind, Limits, Output, Program, RunError, SpawnerRefused,
    SpawnerTerms, ambient_authority,
};
use refcap_abi::ending::Ending;
use refcap_abi::{LIMIT_CAPABILITIES, LIMIT_MEMORY, LIMIT_SOCKETS, LIMIT_TIME, NO_WAIT, wire};

use crate::support::servers::{Silent, closed};
use crate::support::{ANSWERS, Puppet, engine, net, program, soon};

/// The puppet's spawner.
const SPAWNER: i32 = 2;
/// Its first child.
const CHILD: i32 = 3;

fn exited(code: i32) -> Ending {
    Ending::Exited {
        code,
        report: String::new(),
    }
}

/// A program without endowments.
fn plain(body: &str) -> Program {
    program(&format!(
        r#"(module (memory (export "memory") 1) (func (export "refcap_start") (result i32) {body}))"#
    ))
}

fn spin() -> Program {
    plain("(loop $again (br $again)) (unreachable)")
}

/// The imports of the programs below, their table of references, and the export that fills it: slot 0 is the first
/// endowment.
fn with_endowments(endowments: &str, rest: &str) -> Program {
    program(&format!(
        r#"(module
  (@custom "refcap.endowments" "{endowments}")
  (import "refcap_v1" "net_connect" (func $connect (param externref i32 i32 i32) (result externref i32)))
  (import "refcap_v1" "net_flags" (func $flags (param externref) (result i32)))
  (import "refcap_v1" "socket_wait" (func $socket_wait (param externref i32 i32) (result i32)))
  (import "refcap_v1" "stream_read" (func $read (param externref i32 i32) (result i32)))
  (import "refcap_v1" "spawner_program" (func $program (param externref i32 i32) (result externref i32)))
  (import "refcap_v1" "child_grant" (func $grant (param externref externref i32 i32) (result i32)))
  (import "refcap_v1" "child_limit" (func $limit (param externref i32 i32 i32) (result i32)))
  (import "refcap_v1" "child_start" (func $start (param externref) (result i32)))
  (import "refcap_v1" "child_wait" (func $child_wait (param externref i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $slots 4 externref)
  (global $granted (mut i32) (i32.const 0))
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $slots (global.get $granted) (local.get 0))
    (global.set $granted (i32.add (global.get $granted) (i32.const 1)))
    (i32.const 0))
  {rest})"#
    ))
}

/// Connects to an address and reads until there is nothing more; exits with the last status.
pub(crate) fn reader(address: SocketAddr) -> Program {
    let bytes: String = wire::encode_address(address)
        .iter()
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    with_endowments(
        r"net Net required\n",
        &format!(
            r#"(data (i32.const 16) "{bytes}")
  (func (export "refcap_start") (result i32) (local $stream externref) (local $status i32)
    (call $connect (table.get $slots (i32.const 0)) (i32.const 16) (i32.const 7) (i32.const 0))
    (local.set $status) (local.set $stream)
    (loop $next
      (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
      (local.set $status (call $socket_wait (local.get $stream) (i32.const 1) (i32.const 0)))
      (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
      (local.set $status (call $read (local.get $stream) (i32.const 1024) (i32.const 64)))
      (br_if $next (local.get $status)))
    (i32.const 0))"#
        ),
    )
}

/// Starts a program with so many bytes of memory, four capabilities for each MiB of them, and with what it was given itself, and exits: with the status of what
/// failed, or at once, or, if it is to `wait`, when its child has ended and with that one's exit code.
fn starter(next: &str, memory: u32, wait: bool) -> Program {
    let wait = match wait {
        true => {
            "(call $child_wait (local.get $child) (i32.const 512) (i32.const 64) (i32.const 0))
             (local.set $status)
             (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
             (return (i32.load (i32.const 513)))"
        }
        false => "",
    };
    let (length, capabilities) = (next.len(), memory >> 18);
    with_endowments(
        r"spawner Spawner required\nnet Net optional\n",
        &format!(
            r#"(data (i32.const 16) "{next}") (data (i32.const 256) "netspawner")
  (func (export "refcap_start") (result i32) (local $child externref) (local $status i32)
    (call $program (table.get $slots (i32.const 0)) (i32.const 16) (i32.const {length}))
    (local.set $status) (local.set $child)
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
    (drop (call $limit (local.get $child) (i32.const 1) (i32.const {memory}) (i32.const 0)))
    (drop (call $limit (local.get $child) (i32.const 2) (i32.const {capabilities}) (i32.const 0)))
    (drop (call $grant (local.get $child) (table.get $slots (i32.const 1)) (i32.const 256) (i32.const 3)))
    (drop (call $grant (local.get $child) (table.get $slots (i32.const 0)) (i32.const 259) (i32.const 7)))
    (local.set $status (call $start (local.get $child)))
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
    {wait}
    (i32.const 0))"#
        ),
    )
}

/// Terms on which `a` starts `b`, that starts `c`, and so on to `d`, which is this one. Each waits for the next.
fn chain(last: &Program) -> SpawnerTerms {
    SpawnerTerms::new()
        .program("a", &starter("b", 16 << 20, true))
        .program("b", &starter("c", 8 << 20, true))
        .program("c", &starter("d", 4 << 20, true))
        .program("d", last)
        .limits(Limits::default().memory(32 << 20).capabilities(10).sockets(2))
        .most(Limits::default())
}

fn spawner(terms: SpawnerTerms) -> Capability {
    Capability::spawner("spawner", terms, ambient_authority()).unwrap()
}

/// A puppet with a Net to loopback and a spawner.
async fn parent(terms: SpawnerTerms, limits: Limits) -> (Puppet, Capability, Capability) {
    let (net, spawner) = (net("connect tcp 127.0.0.1:*"), spawner(terms));
    let mut guest = Puppet::with_limits(&net, limits).await;
    guest.handle().grant("spawner", &spawner);
    guest.take(SPAWNER, "spawner").await.unwrap();
    (guest, net, spawner)
}

/// A puppet that can start one program, `next`.
async fn parent_of(program: &Program) -> (Puppet, Capability, Capability) {
    parent(SpawnerTerms::new().program("next", program), Limits::default()).await
}

impl Puppet {
    pub(crate) async fn prepare(&mut self, child: i32, name: &str) -> Result<i32, ErrorCode> {
        self.with_text("spawner_program", &[child, SPAWNER], name).await
    }

    pub(crate) async fn give(&mut self, child: i32, capability: i32, name: &str) -> Result<i32, ErrorCode> {
        self.with_text("child_grant", &[child, capability], name).await
    }

    pub(crate) async fn limit_child(
        &mut self,
        child: i32,
        which: i32,
        amount: u64,
    ) -> Result<i32, ErrorCode> {
        let [low, high] = [amount as u32, (amount >> 32) as u32].map(u32::cast_signed);
        self.call("child_limit", &[child, which, low, high]).await
    }

    pub(crate) async fn start_child(&mut self, child: i32) -> Result<i32, ErrorCode> {
        soon(self.call("child_start", &[child])).await
    }

    pub(crate) async fn wait_for(&mut self, child: i32, timeout: i32) -> Result<Ending, ErrorCode> {
        let length = soon(self.call("child_wait", &[child, ANSWERS, 8192, timeout])).await?;
        Ok(Ending::decode(&self.read(ANSWERS, length.min(8192)).await).unwrap())
    }

    pub(crate) async fn stop_child(&mut self, child: i32) -> Result<i32, ErrorCode> {
        soon(self.call("child_stop", &[child])).await
    }

    /// Starts `next`, with the puppet's Net where the program asks for one.
    async fn spawn(&mut self, child: i32) {
        self.prepare(child, "next").await.unwrap();
        if let Err(error) = self.give(child, 1, "net").await {
            assert_eq!(error, ErrorCode::BadArgument);
        }
        let started = self.start_child(child).await;
        assert_eq!(started, Ok(0), "{}", self.error_message().await);
    }
}
