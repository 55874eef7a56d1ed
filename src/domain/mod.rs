//! Facts and rules: ids, reasons, events and, for each noun, its state, its decisions and its fold. Everything here is
//! pure: no clock, no disk, no network, no async.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm))]

pub mod actor;
pub mod approval;
pub mod boot;
pub mod call;
pub mod canonical;
pub mod card;
pub mod command;
pub mod context;
pub mod credential;
pub mod erasure;
pub mod event;
pub mod ids;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod model_call;
pub mod names;
pub mod permission;
pub mod personal;
pub mod question;
pub mod reason;
pub mod receipts;
pub mod record;
pub mod reply;
pub mod routes;
pub mod run;
pub mod runtime;
pub mod secret;
pub mod session;
pub mod stream;
pub mod task;
pub mod token;
pub mod turn;
pub mod world;

#[cfg(test)]
mod laws;
#[cfg(test)]
pub(crate) mod random_commands;
#[cfg(test)]
mod random_ledger;
#[cfg(test)]
mod stories;
#[cfg(test)]
pub(crate) mod testing;
