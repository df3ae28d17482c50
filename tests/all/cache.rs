//! Compiled modules on disk: found again, and never believed when they are damaged.

use std::fs;
use std::path::{Path, PathBuf};

use refcap::{Program, Runtime, RuntimeBuilder};

use crate::support::block_on;
use crate::support::commands::{Scratch, refcap};

/// A module that is compiled alone: nothing in it needs a module of the runtime's.
const MODULE: &str = r#"(module
  (@custom "refcap.endowments" "net Net required\n")
  (import "refcap_v1" "cap_kind" (func $kind (param externref) (result i32)))
  (table $slots 2 externref)
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $slots (i32.const 1) (local.get 0)) (i32.const 1))
  (func (export "cap_kind") (param i32) (result i32) (call $kind (table.get $slots (local.get 0)))))"#;

/// Loads a module with a cache. Returns how many modules were found, and how many compiled.
fn load(builder: RuntimeBuilder, directory: &str, wat: &str) -> (usize, usize) {
    let runtime = builder.cache(directory).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let program = Program::load(&runtime, &wat::parse_str(wat).unwrap()).unwrap();
    let net = crate::support::net("");
    block_on(async {
        let mut vat = program.vat().grant("net", &net).start().await.unwrap();
        // It is the program that it should be.
        assert_eq!(vat.call_export("cap_kind", &[1]).await.unwrap(), Some(1));
    });
    let usage = runtime.cache_use().expect("there is a cache");
    (usage.hits, usage.misses)
}

fn refusal(directory: &str) -> String {
    let refused = Runtime::builder().cache(directory).build();
    refused.expect_err("the directory can't be used").to_string()
}

/// The files in which compiled modules are.
fn modules(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for version in fs::read_dir(Path::new(directory).join("code/modules")).unwrap() {
        for file in fs::read_dir(version.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none() {
                files.push(file);
            }
        }
    }
    files
}

#[test]
fn a_module_is_compiled_once_for_each_setting() {
    let scratch = Scratch::new("cache_once");
    let directory = scratch.path("new/cache");
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (0, 1));
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (1, 0));
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (1, 0));
    let longer = MODULE.replacen("(module", "(module (@custom \"more\" \"\")", 1);
    assert_eq!(load(Runtime::builder(), &directory, &longer), (0, 1));
    assert_eq!(load(Runtime::builder().dense(true), &directory, MODULE), (0, 1));
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (1, 0));
    assert_eq!(modules(&directory).len(), 3);
    assert!(Runtime::new().unwrap().cache_use().is_none());
}

#[test]
fn what_is_damaged_or_foreign_is_compiled_again() {
    let scratch = Scratch::new("cache_damaged");
    let directory = scratch.path("cache");
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (0, 1));
    let file = &modules(&directory)[0];
    let good = fs::read(file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cut_short = good[..good.len() / 2].to_vec();
    let longer = [&good[..], b"more"].concat();
    let mut cases = vec![b"garbage".to_vec(), Vec::new(), cut_short, longer];
    // All over the file: most of these unpack, and machine code comes out of it.
    cases.extend((0..20).map(|part| flipped(part * good.len() / 20)));
    for (number, bytes) in cases.into_iter().enumerate() {
        fs::write(file, bytes).unwrap();
        let usage = load(Runtime::builder(), &directory, MODULE);
        assert_eq!(usage, (0, 1), "case {number}");
        assert_eq!(
            load(Runtime::builder(), &directory, MODULE),
            (1, 0),
            "case {number}"
        );
    }
    // A good file that nobody sealed, beside one that has another's seal.
    let seals = Path::new(&directory).join("seals");
    fs::remove_dir_all(&seals).unwrap();
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (0, 1));
    let foreign = file.with_file_name("foreign");
    fs::write(&foreign, &good).unwrap();
    // A folder where a file should be.
    fs::create_dir(file.with_file_name("folder")).unwrap();
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (1, 0));
    assert_eq!(&modules(&directory), std::slice::from_ref(file));
}

#[test]
fn a_directory_that_is_something_else_is_not_touched() {
    let scratch = Scratch::new("cache_other");
    let directory = scratch.path("project");
    let other = Path::new(&directory).join("code/modules/own/README");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, "mine").unwrap();
    let why = refusal(&directory);
    assert!(why.contains("there is something else in it"), "{why}");
    assert!(why.contains(&directory), "{why}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
    let file = scratch.file("file", "");
    assert!(refusal(&file).contains(&file));
}

#[cfg(unix)]
#[test]
fn a_directory_that_everybody_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("cache_public");
    let directory = scratch.path("cache");
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (0, 1));
    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(
        fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    mode(0o777);
    let why = refusal(&directory);
    assert!(why.contains("everybody can write to it"), "{why}");
    mode(0o755);
    assert_eq!(load(Runtime::builder(), &directory, MODULE), (1, 0));
}

#[test]
fn the_command_keeps_what_it_has_compiled() {
    let scratch = Scratch::new("cache_command");
    let directory = scratch.path("cache");
    let module = scratch.file("nothing.wat", r#"(module (func (export "_start")))"#);
    let run = || refcap(["run", &module, "--cache", &directory]);
    run().ends_with(0);
    let compiled = modules(&directory);
    assert_eq!(compiled.len(), 1);
    let written = fs::metadata(&compiled[0]).unwrap().modified().unwrap();
    run().ends_with(0);
    assert_eq!(fs::metadata(&compiled[0]).unwrap().modified().unwrap(), written);
    fs::write(&compiled[0], "damaged").unwrap();
    run().ends_with(0);
    assert_ne!(fs::read(&compiled[0]).unwrap(), b"damaged");
    refcap(["run", &module, "--cache", &module])
        .ends_with(213)
        .says(&["the cache directory"]);
}
