//! What the operator said: settings, state-root layout, routes file.

pub mod settings;
