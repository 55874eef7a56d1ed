//! The door: routes, authentication, extraction, replies, problems and streams.

pub mod app;
pub mod at_work;
pub mod audit;
pub mod auth;
pub mod canonical;
pub mod connection;
pub mod cors;
pub mod cursor;
pub mod dialect;
pub mod edge;
pub mod extract;
mod guard;
pub mod handlers;
pub mod health;
pub mod idempotency;
pub mod json;
pub mod limits;
pub mod metrics;
pub mod numbers;
pub mod openapi;
pub mod passage;
pub mod problem;
pub mod reply;
pub mod routes;
pub mod sources;
pub mod sse;
