//! Calls that clients made through the gateway, as actions outside of the daemon: by the record that was sealed before each
//! was made, and the record of what came of it. The journal is read for them, oldest first.

use std::collections::BTreeMap;
use std::io;

use super::external_actions::{ExternalAction, ExternalActions, Kind, Outcome, page_limit};
use super::published::Published;
use crate::domain::event::Event;
use crate::domain::ids::{ModelCallId, SessionId};
use crate::domain::model_call::{Outcome as Ended, Requested, Settled};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::stream::Stream;
use crate::journal::line;
use crate::journal::reader::Reader;

/// Lines that are looked at in one turn.
const AT_A_TIME: u64 = 65_536;
/// Lines that are looked at for the beginnings of one page: what is rare takes several pages.
const A_PAGE: u64 = 1 << 20;
/// How far the clock may have been set back before a call whose id names the time that it said earlier, milliseconds.
const SET_BACK_MS: u64 = 3_600_000;

/// Which calls are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those that this session pays for.
    pub session: Option<SessionId>,
    /// Only those over this route.
    pub route: Option<String>,
}

impl Wanted {
    fn takes(&self, body: &Requested) -> bool {
        self.session.is_none_or(|id| body.reservation.session_id == Some(id))
            && self.route.as_ref().is_none_or(|id| *id == body.route)
    }
}

/// What is looked for, and what was found.
struct Search {
    org: String,
    wanted: Wanted,
    /// The only call that is wanted.
    id: Option<ModelCallId>,
    most: usize,
    /// The next line.
    next: u64,
    /// From this line on only the ends of those that were found are looked for.
    until: u64,
    found: Vec<ExternalAction>,
    /// Where those stand whose end was not found.
    open: BTreeMap<ModelCallId, usize>,
}

impl Search {
    fn look(&mut self, bytes: &[u8]) {
        let seq = self.next;
        self.next += 1;
        let Some(Stream::ModelCall(id)) = line::stream_text(bytes).and_then(Stream::parse) else { return };
        if self.id.is_some_and(|wanted| wanted < id) {
            // Ids rise: it would have begun before.
            self.until = self.until.min(seq);
        }
        let begins = seq < self.until && self.id.is_none_or(|wanted| wanted == id);
        if !begins && !self.open.contains_key(&id) {
            return;
        }
        let Ok(record) = line::parse_record(bytes) else { return };
        if let Event::ModelCallSettled(body) = &record.event
            && let Some(action) = self.open.remove(&id).and_then(|at| self.found.get_mut(at))
        {
            settle(action, &record, body);
        }
        if self.id.is_some() {
            self.until = self.until.min(self.next);
        }
        if let Event::ModelCallRequested(body) = &record.event
            && record.org == self.org
            && self.wanted.takes(body)
        {
            self.open.insert(id, self.found.len());
            self.found.push(requested(&record, id, body));
            if self.found.len() == self.most {
                self.until = self.next;
            }
        }
    }

    /// Whether there is nothing left to look for. A call that does not go on has ended before this was asked.
    fn is_over(&self, published: &Published) -> bool {
        let models = published.models();
        let goes_on = |id: &ModelCallId| models.ledger.books.open(Stream::ModelCall(*id)).is_some();
        self.next >= self.until && self.open.keys().all(goes_on)
    }

    async fn done(mut self, published: &Published) -> Result<Self, Refusal> {
        while !self.is_over(published) {
            let (from, reader) = (self.next, published.clone());
            let step = move || {
                let read = reader.reader().scan(from, from.saturating_add(AT_A_TIME), |_, bytes| {
                    self.look(bytes);
                    true
                });
                read.map(|()| self)
            };
            let read = published.aside(step).await?;
            self = read.map_err(|error| unreadable(&error))?;
            if self.next == from {
                break;
            }
        }
        Ok(self)
    }
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, error.to_string())
}

fn requested(record: &Record, id: ModelCallId, body: &Requested) -> ExternalAction {
    let mut action = ExternalAction::begun(record, Kind::Provider, format!("{}/{}", body.route, body.model));
    action.model_call_id = Some(id);
    action.session_id = body.reservation.session_id;
    (action.route, action.model) = (Some(body.route.clone()), Some(body.model.clone()));
    action.credential_fp = body.credential.as_ref().map(|used| used.fp.clone());
    action.sha256 = Some(body.body_sha256.clone());
    action
}

fn settle(action: &mut ExternalAction, record: &Record, body: &Settled) {
    let outcome = match body.outcome {
        Ended::Answered => Outcome::Done,
        Ended::Lost => Outcome::Unknown,
        Ended::Refused | Ended::Cut | Ended::Left | Ended::Broken | Ended::NotSent | Ended::Unanswered => {
            Outcome::Failed
        }
    };
    action.end(record, outcome, body.code);
    (action.ended_as, action.cost) = (Some(body.outcome), Some(body.cost));
}

