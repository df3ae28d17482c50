//! A guest whose every move a test decides.
//!
//! It exports one function for each host import, generated from the same table, which takes slots of the
//! puppet's own table in place of references. So a test reaches every host function with any argument,
//! through real wasm.

use std::fmt::Write;

use refcap::{Capability, Limits, Output, Program, Resolver, Runtime, StartError, Vat, VatHandle};
use refcap_abi::{ErrorCode, IMPORTS, MODULE, Param, wire};
use refcap_authority::{Query, Rules};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where arguments are written.
const ARGUMENTS: i32 = 1024;
/// Where second arguments are written, and second answers.
const SECOND: i32 = 31 << 10;
/// Where answers are read.
pub(crate) const ANSWERS: i32 = 32 << 10;
const ANSWER_BYTES: i32 = 30 << 10;

/// A running puppet. Slot 0 is null, slot 1 its endowment `net`, the others are free.
pub(crate) struct Puppet {
    vat: Vat,
    handle: VatHandle,
}

impl Puppet {
    pub(crate) async fn start(net: &Capability) -> Puppet {
        Puppet::with_limits(net, Limits::default()).await
    }

    pub(crate) async fn with_limits(net: &Capability, limits: Limits) -> Puppet {
        Puppet::try_start(net, limits)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn with_resolver(net: &Capability, resolver: Arc<dyn Resolver>) -> Puppet {
        let vat = program().vat().grant("net", net).resolver(resolver);
        let vat = vat.start().await.unwrap_or_else(|error| panic!("{error}"));
        let handle = vat.handle();
        Puppet { vat, handle }
    }

    pub(crate) async fn with_stdout(net: &Capability, stdout: Output) -> Puppet {
        let vat = program().vat().grant("net", net).stdout(stdout);
        let vat = vat.start().await.unwrap_or_else(|error| panic!("{error}"));
        let handle = vat.handle();
        Puppet { vat, handle }
    }

    pub(crate) async fn try_start(net: &Capability, limits: Limits) -> Result<Puppet, StartError> {
        let vat = program().vat().grant("net", net).limits(limits).start().await?;
        let handle = vat.handle();
        Ok(Puppet { vat, handle })
    }

    /// Starts one in another engine than that of the other tests.
    pub(crate) async fn start_in(engine: &Runtime, net: &Capability) -> Result<Puppet, StartError> {
        let bytes = wat::parse_str(puppet_source()).unwrap();
        let program = Program::load(engine, &bytes).unwrap_or_else(|error| panic!("{error}"));
        let vat = program.vat().grant("net", net).start().await?;
        let handle = vat.handle();
        Ok(Puppet { vat, handle })
    }

    pub(crate) fn handle(&self) -> &VatHandle {
        &self.handle
    }

    pub(crate) fn vat(&mut self) -> &mut Vat {
        &mut self.vat
    }

    /// Calls any export, as it is.
    pub(crate) async fn raw(&mut self, export: &str, arguments: &[i32]) -> i32 {
        let result = self.vat.call_export(export, arguments).await;
        result
            .unwrap_or_else(|error| panic!("{export}{arguments:?}: {error}"))
            .unwrap_or_default()
    }

    /// Calls an import: new slots first, then old ones, then numbers.
    pub(crate) async fn call(&mut self, import: &str, arguments: &[i32]) -> Result<i32, ErrorCode> {
        match self.raw(import, arguments).await {
            status if status >= 0 => Ok(status),
            status => {
                Err(ErrorCode::from_code(status).unwrap_or_else(|| panic!("{import} returned {status}")))
            }
        }
    }

    /// Writes bytes into the puppet's memory.
    pub(crate) async fn write(&mut self, at: i32, bytes: &[u8]) {
        for (index, word) in bytes.chunks(4).enumerate() {
            let mut whole = [0; 4];
            whole[..word.len()].copy_from_slice(word);
            let at = at + 4 * i32::try_from(index).unwrap();
            self.raw("poke", &[at, i32::from_le_bytes(whole)]).await;
        }
    }

    /// Reads bytes from the puppet's memory.
    pub(crate) async fn read(&mut self, at: i32, length: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for index in 0..length {
            bytes.push(self.raw("peek", &[at + index]).await.to_le_bytes()[0]);
        }
        bytes
    }

    async fn argument(&mut self, bytes: &[u8]) -> [i32; 2] {
        self.write(ARGUMENTS, bytes).await;
        [ARGUMENTS, i32::try_from(bytes.len()).unwrap()]
    }

    /// Derives with `net_only`, `net_exactly` or `net_except`.
    pub(crate) async fn derive(
        &mut self,
        import: &str,
        new: i32,
        old: i32,
        rules: &str,
    ) -> Result<i32, ErrorCode> {
        let rules = Rules::parse(rules).unwrap_or_else(|error| panic!("{rules}: {error}"));
        let [at, length] = self.argument(&rules.encode()).await;
        self.call(import, &[new, old, at, length]).await
    }

    pub(crate) async fn only(&mut self, new: i32, old: i32, rules: &str) -> Result<i32, ErrorCode> {
        self.derive("net_only", new, old, rules).await
    }

    pub(crate) async fn connect(
        &mut self,
        new: i32,
        net: i32,
        address: SocketAddr,
    ) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(&wire::encode_address(address)).await;
        self.call("net_connect", &[new, net, at, length, 0]).await
    }

