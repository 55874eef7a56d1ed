//! The guarded connector with TLS on top: whatever was vetted and dialled must also prove that it is the host of the
//! address. What goes wrong keeps its kind.

use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::guard::{Boxed, Fault, Guard};
use super::limits;
use super::trust::{self, Trust};

/// Connects to `http` and `https` destinations.
#[derive(Debug, Clone)]
pub(super) struct Secured {
    inner: HttpsConnector<Guard>,
}

impl Secured {
    /// The guard's rules, and whom to trust.
    pub(super) fn new(guard: Guard, trust: &Trust) -> Self {
        Self { inner: HttpsConnector::from((guard, trust.config())) }
    }
}

impl Service<Uri> for Secured {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Fault;
    type Future = Boxed<'static, Result<Self::Response, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            let error = match tokio::time::timeout(Duration::from_millis(limits::CONNECTION_MS), connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => return Err(Fault::Unreachable("connecting took too long".to_owned())),
            };
            match error.downcast::<Fault>() {
                Ok(fault) => Err(*fault),
                Err(error) => Err(match trust::objection(error.as_ref()) {
                    Some(objection) => Fault::Untrusted(objection),
                    None => Fault::Unreachable("the connection ended before it was secure".to_owned()),
                }),
            }
        })
    }
}
