//! Runtime configuration as people see it, and what it was.

use serde::{Deserialize, Serialize};

use super::page::{Page, Paging};
use super::{Bodies, Models};
use crate::domain::actor::Actor;
use crate::domain::event::Event;
use crate::domain::permission::{Mode, Rule};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::runtime::{self, Configuration, DebugLevel, ModelChoice, SystemPrompt, ToolLimits};

/// A part of the configuration, as a bit.
const PARTS: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// What is kept of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    revision: u64,
    seq: u64,
    /// The parts that its record sets.
    parts: u8,
}

/// The runtime configuration in force, when it last changed, and where its revisions stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// What is in force.
    pub configuration: Configuration,
    /// When it last changed, Unix milliseconds.
    pub changed_at_ms: Option<u64>,
    revisions: Vec<Place>,
}

/// Places of a revision, taken out of the models; its values are read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The revision.
    pub id: u64,
    /// Its record.
    pub seq: u64,
}

/// The records that together say what the configuration was at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    revision: u64,
    /// Rising.
    seqs: Vec<u64>,
}

impl Runtime {
    pub(super) fn changed(&mut self, record: &Record) {
        let Some(change) = runtime::change(&record.event) else { return };
        let set = [
            change.permission_mode.is_some(),
            change.user_rules.is_some(),
            change.project_rules.is_some(),
            change.debug_level.is_some(),
            change.model.is_some(),
            change.system_prompt.is_some(),
            change.tool_limits.is_some(),
            change.erasure.is_some(),
        ];
        let parts = PARTS.iter().zip(set).filter(|(_, set)| *set).map(|(part, _)| part).sum();
        self.revisions.push(Place { revision: change.revision, seq: record.seq, parts });
        self.configuration.apply(&record.event);
        self.changed_at_ms = Some(record.at_ms);
    }

    /// The records that say what the configuration was at a revision: for each part the last that set it.
    pub fn sources(&self, revision: u64) -> Result<Sources, Refusal> {
        if revision > self.configuration.revision {
            return Err(runtime::no_revision(revision, self.configuration.revision));
        }
        let until = self.revisions.partition_point(|place| place.revision <= revision);
        let past = self.revisions.get(..until).unwrap_or_default();
        let last = |part: &u8| past.iter().rev().find(|place| place.parts & part != 0).map(|place| place.seq);
        let mut seqs: Vec<u64> = PARTS.iter().filter_map(last).collect();
        seqs.sort_unstable();
        seqs.dedup();
        Ok(Sources { revision, seqs })
    }

    /// The view.
    pub fn view(&self) -> RuntimeView {
        let now = self.configuration.clone();
        RuntimeView {
            revision: now.revision,
            permission_mode: now.permission_mode,
            user_rules: now.user_rules,
            project_rules: now.project_rules,
            debug_level: now.debug_level,
            model: now.model,
            system_prompt: now.system_prompt,
            tool_limits: now.tool_limits,
            erasure: now.erasure,
            changed_at_ms: self.changed_at_ms,
        }
    }
}

impl Sources {
    /// What the configuration was. Reads the disk.
    pub fn read(&self, bodies: &dyn Bodies) -> Result<Configuration, Refusal> {
        let mut was = Configuration::default();
        for seq in &self.seqs {
            let record = bodies.record(*seq).ok_or(Reason::StorageJournalUnavailable)?;
            was.apply(&record.event);
        }
        Ok(Configuration { revision: self.revision, ..was })
    }
}

impl Models {
    /// One page of the revisions, newest first.
    pub fn revision_page(&self, paging: &Paging) -> Result<Page<Facts>, Refusal> {
        let places = &self.runtime.revisions;
        let before = match paging.before::<u64>()? {
            std::ops::Bound::Excluded(limit) => places.partition_point(|place| place.revision < limit),
            std::ops::Bound::Included(_) | std::ops::Bound::Unbounded => places.len(),
        };
        let places = places.get(..before).unwrap_or_default();
        let seq_of = |revision: &u64| {
            let at = places.binary_search_by_key(revision, |place| place.revision).ok()?;
            places.get(at).map(|place| Facts { id: *revision, seq: place.seq })
        };
        paging.take(places.iter().rev().map(|place| place.revision), seq_of)
    }
}

/// The runtime configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RuntimeView {
    /// Rises by one with each change.
    pub revision: u64,
    /// Mode for sessions that set none.
    pub permission_mode: Mode,
    /// Rules of scope `user`.
    pub user_rules: Vec<Rule>,
    /// Rules of scope `project`.
    pub project_rules: Vec<Rule>,
    /// How much the daemon says in its log.
    pub debug_level: DebugLevel,
    /// Route and model for sessions that choose none; what is absent is as the routes file has it.
    pub model: ModelChoice,
    /// What models are told before conversations.
    pub system_prompt: SystemPrompt,
    /// What bounds tools besides their own limits.
    pub tool_limits: ToolLimits,
    /// Whether words of new sessions are encrypted, so that they can be erased.
    pub erasure: bool,
    /// When it last changed, Unix milliseconds.
    pub changed_at_ms: Option<u64>,
}

/// A revision of the runtime configuration: who changed what, and when. Parts that it did not set are null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RevisionView {
    /// The revision that the change made.
    pub revision: u64,
    /// Its record.
    pub seq: u64,
    /// When, Unix milliseconds.
    pub at_ms: Option<u64>,
    /// Who changed it.
    pub actor: Option<Actor>,
    /// For whom, nearest first.
    pub on_behalf_of: Vec<Actor>,
    /// The earlier revision that it went back to.
    pub rolled_back_to: Option<u64>,
    /// The mode that it set.
    pub permission_mode: Option<Mode>,
    /// The rules of scope `user` that it set.
    pub user_rules: Option<Vec<Rule>>,
    /// The rules of scope `project` that it set.
    pub project_rules: Option<Vec<Rule>>,
    /// The level that it set.
    pub debug_level: Option<DebugLevel>,
    /// The route and the model that it set.
    pub model: Option<ModelChoice>,
    /// The system prompt that it set.
    pub system_prompt: Option<SystemPrompt>,
    /// The limits of tools that it set.
    pub tool_limits: Option<ToolLimits>,
    /// Whether words of new sessions can be erased, where it set that.
    pub erasure: Option<bool>,
}

impl Facts {
    /// The view, with the values read from the record.
    pub fn view(&self, bodies: &dyn Bodies) -> RevisionView {
        let mut view = RevisionView { revision: self.id, seq: self.seq, ..RevisionView::default() };
        let Some(record) = bodies.record(self.seq) else { return view };
        if let Some(change) = runtime::change(&record.event) {
            view.rolled_back_to = matches!(record.event, Event::RuntimeRolledBack(_)).then_some(change.to_revision);
            view.permission_mode = change.permission_mode;
            view.user_rules = change.user_rules;
            view.project_rules = change.project_rules;
            view.debug_level = change.debug_level;
            view.model = change.model;
            view.system_prompt = change.system_prompt;
            view.tool_limits = change.tool_limits;
            view.erasure = change.erasure;
        }
        view.at_ms = Some(record.at_ms);
        view.actor = Some(record.actor);
        view.on_behalf_of = record.on_behalf_of;
        view
    }
}
