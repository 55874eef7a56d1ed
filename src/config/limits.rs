//! Limits of what the operator says, each with its unit in the name.

/// Largest routes file, bytes.
pub const ROUTES_FILE_BYTES: usize = 1 << 20;
/// Most routes in a file.
pub const ROUTES: usize = 200;
/// Longest route id, bytes.
pub const ROUTE_ID_BYTES: usize = 64;
/// Most models that a route lists.
pub const MODELS: usize = 1_000;
/// Longest model name, bytes.
pub const MODEL_BYTES: usize = 200;
/// Longest address of a route, bytes.
pub const BASE_URL_BYTES: usize = 500;
/// Largest file of further certificate authorities, bytes.
pub const CA_FILE_BYTES: usize = 1 << 20;
/// Most output tokens that a route may ask for.
pub const OUTPUT_TOKENS: u64 = 10_000_000;
/// Longest time that a route may give one call, milliseconds.
pub const TIMEOUT_MS: u64 = 60 * 60 * 1_000;
/// Longest input that a route may allow one call, tokens.
pub const INPUT_TOKENS: u64 = 100_000_000;
/// Most calls at a time that a route may allow.
pub const CALLS_AT_A_TIME: u64 = 10_000;
/// Most fallbacks that a route names.
pub const FALLBACKS: usize = 16;
/// Most runs that an operator may have work at a time.
pub const RUNS_AT_A_TIME_MOST: usize = 256;
/// Most problems of a file that are told at once.
pub const PROBLEMS_LISTED: usize = 50;
/// Largest price table, bytes.
pub const PRICE_TABLE_BYTES: usize = 1 << 20;
/// Most models in a price table.
pub const PRICED_MODELS: usize = 5_000;
/// Highest price of a million tokens, micro-units.
pub const PRICE_MICROS: u64 = 1_000_000_000_000;
