//! What models and tools were told and said, kept beside the journal for a short time while the debug level asks for it:
//! files that expire, in `debug/` of the state root. At `redacted` texts are replaced by their lengths and digests; at
//! `full` everything stands there but the vault's secrets: others that somebody typed are included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::published::Published;
use super::runner::limits::{DEBUG_ARTIFACT_BYTES, DEBUG_BYTES, DEBUG_MS};
use crate::domain::ids::RunId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::DebugLevel;
use crate::platform::disk::{Disk, join, read_bounded, replace_atomically};

/// The folder in the state root.
pub const FOLDER: &str = "debug";
/// How often expired files are looked for.
const EVERY: Duration = Duration::from_secs(5);
/// Names whose texts are no words of anybody: they stay at `redacted`.
const PLAIN: [&str; 12] =
    ["role", "name", "tool", "route", "model", "kind", "stop", "run_id", "call_id", "code", "provider_id", "source"];

/// What was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// What a model was asked.
    ModelRequest,
    /// What it answered, or why it did not.
    ModelAnswer,
    /// What a tool was asked.
    ToolInput,
    /// What came of it.
    ToolOutput,
}

impl ArtifactKind {
    const ALL: [Self; 4] = [Self::ModelRequest, Self::ModelAnswer, Self::ToolInput, Self::ToolOutput];

    fn word(self) -> &'static str {
        match self {
            Self::ModelRequest => "model_request",
            Self::ModelAnswer => "model_answer",
            Self::ToolInput => "tool_input",
            Self::ToolOutput => "tool_output",
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Artifact {
    /// Its id within the run.
    pub artifact_id: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// The level that it was kept at.
    pub level: DebugLevel,
    /// When it was kept, Unix milliseconds.
    pub at_ms: u64,
    /// When it expires, Unix milliseconds.
    pub expires_at_ms: u64,
    /// Its length.
    pub bytes: u64,
}

/// The files of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Artifacts {
    /// The level that is in force now.
    pub level: DebugLevel,
    /// Oldest first.
    pub items: Vec<Artifact>,
}

/// Where artefacts are kept. Clones share it.
#[derive(Clone)]
pub struct DebugCapture(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    published: Published,
    number: AtomicU64,
}

fn level_word(level: DebugLevel) -> &'static str {
    match level {
        DebugLevel::Off => "off",
        DebugLevel::Redacted => "redacted",
        DebugLevel::Full => "full",
    }
}

/// A file's name, read: the run and what is shown of the file.
fn read_name(name: &str, bytes: u64) -> Option<(RunId, Artifact)> {
    let (run, id) = name.strip_suffix(".txt")?.split_once('-')?;
    let mut parts = id.split('-');
    let (at_ms, _, level, kind) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let at_ms: u64 = at_ms.parse().ok()?;
    let level = [DebugLevel::Redacted, DebugLevel::Full].into_iter().find(|known| level_word(*known) == level)?;
    let kind = ArtifactKind::ALL.into_iter().find(|known| known.word() == kind)?;
    let expires_at_ms = at_ms.saturating_add(DEBUG_MS);
    let artifact = Artifact { artifact_id: id.to_owned(), kind, level, at_ms, expires_at_ms, bytes };
    Some((RunId::parse(run).ok()?, artifact))
}

