//! What the tests share.

mod alone;
pub(crate) mod commands;
pub(crate) mod dns;
pub(crate) mod integers;
pub(crate) mod names;
mod puppet;
pub(crate) mod servers;

use std::sync::OnceLock;
use std::time::Duration;

use refcap::{Authority, Capability, Policy, PoolSize, Program, References, Runtime, ambient_authority};

pub(crate) use alone::{is_alone, resident};
pub(crate) use puppet::{ANSWERS, Puppet, puppet_source};

/// As many vats as any test has at once, with those that run beside it.
const POOL: u32 = 4_000;

/// The one engine of the test process. `REFCAP_REFERENCES` says which way references take in it, and with
/// `REFCAP_POOLED` its vats are in a pool.
pub(crate) fn engine() -> &'static Runtime {
    static ENGINE: OnceLock<Runtime> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let way = match std::env::var("REFCAP_REFERENCES").as_deref() {
            Ok("ordinary") => References::Ordinary,
            Ok("compared") => References::Compared,
            Ok("fast") | Err(_) => References::Fast,
            Ok(other) => panic!("REFCAP_REFERENCES is `{other}`: not fast, ordinary or compared"),
        };
        let mut engine = Runtime::builder().references(way);
        if std::env::var_os("REFCAP_POOLED").is_some() {
            engine = engine.pooled(PoolSize::vats(POOL));
        }
        let engine = engine.build();
        let engine = engine.expect("this machine runs wasmtime");
        assert_eq!(
            engine.references(),
            way,
            "the engine fails the check of the fast way"
        );
        engine
    })
}

/// A capability with these rules.
pub(crate) fn net(rules: &str) -> Capability {
    Capability::net("net", authority(rules), ambient_authority())
}

/// A capability with these rules and terms.
pub(crate) fn granted(policy: &str) -> Capability {
    let policy: Policy = policy.parse().unwrap_or_else(|error| panic!("{policy}: {error}"));
    Capability::granted("net", &policy, ambient_authority()).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn authority(rules: &str) -> Authority {
    rules.parse().unwrap_or_else(|error| panic!("{rules}: {error}"))
}

/// A program from its text form.
pub(crate) fn program(wat: &str) -> Program {
    let bytes = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"));
    Program::load(engine(), &bytes).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a future on this thread alone.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    executor.expect("a thread can wait").block_on(future)
}

/// Long enough for anything that should happen at once, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Runs a future that must not hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .expect("what should happen at once did not happen")
}
