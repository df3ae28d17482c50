//! The guest, in text: its loops are the same for every model, down to the instruction; only what stands for a
//! handle differs.

use std::net::SocketAddr;

use refcap_authority::Rules;

/// What differs between models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handles {
    /// The wasm module of the imports.
    pub(crate) module: &'static str,
    /// The type of a handle.
    pub(crate) ty: &'static str,
    pub(crate) null: &'static str,
    /// Where handles are kept, and how one is read and written; `$i` is the place.
    store: &'static str,
    load: &'static str,
    save_begin: &'static str,
    /// Grows the store to hold `$live`.
    grow: &'static str,
}

/// References, in a table.
pub(crate) const REFERENCES: Handles = Handles {
    module: refcap_abi::MODULE,
    ty: "externref",
    null: "(ref.null extern)",
    store: "(table $handles 1 externref)",
    load: "(table.get $handles (local.get $i))",
    save_begin: "(table.set $handles (local.get $i)",
    grow: "(drop (table.grow $handles (ref.null extern) (i32.sub (local.get $live) (table.size $handles))))",
};

/// Numbers, in memory.
pub(crate) const NUMBERS: Handles = Handles {
    module: "integers",
    ty: "i32",
    null: "(i32.const -1)",
    store: "",
    load: "(i32.load offset=65536 (i32.shl (local.get $i) (i32.const 2)))",
    save_begin: "(i32.store offset=65536 (i32.shl (local.get $i) (i32.const 2))",
    grow: "(drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $live) (i32.const 14)))))",
};

/// The rule that guests derive by: another port each time, so that no two are the same.
const RULE: &str = "connect tcp 10.1.2.3:4660";
const RULE_AT: usize = 1024;

/// Bytes as a module in text has them.
pub(crate) fn data(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A guest that holds handles and uses them. Every loop returns how many of its calls did what they should.
pub(crate) fn source(handles: Handles) -> String {
    let Handles {
        module,
        ty,
        null,
        store,
        load,
        save_begin,
        grow,
    } = handles;
    let rule = Rules::parse(RULE).expect("the rule is one").encode();
    // The last two bytes but one are the last port of the range: big-endian, as is the first one before it.
    let port = rule
        .windows(2)
        .position(|bytes| bytes == [0x12, 0x34])
        .expect("the port is in the rule");
    let (length, port_at) = (rule.len(), RULE_AT + port);
    let bytes = data(&rule);
    format!(
        r#"(module
  (import "{module}" "net_flags" (func $use (param {ty}) (result i32)))
  (import "{module}" "net_only" (func $only (param {ty} i32 i32) (result {ty} i32)))
  (import "{module}" "net_limit" (func $limit (param {ty} i32 i32) (result {ty} i32)))
  (import "{module}" "cap_close" (func $close (param {ty}) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 2)
  (data (i32.const {RULE_AT}) "{bytes}")
  {store}
  (global $net (mut {ty}) {null})
  (global $random (mut i32) (i32.const 88172645))

  (func (export "refcap_grant") (param {ty}) (result i32) (global.set $net (local.get 0)) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))

  (func $next (result i32)
    (local $x i32)
    (local.set $x (global.get $random))
    (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
    (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
    (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
    (global.set $random (local.get $x))
    (local.get $x))

  ;; Derives another one into place $i. Returns 1 if that worked.
  (func $make (param $i i32) (result i32)
    (local $made {ty}) (local $status i32)
    (call $limit (global.get $net) (i32.const 0) (i32.const 0))
    (local.set $status) (local.set $made)
    {save_begin} (local.get $made))
    (i32.eqz (local.get $status)))

  ;; Fills places 0 to $live - 1.
  (func (export "fill") (param $live i32) (result i32)
    (local $i i32) (local $made i32)
    {grow}
    (loop $more
      (local.set $made (i32.add (local.get $made) (call $make (local.get $i))))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $live))))
    (local.get $made))

  ;; One after the other.
  (func (export "use") (param $count i32) (param $live i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good) (i32.eq (call $use {load}) (i32.const 3))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (if (i32.eq (local.get $i) (local.get $live)) (then (local.set $i (i32.const 0))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good))

  ;; At random, among the first ones: $mask is one less than a power of two.
  (func (export "use_random") (param $count i32) (param $mask i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $i (i32.and (call $next) (local.get $mask)))
      (local.set $good (i32.add (local.get $good) (i32.eq (call $use {load}) (i32.const 3))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good))

  ;; The same, and after every $each uses one is closed and another one made in its place.
  (func (export "use_and_make") (param $count i32) (param $live i32) (param $each i32) (result i32)
    (local $i i32) (local $good i32) (local $left i32)
    (loop $more
      (local.set $i (i32.rem_u (call $next) (local.get $live)))
      (if (i32.eqz (local.get $left))
        (then
          (drop (call $close {load}))
          (drop (call $make (local.get $i)))
          (local.set $left (local.get $each))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (local.set $good (i32.add (local.get $good) (i32.eq (call $use {load}) (i32.const 3))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good))

  ;; Derives by a rule of its own each time, and gives up what it has made.
  (func (export "derive_close") (param $count i32) (result i32)
    (local $good i32) (local $made {ty}) (local $status i32)
    (loop $more
      (i32.store16 (i32.const {port_at}) (local.get $count))
      (i32.store16 (i32.const {port_end}) (local.get $count))
      (call $only (global.get $net) (i32.const {RULE_AT}) (i32.const {length}))
      (local.set $status) (local.set $made)
      (local.set $good (i32.add (local.get $good)
        (i32.and (i32.eqz (local.get $status)) (i32.eqz (call $close (local.get $made))))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good))

  ;; Derives into $live places.
  (func (export "derive") (param $live i32) (result i32)
    (local $good i32) (local $made {ty}) (local $i i32) (local $status i32)
    (loop $more
      (i32.store16 (i32.const {port_at}) (local.get $i))
      (i32.store16 (i32.const {port_end}) (local.get $i))
      (call $only (global.get $net) (i32.const {RULE_AT}) (i32.const {length}))
      (local.set $status) (local.set $made)
      {save_begin} (local.get $made))
      (local.set $good (i32.add (local.get $good) (i32.eqz (local.get $status))))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $live))))
    (local.get $good))

  ;; Closes the first $live places.
  (func (export "close") (param $live i32) (result i32)
    (local $good i32) (local $i i32)
    (loop $more
      (local.set $good (i32.add (local.get $good) (i32.eqz (call $close {load}))))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $live))))
    (local.get $good)))"#,
        port_end = port_at + 2,
    )
}

