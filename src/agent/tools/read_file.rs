//! `read_file`: lines of a text file, numbered.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

use super::text::{self, Lines};
use super::{
    Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, blocking, invalid, limits, parse, prepared,
};
use crate::agent::workspace::{Content, Workspace};
use crate::domain::reason::{Reason, Refusal};

pub(super) struct ReadFile;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Path of the file in the workspace.
    path: String,
    /// First line to show, counted from 1.
    #[serde(default = "first_line")]
    offset_line: u64,
    /// Most lines to show.
    #[serde(default = "default_lines")]
    limit_lines: u64,
}

fn first_line() -> u64 {
    1
}

fn default_lines() -> u64 {
    limits::READ_LINES_DEFAULT
}

impl Tool for ReadFile {
    fn name(&self) -> &'static str {
        "read_file"
    }

    fn class(&self) -> ToolClass {
        ToolClass::ReadOnly
    }

    fn description(&self) -> &'static str {
        "Reads a text file of the workspace and shows its lines with their numbers. Long files are shown in parts: ask \
         for the next part with `offset_line`."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, workspace: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        arguments.path = workspace.normalise(&arguments.path)?;
        if arguments.offset_line == 0 || !(1..=limits::READ_LINES_MAX).contains(&arguments.limit_lines) {
            let most = limits::READ_LINES_MAX;
            return Err(invalid(format!("Lines count from 1, and at most {most} are shown at a time.")));
        }
        prepared(self, &arguments, Vec::new())
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move {
            match arguments::<Arguments>(self, prepared) {
                Ok(arguments) => blocking(context, move |workspace| read(workspace, &arguments)).await,
                Err(refusal) => ToolOutcome::failed(refusal),
            }
        })
    }
}

fn read(workspace: &Workspace, arguments: &Arguments) -> Result<ToolOutcome, Refusal> {
    let content = workspace.read(&arguments.path, limits::READ_FILE_BYTES)?;
    if text::is_binary(&content.bytes) {
        let detail = format!("{} is a binary file of {} bytes.", arguments.path, content.size);
        return Err(Refusal::new(Reason::ToolFailed, detail));
    }
    Ok(show(&content, arguments))
}

fn show(content: &Content, arguments: &Arguments) -> ToolOutcome {
    let text = text::lossy(&content.bytes);
    let count = text.lines().count() as u64;
    let mut lines = Lines::new();
    let mut next = arguments.offset_line;
    let mut cut_line = false;
    let skip = usize::try_from(arguments.offset_line - 1).unwrap_or(usize::MAX);
    for line in text.lines().skip(skip) {
        let shown = text::line(line);
        let full = next >= arguments.offset_line.saturating_add(arguments.limit_lines);
        if full || !lines.push(&format!("{next:>6}\t{shown}")) {
            break;
        }
        cut_line |= shown.len() != line.len();
        next += 1;
    }
    let mut output = lines.into_text();
    let more = next <= count;
    if content.size == 0 {
        output.push_str("[the file is empty]\n");
    } else if arguments.offset_line > count {
        let _ = writeln!(output, "[the file has {count} lines]");
    } else if more {
        let _ = writeln!(output, "[lines {next} to {count} are not shown; go on with offset_line {next}]");
    }
    if content.is_cut() {
        let _ = writeln!(output, "[only the first {} of {} bytes were read]", content.bytes.len(), content.size);
    }
    ToolOutcome::done(output, more || cut_line || content.is_cut())
}
