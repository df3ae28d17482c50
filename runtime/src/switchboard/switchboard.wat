;; What stands between a program and those that it is linked to: wasm that the runtime provides, so that a
;; reference gets from one to the other without a call to the host.
;;
;; Each program that needs it has one of its own, whose tables the host fills with the functions of the programs
;; that this one is linked to, by their numbers. There is a null where a program has no such function.
(module
  (type $grant (func (param externref) (result i32)))
  (type $take (func (result externref)))
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
)
