//! The machine: clocks, entropy, files, tasks; each with a double. Nothing here knows what an event is.

pub mod bounded_read;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod files;
pub mod sim_disk;
pub mod tasks;
