//! A guard. Says yes to addresses that a name was resolved to, the last 64 of them.

use refcap_guard::{AfterResolve, guard};

guard!(AfterResolve<64> = AfterResolve::new());
