//! The schemas and descriptions of everything this binary reads, writes and answers: the one place that sees both the
//! types and the door.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::http::problem::ProblemBody;
use crate::http::routes::Route;
use crate::http::{handlers, health, openapi};
use crate::services::schema::{self, Door, Files};

/// Every file by its path below the project's folder.
pub fn files() -> Result<Files, String> {
    let mut routes = health::routes(Arc::new(|| Ok(())), Arc::new(Registry::default()));
    routes.extend(handlers::routes());
    let facts: Vec<_> = routes.iter().map(Route::facts).collect();
    let problem = schemars::schema_for!(ProblemBody<'static>).to_value();
    schema::files(&Door { openapi: openapi::document(&facts).to_vec(), problem })
}
