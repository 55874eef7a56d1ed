//! `write_file`: a file's whole content, new or instead of the old.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{
    EditedFile, Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, blocking, limits, parse, prepared,
};
use crate::agent::workspace::Workspace;
use crate::domain::ids::CallId;
use crate::domain::reason::{Reason, Refusal};

pub(super) struct WriteFile;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Path of the file in the workspace; folders above it are made.
    path: String,
    /// The whole content.
    content: String,
}

impl Tool for WriteFile {
    fn name(&self) -> &'static str {
        "write_file"
    }

    fn class(&self) -> ToolClass {
        ToolClass::Edit
    }

    fn description(&self) -> &'static str {
        "Writes a file of the workspace, replacing what it held. Prefer `edit_file` for a change to part of a file."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, workspace: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        arguments.path = workspace.normalise(&arguments.path)?;
        let sha256 = workspace.digest(&arguments.path)?;
        let edited = EditedFile { path: arguments.path.clone(), sha256 };
        prepared(self, &arguments, vec![edited])
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move {
            match arguments::<Arguments>(self, prepared)
                .and_then(|arguments| Ok((expected(prepared, &arguments.path)?, arguments)))
            {
                Ok((sha256, arguments)) => {
                    let call = context.call_id;
                    blocking(context, move |workspace| write(workspace, &arguments, sha256.as_deref(), call)).await
                }
                Err(refusal) => ToolOutcome::failed(refusal),
            }
        })
    }
}

/// The digest that the file had when the call was prepared.
pub(super) fn expected(prepared: &Prepared, path: &str) -> Result<Option<String>, Refusal> {
    match prepared.edited_files.as_slice() {
        [file] if file.path == path => Ok(file.sha256.clone()),
        _ => Err(Refusal::new(Reason::ToolFailed, "The prepared call does not name the file that it changes.")),
    }
}

fn write(
    workspace: &Workspace,
    arguments: &Arguments,
    sha256: Option<&str>,
    call: CallId,
) -> Result<ToolOutcome, Refusal> {
    if arguments.content.len() as u64 > limits::EDIT_FILE_BYTES {
        let detail = format!("A file can be written up to {} bytes.", limits::EDIT_FILE_BYTES);
        return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
    }
    workspace.replace(&arguments.path, arguments.content.as_bytes(), sha256, call)?;
    let verb = if sha256.is_some() { "Replaced" } else { "Created" };
    Ok(ToolOutcome::done(format!("{verb} {} ({} bytes).\n", arguments.path, arguments.content.len()), false))
}
