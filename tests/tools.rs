//! The agent's tools and their sandbox, with real processes started by the built binary.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "tests look at the disk and the clock themselves")]

#[path = "tools/attacks.rs"]
mod attacks;
#[path = "tools/background.rs"]
mod background;
#[path = "tools/calls.rs"]
mod calls;
#[path = "tools/losses.rs"]
mod losses;
#[path = "tools/sandbox.rs"]
mod sandbox;
#[path = "tools/support.rs"]
mod support;
