//! Other people's machines: the guarded client and the model providers.

pub mod address;
pub mod client;
pub mod guard;
pub mod limits;
pub mod providers;
pub mod retry;
mod secured;
pub mod sse;
pub mod trust;
mod tunnel;
