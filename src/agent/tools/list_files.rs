//! `list_files`: what is in a folder.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tokio_util::sync::CancellationToken;

use super::text::Lines;
use super::walk::{Bounds, Flow, Kind, glob, walk};
use super::{
    Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, blocking, invalid, limits, parse, prepared,
};
use crate::agent::workspace::Workspace;
use crate::domain::reason::Refusal;

pub(super) struct ListFiles;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Path of the folder in the workspace; the whole workspace where absent.
    #[serde(default = "root")]
    path: String,
    /// Shows only what matches, such as `*.rs` or `src/**/*.toml`; then folders are searched to any depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    glob: Option<String>,
    /// Levels of folders to show; 1 is the folder itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
    /// Whether to show what `.gitignore` files leave out.
    #[serde(default)]
    include_ignored: bool,
}

pub(super) fn root() -> String {
    ".".to_owned()
}

impl Tool for ListFiles {
    fn name(&self) -> &'static str {
        "list_files"
    }

    fn class(&self) -> ToolClass {
        ToolClass::ReadOnly
    }

    fn description(&self) -> &'static str {
        "Lists files and folders of the workspace, sorted, with sizes; folders end in a slash. What `.gitignore` \
         leaves out is not shown unless asked for, and `.git` never."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, workspace: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        arguments.path = workspace.normalise(&arguments.path)?;
        if let Some(pattern) = &arguments.glob {
            glob(pattern)?;
        }
        let fallback = if arguments.glob.is_some() { limits::WALK_DEPTH } else { limits::LIST_DEPTH_DEFAULT };
        let depth = *arguments.depth.get_or_insert(fallback);
        if !(1..=limits::WALK_DEPTH).contains(&depth) {
            return Err(invalid(format!("The depth is between 1 and {}.", limits::WALK_DEPTH)));
        }
        prepared(self, &arguments, Vec::new())
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move {
            match arguments::<Arguments>(self, prepared) {
                Ok(arguments) => {
                    let stop = context.stop.clone();
                    blocking(context, move |workspace| list(workspace, &arguments, &stop)).await
                }
                Err(refusal) => ToolOutcome::failed(refusal),
            }
        })
    }
}

fn list(workspace: &Workspace, arguments: &Arguments, stop: &CancellationToken) -> Result<ToolOutcome, Refusal> {
    let wanted = arguments.glob.as_deref().map(glob).transpose()?;
    let bounds =
        Bounds { depth: arguments.depth.unwrap_or(limits::LIST_DEPTH_DEFAULT), ignored: arguments.include_ignored };
    let mut lines = Lines::new();
    let (mut count, mut cut) = (0, false);
    let missed = walk((workspace, &arguments.path), bounds, stop, &mut |entry| {
        if wanted.as_ref().is_some_and(|glob| !glob.is_match(entry.below)) {
            return Flow::On;
        }
        let line = match entry.kind {
            Kind::File => format!("{}\t{}", entry.path, entry.size),
            Kind::Folder => format!("{}/", entry.path),
            Kind::Link => format!("{}\tlink", entry.path),
            Kind::Other => format!("{}\tspecial", entry.path),
        };
        if count >= limits::LIST_ENTRIES || !lines.push(&line) {
            cut = true;
            return Flow::Enough;
        }
        count += 1;
        Flow::On
    })?;
    let mut output = lines.into_text();
    if count == 0 {
        output.push_str("[nothing found]\n");
    }
    if cut || missed.limit {
        output.push_str("[there is more; ask for a folder further down or a narrower glob]\n");
    }
    if missed.unreadable > 0 {
        let _ = writeln!(output, "[{} folders could not be read]", missed.unreadable);
    }
    output.extend(missed.unnameable_line());
    Ok(ToolOutcome::done(output, cut || missed.limit))
}
