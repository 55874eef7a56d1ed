//! The machine: clocks, entropy, files, tasks; each with a double. Nothing here knows what an event is.

pub mod bounded_read;
pub mod clock;
pub mod descriptors;
pub mod disk;
pub mod entropy;
pub mod executable;
pub mod files;
pub mod handed_calls;
pub mod histogram;
pub mod keyed;
pub mod log_pipe;
pub mod own_process;
pub mod private_file;
pub mod processes;
pub mod rotated_log;
pub mod scratch;
pub mod sim_disk;
pub mod spool;
pub mod tasks;
