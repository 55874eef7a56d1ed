//! The agent's tools and their sandbox, with real processes started by the built binary.

#[path = "tools/sandbox.rs"]
mod sandbox;
#[path = "tools/support.rs"]
mod support;
