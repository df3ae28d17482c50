//! Several programs in one vat: linked by wasm, references passed as wasm passes them.

use refcap::{Limits, LinkError, LoadError, Output, Program, Refusal, RunError, Runtime};
use refcap_abi::{ErrorCode, MAX_INSTANCES};

use crate::support::servers::Silent;
use crate::support::{block_on, engine, is_alone, net, program};

fn linked(wat: &str, links: &[(&str, &Program)]) -> Result<Program, LoadError> {
    let bytes = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"));
    Program::load_linked(engine(), &bytes, links)
}

fn refusals(wat: &str, links: &[(&str, &Program)]) -> Vec<Refusal> {
    match linked(wat, links) {
        Err(LoadError::Refused(refusals)) => refusals,
        other => panic!("{other:?}"),
    }
}

/// Runs a program that has the endowment `net`, and returns its exit code.
async fn run(program: &Program, rules: &str) -> Result<i32, RunError> {
    let net = net(rules);
    let mut vat = program.vat().grant("net", &net).start().await.unwrap();
    vat.run().await.map(|exit| exit.code)
}

/// A program that keeps its grant in `$net` and runs `$run`.
fn app(imports: &str, run: &str) -> String {
    format!(
        r#"(module
          (@custom "refcap.endowments" "net Net required\n")
          {imports}
          (memory (export "memory") 1)
          (global $net (mut externref) (ref.null extern))
          (func (export "refcap_grant") (param externref) (result i32)
            (global.set $net (local.get 0)) (i32.const 1))
          (func (export "refcap_start") (result i32) {run}))"#
    )
}

/// Asks for the kind of what it is given, and connects to what is written at 0 of its memory.
const PLUGIN: &str = r#"(module
    (import "refcap_v1" "cap_kind" (func $kind (param externref) (result i32)))
    (import "refcap_v1" "net_connect" (func $connect (param externref i32 i32 i32) (result externref i32)))
    (import "refcap_v1" "cap_close" (func $close (param externref) (result i32)))
    (memory (export "memory") 1)
    (func (export "kind") (param externref) (result i32) (call $kind (local.get 0)))
    (func (export "close") (param externref) (result i32) (call $close (local.get 0)))
    (func (export "put") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "connect") (param externref i32) (result externref i32)
      (call $connect (local.get 0) (i32.const 0) (local.get 1) (i32.const 0))))"#;

