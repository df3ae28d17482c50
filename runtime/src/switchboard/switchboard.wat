;; What stands between a program and those that it is linked to: wasm that the runtime provides, so that a
;; reference gets from one to the other without a call to the host.
;;
;; Each program that needs it has one of its own, whose tables the host fills with the functions of the programs
;; that this one is linked to, by their numbers. Where a program has no such function there is a null, or one that refuses.
(module
  (type $grant (func (param externref) (result i32)))
  (type $take (func (result externref)))
  (type $dispatch (func (param i32 i32 i32 i32) (result i32)))

  (import "refcap_switchboard" "enter"
    (func $enter (param externref i32 i32 i32) (result i32 i32 i32 i32)))
  (import "refcap_switchboard" "discard" (func $discard (result i32)))
  (import "refcap_switchboard" "leave" (func $leave (param i32) (result i32)))
  (import "refcap_switchboard" "remote" (func $remote (param i32 i32) (result i32)))
  (import "refcap_switchboard" "next" (func $next (param i32) (result i32 i32 i32 i32 i32)))
  (import "refcap_switchboard" "done" (func $done (param i32) (result i32)))

  ;; What answers calls, by the number of the program in its vat, which the host gives and is one of these. Where a
  ;; program has nothing that answers, nobody does; so a call has nothing to check.
  (table $dispatches (export "dispatches") 16 16 funcref)
  (elem (table $dispatches) (i32.const 0) func
    $nobody $nobody $nobody $nobody $nobody $nobody $nobody $nobody
    $nobody $nobody $nobody $nobody $nobody $nobody $nobody $nobody)
  (func $nobody (type $dispatch) (i32.const -29)) ;; CalleeFailed

  (table $grants (export "grants") 16 funcref)
  (table $takes (export "takes") 16 funcref)

  ;; Whether a number is none of a program with such a function.
  (func $has_no_grant (param $program i32) (result i32)
    (if (i32.ge_u (local.get $program) (table.size $grants)) (then (return (i32.const 1))))
    (ref.is_null (table.get $grants (local.get $program))))
  (func $has_no_take (param $program i32) (result i32)
    (if (i32.ge_u (local.get $program) (table.size $takes)) (then (return (i32.const 1))))
    (ref.is_null (table.get $takes (local.get $program))))

  (func (export "link_give") (param $reference externref) (param $program i32) (result i32)
    (local $slot i32)
    (if (call $has_no_grant (local.get $program)) (then (return (i32.const -20)))) ;; NotFound
    (local.set $slot
      (call_indirect $grants (type $grant) (local.get $reference) (local.get $program)))
    ;; A full table is what `LimitReached` says, whatever number it said.
    (if (i32.lt_s (local.get $slot) (i32.const 0)) (then (return (i32.const -10))))
    (local.get $slot))

  (func (export "link_take") (param $program i32) (result externref i32)
    (local $reference externref)
    (if (call $has_no_take (local.get $program))
      (then (return (ref.null extern) (i32.const -20)))) ;; NotFound
    (local.set $reference (call_indirect $takes (type $take) (local.get $program)))
    (if (ref.is_null (local.get $reference))
      (then (return (ref.null extern) (i32.const -4)))) ;; NullReference
    (local.get $reference)
    (i32.const 0))

  (func (export "object_call") (param $object externref) (param $method i32) (param $pointer i32)
      (param $length i32) (param $timeout i32) (result i32)
    (local $number i32) (local $capabilities i32) (local $program i32)
    (call $enter (local.get $object) (local.get $method) (local.get $pointer) (local.get $length))
    (local.set $program)
    (local.set $capabilities)
    (local.set $length)
    (local.set $number)
    (if (i32.eq (local.get $program) (i32.const -1000)) ;; in another vat
      (then (return (call $remote (local.get $method) (local.get $timeout)))))
    (if (i32.lt_s (local.get $program) (i32.const 0))
      (then (drop (call $discard)) (return (local.get $program))))
    (call $leave
      (call_indirect $dispatches (type $dispatch)
        (local.get $number) (local.get $method) (local.get $length) (local.get $capabilities)
        (local.get $program))))

  (func (export "object_serve") (param $timeout i32) (result i32)
    (local $number i32) (local $method i32) (local $length i32) (local $capabilities i32) (local $program i32)
    (call $next (local.get $timeout))
    (local.set $program)
    (local.set $capabilities)
    (local.set $length)
    (local.set $method)
    (local.set $number)
    (if (i32.lt_s (local.get $program) (i32.const 0)) (then (return (local.get $program))))
    (call $done
      (call_indirect $dispatches (type $dispatch)
        (local.get $number) (local.get $method) (local.get $length) (local.get $capabilities)
        (local.get $program))))
)