/// Puts lengths and digests in place of texts. `arguments` of a call are the model's words whatever their names are.
fn outline(value: &mut Value, plain: bool, strict: bool) {
    match value {
        Value::String(text) if !plain => {
            let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
            *text = format!("({} bytes, sha256 {})", text.len(), digest.get(..16).unwrap_or_default());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| outline(item, plain, strict)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                outline(field, !strict && PLAIN.contains(&name.as_str()), strict || name == "arguments");
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl DebugCapture {
    /// Keeps files on this disk, at the level in force, without known secrets.
    pub fn new(disk: Arc<dyn Disk>, published: Published) -> Self {
        Self(Arc::new(Inner { disk, published, number: AtomicU64::new(0) }))
    }

    /// Keeps something, where the level asks for it. What cannot be kept is told in the log and holds up nobody.
    pub async fn keep(&self, run: RunId, kind: ArtifactKind, value: impl FnOnce() -> Value) {
        let level = self.0.level();
        if level == DebugLevel::Off || self.0.erasable(run) {
            return;
        }
        let (inner, mut value) = (Arc::clone(&self.0), value());
        let work = move || {
            let redactor = inner.published.redactor();
            if level == DebugLevel::Redacted {
                redactor.strict_json(&mut value);
                outline(&mut value, false, false);
            } else {
                redactor.json(&mut value);
            }
            inner.write(run, kind, level, &value)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%run, %error, "a debug artefact could not be kept"),
            Err(fault) => tracing::warn!(%run, %fault, "a debug artefact could not be kept"),
        }
    }

    /// What is kept of a run of an organisation.
    pub async fn list(&self, org: &str, run: RunId) -> Result<Artifacts, Refusal> {
        self.0.published.models().run(org, run)?;
        let inner = Arc::clone(&self.0);
        let found = self.0.published.aside(move || inner.found()).await?.map_err(|error| unreadable(&error))?;
        let now = self.0.published.clock().wall_ms();
        let own = found.into_iter().filter(|(of, artifact)| *of == run && artifact.expires_at_ms > now);
        Ok(Artifacts { level: self.0.level(), items: own.map(|(_, artifact)| artifact).collect() })
    }

    /// The text of one artefact.
    pub async fn text(&self, org: &str, run: RunId, id: &str) -> Result<Vec<u8>, Refusal> {
        let listed = self.list(org, run).await?;
        if !listed.items.iter().any(|artifact| artifact.artifact_id == id) {
            return Err(Reason::ArtifactNotFound.into());
        }
        let (inner, path) = (Arc::clone(&self.0), join(FOLDER, &format!("{run}-{id}.txt")));
        let most = DEBUG_ARTIFACT_BYTES as u64;
        let read = self.0.published.aside(move || read_bounded(inner.disk.as_ref(), &path, most)).await?;
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Reason::ArtifactNotFound.into(),
            _ => unreadable(&error),
        })
    }

    /// Removes what has expired, until the drain.
    pub async fn sweep_again_and_again(self, draining: CancellationToken) {
        loop {
            let inner = Arc::clone(&self.0);
            match tokio::task::spawn_blocking(move || inner.sweep()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "expired debug artefacts could not be removed"),
                Err(fault) => tracing::warn!(%fault, "expired debug artefacts could not be removed"),
            }
            tokio::select! {
                () = draining.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

fn unreadable(error: &std::io::Error) -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, format!("Debug artefacts cannot be read: {error}."))
}

impl Inner {
    fn level(&self) -> DebugLevel {
        self.published.models().runtime.configuration.debug_level
    }

    /// Whether the words of a run's session can be erased: then no other copy of them is made.
    fn erasable(&self, run: RunId) -> bool {
        let models = self.published.models();
        models.runs.session_of(run).is_none_or(|session| models.subjects.of(session).is_some())
    }

    fn write(&self, run: RunId, kind: ArtifactKind, level: DebugLevel, value: &Value) -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
        text.truncate(text.floor_char_boundary(DEBUG_ARTIFACT_BYTES));
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let at_ms = self.published.clock().wall_ms();
        let name = format!("{run}-{at_ms}-{number}-{}-{}.txt", level_word(level), kind.word());
        // Whoever lowered the level meanwhile finds nothing new.
        if self.level() < level {
            return Ok(());
        }
        replace_atomically(self.disk.as_ref(), FOLDER, &name, text.as_bytes())
    }

    /// Everything that is kept, oldest first.
    fn found(&self) -> std::io::Result<Vec<(RunId, Artifact)>> {
        let entries = match self.disk.list(FOLDER) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let read = entries.iter().filter(|entry| entry.plain).filter_map(|entry| read_name(&entry.name, entry.bytes));
        let mut found: Vec<(RunId, Artifact)> = read.collect();
        let number = |artifact: &Artifact| artifact.artifact_id.split('-').nth(1).and_then(|nr| nr.parse::<u64>().ok());
        found.sort_by_key(|(_, artifact)| (artifact.at_ms, number(artifact)));
        Ok(found)
    }

    /// Removes what has expired, and the oldest of what is too much together.
    fn sweep(&self) -> std::io::Result<()> {
        let found = self.found()?;
        let now = self.published.clock().wall_ms();
        // By a clock that jumped nothing expires.
        let trusted = self.published.models().clock.warning().is_none();
        let mut bytes: u64 = found.iter().map(|(_, artifact)| artifact.bytes).sum();
        for (run, artifact) in found {
            let expired = trusted && artifact.expires_at_ms <= now;
            if expired || bytes > DEBUG_BYTES {
                bytes = bytes.saturating_sub(artifact.bytes);
                self.disk.remove(&join(FOLDER, &format!("{run}-{}.txt", artifact.artifact_id)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_redacted_no_words_are_kept_and_names_of_parts_are() {
        let mut value = serde_json::json!({
            "model": "m1", "system": "Be kind.", "tools": [{ "name": "bash", "description": "Runs it." }],
            "messages": [{ "role": "user", "text": "my password is swordfish" }], "turn": 1,
            "arguments": { "name": "hidden", "deep": [{ "model": "hidden" }] },
        });
        outline(&mut value, false, false);
        let text = value.to_string();
        for gone in ["Be kind", "Runs", "swordfish", "hidden"] {
            assert!(!text.contains(gone), "{text}");
        }
        assert_eq!((&value["model"], &value["tools"][0]["name"]), (&Value::from("m1"), &Value::from("bash")));
        assert!(value["messages"][0]["text"].as_str().unwrap().starts_with("(24 bytes, sha256 "), "{text}");
    }

    #[test]
    fn a_name_tells_what_the_file_is_and_other_names_are_none() {
        let run = "run_01HF7YAT00000000000000R0N1";
        let (of, artifact) = read_name(&format!("{run}-1700-12-full-tool_input.txt"), 7).unwrap();
        assert_eq!((of.to_string().as_str(), artifact.artifact_id.as_str()), (run, "1700-12-full-tool_input"));
        assert_eq!((artifact.kind, artifact.level), (ArtifactKind::ToolInput, DebugLevel::Full));
        assert_eq!((artifact.at_ms, artifact.expires_at_ms, artifact.bytes), (1_700, 1_700 + DEBUG_MS, 7));
        for other in ["x.txt", "run_1-1700-12-full-tool_input.txt", "run_01HF7YAT00000000000000R0N1-1-2-loud-x.txt"] {
            assert_eq!(read_name(other, 7), None, "{other}");
        }
    }
}
