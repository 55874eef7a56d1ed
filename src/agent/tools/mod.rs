//! What a model can ask for: one file a tool. A call is prepared (parsed strictly, bound to what it will touch), may
//! then wait for an approval, and is performed on exactly what was prepared.

mod ask_user_question;
mod bash;
mod edit_file;
pub mod limits;
mod list_files;
mod read_file;
mod search_files;
mod task_output;
mod task_stop;
mod text;
mod walk;
mod write_file;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::agent::background::{Background, StartedTask};
use crate::agent::sandbox::Launcher;
use crate::agent::workspace::Workspace;
use crate::domain::ids::{CallId, SessionId, TaskId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::ToolLimits;
use crate::projections::tasks::TaskView;

pub use ask_user_question::{Arguments as QuestionArguments, OptionArguments};

/// What a tool does to the world; permissions go by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolClass {
    /// Looks at files.
    ReadOnly,
    /// Changes files.
    Edit,
    /// Runs a command.
    Command,
    /// Asks a person.
    Question,
    /// Looks at a background task.
    TaskRead,
    /// Stops a background task.
    TaskStop,
}

/// A file that a call changes, as it was when the call was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditedFile {
    /// Path in the workspace.
    pub path: String,
    /// SHA-256 of its content, hex; absent where there is no such file.
    pub sha256: Option<String>,
}

/// A call that may be made: what an approval binds and `perform` does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// Name of the tool.
    pub tool: String,
    /// Version of the tool.
    pub version: u32,
    /// Arguments: valid, complete with defaults, paths in their one spelling.
    pub arguments: serde_json::Value,
    /// The files it changes.
    pub edited_files: Vec<EditedFile>,
}

/// Looks a task up in the journal; may block.
#[derive(Clone)]
pub struct RecordedTasks(pub Arc<dyn Fn(TaskId) -> Option<TaskView> + Send + Sync>);

impl RecordedTasks {
    /// A task of this session; another session's task is as good as none.
    async fn of(&self, session_id: SessionId, task_id: TaskId) -> Result<TaskView, Refusal> {
        let look = Arc::clone(&self.0);
        let found = tokio::task::spawn_blocking(move || look(task_id)).await.ok().flatten();
        found.filter(|task| task.session_id == session_id).ok_or_else(|| Reason::TaskNotFound.into())
    }
}

impl std::fmt::Debug for RecordedTasks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RecordedTasks")
    }
}

/// What a call works with.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Starts commands.
    pub launcher: Arc<Launcher>,
    /// Background tasks of this daemon.
    pub background: Background,
    /// Background tasks of the journal, for those that this daemon has not run or has forgotten.
    pub recorded: RecordedTasks,
    /// The call.
    pub call_id: CallId,
    /// The session; its tasks are the only ones that the call sees.
    pub session_id: SessionId,
    /// Whether the session's words can be erased: then nothing works in the background, whose output is kept in a file.
    pub erasable: bool,
    /// The id of the task that the call starts, if it starts one.
    pub fresh_task_id: TaskId,
    /// Resolves when the call should end early; a command is then stopped and what it wrote is kept.
    pub stop: CancellationToken,
    /// What bounds tools besides their own limits.
    pub limits: ToolLimits,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutcome {
    /// Whether it did what it says.
    pub ok: bool,
    /// Why not.
    pub code: Option<Reason>,
    /// What the model is shown.
    pub output: String,
    /// Whether something was cut at a limit; the output says where.
    pub truncated: bool,
    /// Exit code of a command.
    pub exit_code: Option<i32>,
    /// The background task it started.
    pub task: Option<StartedTask>,
}

impl ToolOutcome {
    /// It did what it says.
    fn done(output: impl Into<String>, truncated: bool) -> Self {
        Self { ok: true, code: None, output: output.into(), truncated, exit_code: None, task: None }
    }

    /// It did not.
    pub fn failed(refusal: Refusal) -> Self {
        Self {
            ok: false,
            code: Some(refusal.reason),
            output: refusal.detail,
            truncated: false,
            exit_code: None,
            task: None,
        }
    }
}

impl ToolOutcome {
    /// The same with no more text than an operator lets a model be shown.
    pub fn within(mut self, limits: ToolLimits) -> Self {
        let most = limits.result_bytes.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        if self.output.len() > most {
            self.output.truncate(self.output.floor_char_boundary(most));
            self.truncated = true;
        }
        self
    }
}

impl From<Result<ToolOutcome, Refusal>> for ToolOutcome {
    fn from(outcome: Result<ToolOutcome, Refusal>) -> Self {
        outcome.unwrap_or_else(Self::failed)
    }
}

/// A tool.
pub trait Tool: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Rises when the meaning of its arguments changes.
    fn version(&self) -> u32 {
        1
    }
    /// What it does to the world.
    fn class(&self) -> ToolClass;
    /// What the model reads about it.
    fn description(&self) -> &'static str;
    /// JSON Schema of its arguments.
    fn schema(&self) -> serde_json::Value;
    /// Checks the arguments as the model wrote them and binds the call to what it will touch. Changes nothing. Reads
    /// files, so it may block; see [`prepare`].
    fn prepare(&self, input: &str, workspace: &Workspace) -> Result<Prepared, Refusal>;
    /// Makes the call. Dropping the future ends a command in the foreground.
    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome>;
}

