//! What one can ask: the clerk, authority, one file of use cases a noun, and the workers.

pub mod authority;
pub mod blobs;
pub mod clerk;
pub mod published;
pub mod scribe;
pub mod tokens;
