//! The numbers of the house behind the door: journal, clerk, runs, token files, workers, providers, vault. They are looked up when someone
//! asks for them, so nothing is counted twice.

use std::fmt::{Debug, Error, Formatter};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::platform::histogram::Reading;
use crate::services::numbers::{BatchNumbers, LeaseFault, RouteReading, VaultNumbers};
use crate::services::runner::{Beats, Worker};
use crate::services::status::StatusSource;

/// Where the numbers come from.
#[derive(Clone)]
pub struct HouseNumbers {
    /// Journal, clerk, runs, routes.
    pub status: Arc<StatusSource>,
    /// The journal's batches.
    pub batches: BatchNumbers,
    /// The workers.
    pub beats: Beats,
    /// Secrets that were not given.
    pub vault: VaultNumbers,
}

impl Debug for HouseNumbers {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HouseNumbers").finish_non_exhaustive()
    }
}

type Label<'a> = [(&'static str, &'a str); 1];

/// Writes metrics one after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> Result<(), Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Label<'l>, f64)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (label, value) in values {
            family.encode_family(&label)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, reading: &Reading) -> Result<(), Error> {
        histogram(self.0.encode_descriptor(name, help, None, MetricType::Histogram)?, reading)
    }
}

fn histogram(mut encoder: MetricEncoder<'_>, reading: &Reading) -> Result<(), Error> {
    encoder.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
}

#[allow(clippy::cast_precision_loss, reason = "a number for people")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1e3
}

#[allow(clippy::cast_precision_loss, reason = "a number for people")]
fn number(count: u64) -> f64 {
    count as f64
}

impl Collector for HouseNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        self.journal(&mut page)?;
        self.objects(&mut page)?;
        let problems = self.status.tokens.as_ref().map_or(0, |tokens| tokens.problems().len() as u64);
        page.gauge("token_problems", "Faults of the token files", &number(problems))?;
        let ages = Worker::ALL.map(|worker| ([("worker", worker.name())], seconds(self.beats.age_ms(worker))));
        page.gauges("worker_heartbeat_age_seconds", "Time since each worker last looked for work", ages)?;
        vault(&mut page, &self.vault)?;
        let help = "Calls that a budget refused, by code";
        let mut refused = page.0.encode_descriptor("quota_rejections", help, None, MetricType::Counter)?;
        for (code, count) in self.status.published.budget_refusals().counts() {
            counted(refused.encode_family(&[("code", code)])?, count)?;
        }
        providers(&mut page, &self.status.readiness.numbers().read())
    }
}

impl HouseNumbers {
    fn journal(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let (waiting, oldest_ms) = self.status.clerk.queue();
        page.histogram("journal_batch_records", "Records in each batch", &self.batches.records.read())?;
        page.histogram("journal_sync_seconds", "Write and sync of each batch", &self.batches.sync.read())?;
        let size = number(self.status.published.head().note.size);
        let writable = number(u64::from(self.status.clerk.trouble().is_none()));
        page.gauge("journal_writable", "1 while changes can be recorded, otherwise 0", &writable)?;
        page.gauge("journal_size", "Lines in the newest sealed tree", &size)?;
        page.gauge("command_queue_depth", "Commands that wait for the clerk", &number(waiting as u64))?;
        page.gauge("command_oldest_age_seconds", "Age of the oldest of them", &seconds(oldest_ms))?;
        let projections = self.status.projections();
        let lags = projections.iter().map(|projection| ([("projection", projection.name)], number(projection.lag)));
        page.gauges("projection_lag_events", "Lines between what is sealed and what is shown", lags)
    }

    fn objects(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let published = &self.status.published;
        let models = published.models();
        let runs = models.run_counts(published.clock().wall_ms());
        let waits = models.wait_counts();
        drop(models);
        let by_status = [
            ("queued", runs.queued),
            ("running", runs.running),
            ("waiting_for_approval", runs.waiting_for_approval),
            ("waiting_for_user_question", runs.waiting_for_user_question),
            ("completed", runs.completed),
            ("failed", runs.failed),
            ("interrupted", runs.interrupted),
            ("cancelled", runs.cancelled),
        ];
        let runs = by_status.map(|(status, count)| ([("status", status)], number(count)));
        page.gauges("runs", "Runs by status", runs)?;
        let waits = waits.into_iter().map(|(kind, count)| ([("kind", kind)], number(count as u64)));
        page.gauges("waits", "What waits for a person", waits)
    }
}

fn vault(page: &mut Page<'_>, numbers: &VaultNumbers) -> Result<(), Error> {
    let help = "Secrets that could not be opened for a call";
    let failures = page.0.encode_descriptor("vault_reveal_failures", help, None, MetricType::Counter)?;
    counted(failures, numbers.reveal_failures())?;
    let help = "Leases that gave no secret, by cause";
    let mut refused = page.0.encode_descriptor("vault_leases_refused", help, None, MetricType::Counter)?;
    for fault in LeaseFault::ALL {
        counted(refused.encode_family(&[("cause", fault.word())])?, numbers.leases_refused(fault))?;
    }
    Ok(())
}

fn providers(page: &mut Page<'_>, routes: &[RouteReading]) -> Result<(), Error> {
    let help = "Calls of model providers, by route and outcome";
    let mut requests = page.0.encode_descriptor("provider_requests", help, None, MetricType::Counter)?;
    for route in routes {
        for (outcome, count) in &route.requests {
            let labels = [("route", route.route.as_str()), ("outcome", *outcome)];
            counted(requests.encode_family(&labels)?, *count)?;
        }
    }
    let help = "Time to the end of the answer, by route";
    let mut times = page.0.encode_descriptor("provider_seconds", help, None, MetricType::Histogram)?;
    for route in routes {
        histogram(times.encode_family(&[("route", route.route.as_str())])?, &route.seconds)?;
    }
    Ok(())
}

fn counted(mut encoder: MetricEncoder<'_>, count: u64) -> Result<(), Error> {
    encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
}
