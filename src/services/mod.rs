//! What one can ask: the clerk, authority, one file of use cases a noun, and the workers.

pub mod approvals;
pub mod desk;
pub mod questions;
pub mod runs;
pub mod runtime;
pub mod sessions;
pub mod tasks;

#[cfg(test)]
mod stories;
