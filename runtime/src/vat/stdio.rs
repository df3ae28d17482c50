//! What a guest sees of the world through WASI preview 1: arguments, environment, standard streams,
//! clocks and random numbers. No files and no sockets.

use std::convert::Infallible;

use rand::TryRng;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// Where a guest's output goes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Output {
    /// Nowhere.
    #[default]
    Discard,
    /// To this process's own stream of the same name.
    Inherit,
    /// Into memory.
    Capture(Captured),
}

/// Output kept in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Captured {
    pipe: MemoryOutputPipe,
}

impl Captured {
    /// Keeps up to `limit` bytes; a guest that writes more gets an error.
    pub fn new(limit: usize) -> Self {
        Captured {
            pipe: MemoryOutputPipe::new(limit),
        }
    }

    /// What was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.pipe.contents().to_vec()
    }

    /// What was written so far, with anything that is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.pipe.contents()).into_owned()
    }
}

/// Where a guest's input comes from.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Input {
    /// Nothing: reading finds the end at once.
    #[default]
    Empty,
    /// This process's own standard input.
    Inherit,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Everything that WASI shows a guest.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl World {
    pub(crate) fn build(self) -> WasiP1Ctx {
        // A new builder allows no address and has no preopened directory; nothing here changes that.
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .secure_random(Randomness);
        builder.args(&self.args).envs(&self.env);
        match self.stdin {
            Input::Empty => {}
            Input::Inherit => {
                builder.inherit_stdin();
            }
            Input::Bytes(bytes) => {
                builder.stdin(MemoryInputPipe::new(bytes));
            }
        }
        match self.stdout {
            Output::Discard => {}
            Output::Inherit => {
                builder.inherit_stdout();
            }
            Output::Capture(captured) => {
                builder.stdout(captured.pipe);
            }
        }
        match self.stderr {
            Output::Discard => {}
            Output::Inherit => {
                builder.inherit_stderr();
            }
            Output::Capture(captured) => {
                builder.stderr(captured.pipe);
            }
        }
        builder.build_p1()
    }
}

/// Where guests' random numbers come from: the generator of the thread, which is one for cryptography. WASI's default is
/// one of its own for each guest, which is 360 bytes of each vat.
struct Randomness;

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        rand::rng().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rand::rng().try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rand::rng().try_fill_bytes(bytes)
    }
}
