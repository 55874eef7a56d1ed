//! Idempotency receipts: which requests with a key were done, so that a repeat is answered instead of done again.
//! They live for 24 hours by the time of the records that follow, so a replay forgets exactly what the daemon forgot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::Answer;
use super::event::Event;
use super::limits::{IDEMPOTENCY_MS, IDEMPOTENCY_RECEIPTS};
use super::record::Record;
use super::stream::Stream;

/// What is kept of a request that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// MAC of the request's body, hex.
    pub body_mac: String,
    /// The request's first record.
    pub seq: u64,
    /// That record's stream.
    pub stream: Stream,
    /// What was answered.
    pub answer: Answer,
    /// That record's time, Unix milliseconds.
    pub at_ms: u64,
}

/// Time and number of the record behind a receipt: the order in which receipts are forgotten.
type Age = (u64, u64);

/// Scope and key of a request.
type Key = (String, String);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfOrganisation {
    by_key: BTreeMap<Key, Receipt>,
    by_age: BTreeMap<Age, Key>,
}

/// The receipts in force, of all organisations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Kept>", into = "Vec<Kept>")]
pub struct Receipts {
    organisations: BTreeMap<String, OfOrganisation>,
    by_age: BTreeSet<(Age, String)>,
}

/// One receipt as it is written in a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    org: String,
    scope: String,
    key: String,
    receipt: Receipt,
}

impl Receipts {
    /// The receipt of a request, if one is in force.
    pub fn get(&self, org: &str, scope: &str, key: &str) -> Option<&Receipt> {
        self.organisations.get(org)?.by_key.get(&(scope.to_owned(), key.to_owned()))
    }

    /// How many receipts an organisation has in force.
    pub fn count(&self, org: &str) -> usize {
        self.organisations.get(org).map_or(0, |one| one.by_key.len())
    }

    /// Folds a record: forgets what is older than the limit by its time, where that counts, then keeps the record's own
    /// request.
    pub(super) fn fold(&mut self, record: &Record, time_counts: bool) {
        while time_counts
            && let Some(((at_ms, _), _)) = self.by_age.first()
            && at_ms.saturating_add(IDEMPOTENCY_MS) < record.at_ms
            && let Some((age, org)) = self.by_age.pop_first()
        {
            self.drop_from_organisation(&org, age);
        }
        let Some(request) = &record.request else { return };
        let (Some(key), Some(body_mac)) = (&request.key, &request.body_mac) else { return };
        if matches!(record.event, Event::ModelCallSettled(_)) {
            // The end of a call names the request only where the provider did not take it.
            self.forget(record, &(request.scope.clone(), key.clone()));
            return;
        }
        self.keep(Kept {
            org: record.org.clone(),
            scope: request.scope.clone(),
            key: key.clone(),
            receipt: Receipt {
                body_mac: body_mac.clone(),
                seq: record.seq,
                stream: record.stream,
                answer: Answer::of(record),
                at_ms: record.at_ms,
            },
        });
    }

    fn drop_from_organisation(&mut self, org: &str, age: Age) {
        let Some(one) = self.organisations.get_mut(org) else { return };
        if let Some(key) = one.by_age.remove(&age) {
            one.by_key.remove(&key);
        }
        if one.by_key.is_empty() {
            self.organisations.remove(org);
        }
    }

    /// Forgets the request that a call was made for.
    fn forget(&mut self, end: &Record, key: &Key) {
        let kept = self.organisations.get(&end.org).and_then(|one| one.by_key.get(key));
        if let Some(receipt) = kept.filter(|receipt| receipt.stream == end.stream) {
            let age = (receipt.at_ms, receipt.seq);
            self.by_age.remove(&(age, end.org.clone()));
            self.drop_from_organisation(&end.org, age);
        }
    }

    fn keep(&mut self, kept: Kept) {
        let age = (kept.receipt.at_ms, kept.receipt.seq);
        let key = (kept.scope, kept.key);
        let one = self.organisations.entry(kept.org.clone()).or_default();
        if let Some(earlier) = one.by_key.insert(key.clone(), kept.receipt) {
            let earlier = (earlier.at_ms, earlier.seq);
            one.by_age.remove(&earlier);
            self.by_age.remove(&(earlier, kept.org.clone()));
        }
        one.by_age.insert(age, key);
        let oldest = if one.by_key.len() > IDEMPOTENCY_RECEIPTS { one.by_age.keys().next().copied() } else { None };
        self.by_age.insert((age, kept.org.clone()));
        if let Some(oldest) = oldest {
            self.by_age.remove(&(oldest, kept.org.clone()));
            self.drop_from_organisation(&kept.org, oldest);
        }
    }
}

impl From<Vec<Kept>> for Receipts {
    fn from(list: Vec<Kept>) -> Self {
        let mut receipts = Self::default();
        for kept in list {
            receipts.keep(kept);
        }
        receipts
    }
}

impl From<Receipts> for Vec<Kept> {
    fn from(receipts: Receipts) -> Self {
        let mut list = Vec::new();
        for (org, one) in receipts.organisations {
            for ((scope, key), receipt) in one.by_key {
                list.push(Kept { org: org.clone(), scope, key, receipt });
            }
        }
        list
    }
}