/// One page of an organisation's calls, oldest first; `after` is the record behind which it begins.
pub async fn list(
    published: &Published,
    org: &str,
    wanted: Wanted,
    (after, limit): (Option<u64>, Option<usize>),
) -> Result<ExternalActions, Refusal> {
    let (limit, next) = (page_limit(limit)?, after.map_or(0, |after| after.saturating_add(1)));
    let search = Search {
        org: org.to_owned(),
        wanted,
        id: None,
        // One more says whether there is another page.
        most: limit.saturating_add(1),
        next,
        until: next.saturating_add(A_PAGE),
        found: Vec::new(),
        open: BTreeMap::new(),
    };
    let Search { found: mut items, next, until, .. } = search.done(published).await?;
    let next_cursor = if items.len() > limit {
        items.truncate(limit);
        items.last().map(|last| last.intent_seq)
    } else {
        (next >= until).then(|| until.saturating_sub(1))
    };
    Ok(ExternalActions { items, next_cursor: next_cursor.map(|seq| seq.to_string()) })
}

/// How many segments begin before a time.
fn begun_before(reader: &Reader, segments: &[u64], at_ms: u64) -> io::Result<usize> {
    let (mut low, mut high) = (0, segments.len());
    while let Some(first) = segments.get(low..high).and_then(|left| left.get(left.len() / 2)) {
        let mut begins_ms = u64::MAX;
        reader.scan(*first, u64::MAX, |_, bytes| {
            let first = line::parse_record(bytes).ok();
            begins_ms = first.as_ref().map_or(u64::MAX, |record| record.at_ms);
            first.is_none()
        })?;
        let middle = low + (high - low) / 2;
        (low, high) = if begins_ms < at_ms { (middle + 1, high) } else { (low, middle) };
    }
    Ok(low)
}

/// The lines among which a call began, by the time in its id.
fn lines_of(reader: &Reader, id: ModelCallId) -> io::Result<(u64, u64)> {
    let (segments, at_ms) = (reader.segments(), id.ulid().timestamp_ms());
    let before = begun_before(reader, &segments, at_ms.saturating_sub(SET_BACK_MS))?;
    let after = begun_before(reader, &segments, at_ms.saturating_add(SET_BACK_MS))?;
    let from = segments.get(before.saturating_sub(1)).copied().unwrap_or(0);
    Ok((from, segments.get(after).copied().unwrap_or(u64::MAX)))
}

/// One of an organisation's calls.
pub async fn get(published: &Published, org: &str, id: ModelCallId) -> Result<ExternalAction, Refusal> {
    let newest = published.models().ledger.entries().find(|entry| entry.stream == Stream::ModelCall(id)).map(|e| e.seq);
    let (next, until) = if let Some(seq) = newest {
        (seq, u64::MAX)
    } else {
        let reader = published.clone();
        published.aside(move || lines_of(reader.reader(), id)).await?.map_err(|error| unreadable(&error))?
    };
    let search = Search {
        org: org.to_owned(),
        wanted: Wanted::default(),
        id: Some(id),
        most: 1,
        next,
        until,
        found: Vec::new(),
        open: BTreeMap::new(),
    };
    search.done(published).await?.found.pop().ok_or_else(|| Reason::ModelCallNotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock::Clock as _;
    use crate::services::testing::{Root, create_session, stop};

    #[test]
    fn a_call_is_looked_for_where_the_time_in_its_id_says() {
        let mut root = Root::new();
        let opened = root.start();
        let reader = opened.published.reader();
        let mut begins_ms = vec![];
        while reader.segments().len() < 5 {
            if begins_ms.len() < reader.segments().len() {
                begins_ms.push(root.clock.wall_ms());
            }
            create_session(&opened, "s");
            root.clock.advance(SET_BACK_MS);
        }
        let segments = reader.segments();
        let lines = |at_ms| lines_of(reader, ModelCallId::from_ulid(ulid::Ulid::from_parts(at_ms, 7))).unwrap();
        assert_eq!(lines(begins_ms[2] + 3 * SET_BACK_MS), (segments[2], segments[3]));
        assert_eq!(lines(begins_ms[2]), (segments[1], segments[3]), "the clock may have been set back a little");
        assert_eq!(lines(1), (segments[0], segments[0]), "before the first record there was none");
        assert_eq!(lines(root.clock.wall_ms() + 2 * SET_BACK_MS), (segments[4], u64::MAX));
        stop(opened);
    }
}
