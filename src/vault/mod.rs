//! Secrets: encrypted slots under a master key that the operator keeps. Nothing here prints one, and nothing hands one
//! out but to whoever uses it at once.

pub mod file;
pub mod master_key;
pub mod redaction;
pub mod seal;
pub mod secret;
pub mod store;
pub mod subject;