/// Every tool, in the order in which the model is told of them.
pub fn all() -> &'static [&'static dyn Tool] {
    &[
        &read_file::ReadFile,
        &list_files::ListFiles,
        &search_files::SearchFiles,
        &write_file::WriteFile,
        &edit_file::EditFile,
        &bash::Bash,
        &task_output::TaskOutput,
        &task_stop::TaskStop,
        &ask_user_question::AskUserQuestion,
    ]
}

/// The tool of this name.
pub fn find(name: &str) -> Option<&'static dyn Tool> {
    all().iter().copied().find(|tool| tool.name() == name)
}

/// The file that a call of this tool writes, in its one spelling, if it writes one.
pub fn written_path(tool: &str, input: &str, workspace: &Workspace) -> Option<String> {
    find(tool).filter(|tool| tool.class() == ToolClass::Edit)?;
    let input: serde_json::Value = parse(input).ok()?;
    workspace.normalise(input.get("path")?.as_str()?).ok()
}

/// Prepares a call where it may block: a digest reads whole files.
pub async fn prepare(tool: &'static dyn Tool, input: String, workspace: Arc<Workspace>) -> Result<Prepared, Refusal> {
    let work = move || tool.prepare(&input, &workspace);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Refusal::new(Reason::InternalError, BROKE_OFF)))
}

/// What is said where a tool panicked.
const BROKE_OFF: &str = "The tool broke off.";

/// Parses arguments strictly. No text at all counts as no arguments.
fn parse<T: DeserializeOwned>(input: &str) -> Result<T, Refusal> {
    if input.len() > limits::ARGUMENT_BYTES {
        let detail = format!("The arguments are longer than {} bytes.", limits::ARGUMENT_BYTES);
        return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
    }
    let input = if input.trim().is_empty() { "{}" } else { input };
    serde_json::from_str(input).map_err(|fault| {
        let reason = if fault.is_data() { Reason::RequestMalformed } else { Reason::RequestBadJson };
        Refusal::new(reason, format!("The arguments do not fit: {fault}."))
    })
}

fn prepared(tool: &dyn Tool, arguments: &impl Serialize, edited_files: Vec<EditedFile>) -> Result<Prepared, Refusal> {
    let arguments = serde_json::to_value(arguments)
        .map_err(|fault| Refusal::new(Reason::RequestMalformed, format!("The arguments do not fit: {fault}.")))?;
    Ok(Prepared { tool: tool.name().to_owned(), version: tool.version(), arguments, edited_files })
}

/// The arguments of a prepared call, which must be one of this tool and this version.
fn arguments<T: DeserializeOwned>(tool: &dyn Tool, prepared: &Prepared) -> Result<T, Refusal> {
    if prepared.tool != tool.name() || prepared.version != tool.version() {
        let detail = format!("The call was prepared for {} version {}.", prepared.tool, prepared.version);
        return Err(Refusal::new(Reason::ToolFailed, detail));
    }
    T::deserialize(&prepared.arguments)
        .map_err(|fault| Refusal::new(Reason::RequestMalformed, format!("The arguments do not fit: {fault}.")))
}

fn schema_of<T: schemars::JsonSchema>() -> serde_json::Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("$schema");
    schema.remove("title");
    schema.to_value()
}

/// Does file work where it may block.
async fn blocking<F>(context: &ToolContext, work: F) -> ToolOutcome
where
    F: FnOnce(&Workspace) -> Result<ToolOutcome, Refusal> + Send + 'static,
{
    let workspace = context.workspace.clone();
    match tokio::task::spawn_blocking(move || work(&workspace)).await {
        Ok(outcome) => outcome.into(),
        Err(_) => ToolOutcome::failed(Refusal::new(Reason::InternalError, BROKE_OFF)),
    }
}

fn within(what: &str, text: &str, limit_bytes: usize) -> Result<(), Refusal> {
    if text.len() <= limit_bytes {
        return Ok(());
    }
    Err(Refusal::new(Reason::ToolLimitExceeded, format!("{what} is longer than {limit_bytes} bytes.")))
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_name_of_its_own_and_refuses_unknown_fields() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(root.path()).unwrap();
        for tool in all() {
            assert_eq!(find(tool.name()).unwrap().name(), tool.name());
            assert_eq!(all().iter().filter(|other| other.name() == tool.name()).count(), 1);
            assert_eq!(tool.schema()["additionalProperties"], false, "{}", tool.name());
            assert_eq!(tool.schema()["type"], "object", "{}", tool.name());
            let refusal = tool.prepare(r#"{"surprise": 1}"#, &workspace).unwrap_err();
            assert_eq!(refusal.reason, Reason::RequestMalformed, "{}", tool.name());
            let refusal = tool.prepare("{not json", &workspace).unwrap_err();
            assert_eq!(refusal.reason, Reason::RequestBadJson, "{}", tool.name());
        }
        assert!(find("no_such_tool").is_none());
    }
}