    /// Connects from a local end.
    pub(crate) async fn connect_from(
        &mut self,
        new: i32,
        net: i32,
        remote: SocketAddr,
        local: SocketAddr,
    ) -> Result<i32, ErrorCode> {
        let [to, to_length] = self.argument(&wire::encode_address(remote)).await;
        let [from, from_length] = self.second(&wire::encode_address(local)).await;
        let call = [new, net, to, to_length, from, from_length, 0];
        self.call("net_connect_from", &call).await
    }

    pub(crate) async fn limit(&mut self, new: i32, net: i32, terms: &str) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(terms.as_bytes()).await;
        self.call("net_limit", &[new, net, at, length]).await
    }

    /// Brings a guard, from its text or binary form.
    pub(crate) async fn guard(&mut self, new: i32, module: &[u8]) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(module).await;
        self.call("guard_new", &[new, at, length]).await
    }

    pub(crate) async fn listen(&mut self, new: i32, net: i32, local: &str) -> Result<SocketAddr, ErrorCode> {
        let [at, length] = self.address(local).await;
        self.call("net_listen", &[new, net, at, length, 0]).await?;
        Ok(self.end_of(new, refcap_abi::ADDRESS_LOCAL).await.unwrap())
    }

    pub(crate) async fn bind_udp(
        &mut self,
        new: i32,
        net: i32,
        local: &str,
    ) -> Result<SocketAddr, ErrorCode> {
        let [at, length] = self.address(local).await;
        self.call("net_bind_udp", &[new, net, at, length]).await?;
        Ok(self.end_of(new, refcap_abi::ADDRESS_LOCAL).await.unwrap())
    }

    pub(crate) async fn udp_connect(&mut self, socket: i32, peer: SocketAddr) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(&wire::encode_address(peer)).await;
        self.call("udp_connect", &[socket, at, length]).await
    }

    pub(crate) async fn send_to(
        &mut self,
        socket: i32,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(bytes).await;
        let [to, to_length] = match to {
            Some(to) => self.second(&wire::encode_address(to)).await,
            None => [0, 0],
        };
        loop {
            match self.call("udp_send", &[socket, at, length, to, to_length]).await {
                Err(ErrorCode::WouldBlock) => {
                    self.call("socket_wait", &[socket, refcap_abi::WAIT_WRITE, 0])
                        .await?;
                }
                result => return result,
            }
        }
    }

    /// Takes a datagram, if there is one.
    pub(crate) async fn receive(&mut self, socket: i32) -> Result<(Vec<u8>, SocketAddr), ErrorCode> {
        let call = [socket, ANSWERS, 2048, SECOND, 19];
        let length = self.call("udp_receive", &call).await?;
        let family = self.read(SECOND, 1).await[0];
        let from = self.read(SECOND, if family == 4 { 7 } else { 19 }).await;
        let from = wire::decode_address(&from).unwrap();
        Ok((self.read(ANSWERS, length).await, from))
    }

    pub(crate) async fn resolve(
        &mut self,
        new: i32,
        net: i32,
        name: &str,
        port: u16,
    ) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(name.as_bytes()).await;
        self.call("net_resolve", &[new, net, at, length, port.into(), 0])
            .await
    }

    pub(crate) async fn describe_name(&mut self, name: i32) -> Result<String, ErrorCode> {
        let length = self.call("name_describe", &[name, ANSWERS, ANSWER_BYTES]).await?;
        Ok(String::from_utf8(self.read(ANSWERS, length).await).unwrap())
    }

    /// One end of a socket.
    pub(crate) async fn end_of(&mut self, socket: i32, which: i32) -> Result<SocketAddr, ErrorCode> {
        let length = self.call("socket_address", &[socket, which, ANSWERS, 32]).await?;
        Ok(wire::decode_address(&self.read(ANSWERS, length).await).unwrap())
    }

    /// Waits for a connection and takes it.
    pub(crate) async fn accept(&mut self, new: i32, listener: i32) -> Result<i32, ErrorCode> {
        loop {
            match self.call("listener_accept", &[new, listener]).await {
                Err(ErrorCode::WouldBlock) => {
                    self.call("socket_wait", &[listener, refcap_abi::WAIT_READ, 0])
                        .await?;
                }
                result => return result,
            }
        }
    }

    /// Waits at a poller: tokens and what is ready.
    pub(crate) async fn poll(&mut self, poller: i32, timeout: i32) -> Result<Vec<(u32, i32)>, ErrorCode> {
        let count = self
            .call("poller_wait", &[poller, ANSWERS, 1024, timeout])
            .await?;
        let bytes = self.read(ANSWERS, 8 * count).await;
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let mut events: Vec<_> = bytes
            .chunks(8)
            .map(|event| (number(&event[..4]), number(&event[4..]).cast_signed()))
            .collect();
        events.sort_unstable();
        Ok(events)
    }

    async fn address(&mut self, text: &str) -> [i32; 2] {
        let address: SocketAddr = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        self.argument(&wire::encode_address(address)).await
    }

    async fn second(&mut self, bytes: &[u8]) -> [i32; 2] {
        self.write(SECOND, bytes).await;
        [SECOND, i32::try_from(bytes.len()).unwrap()]
    }

    pub(crate) async fn allows(&mut self, net: i32, query: &str) -> Result<bool, ErrorCode> {
        let query: Query = query.parse().unwrap_or_else(|error| panic!("{query}: {error}"));
        let [at, length] = self.argument(&query.encode()).await;
        Ok(self.call("net_allows", &[net, at, length]).await? == 1)
    }

    pub(crate) async fn describe(&mut self, net: i32) -> Result<String, ErrorCode> {
        let length = self.call("net_describe", &[net, ANSWERS, ANSWER_BYTES]).await?;
        Ok(String::from_utf8(self.read(ANSWERS, length).await).unwrap())
    }

    pub(crate) async fn error_message(&mut self) -> String {
        let length = self
            .call("error_message", &[ANSWERS, ANSWER_BYTES])
            .await
            .unwrap();
        String::from_utf8(self.read(ANSWERS, length).await).unwrap()
    }

    /// Takes what was granted since the start under a name.
    pub(crate) async fn take(&mut self, new: i32, name: &str) -> Result<i32, ErrorCode> {
        let [at, length] = self.argument(name.as_bytes()).await;
        self.call("grant_take", &[new, at, length]).await
    }

    /// Calls an import that takes a text after its references.
    pub(crate) async fn with_text(
        &mut self,
        import: &str,
        slots: &[i32],
        text: &str,
    ) -> Result<i32, ErrorCode> {
        let text = self.argument(text.as_bytes()).await;
        self.call(import, &[slots, &text].concat()).await
    }

    pub(crate) async fn close(&mut self, slot: i32) -> Result<i32, ErrorCode> {
        self.call("cap_close", &[slot]).await
    }

    /// Sends what is in a slot through an object in another slot and back: the slot has what comes of it.
    pub(crate) async fn through(&mut self, object: i32, slot: i32) -> Result<i32, ErrorCode> {
        self.call("message_attach", &[slot]).await?;
        self.call("object_call", &[object, 1, 0, 0, 0]).await?;
        self.call("message_take", &[slot, 0]).await
    }

    /// Reads, waiting as long as it takes, as the SDK does.
    pub(crate) async fn read_stream(&mut self, stream: i32, length: i32) -> Result<Vec<u8>, ErrorCode> {
        loop {
            match self.call("stream_read", &[stream, ANSWERS, length]).await {
                Ok(count) => return Ok(self.read(ANSWERS, count).await),
                Err(ErrorCode::WouldBlock) => {
                    self.call("socket_wait", &[stream, refcap_abi::WAIT_READ, 0])
                        .await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn write_stream(&mut self, stream: i32, bytes: &[u8]) -> Result<(), ErrorCode> {
        let [mut at, mut length] = self.argument(bytes).await;
        while length > 0 {
            match self.call("stream_write", &[stream, at, length]).await {
                Ok(count) => {
                    at += count;
                    length -= count;
                }
                Err(ErrorCode::WouldBlock) => {
                    self.call("socket_wait", &[stream, refcap_abi::WAIT_WRITE, 0])
                        .await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn program() -> refcap::Program {
    static PROGRAM: std::sync::OnceLock<refcap::Program> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| super::program(&puppet_source())).clone()
}

/// The puppet in text form.
pub(crate) fn puppet_source() -> String {
    let mut wat = String::from("(module\n  (@custom \"refcap.endowments\" \"net Net required\\n\")\n");
    for import in IMPORTS {
        let params: Vec<_> = import
            .params
            .iter()
            .map(|param| match param {
                Param::Ref => "externref",
                Param::I32 => "i32",
            })
            .collect();
        writeln!(
            wat,
            "  (import \"{MODULE}\" \"{name}\" (func ${name} (param {}) (result {}i32)))",
            params.join(" "),
            "externref ".repeat(import.refs_out),
            name = import.name,
        )
        .unwrap();
    }
    wat += r#"
  (memory (export "memory") 1)
  (table $slots 24 externref)
  (global $granted (mut i32) (i32.const 1))
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $slots (global.get $granted) (local.get 0))
    (global.get $granted)
    (global.set $granted (i32.add (global.get $granted) (i32.const 1))))
  (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "grow_memory") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow_table") (param i32) (result i32) (table.grow $slots (ref.null extern) (local.get 0)))
  (func (export "copy") (param i32 i32) (table.set $slots (local.get 0) (table.get $slots (local.get 1))))
  (func (export "forget") (param i32) (table.set $slots (local.get 0) (ref.null extern)))
  (func (export "is_null") (param i32) (result i32) (ref.is_null (table.get $slots (local.get 0))))
  (func (export "trap") (unreachable))
  ;; Answers calls to its objects. Method 1 sends back what came along; 2 keeps what came along, in the slot that the
  ;; object's number says; any other gives what is in that slot. Who was asked for what is in `last_method`.
  (global $method (mut i32) (i32.const 0))
  (func (export "last_method") (result i32) (global.get $method))
  (func (export "refcap_dispatch")
      (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
    (local $reference externref) (local $status i32) (local $place i32)
    (global.set $method (local.get $method))
    (if (i32.eq (local.get $method) (i32.const 1)) (then
      (loop $next
        (if (i32.eq (local.get $place) (local.get $capabilities)) (then (return (local.get $place))))
        (call $message_take (local.get $place)) (local.set $status) (local.set $reference)
        (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
        (local.set $status (call $message_attach (local.get $reference)))
        (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
        (local.set $place (i32.add (local.get $place) (i32.const 1)))
        (br $next))))
    (if (i32.ge_u (local.get $number) (table.size $slots)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $method) (i32.const 2)) (then
      (call $message_take (i32.const 0)) (local.set $status) (local.set $reference)
      (table.set $slots (local.get $number) (local.get $reference))
      (return (local.get $status))))
    (call $message_attach (table.get $slots (local.get $number))))
  (func (export "spin") (loop $l (br $l)))
"#;
    for import in IMPORTS {
        let slots = import.refs_out + import.params.len();
        write!(wat, "  (func (export \"{}\") (param", import.name).unwrap();
        wat += &" i32".repeat(slots);
        wat += ") (result i32) (local $status i32)";
        wat += &" (local externref)".repeat(import.refs_out);
        for (index, param) in import.params.iter().enumerate() {
            let local = import.refs_out + index;
            match param {
                Param::Ref => write!(wat, "\n    (table.get $slots (local.get {local}))").unwrap(),
                Param::I32 => write!(wat, "\n    (local.get {local})").unwrap(),
            }
        }
        write!(wat, "\n    (call ${}) (local.set $status)", import.name).unwrap();
        for result in (0..import.refs_out).rev() {
            write!(wat, " (local.set {})", slots + 1 + result).unwrap();
        }
        for result in 0..import.refs_out {
            write!(
                wat,
                "\n    (table.set $slots (local.get {result}) (local.get {}))",
                slots + 1 + result
            )
            .unwrap();
        }
        wat += "\n    (local.get $status))\n";
    }
    // Fills slots 2 and 3 in turn with what it derives, for as long as it is told.
    wat += r#"
  (func (export "chain") (param $count i32) (param $at i32) (param $length i32) (result i32)
    (local $net externref) (local $status i32)
    (local.set $net (table.get $slots (i32.const 1)))
    (loop $next
      (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
      (call $net_only (local.get $net) (local.get $at) (local.get $length))
      (local.set $status) (local.set $net)
      (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
      (table.set $slots (i32.const 2) (local.get $net))
      (drop (table.grow $slots (local.get $net) (i32.const 1)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))
    (unreachable))
  (func (export "fan") (param $count i32) (param $at i32) (param $length i32) (param $keep i32) (result i32)
    (local $net externref) (local $status i32)
    (loop $next
      (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
      (call $net_only (table.get $slots (i32.const 1)) (local.get $at) (local.get $length))
      (local.set $status) (local.set $net)
      (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
      (if (local.get $keep) (then (drop (table.grow $slots (local.get $net) (i32.const 1)))))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))
    (unreachable))
)
"#;
    wat
}
