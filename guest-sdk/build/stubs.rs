//! What the object holds: a stub for each host function, the export that receives capabilities, and
//! the few things that Rust does with the table itself.
//!
//! A stub's parameters are first a slot for each reference that the host function returns, then the
//! function's own parameters, with a slot in place of each reference. It returns the status.

use refcap_abi::{GRANT_EXPORT, IMPORTS, Import, MODULE, Param, TAKE_EXPORT};

use crate::object::{Code, Function, ImportedFunction, Object, Signature, ValueType};
use ValueType::{ExternRef, I32};

/// The free list's head, which Rust sees as a static: the address of an array of slots...
const FREE_POINTER: u32 = 0;
/// ... and how many of its elements are free slots.
const FREE_LENGTH: u32 = 4;

/// The slot that holds what is put out for others to take; 0 as long as there is none.
const OUT_SLOT: u32 = 8;

/// The whole object.
pub(crate) fn object() -> Object {
    let imports = IMPORTS.iter().map(imported).collect();
    let mut functions: Vec<Function> = IMPORTS
        .iter()
        .zip(0..)
        .map(|(import, index)| stub(import, index))
        .collect();
    functions.extend([grant(), take(), grow(), size(), clear(), move_to(), is_null()]);
    Object {
        imports,
        functions,
        table: symbol("table"),
        // Slot 0 is null for ever, so that no capability has the number that stands for none.
        table_minimum: 1,
        memory: symbol("free_slots"),
        memory_size: 12,
    }
}

/// The name of a symbol. It carries the ABI's version, so that objects of two versions cannot be mixed.
fn symbol(name: &str) -> String {
    format!("{MODULE}_{name}")
}

fn imported(import: &Import) -> ImportedFunction {
    let params = import.params.iter().map(|param| match param {
        Param::Ref => ExternRef,
        Param::I32 => I32,
    });
    let mut results = vec![ExternRef; import.refs_out];
    results.push(I32);
    ImportedFunction {
        symbol: symbol(&format!("import_{}", import.name)),
        module: MODULE,
        field: import.name,
        signature: Signature {
            params: params.collect(),
            results,
        },
    }
}

fn stub(import: &Import, index: u32) -> Function {
    let outs = import.refs_out as u32;
    let params = outs + import.params.len() as u32;
    let mut code = Code::default();
    for (param, local) in import.params.iter().zip(outs..) {
        code.local_get(local);
        if *param == Param::Ref {
            code.table_get();
        }
    }
    code.call(index);
    let mut locals = Vec::new();
    if outs > 0 {
        // The references lie below the status on the stack, the last one uppermost.
        let status = params + outs;
        code.local_set(status);
        for out in (0..outs).rev() {
            code.local_set(params + out);
        }
        for out in 0..outs {
            code.local_get(out).local_get(params + out).table_set();
        }
        code.local_get(status);
        locals = vec![ExternRef; import.refs_out];
        locals.push(I32);
    }
    Function {
        symbol: symbol(&format!("stub_{}", import.name)),
        exported: false,
        signature: Signature {
            params: vec![I32; params as usize],
            results: vec![I32],
        },
        locals,
        code,
    }
}

/// Puts a reference from the host into a slot, without a call into Rust: it works before the guest's
/// own code has run. Returns the slot, or -1 when the table cannot grow.
fn grant() -> Function {
    let (reference, slot) = (0, 1);
    let mut code = Code::default();
    code.i32_const(0)
        .i32_load_memory(FREE_LENGTH)
        .local_tee(slot)
        .i32_eqz();
    code.if_i32();
    code.local_get(reference).i32_const(1).table_grow();
    code.else_();
    // The last of the free slots: FREE_POINTER[FREE_LENGTH -= 1].
    code.i32_const(0);
    code.local_get(slot).i32_const(1).i32_sub().local_tee(slot);
    code.i32_store_memory(FREE_LENGTH);
    code.i32_const(0).i32_load_memory(FREE_POINTER);
    code.local_get(slot)
        .i32_const(2)
        .i32_shl()
        .i32_add()
        .i32_load()
        .local_tee(slot);
    code.local_get(reference).table_set();
    code.local_get(slot);
    code.end();
    Function {
        symbol: GRANT_EXPORT.to_owned(),
        exported: true,
        signature: Signature {
            params: vec![ExternRef],
            results: vec![I32],
        },
        locals: vec![I32],
        code,
    }
}

/// Gives the reference that was put out, once; null when there is none.
fn take() -> Function {
    let reference = 0;
    let mut code = Code::default();
    code.i32_const(0)
        .i32_load_memory(OUT_SLOT)
        .table_get()
        .local_set(reference);
    // Slot 0, which is null anyhow, where nothing was ever put out.
    code.i32_const(0).i32_load_memory(OUT_SLOT).ref_null().table_set();
    code.local_get(reference);
    Function {
        symbol: TAKE_EXPORT.to_owned(),
        exported: true,
        signature: Signature {
            params: Vec::new(),
            results: vec![ExternRef],
        },
        locals: vec![ExternRef],
        code,
    }
}

/// Moves what one slot holds to another one.
fn move_to() -> Function {
    helper("table_move", 2, 0, |code| {
        let (from, to) = (0, 1);
        code.local_get(to).local_get(from).table_get().table_set();
        code.local_get(from).ref_null().table_set();
    })
}

/// Adds so many null slots. Returns the first, or -1 when the table cannot grow.
fn grow() -> Function {
    helper("table_grow", 1, 1, |code| {
        code.ref_null().local_get(0).table_grow();
    })
}

/// How many slots there are.
fn size() -> Function {
    helper("table_size", 0, 1, |code| {
        code.table_size();
    })
}

/// Makes a slot null.
fn clear() -> Function {
    helper("table_clear", 1, 0, |code| {
        code.local_get(0).ref_null().table_set();
    })
}

/// Whether a slot is null.
fn is_null() -> Function {
    helper("table_is_null", 1, 1, |code| {
        code.local_get(0).table_get().ref_is_null();
    })
}

fn helper(name: &str, params: usize, results: usize, body: impl FnOnce(&mut Code)) -> Function {
    let mut code = Code::default();
    body(&mut code);
    Function {
        symbol: symbol(name),
        exported: false,
        signature: Signature {
            params: vec![I32; params],
            results: vec![I32; results],
        },
        locals: Vec::new(),
        code,
    }
}
