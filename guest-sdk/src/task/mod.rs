//! Doing many things at once, in one thread: a small executor on a [`Poller`](crate::Poller).
//!
//! A guest has one thread, and waits for one thing at a time. With this it waits for all at once: each task is
//! a future, polled when what it waits for is there. A thousand idle tasks cost nothing. Calls from other programs are
//! answered in a task too: [`serve`].
//!
//! ```no_run
//! use refcap_guest::{Net, Result, task};
//!
//! #[refcap_guest::main]
//! fn main(net: Net) -> Result<()> {
//!     task::block_on(async {
//!         let listener = task::Async::new(net.listen("127.0.0.1:7007")?)?;
//!         loop {
//!             let (stream, _) = listener.accept().await?;
//!             task::spawn(async move {
//!                 let mut buffer = [0; 1024];
//!                 while let Ok(length @ 1..) = stream.read(&mut buffer).await {
//!                     if stream.write_all(&buffer[..length]).await.is_err() {
//!                         break;
//!                     }
//!                 }
//!             });
//!         }
//!     })?
//! }
//! ```

mod executor;
mod reactor;
mod serving;
mod socket;
mod timer;

pub use executor::{JoinHandle, block_on, spawn, yield_now};
pub use serving::serve;
pub use socket::{Async, connect, connect_name, copy};
pub use timer::{sleep, timeout};
