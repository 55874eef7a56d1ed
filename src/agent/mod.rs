//! The run as a stepper: tools, permissions, sandbox and the decision what comes next.

pub mod background;
pub mod sandbox;
pub mod stepper;
pub mod tools;
pub mod transcript;
pub mod workspace;
