//! The machine: clocks, entropy, files, tasks; each with a double. Nothing here knows what an event is.

pub mod bounded_read;
pub mod clock;
pub mod descriptors;
pub mod disk;
pub mod entropy;
pub mod executable;
pub mod files;
pub mod handed_calls;
