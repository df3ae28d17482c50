;; A guest without the SDK, whose references are only ever in locals, and for the moment between being
;; granted and being used in a table of its own that it does not export. No code but this function can
;; use them: there is no number that stands for them, as there is in a Rust guest's memory.
;;
;;     refcap run examples/wat/locals.wat --grant net='connect tcp 127.0.0.1:*'
;;
;; It connects to the echo service, 127.0.0.1:7, sends it six bytes and reads what comes back. It returns
;; 0, or the number of the step that failed. For another port, replace each "\00\07", the port in network
;; order.
(module
  ;; What it asks to be started with.
  (@custom "refcap.endowments" "net Net required\n")

  ;; Every host function ends with a status: less than zero is an error.
  (import "refcap_v1" "net_only"
    (func $net_only (param externref i32 i32) (result externref i32)))
  (import "refcap_v1" "net_connect"
    (func $net_connect (param externref i32 i32 i32) (result externref i32)))
  (import "refcap_v1" "stream_write" (func $stream_write (param externref i32 i32) (result i32)))
  (import "refcap_v1" "stream_read" (func $stream_read (param externref i32 i32) (result i32)))
  (import "refcap_v1" "socket_wait" (func $socket_wait (param externref i32 i32) (result i32)))
  (import "refcap_v1" "cap_close" (func $cap_close (param externref) (result i32)))

  (memory (export "memory") 1)
  ;; At 0: the address. Family 4, four bytes of address, two of port.
  (data (i32.const 0) "\04\7f\00\00\01" "\00\07")
  ;; At 16: the rule `connect tcp 127.0.0.1:7` in binary form. Version 1; one rule: operations (1 is
  ;; connect), protocols (1 is tcp), no flags; host (3 is one IPv4 address); one range of ports; no
  ;; exceptions.
  (data (i32.const 16) "\01\01" "\01\01\00" "\03\7f\00\00\01" "\01" "\00\07" "\00\07" "\00")
  ;; At 64: what to say.
  (data (i32.const 64) "hello\n")
  ;; At 128: room for the answer.

  (table $granted 2 2 externref)

  ;; The host hands the endowment over before it calls `refcap_start`.
  (func (export "refcap_grant") (param $net externref) (result i32)
    (table.set $granted (i32.const 1) (local.get $net))
    (i32.const 1))

  (func (export "refcap_start") (result i32)
    (local $net externref)
    (local $narrow externref)
    (local $stream externref)
    (local $status i32)

    (local.set $net (table.get $granted (i32.const 1)))
    (table.set $granted (i32.const 1) (ref.null extern))

    ;; Step 1: derive what is needed, and give up the rest.
    (call $net_only (local.get $net) (i32.const 16) (i32.const 16))
    (local.set $status)
    (local.set $narrow)
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (i32.const 1))))
    (if (i32.lt_s (call $cap_close (local.get $net)) (i32.const 0)) (then (return (i32.const 1))))
    (local.set $net (ref.null extern))

    ;; Step 2: connect, within five seconds.
    (call $net_connect (local.get $narrow) (i32.const 0) (i32.const 7) (i32.const 5000))
    (local.set $status)
    (local.set $stream)
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (i32.const 2))))

    ;; Step 3: write. Six bytes fit into the empty buffer of a new connection.
    (if (i32.ne (call $stream_write (local.get $stream) (i32.const 64) (i32.const 6)) (i32.const 6))
      (then (return (i32.const 3))))

    ;; Step 4: read, and wait (1: until it can be read) while it would block (-13).
    (loop $again
      (local.set $status (call $stream_read (local.get $stream) (i32.const 128) (i32.const 64)))
      (if (i32.eq (local.get $status) (i32.const -13))
        (then
          (local.set $status (call $socket_wait (local.get $stream) (i32.const 1) (i32.const 5000)))
          (br_if $again (i32.ge_s (local.get $status) (i32.const 0))))))
    ;; Nothing at all would be the end of the stream.
    (if (i32.le_s (local.get $status) (i32.const 0)) (then (return (i32.const 4))))

    ;; Step 5: close.
    (if (i32.lt_s (call $cap_close (local.get $stream)) (i32.const 0)) (then (return (i32.const 5))))
    (if (i32.lt_s (call $cap_close (local.get $narrow)) (i32.const 0)) (then (return (i32.const 5))))
    (i32.const 0))
)
