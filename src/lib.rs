//! Chancery: a self-hosted control plane for AI agents whose every act is sealed in a journal that anyone can verify.
//!
//! The modules are rooms; `docs/architecture.md` says what each is for and which others it may name.

pub mod agent;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod http;
pub mod journal;
pub mod outbound;
pub mod platform;
pub mod projections;
pub mod services;
pub mod vault;
