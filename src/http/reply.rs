//! Answers of handlers: JSON with a status, and mutations that a client cannot stop by hanging up.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;

use super::at_work::AtWork;
use super::problem::Problem;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::tasks::Tasks;
use crate::services::past::Shown;

/// As of which record an answer is.
const AS_OF: HeaderName = HeaderName::from_static("chancery-as-of");

/// When to ask again after a mutation that goes on, milliseconds.
const RETRY_MS: u64 = 5_000;

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

/// Runs a mutation to its end as a task of its own, whatever becomes of the connection. The drain waits for it. Who asked
/// waits for so long; then it goes on, and a repeat under the same key gets its answer.
pub async fn detached<T, F>(tasks: &Tasks, (at_work, wait): (AtWork, Duration), mutation: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    let began = tokio::time::Instant::now();
    let slow = |reason| {
        let detail = format!("It has not ended after {} s, and goes on.", wait.as_secs());
        Refusal::new(reason, detail).retry_after_ms(RETRY_MS)
    };
    tokio::time::timeout_at(began + wait, at_work.turn()).await.map_err(|_| slow(Reason::RequestInProgress))?;
    let work = async move { (mutation.await, at_work).0 };
    let ended = tokio::time::timeout_at(began + wait, tasks.spawn(work)).await;
    let ended = ended.map_err(|_| slow(Reason::RequestTimeout))?;
    match ended {
        Ok(outcome) => outcome,
        Err(fault) => {
            tracing::error!(%fault, "a mutation did not end");
            Err(Reason::InternalError.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::record::RequestFacts;
    use crate::http::at_work::KeysAtWork;

    #[tokio::test(start_paused = true)]
    async fn who_asks_waits_for_so_long_and_the_mutation_goes_on() {
        let (tasks, keys, wait) = (Tasks::new(), KeysAtWork::default(), Duration::from_secs(30));
        let request = RequestFacts {
            id: "request".to_owned(),
            key: Some("key".to_owned()),
            scope: "scope".to_owned(),
            body_mac: None,
        };
        let done = Arc::new(AtomicU64::new(0));
        let ask = |org: &str| {
            let (at_work, done) = (keys.enter(org, &request), Arc::clone(&done));
            let slow = async move {
                tokio::time::sleep(Duration::from_secs(40)).await;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            detached(&tasks, (at_work, wait), slow)
        };
        let (first, repeat, other) = tokio::join!(ask("one"), ask("one"), ask("other"));
        let reasons = [first, repeat, other].map(|refused| refused.unwrap_err().reason);
        assert_eq!(reasons, [Reason::RequestTimeout, Reason::RequestInProgress, Reason::RequestTimeout]);
        assert!(!Reason::RequestTimeout.surely_no_effect(), "the first may still do something");
        assert_eq!(done.load(Ordering::Relaxed), 0);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(done.load(Ordering::Relaxed), 2, "the first of each went on, and the repeat did nothing");
        // A repeat with patience gets its turn when the first has ended.
        let (first, repeat) = (keys.enter("one", &request), keys.enter("one", &request));
        let quick = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(1)
        };
        let both =
            tokio::join!(detached(&tasks, (first, wait), quick), detached(&tasks, (repeat, wait), async { Ok(2) }));
        assert_eq!((both.0.ok(), both.1.ok()), (Some(1), Some(2)));
        let again = keys.enter("one", &request);
        assert_eq!(detached(&tasks, (again, wait), async { Ok(7) }).await.ok(), Some(7));
    }
}
