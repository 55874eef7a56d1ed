//! The model providers.
