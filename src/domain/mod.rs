//! Facts and rules: ids, reasons, events and, for each noun, its state, its decisions and its fold. Everything here is
//! pure: no clock, no disk, no network, no async.

pub mod actor;
pub mod approval;
pub mod call;
pub mod context;
pub mod event;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod permission;
pub mod personal;
pub mod question;
pub mod reason;
pub mod record;
pub mod run;
pub mod runtime;
pub mod session;
pub mod stream;
pub mod task;
pub mod token;
pub mod turn;
