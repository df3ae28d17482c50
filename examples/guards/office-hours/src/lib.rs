//! A guard. Says yes from 8:00 to 18:00 UTC.

use refcap_guard::{TimeOfDay, guard};

guard!(TimeOfDay = TimeOfDay::hours(8, 18));
