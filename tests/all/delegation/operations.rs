//! What an actor can be ordered to do.

use std::fmt::Write as _;
use std::sync::OnceLock;

use refcap_abi::{IMPORTS, NO_WAIT, Param};
use refcap_authority::Query;

use super::actor::{
    ADDRESS_BYTES, ADDRESSES, ARGUMENTS, BEGUN, CALL, FOUND, ORDER, PAYLOAD, Part, QUERIES, QUERY_BYTES,
    SCRATCH, SLOTS, USE, address_at, name,
};
use super::network::{self, TCP, TUPLES, UDP};

/// Imports that can be ordered as they are. Slots for what is new come first, and what was there is given up.
pub(super) const PLAIN: [&str; 18] = [
    "net_only",
    "net_exactly",
    "net_except",
    "net_limit",
    "net_revocable",
    "object_new",
    "object_revocable",
    "revoker_revoke",
    "spawner_program",
    "child_grant",
    "child_start",
    "child_wait",
    "child_stop",
    "cap_kind",
    "cap_close",
    "grant_take",
    "net_connect",
    "net_bind_udp",
];

/// Operations that are more than one import, and their bodies.
fn composed() -> Vec<(&'static str, String)> {
    let slot = |n: i32| format!("(table.get $slots (local.get {n}))");
    let clear = |n: i32| format!("(call $clear (local.get {n}))");
    vec![
        // object, capability, its slot there, timeout
        (
            "give",
            format!(
                "(local.set $s (call $message_attach {}))
                 (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
                 (i32.store (i32.const {CALL}) (local.get 2))
                 (call $object_call {} (i32.const 1) (i32.const {CALL}) (i32.const 4) (local.get 3))",
                slot(1),
                slot(0)
            ),
        ),
        // object, the capability's slot there, the slot here, timeout
        (
            "fetch",
            format!(
                "(i32.store (i32.const {CALL}) (local.get 1))
                 (local.set $s (call $object_call {} (i32.const 2) (i32.const {CALL}) (i32.const 4) (local.get 3)))
                 (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
                 {}
                 (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
                 (table.set $slots (local.get 2) (local.get $r))
                 (local.get $s)",
                slot(0),
                clear(2)
            ),
        ),
        // object, method, two numbers, timeout
        (
            "call",
            format!(
                "(i32.store (i32.const {CALL}) (local.get 2)) (i32.store (i32.const {}) (local.get 3))
                 (call $object_call {} (local.get 1) (i32.const {CALL}) (i32.const 8) (local.get 4))",
                CALL + 4,
                slot(0)
            ),
        ),
        // child, MiB of memory, capabilities, sockets
        (
            "limits",
            format!(
                "(local.set $s (call $child_limit {0} (i32.const 1) (i32.shl (local.get 1) (i32.const 20)) (i32.const 0)))
                 (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
                 (local.set $s (call $child_limit {0} (i32.const 2) (local.get 2) (i32.const 0)))
                 (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
                 (call $child_limit {0} (i32.const 3) (local.get 3) (i32.const 0))",
                slot(0)
            ),
        ),
        // the tuple that is tried of each Net: 0, or the first slot that is not what was expected
        (
            "check",
            format!(
                "(local.set 1 (i32.const 1))
                 (loop $next
                   (local.set 2 (call $look (table.get $slots (local.get 1)) (local.get 0)))
                   (local.set 3 (i32.mul (i32.const 4) (local.get 1)))
                   (i32.store (i32.add (i32.const {FOUND}) (local.get 3)) (local.get 2))
                   (if (i32.eqz (local.get $s)) (then
                     (if (i32.ne (local.get 2) (i32.load (i32.add (i32.const {PAYLOAD}) (local.get 3))))
                       (then (local.set $s (local.get 1))))))
                   (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                   (br_if $next (i32.lt_u (local.get 1) (i32.const {SLOTS}))))
                 (local.get $s)"
            ),
        ),
        ("word", "(i32.load (local.get 0))".to_owned()),
        // the numbers of objects that nobody holds any more: how many, and their sum
        (
            "forgotten",
            format!(
                "(loop $next
                   (if (call $object_forgotten (i32.const {SCRATCH})) (then
                     (local.set $s (i32.add (local.get $s)
                       (i32.add (i32.const 65536) (i32.load (i32.const {SCRATCH})))))
                     (br $next))))
                 (local.get $s)"
            ),
        ),
        ("quit", "(global.set $quit (i32.const 1)) (local.get 0)".to_owned()),
        ("exit", "(call $proc_exit (local.get 0)) (unreachable)".to_owned()),
        ("trap", "(unreachable)".to_owned()),
        ("spin", "(loop $again (br $again)) (unreachable)".to_owned()),
        // by a plain call of wasm: to the wing, and from there
        (
            "share",
            format!("(call $wing_put {} (local.get 1)) (i32.const 0)", slot(0)),
        ),
        (
            "borrow",
            format!(
                "{} (table.set $slots (local.get 1) (call $wing_get (local.get 0))) (i32.const 0)",
                clear(1)
            ),
        ),
    ]
}

/// The number of an operation.
pub(super) fn operation(name: &str) -> i32 {
    static NAMES: OnceLock<Vec<&str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let composed = composed().into_iter().map(|(name, _)| name);
        PLAIN.into_iter().chain(composed).collect()
    });
    let place = names.iter().position(|other| *other == name);
    i32::try_from(place.unwrap_or_else(|| panic!("there is no operation `{name}`"))).unwrap()
}

/// `$look(reference, tuple) -> word`: uses a capability in every way that leaves it as it is.
pub(super) fn look(wat: &mut String) {
    let mut allows = String::new();
    for tuple in 0..TUPLES {
        let query: Query = network::query(tuple).parse().unwrap();
        let (at, length) = (
            QUERIES + QUERY_BYTES * i32::try_from(tuple).unwrap(),
            query.encode().len(),
        );
        writeln!(
            allows,
            "(if (i32.eq (call $net_allows (local.get $r) (i32.const {at}) (i32.const {length})) (i32.const 1))
               (then (local.set $word (i32.or (local.get $word) (i32.const {})))))",
            1 << tuple
        )
        .unwrap();
    }
    let mut peers = String::new();
    for tuple in UDP..UDP + TCP {
        writeln!(
            peers,
            "(if (i32.eqz (call $udp_connect (local.get $r) (i32.const {}) (i32.const 7)))
               (then (local.set $word (i32.or (local.get $word) (i32.const {})))))",
            address_at(tuple),
            1 << tuple
        )
        .unwrap();
    }
    let [single, single_length] = name("single");
    writeln!(
        wat,
        r#"
  (func $look (param $r externref) (param $tuple i32) (result i32)
    (local $kind i32) (local $word i32) (local $new externref) (local $s i32)
    (local.set $kind (call $cap_kind (local.get $r)))
    (if (i32.lt_s (local.get $kind) (i32.const 0)) (then (return (local.get $kind))))
    (local.set $word (i32.shl (local.get $kind) (i32.const 24)))
    (if (i32.eq (local.get $kind) (i32.const 1)) (then ;; a Net
      {allows}
      (call $net_connect (local.get $r)
        (i32.add (i32.const {ADDRESSES}) (i32.mul (local.get $tuple) (i32.const {ADDRESS_BYTES})))
        (i32.const 7) (i32.const {NO_WAIT}))
      (local.set $s) (local.set $new)
      (if (i32.ge_s (local.get $s) (i32.const 0)) (then
        (drop (call $cap_close (local.get $new)))
        (return (i32.or (local.get $word) (i32.const {BEGUN})))))
      ;; Denied is no; that the machine has no such address is not about authority.
      (if (i32.eq (local.get $s) (i32.const -1)) (then (return (local.get $word))))
      (if (i32.or (i32.eq (local.get $s) (i32.const -18)) (i32.eq (local.get $s) (i32.const -19)))
        (then (return (i32.or (local.get $word) (i32.const {BEGUN})))))
      (return (i32.sub (local.get $s) (i32.const 2000)))))
    (if (i32.eq (local.get $kind) (i32.const 2)) (then ;; a TcpStream
      (local.set $s (call $stream_read (local.get $r) (i32.const {SCRATCH}) (i32.const 16)))))
    (if (i32.eq (local.get $kind) (i32.const 6)) (then ;; a UdpSocket
      {peers}
      (return (local.get $word))))
    (if (i32.eq (local.get $kind) (i32.const 8)) (then ;; an Object
      (local.set $s
        (call $object_call (local.get $r) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 20000)))))
    (if (i32.eq (local.get $kind) (i32.const 9)) (then ;; a Spawner
      (call $spawner_program (local.get $r) (i32.const {single}) (i32.const {single_length}))
      (local.set $s) (local.set $new)
      (if (i32.ge_s (local.get $s) (i32.const 0)) (then (drop (call $cap_close (local.get $new)))))))
    (if (i32.eq (local.get $kind) (i32.const 10)) (then ;; a Child
      (local.set $s (call $child_wait (local.get $r) (i32.const {SCRATCH}) (i32.const 8) (i32.const {NO_WAIT})))
      (if (i32.gt_s (local.get $s) (i32.const 0)) (then (local.set $s (i32.const 1))))))
    (i32.or (local.get $word) (i32.add (local.get $s) (i32.const {USE}))))"#
    )
    .unwrap();
}

