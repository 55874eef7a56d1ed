//! What one can ask: the clerk, authority, one file of use cases a noun, and the workers.

pub mod access_log;
pub mod approvals;
pub mod authority;
pub mod blobs;
pub mod budget_refusals;
pub mod budgets;
pub mod clerk;
pub mod clock_watch;
pub mod cold_check;
pub mod credentials;
pub mod daemon_file;
pub mod debug_capture;
pub mod desk;
pub mod doctor;
pub mod external_actions;
mod file_watch;
pub mod gateway;
pub mod house_verify;
pub mod index_offline;
pub mod indexer;
pub mod journal_keys;
pub mod lanes;
pub mod model_calls;
pub mod models;
pub mod numbers;
pub mod opening;
pub mod past;
pub mod published;
pub mod questions;
pub mod repair;
pub mod route_references;
pub mod routing;
pub mod runner;
pub mod runs;
pub mod runtime;
pub mod schema;
pub mod scribe;
mod sealing;
pub mod secrets;
pub mod secrets_offline;
pub mod segment_watch;
pub mod sessions;
pub mod sight;
pub mod snapshots;
pub mod snapshotter;
pub mod state_root;
pub mod status;
pub mod tasks;
pub mod tokens;
pub mod vault;

#[cfg(test)]
mod clerk_stories;
#[cfg(test)]
mod redaction_stories;
#[cfg(test)]
mod stories;
#[cfg(test)]
pub(crate) mod testing;
