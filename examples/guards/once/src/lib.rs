//! A guard. Says yes to one connection.

use refcap_guard::{Once, guard};

guard!(Once = Once::new());
