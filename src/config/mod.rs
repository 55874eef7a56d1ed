//! What the operator said: settings, state-root layout, routes file.

pub mod addresses;
pub mod base_url;
pub mod limits;
pub mod prices;
pub mod route_terms;
pub mod routes;
mod routes_file;
pub mod settings;
pub mod strict_toml;
