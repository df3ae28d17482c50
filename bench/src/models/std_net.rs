//! `std::net` on wasmtime-wasi: a component whose sockets are those of WASI 0.2. Each job is a run of the program.

use std::net::SocketAddr;

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::error::Context;
use wasmtime::{Engine, Result, Store, bail};
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::guest_module;
use super::integer::{engine, interrupt};

/// What it says is a line.
const OUTPUT: usize = 4 << 10;

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The client.
pub(crate) struct Client {
    engine: Engine,
    program: CommandPre<State>,
    server: SocketAddr,
}

impl Client {
    /// Compiles and links it; `None` where it was not built.
    pub(crate) fn load(server: SocketAddr) -> Result<Option<Client>> {
        let Some(bytes) = guest_module("wasm32-wasip2", "bench-std-net") else {
            return Ok(None);
        };
        let engine = engine()?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let component = Component::new(&engine, bytes)?;
        let program = CommandPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Some(Client {
            engine,
            program,
            server,
        }))
    }

    /// Does a job, and returns the numbers that it says.
    pub(crate) async fn run(&self, job: &str, numbers: &[u32]) -> Result<Vec<u64>> {
        let output = MemoryOutputPipe::new(OUTPUT);
        let mut wasi = WasiCtxBuilder::new();
        wasi.arg("client")
            .arg(self.server.to_string())
            .arg(job)
            .inherit_network()
            .allow_tcp(true)
            .stdout(output.clone())
            .inherit_stderr();
        for number in numbers {
            wasi.arg(number.to_string());
        }
        let state = State {
            wasi: wasi.build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, state);
        interrupt(&mut store);
        let command: Command = self.program.instantiate_async(&mut store).await?;
        if command.wasi_cli_run().call_run(&mut store).await?.is_err() {
            bail!("the client could not do {job}");
        }
        let said = String::from_utf8_lossy(&output.contents()).into_owned();
        said.split_whitespace()
            .map(|number| {
                number
                    .parse::<u64>()
                    .with_context(|| format!("the client said {said:?}"))
            })
            .collect()
    }
}