#[tokio::test]
async fn a_reference_passes_as_a_value_and_is_what_it_was() {
    let plugin = program(PLUGIN);
    // Returned as it came: in between there is no import at all, so there can't be a call to the host.
    let echo =
        program(r#"(module (func (export "echo") (param externref) (result externref) (local.get 0)))"#);
    let app = app(
        r#"(import "plugin" "kind" (func $kind (param externref) (result i32)))
           (import "plugin" "close" (func $close (param externref) (result i32)))
           (import "echo" "echo" (func $echo (param externref) (result externref)))"#,
        "(global.set $net (call $echo (global.get $net)))
         (if (i32.ne (call $kind (global.get $net)) (i32.const 1)) (then (return (i32.const 1))))
         (if (call $close (global.get $net)) (then (return (i32.const 2))))
         ;; The same reference, so closed for both.
         (call $kind (global.get $net))",
    );
    let app = linked(&app, &[("plugin", &plugin), ("echo", &echo)]).unwrap();
    assert_eq!(run(&app, "").await.unwrap(), ErrorCode::Closed.status());
}

#[tokio::test]
async fn a_linked_program_acts_with_what_it_is_given_and_on_its_own_memory() {
    let mut server = Silent::start().await;
    let address = refcap_abi::wire::encode_address(server.address);
    let puts: String = address
        .iter()
        .enumerate()
        .map(|(at, byte)| format!("(call $put (i32.const {at}) (i32.const {byte}))"))
        .collect();
    let plugin = program(PLUGIN);
    let source = app(
        r#"(import "plugin" "put" (func $put (param i32 i32)))
           (import "plugin" "connect" (func $connect (param externref i32) (result externref i32)))"#,
        &format!(
            "(local $status i32)
             ;; The app's own memory has no address in it: it is the plugin's that counts.
             {puts}
             (call $connect (global.get $net) (i32.const {})) (local.set $status) (drop)
             (if (local.get $status) (then (return (local.get $status))))
             (call $connect (ref.null extern) (i32.const {0})) (local.set $status) (drop)
             (local.get $status)",
            address.len()
        ),
    );
    let app = linked(&source, &[("plugin", &plugin)]).unwrap();
    let null = ErrorCode::NullReference.status();
    assert_eq!(run(&app, "connect tcp 127.0.0.1:*").await.unwrap(), null);
    server.next().await;
    let denied = ErrorCode::Denied.status();
    assert_eq!(run(&app, "connect tcp 10.0.0.1:*").await.unwrap(), denied);
}

#[test]
fn only_functions_cross_and_only_those_that_are_for_others() {
    let plugin = program(
        r#"(module
          (memory (export "memory") 1)
          (table (export "functions") 1 funcref)
          (global (export "number") i32 (i32.const 1))
          (func (export "work") (param i32) (result i32) (local.get 0))
          (func (export "_initialize"))
          (func (export "refcap_grant") (param externref) (result i32) (i32.const 0))
          (func (export "refcap_take") (result externref) (ref.null extern)))"#,
    );
    let links = [("plugin", &plugin)];
    let reason = |import: &str| {
        let refusals = refusals(&format!("(module {import})"), &links);
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals[0].to_string()
    };
    for import in [
        r#"(import "plugin" "memory" (memory 1))"#,
        r#"(import "plugin" "functions" (table 1 funcref))"#,
        r#"(import "plugin" "number" (global i32))"#,
    ] {
        let reason = reason(import);
        assert!(reason.contains("must be a function"), "{reason}");
    }
    for private in ["refcap_grant", "refcap_take", "_initialize", "missing"] {
        let reason = reason(&format!(r#"(import "plugin" "{private}" (func))"#));
        assert!(
            reason.contains("exports no function") && reason.contains("it exports `work`"),
            "{reason}"
        );
    }
    let reason = reason(r#"(import "plugin" "work" (func (param externref) (result i32)))"#);
    assert!(reason.contains("must have the type (i32) -> (i32)"), "{reason}");
    // Not linked: said as before, and how it could be.
    let refused = refusals(r#"(module (import "plugin" "work" (func)))"#, &[]);
    assert!(refused[0].to_string().contains("linked"), "{}", refused[0]);
    // A table of references is refused for a linked program as for any.
    let bytes = wat::parse_str(r#"(module (table (export "t") 1 externref))"#).unwrap();
    assert!(Program::load(engine(), &bytes).is_err());
}

#[test]
fn programs_that_do_not_fit_together_are_refused() {
    let plain = program("(module)");
    let error = |links: &[(&str, &Program)]| match linked("(module)", links) {
        Err(LoadError::Link(error)) => error,
        other => panic!("{other:?}"),
    };
    for name in ["", "a b", "refcap_v1", "refcapx", "wasi_snapshot_preview1"] {
        assert_eq!(error(&[(name, &plain)]), LinkError::BadName(name.to_owned()));
    }
    assert_eq!(
        error(&[("a", &plain), ("a", &plain)]),
        LinkError::Twice("a".to_owned())
    );
    let endowed = program(&app("", "(i32.const 0)"));
    let asks = error(&[("a", &endowed)]);
    assert!(
        asks.to_string().contains("`a` asks for the endowment `net`"),
        "{asks}"
    );
    let other = Runtime::new().unwrap();
    let foreign = Program::load(&other, &wat::parse_str("(module)").unwrap()).unwrap();
    assert_eq!(error(&[("a", &foreign)]), LinkError::OtherRuntime("a".to_owned()));
    let many: Vec<_> = (0..MAX_INSTANCES).map(|_| program("(module)")).collect();
    let names: Vec<_> = (0..MAX_INSTANCES).map(|number| format!("p{number}")).collect();
    let links: Vec<_> = names.iter().map(String::as_str).zip(&many).collect();
    assert_eq!(error(&links), LinkError::TooMany(MAX_INSTANCES + 1));
    assert!(linked("(module)", &links[1..]).is_ok());
}

#[tokio::test]
async fn a_program_that_is_linked_twice_is_one_instance() {
    let counter = program(
        r#"(module (global $n (mut i32) (i32.const 0))
             (func (export "next") (result i32)
               (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#,
    );
    let middle = r#"(module (import "counter" "next" (func $next (result i32)))
        (func (export "next") (result i32) (call $next)))"#;
    let left = linked(middle, &[("counter", &counter)]).unwrap();
    let right = linked(middle, &[("counter", &counter)]).unwrap();
    let source = app(
        r#"(import "left" "next" (func $left (result i32))) (import "right" "next" (func $right (result i32)))"#,
        "(drop (call $left)) (drop (call $left)) (call $right)",
    );
    let app = linked(&source, &[("left", &left), ("right", &right)]).unwrap();
    assert_eq!(run(&app, "").await.unwrap(), 3);
    // And another one in another vat.
    assert_eq!(run(&app, "").await.unwrap(), 3);
}

/// The status of `link_give` and `link_take` for a program that is linked to `GIVEN`.
const GIVEN: &str = r#"(module
    (import "refcap_v1" "cap_kind" (func $kind (param externref) (result i32)))
    (table $slots 4 externref)
    (global $out (mut externref) (ref.null extern))
    (func (export "refcap_grant") (param externref) (result i32)
      (if (i32.eqz (ref.is_null (table.get $slots (i32.const 3)))) (then (return (i32.const -1))))
      (table.set $slots (i32.const 3) (local.get 0)) (i32.const 3))
    (func (export "refcap_take") (result externref)
      (global.get $out) (global.set $out (ref.null extern)))
    (func (export "kind") (param i32) (result i32) (call $kind (table.get $slots (local.get 0))))
    (func (export "put_out") (param i32) (global.set $out (table.get $slots (local.get 0)))))"#;

const SWITCHBOARD: &str = r#"
    (import "refcap_v1" "link_find" (func $find (param i32 i32) (result i32)))
    (import "refcap_v1" "link_give" (func $give (param externref i32) (result i32)))
    (import "refcap_v1" "link_take" (func $take (param i32) (result externref i32)))
    (import "refcap_v1" "cap_kind" (func $kind_here (param externref) (result i32)))
    (import "given" "kind" (func $kind (param i32) (result i32)))
    (import "given" "put_out" (func $put_out (param i32)))
    (data (i32.const 0) "given")"#;

#[tokio::test]
async fn references_are_given_and_taken_through_the_switchboard() {
    let given = program(GIVEN);
    for (run_it, expected) in [
        // To whom, then what it is there.
        (
            "(call $kind (call $give (global.get $net) (call $find (i32.const 0) (i32.const 5))))",
            1,
        ),
        (
            "(call $find (i32.const 0) (i32.const 4))",
            ErrorCode::NotFound.status(),
        ),
        (
            "(call $give (global.get $net) (i32.const 1))",
            ErrorCode::NotFound.status(),
        ),
        (
            "(call $give (global.get $net) (i32.const -1))",
            ErrorCode::NotFound.status(),
        ),
        (
            "(call $give (global.get $net) (i32.const 16))",
            ErrorCode::NotFound.status(),
        ),
        // What has no room says so.
        (
            "(drop (call $give (global.get $net) (i32.const 0))) (call $give (global.get $net) (i32.const 0))",
            ErrorCode::LimitReached.status(),
        ),
        // Nothing is put out; then it is, once.
        (
            "(call $take (i32.const 0)) (return)",
            ErrorCode::NullReference.status(),
        ),
        (
            "(call $take (i32.const 7)) (return)",
            ErrorCode::NotFound.status(),
        ),
        (
            "(local $got externref)
             (call $put_out (call $give (global.get $net) (i32.const 0)))
             (call $take (i32.const 0)) (drop) (local.set $got)
             (i32.mul (call $kind_here (local.get $got)) (i32.const 10))
             (call $take (i32.const 0)) (i32.mul (i32.const -1))
             (drop) (drop)",
            10,
        ),
    ] {
        // A body whose last call leaves a reference below the status returns the status alone.
        let body = match run_it.strip_suffix(" (return)") {
            Some(call) => {
                format!("(local $status i32) {call} (local.set $status) (drop) (local.get $status)")
            }
            None => run_it.to_owned(),
        };
        let app = linked(&app(SWITCHBOARD, &body), &[("given", &given)]).unwrap();
        assert_eq!(run(&app, "").await.unwrap(), expected, "{run_it}");
    }
    // Without links there is nobody to give anything to.
    let alone = app(
        r#"(import "refcap_v1" "link_give" (func $give (param externref i32) (result i32)))"#,
        "(call $give (global.get $net) (i32.const 0))",
    );
    let alone = program(&alone);
    assert_eq!(run(&alone, "").await.unwrap(), ErrorCode::NotFound.status());
}

#[tokio::test]
async fn a_trap_or_an_exit_of_a_linked_program_ends_the_vat() {
    let plugin = program(
        r#"(module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (func (export "trap") (unreachable))
          (func (export "exit") (call $exit (i32.const 0))))"#,
    );
    for (export, says) in [
        ("trap", "unreachable"),
        ("exit", "the linked program `plugin` called `exit` with code 0"),
    ] {
        let source = app(
            &format!(r#"(import "plugin" "{export}" (func $it))"#),
            "(call $it) (i32.const 0)",
        );
        let app = linked(&source, &[("plugin", &plugin)]).unwrap();
        match run(&app, "").await {
            Err(RunError::Trap { message, .. }) => assert!(message.contains(says), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_linked_program_has_no_part_in_what_the_program_that_is_run_was_given() {
    let plugin = program(
        r#"(module
          (import "refcap_v1" "grant_take" (func $take (param i32 i32) (result externref i32)))
          (import "refcap_v1" "error_message" (func $message (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environment (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "late")
          (func (export "steal") (result i32) (local $status i32)
            (call $take (i32.const 0) (i32.const 4)) (local.set $status) (drop) (local.get $status))
          (func (export "message") (result i32) (call $message (i32.const 100) (i32.const 100)))
          (func (export "args") (result i32)
            (drop (call $args (i32.const 64) (i32.const 68)))
            (drop (call $environment (i32.const 72) (i32.const 76)))
            (i32.add (i32.load (i32.const 64)) (i32.load (i32.const 72)))))"#,
    );
    let source = app(
        r#"(import "plugin" "steal" (func $steal (result i32)))
           (import "plugin" "message" (func $message (result i32)))
           (import "plugin" "args" (func $args (result i32)))
           (import "refcap_v1" "grant_take" (func $take (param i32 i32) (result externref i32)))
           (import "refcap_v1" "error_message" (func $own_message (param i32 i32) (result i32)))
           (data (i32.const 0) "late")"#,
        "(local $status i32)
         ;; No message yet, for neither.
         (if (call $message) (then (return (i32.const 1))))
         (if (i32.ne (call $steal) (i32.const -20)) (then (return (i32.const 2))))
         ;; The plugin's failure is the plugin's.
         (if (i32.eqz (call $message)) (then (return (i32.const 3))))
         (if (call $own_message (i32.const 100) (i32.const 100)) (then (return (i32.const 4))))
         (if (call $args) (then (return (i32.const 5))))
         ;; It is still there for whom it was meant.
         (call $take (i32.const 0) (i32.const 4)) (local.set $status) (drop)
         (local.get $status)",
    );
    let app = linked(&source, &[("plugin", &plugin)]).unwrap();
    let (first, late) = (net(""), net("connect tcp *:*"));
    let vat = app
        .vat()
        .grant("net", &first)
        .args(["app", "secret"])
        .env("KEY", "secret");
    let mut vat = vat.start().await.unwrap();
    vat.handle().grant("late", &late);
    assert_eq!(vat.run().await.unwrap().code, 0);
}

#[tokio::test]
async fn programs_share_the_limits_of_their_vat() {
    let plugin = program(
        r#"(module (memory (export "memory") 1)
             (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    let source = app(
        r#"(import "plugin" "grow" (func $grow (param i32) (result i32)))"#,
        // What one of them has taken, the other can't have.
        "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i32.const 1))))
         (loop $more (br_if $more (i32.ne (call $grow (i32.const 1)) (i32.const -1))))
         (i32.add (memory.grow (i32.const 1)) (i32.const 1))",
    );
    let app = linked(&source, &[("plugin", &plugin)]).unwrap();
    let net = net("");
    let limits = Limits::default().memory(4 << 20);
    let mut vat = app.vat().grant("net", &net).limits(limits).start().await.unwrap();
    assert_eq!(vat.run().await.unwrap().code, 0);
}

#[test]
fn the_audit_log_says_which_program_it_was() {
    if is_alone("instances::the_audit_log_says_which_program_it_was", &[]) {
        block_on(two_programs_fail());
    }
}

async fn two_programs_fail() {
    let plugin = program(PLUGIN);
    let source = app(
        r#"(import "plugin" "connect" (func $connect (param externref i32) (result externref i32)))
           (import "refcap_v1" "net_connect" (func $own (param externref i32 i32 i32) (result externref i32)))"#,
        "(call $connect (global.get $net) (i32.const 0)) (drop) (drop)
         (call $own (global.get $net) (i32.const 0) (i32.const 0) (i32.const 0)) (drop) (drop) (i32.const 0)",
    );
    let app = linked(&source, &[("plugin", &plugin)]).unwrap();
    let lines = crate::embedder::logged(async {
        run(&app, "connect tcp *:*").await.unwrap();
    });
    let lines = lines.await;
    let refusals: Vec<_> = lines.iter().filter(|line| line.contains("\"refuse\"")).collect();
    assert_eq!(refusals.len(), 2, "{lines:#?}");
    assert!(refusals[0].contains(r#""instance":"plugin""#), "{}", refusals[0]);
    assert!(!refusals[1].contains("instance"), "{}", refusals[1]);
}

#[tokio::test]
async fn the_output_of_a_linked_program_goes_where_the_embedder_says() {
    let plugin = program(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\08\00\00\00\05\00\00\00hello")
          (func (export "hello") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#,
    );
    let source = app(
        r#"(import "plugin" "hello" (func $hello))"#,
        "(call $hello) (i32.const 0)",
    );
    let app = linked(&source, &[("plugin", &plugin)]).unwrap();
    let net = net("");
    let (own, linked) = (refcap::Captured::new(100), refcap::Captured::new(100));
    let vat = app.vat().grant("net", &net).stdout(Output::Capture(own.clone()));
    let vat = vat.linked_output("plugin", Output::Capture(linked.clone()), Output::Discard);
    vat.start().await.unwrap().run().await.unwrap();
    assert_eq!((own.text(), linked.text()), (String::new(), "hello".to_owned()));
    // By default, nowhere.
    let vat = app.vat().grant("net", &net).stdout(Output::Capture(own.clone()));
    vat.start().await.unwrap().run().await.unwrap();
    assert_eq!(own.text(), "");
}
