//! Answers of handlers: JSON with a status, and mutations that a client cannot stop by hanging up.

use std::future::Future;

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;

use super::problem::Problem;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::tasks::Tasks;
use crate::services::past::Shown;

/// As of which record an answer is.
const AS_OF: HeaderName = HeaderName::from_static("chancery-as-of");

/// What handlers return.
pub type Reply = Result<Response, Problem>;

/// An answer with a JSON body.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let text = serde_json::to_vec(value).map_err(|fault| {
        tracing::error!(%fault, "an answer could not be written as JSON");
        Refusal::from(Reason::InternalError)
    })?;
    Ok(raw(status, "application/json", text))
}

/// 200 with a JSON body.
pub fn ok<T: Serialize>(value: &T) -> Reply {
    json(StatusCode::OK, value)
}

/// 200 with a JSON body, and the name of the record as of which it is where it is not the present.
pub fn shown<T: Serialize>(shown: &Shown<T>) -> Reply {
    let mut reply = ok(&shown.view)?;
    if let Some(seq) = shown.as_of {
        reply.headers_mut().insert(AS_OF, HeaderValue::from(seq));
    }
    Ok(reply)
}

/// 201 with a JSON body.
pub fn created<T: Serialize>(value: &T) -> Reply {
    json(StatusCode::CREATED, value)
}

/// 202 with a JSON body.
pub fn accepted<T: Serialize>(value: &T) -> Reply {
    json(StatusCode::ACCEPTED, value)
}

/// An answer with these bytes.
pub fn raw(status: StatusCode, content_type: &'static str, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Runs a mutation to its end as a task of its own, whatever becomes of the connection. The drain waits for it.
pub async fn detached<T, F>(tasks: &Tasks, mutation: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    match tasks.spawn(mutation).await {
        Ok(outcome) => outcome,
        Err(fault) => {
            tracing::error!(%fault, "a mutation did not end");
            Err(Reason::InternalError.into())
        }
    }
}
