//! Other people's machines: the guarded client and the model providers.

pub mod limits;
pub mod providers;
