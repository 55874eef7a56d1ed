//! The machine: clocks, entropy, files, tasks; each with a double. Nothing here knows what an event is.

pub mod clock;
pub mod entropy;
pub mod processes;
pub mod scratch;
pub mod spool;
pub mod tasks;
