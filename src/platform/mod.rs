//! The machine: clocks, entropy, files, tasks; each with a double. Nothing here knows what an event is.

pub mod clock;
pub mod descriptors;
pub mod entropy;
pub mod keyed;
pub mod private_file;
pub mod rotated_log;
pub mod tasks;
