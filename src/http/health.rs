//! Routes that every daemon has: life, readiness, numbers, and the description of the interface.

use std::sync::Arc;

use hyper::StatusCode;
use prometheus_client::registry::Registry;

use super::extract::OnPassage;
use super::problem::{Problem, StatusOfRoute};
use super::reply::{Reply, ok, raw};
use super::routes::Route;
use crate::domain::reason::{Reason, Refusal};
use crate::services::authority::Action;
use axum::response::IntoResponse as _;

/// Media type of the numbers.
const NUMBERS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the daemon can take work now, and if not, why.
pub type Readiness = Arc<dyn Fn() -> Result<(), Refusal> + Send + Sync>;

/// The answer of `/healthz` and `/readyz`.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// The routes themselves.
pub fn routes<S: Clone + Send + Sync + 'static>(readiness: Readiness, registry: Arc<Registry>) -> Vec<Route<S>> {
    let ready = move |OnPassage(passage): OnPassage| {
        let state = if passage.gate().tasks.is_closing() {
            Err(Refusal::new(Reason::RequestOverloaded, "the daemon is stopping"))
        } else {
            readiness()
        };
        async move {
            let Err(refusal) = state else { return healthy() };
            // Probes know one status for "not now", whatever the reason is; its code is in the body.
            let mut answer = Problem(refusal).into_response();
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            answer.extensions_mut().insert(StatusOfRoute);
            Ok(answer)
        }
    };
    let numbers = move || {
        let text = super::metrics::text(&registry);
        async move {
            let text = text.map_err(|_| Refusal::from(Reason::InternalError))?;
            Reply::Ok(raw(StatusCode::OK, NUMBERS, text))
        }
    };
    vec![
        Route::open_get("/healthz", "Whether the process answers", || async { healthy() }).gives::<Health>(200),
        Route::open_get("/readyz", "Whether the daemon can take work", ready).gives::<Health>(200),
        Route::get("/metrics", Action::MetricsRead, "Numbers for Prometheus", numbers).gives_text(NUMBERS),
        Route::get("/v1/openapi.json", Action::OpenapiRead, "This description", openapi)
            .gives::<serde_json::Value>(200),
    ]
}

fn healthy() -> Reply {
    ok(&Health { status: "ok" })
}

async fn openapi(OnPassage(passage): OnPassage) -> Reply {
    Ok(raw(StatusCode::OK, "application/json", passage.gate().openapi.clone()))
}
