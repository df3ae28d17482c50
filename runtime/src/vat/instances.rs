//! Bringing a vat's instances into being: the program that is run, and those that are linked to it.

use refcap_abi::{INITIALIZE_EXPORT, MEMORY_EXPORT, MODULE};
use wasmtime::{Extern, Instance, Store};

use super::VatState;
use crate::program::Program;
use crate::program::link::all;
use crate::switchboard;

/// Instantiates a program and, before it, all that it is linked to. The vat's state has a place for each of them:
/// the program itself is number 0, the others follow in the order in which they come into being.
pub(super) async fn instantiate(
    store: &mut Store<VatState>,
    program: &Program,
) -> wasmtime::Result<Instance> {
    let mut made: Vec<(Program, Instance)> = Vec::new();
    let mut boards = Vec::new();
    for (number, link) in (1..).zip(all(program.links())) {
        let instance = one(store, &link.program, number, &made, &mut boards).await?;
        made.push((link.program.clone(), instance));
    }
    let main = one(store, program, 0, &made, &mut boards).await?;
    // Only now are all there that could be called.
    for board in boards {
        let linked = made.iter().map(|(_, instance)| instance);
        switchboard::connect_all(store, board, (0..).zip([&main].into_iter().chain(linked)))?;
    }
    Ok(main)
}

/// Instantiates one program, whose links are there.
async fn one(
    store: &mut Store<VatState>,
    program: &Program,
    number: u8,
    made: &[(Program, Instance)],
    boards: &mut Vec<Instance>,
) -> wasmtime::Result<Instance> {
    let instance = match program.linked() {
        Some(linked) if number == 0 => linked.instantiate_async(&mut *store).await?,
        _ => {
            let imports = imports(store, program, number, made, boards).await?;
            Instance::new_async(&mut *store, program.module(), &imports).await?
        }
    };
    let memory = instance.get_memory(&mut *store, MEMORY_EXPORT);
    let state = store.data_mut().instance_mut(usize::from(number));
    state.instance = Some(instance);
    state.memory = memory;
    state.links = program.links().iter().map(|link| link.name.clone()).collect();
    if let Some(initialize) = instance.get_func(&mut *store, INITIALIZE_EXPORT) {
        initialize.call_async(&mut *store, &[], &mut []).await?;
    }
    Ok(instance)
}

/// What a program imports, in order: from the host, from its switchboard, from those that it is linked to.
async fn imports(
    store: &mut Store<VatState>,
    program: &Program,
    number: u8,
    made: &[(Program, Instance)],
    boards: &mut Vec<Instance>,
) -> wasmtime::Result<Vec<Extern>> {
    let links: Vec<(&str, Instance)> = program
        .links()
        .iter()
        .filter_map(|link| {
            let (_, instance) = made.iter().find(|(program, _)| program.is(&link.program))?;
            Some((&*link.name, *instance))
        })
        .collect();
    let runtime = program.runtime();
    let linker = runtime.linker(number)?;
    let board = match program.is_wired() {
        false => None,
        true => {
            let module = runtime.switchboard()?;
            let asked = module
                .imports()
                .map(|import| linker.get_by_import(&mut *store, &import));
            let asked: Option<Vec<_>> = asked.collect();
            let asked =
                asked.ok_or_else(|| wasmtime::Error::msg("the host lacks what the switchboard asks"))?;
            let board = Instance::new_async(&mut *store, module, &asked).await?;
            let instances: Vec<_> = links.iter().map(|(_, instance)| *instance).collect();
            switchboard::connect_links(store, board, &instances)?;
            boards.push(board);
            Some(board)
        }
    };
    let mut imports = Vec::new();
    for import in program.module().imports() {
        let from = match import.module() {
            MODULE => board,
            name => links
                .iter()
                .find(|(link, _)| *link == name)
                .map(|(_, instance)| *instance),
        };
        let found = from.and_then(|instance| instance.get_export(&mut *store, import.name()));
        let found = found.or_else(|| linker.get_by_import(&mut *store, &import));
        imports.push(found.ok_or_else(|| {
            let (module, name) = (import.module(), import.name());
            wasmtime::Error::msg(format!("nothing provides the import `{name}` from `{module}`"))
        })?);
    }
    Ok(imports)
}
