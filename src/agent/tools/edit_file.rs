//! `edit_file`: one passage of a file for another.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{
    EditedFile, Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, blocking, invalid, limits, parse,
    prepared, text, write_file,
};
use crate::agent::workspace::Workspace;
use crate::domain::ids::CallId;
use crate::domain::reason::{Reason, Refusal};

pub(super) struct EditFile;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Path of the file in the workspace.
    path: String,
    /// The passage to replace, exactly as it stands in the file. It must occur once, or `replace_all` must be true.
    old_text: String,
    /// What to put in its place.
    new_text: String,
    /// Whether to replace every occurrence.
    #[serde(default)]
    replace_all: bool,
}

impl Tool for EditFile {
    fn name(&self) -> &'static str {
        "edit_file"
    }

    fn class(&self) -> ToolClass {
        ToolClass::Edit
    }

    fn description(&self) -> &'static str {
        "Replaces a passage in a text file of the workspace and shows the difference. The passage must be given exactly \
         and must occur exactly once, unless every occurrence is to be replaced."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, workspace: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        arguments.path = workspace.normalise(&arguments.path)?;
        let sha256 = workspace.digest(&arguments.path)?;
        edited(workspace, &arguments)?;
        let edited = EditedFile { path: arguments.path.clone(), sha256 };
        prepared(self, &arguments, vec![edited])
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move {
            let checked = arguments::<Arguments>(self, prepared)
                .and_then(|arguments| Ok((write_file::expected(prepared, &arguments.path)?, arguments)));
            match checked {
                Ok((sha256, arguments)) => {
                    let call = context.call_id;
                    blocking(context, move |workspace| edit(workspace, &arguments, sha256.as_deref(), call)).await
                }
                Err(refusal) => ToolOutcome::failed(refusal),
            }
        })
    }
}

/// The file's text before and after.
fn edited(workspace: &Workspace, arguments: &Arguments) -> Result<(String, String), Refusal> {
    if arguments.old_text.is_empty() {
        return Err(invalid("`old_text` is empty; use `write_file` to make a file."));
    }
    if arguments.old_text == arguments.new_text {
        return Err(invalid("`old_text` and `new_text` are the same."));
    }
    let path = &arguments.path;
    let failed = |detail: String| Refusal::new(Reason::ToolFailed, detail);
    let content = workspace.read(path, limits::EDIT_FILE_BYTES)?;
    let too_large = || {
        let detail = format!("{path}: a file can be edited up to {} bytes.", limits::EDIT_FILE_BYTES);
        Refusal::new(Reason::ToolLimitExceeded, detail)
    };
    if content.is_cut() {
        return Err(too_large());
    }
    let before = String::from_utf8(content.bytes).map_err(|_| failed(format!("{path} is not a UTF-8 text file.")))?;
    let found = before.matches(arguments.old_text.as_str()).count();
    match found {
        0 => return Err(failed(format!("{path} does not hold `old_text`; read the file and give it exactly."))),
        1 => {}
        _ if arguments.replace_all => {}
        _ => {
            let detail = format!("{path} holds `old_text` {found} times; give more around it, or set `replace_all`.");
            return Err(failed(detail));
        }
    }
    let added = arguments.new_text.len().saturating_sub(arguments.old_text.len()).saturating_mul(found);
    if before.len().saturating_add(added) as u64 > limits::EDIT_FILE_BYTES {
        return Err(too_large());
    }
    let after = before.replace(arguments.old_text.as_str(), &arguments.new_text);
    Ok((before, after))
}

fn edit(
    workspace: &Workspace,
    arguments: &Arguments,
    sha256: Option<&str>,
    call: CallId,
) -> Result<ToolOutcome, Refusal> {
    // Asked first: of a file that changed, it matters that it changed and not what is wrong with it now.
    if workspace.digest(&arguments.path)?.as_deref() != sha256 {
        return Err(Refusal::new(
            Reason::ToolFileChanged,
            format!("{} changed after this call was prepared; nothing was written.", arguments.path),
        ));
    }
    let (before, after) = edited(workspace, arguments)?;
    workspace.replace(&arguments.path, after.as_bytes(), sha256, call)?;
    let mut diff = difference(&arguments.path, &before, &after);
    let cut = diff.len() > limits::RESULT_BYTES;
    if cut {
        diff.truncate(text::floor(&diff, limits::RESULT_BYTES));
        diff.push_str("\n[the difference is longer than is shown]\n");
    }
    Ok(ToolOutcome::done(diff, cut))
}

fn difference(path: &str, before: &str, after: &str) -> String {
    similar::TextDiff::configure()
        .timeout(Duration::from_millis(limits::DIFF_MS))
        .diff_lines(before, after)
        .unified_diff()
        .context_radius(3)
        .header(&format!("a/{path}"), &format!("b/{path}"))
        .to_string()
}