/// A guest that connects to a server and waits for something to read.
pub(crate) fn blocked(handles: Handles, server: SocketAddr) -> String {
    connecting(
        handles,
        server,
        r#"
  (func (export "block") (result i32)
    (call $socket_wait (call $connect) (i32.const 1) (i32.const 0)))"#,
    )
}

/// A guest that holds many connections to a server.
pub(crate) fn holding(handles: Handles, server: SocketAddr) -> String {
    let Handles {
        store,
        save_begin,
        grow,
        ..
    } = handles;
    let open = format!(
        r#"
  {store}
  (func (export "open") (param $live i32) (result i32)
    (local $i i32)
    {grow}
    (loop $more
      {save_begin} (call $connect))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $live))))
    (local.get $i))"#
    );
    connecting(handles, server, &open)
}

fn connecting(handles: Handles, server: SocketAddr, what: &str) -> String {
    let Handles { module, ty, null, .. } = handles;
    let address = refcap_abi::wire::encode_address(server);
    let length = address.len();
    let bytes = data(&address);
    format!(
        r#"(module
  (import "{module}" "net_connect" (func $net_connect (param {ty} i32 i32 i32) (result {ty} i32)))
  (import "{module}" "socket_wait" (func $socket_wait (param {ty} i32 i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 1)
  (data (i32.const 64) "{bytes}")
  (global $net (mut {ty}) {null})
  (func (export "refcap_grant") (param {ty}) (result i32) (global.set $net (local.get 0)) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))

  (func $connect (result {ty})
    (local $status i32) (local $stream {ty})
    (call $net_connect (global.get $net) (i32.const 64) (i32.const {length}) (i32.const 0))
    (local.set $status) (local.set $stream)
    (if (local.get $status) (then (unreachable)))
    (local.get $stream))
{what})"#
    )
}
