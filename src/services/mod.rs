//! What one can ask: the clerk, authority, one file of use cases a noun, and the workers.

pub mod authority;
pub mod tokens;