/// One function for each operation, all of one type, and a table of them.
pub(super) fn operations(wat: &mut String, part: Part) {
    let mut table = String::new();
    let body = "(type $operation) (local $s i32) (local $r externref) (local $t externref)";
    for name in PLAIN {
        let import = IMPORTS.iter().find(|import| import.name == name).unwrap();
        write!(wat, "  (func $do_{name} {body}").unwrap();
        for new in 0..import.refs_out {
            write!(wat, " (call $clear (local.get {new}))").unwrap();
        }
        for (index, param) in import.params.iter().enumerate() {
            let local = import.refs_out + index;
            match param {
                Param::Ref => write!(wat, " (table.get $slots (local.get {local}))").unwrap(),
                Param::I32 => write!(wat, " (local.get {local})").unwrap(),
            }
        }
        write!(wat, " (call ${name}) (local.set $s)").unwrap();
        for (new, local) in ["$r", "$t"][..import.refs_out].iter().enumerate().rev() {
            write!(
                wat,
                " (local.set {local}) (table.set $slots (local.get {new}) (local.get {local}))"
            )
            .unwrap();
        }
        *wat += " (local.get $s))\n";
        write!(table, " $do_{name}").unwrap();
    }
    for (name, code) in composed() {
        let code = match (name, part) {
            ("share" | "borrow", Part::Single | Part::Wing) => "(unreachable)",
            _ => &code,
        };
        writeln!(wat, "  (func $do_{name} {body} {code})").unwrap();
        write!(table, " $do_{name}").unwrap();
    }
    let arguments: String = (1..=ARGUMENTS)
        .map(|n| {
            format!(
                " (i32.load (i32.const {}))",
                ORDER + 4 * i32::try_from(n).unwrap()
            )
        })
        .collect();
    writeln!(
        wat,
        "  (table $operations funcref (elem{table}))
  (func $run (result i32)
    (call_indirect $operations (type $operation){arguments} (i32.load (i32.const {ORDER}))))"
    )
    .unwrap();
}
