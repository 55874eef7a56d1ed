//! The numbers of the door, and the text that shows all numbers of the daemon. Counting takes no lock: what a request
//! touches is made with the routes and found by the route's index.

use std::fmt::Error;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
pub use prometheus_client::registry::Registry;

use crate::domain::reason::Reason;
use crate::platform::histogram::Histogram;

type Labels = Vec<(&'static str, &'static str)>;

/// A histogram of durations, as the registry knows it.
#[derive(Debug, Clone)]
struct DurationHistogram(Histogram);

impl Default for DurationHistogram {
    fn default() -> Self {
        Self(Histogram::of_durations())
    }
}

impl TypedMetric for DurationHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let reading = self.0.read();
        encoder.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// The numbers of one route.
#[derive(Debug, Clone)]
struct RouteNumbers {
    /// By class of status: 1xx to 5xx.
    requests: [Counter; 5],
    seconds: DurationHistogram,
}

/// The numbers of the door.
#[derive(Debug, Clone, Default)]
pub struct EdgeMetrics {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, DurationHistogram>,
    auth_failures: Family<Labels, Counter>,
    /// Streams that are open now.
    pub sse_connections: Gauge,
    /// Streams that were opened with a cursor.
    pub sse_reconnects: Counter,
    /// Connections that are open now.
    pub connections: Gauge,
    /// Connections that were turned away.
    pub connections_refused: Counter,
}

impl EdgeMetrics {
    /// Registers the numbers; the registry's prefix is `chancery`.
    pub fn register(registry: &mut Registry) -> Self {
        let numbers = Self::default();
        registry.register("http_requests", "Requests, by route and class of status", numbers.requests.clone());
        registry.register("http_request_seconds", "Time to the head of the answer", numbers.seconds.clone());
        registry.register("auth_failures", "Refused sign-ins, by code", numbers.auth_failures.clone());
        registry.register("sse_connections", "Open event streams", numbers.sse_connections.clone());
        registry.register("sse_reconnects", "Event streams opened with a cursor", numbers.sse_reconnects.clone());
        registry.register("http_connections", "Open connections", numbers.connections.clone());
        registry.register(
            "http_connections_refused",
            "Connections over the limit",
            numbers.connections_refused.clone(),
        );
        // A counter that appears with its first failure has no rate before it, so each code begins at nothing.
        for reason in Reason::ALL.iter().filter(|reason| is_of_sign_in(**reason)) {
            drop(numbers.auth_failures.get_or_create(&vec![("code", reason.code())]));
        }
        numbers
    }

    /// Counts a refusal if it is one of a sign-in.
    pub(super) fn refused(&self, reason: Reason) {
        if is_of_sign_in(reason) {
            self.auth_failures.get_or_create(&vec![("code", reason.code())]).inc();
        }
    }
}

/// Whether a refusal is one of a sign-in.
fn is_of_sign_in(reason: Reason) -> bool {
    reason.http_status() == 401 || reason == Reason::AuthRateLimited
}

/// The numbers of every route, by the route's index; the last entry is for requests that met no route.
#[derive(Debug)]
pub(super) struct RouteTable(Vec<RouteNumbers>);

impl RouteTable {
    pub(super) fn new(metrics: &EdgeMetrics, routes: impl Iterator<Item = (&'static str, &'static str)>) -> Self {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let numbers = routes.chain([("-", "-")]).map(|(method, route)| RouteNumbers {
            requests: CLASSES.map(|status| {
                metrics.requests.get_or_create_owned(&vec![("method", method), ("route", route), ("status", status)])
            }),
            seconds: metrics.seconds.get_or_create_owned(&vec![("method", method), ("route", route)]),
        });
        Self(numbers.collect())
    }

    pub(super) fn count(&self, route: Option<usize>, status: u16, duration: std::time::Duration) {
        let last = self.0.len() - 1;
        let numbers = &self.0[route.unwrap_or(last).min(last)];
        numbers.requests[usize::from(status / 100).clamp(1, 5) - 1].inc();
        numbers.seconds.0.duration(duration);
    }
}

/// A registry with the daemon's prefix.
pub fn registry() -> Registry {
    Registry::with_prefix("chancery")
}

/// The text of all numbers.
pub fn text(registry: &Registry) -> Result<String, Error> {
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_class_and_unmatched_ones_apart() {
        let mut registry = registry();
        let metrics = EdgeMetrics::register(&mut registry);
        let table = RouteTable::new(&metrics, [("POST", "/v1/x")].into_iter());
        table.count(Some(0), 201, Duration::from_micros(700));
        table.count(Some(0), 404, Duration::from_secs(100));
        table.count(None, 404, Duration::ZERO);
        metrics.refused(Reason::AuthInvalid);
        metrics.refused(Reason::SessionNotFound);
        let text = text(&registry).unwrap();
        for line in [
            "chancery_http_requests_total{method=\"POST\",route=\"/v1/x\",status=\"2xx\"} 1",
            "chancery_http_requests_total{method=\"-\",route=\"-\",status=\"4xx\"} 1",
            "chancery_http_request_seconds_bucket{le=\"0.001\",method=\"POST\",route=\"/v1/x\"} 1",
            "chancery_http_request_seconds_bucket{le=\"+Inf\",method=\"POST\",route=\"/v1/x\"} 2",
            "chancery_auth_failures_total{code=\"auth.invalid\"} 1",
            "chancery_auth_failures_total{code=\"auth.missing\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("session.not_found"));
    }
}
