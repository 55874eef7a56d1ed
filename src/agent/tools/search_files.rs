//! `search_files`: lines that match a regular expression.

use futures_util::future::BoxFuture;
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tokio_util::sync::CancellationToken;

use super::text::{self, Lines};
use super::walk::{Bounds, Entry, Flow, Kind, glob, walk};
use super::{
    Prepared, Tool, ToolClass, ToolContext, ToolOutcome, arguments, blocking, invalid, limits, parse, prepared,
};
use crate::agent::workspace::{Workspace, open_entry, read_regular};
use crate::domain::reason::Refusal;

pub(super) struct SearchFiles;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Regular expression, matched against one line at a time.
    pattern: String,
    /// File or folder to search; the whole workspace where absent.
    #[serde(default = "super::list_files::root")]
    path: String,
    /// Searches only files that match, such as `*.rs` or `src/**/*.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    glob: Option<String>,
    /// Whether upper and lower case are the same.
    #[serde(default)]
    ignore_case: bool,
    /// Whether to search what `.gitignore` files leave out.
    #[serde(default)]
    include_ignored: bool,
    /// Most matching lines to show.
    #[serde(default = "default_matches")]
    limit_matches: u32,
}

fn default_matches() -> u32 {
    limits::SEARCH_MATCHES_DEFAULT
}

impl Tool for SearchFiles {
    fn name(&self) -> &'static str {
        "search_files"
    }

    fn class(&self) -> ToolClass {
        ToolClass::ReadOnly
    }

    fn description(&self) -> &'static str {
        "Searches text files of the workspace for lines that match a regular expression (RE2 syntax) and shows them \
         as `path:line:text`. What `.gitignore` leaves out is not searched unless asked for, and `.git` never."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, workspace: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        arguments.path = workspace.normalise(&arguments.path)?;
        compile(&arguments)?;
        if let Some(pattern) = &arguments.glob {
            glob(pattern)?;
        }
        if !(1..=limits::SEARCH_MATCHES_MAX).contains(&arguments.limit_matches) {
            return Err(invalid(format!("Between 1 and {} matches are shown.", limits::SEARCH_MATCHES_MAX)));
        }
        prepared(self, &arguments, Vec::new())
    }

    fn perform<'a>(&'a self, prepared: &'a Prepared, context: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        Box::pin(async move {
            match arguments::<Arguments>(self, prepared) {
                Ok(arguments) => {
                    let stop = context.stop.clone();
                    blocking(context, move |workspace| search(workspace, &arguments, &stop)).await
                }
                Err(refusal) => ToolOutcome::failed(refusal),
            }
        })
    }
}

fn compile(arguments: &Arguments) -> Result<Regex, Refusal> {
    super::within("The pattern", &arguments.pattern, limits::PATTERN_BYTES)?;
    RegexBuilder::new(&arguments.pattern)
        .case_insensitive(arguments.ignore_case)
        .size_limit(limits::PATTERN_COMPILED_BYTES)
        .dfa_size_limit(limits::PATTERN_COMPILED_BYTES)
        .build()
        .map_err(|fault| invalid(format!("The pattern does not parse: {fault}.")))
}

/// A search on its way.
struct Search {
    pattern: Regex,
    lines: Lines,
    matches: u32,
    limit_matches: u32,
    read_bytes: u64,
    skipped: u64,
    cut: bool,
}

impl Search {
    fn content(&mut self, path: &str, bytes: &[u8]) -> Flow {
        self.read_bytes += bytes.len() as u64;
        if text::is_binary(bytes) {
            return Flow::On;
        }
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if !self.pattern.is_match(line) {
                continue;
            }
            let line = text::lossy(line);
            let shown = format!("{path}:{}:{}", index + 1, text::line(line.trim_end_matches('\r')));
            if self.matches >= self.limit_matches || !self.lines.push(&shown) {
                self.cut = true;
                return Flow::Enough;
            }
            self.matches += 1;
        }
        if self.read_bytes > limits::SEARCH_TOTAL_BYTES {
            self.cut = true;
            return Flow::Enough;
        }
        Flow::On
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Flow {
        if entry.kind != Kind::File {
            return Flow::On;
        }
        let opened = open_entry(entry.folder, entry.name);
        match opened.and_then(|file| read_regular(file, limits::SEARCH_FILE_BYTES)) {
            Ok(content) if !content.is_cut() => self.content(entry.path, &content.bytes),
            _ => {
                self.skipped += 1;
                Flow::On
            }
        }
    }
}

fn search(workspace: &Workspace, arguments: &Arguments, stop: &CancellationToken) -> Result<ToolOutcome, Refusal> {
    let wanted = arguments.glob.as_deref().map(glob).transpose()?;
    let mut search = Search {
        pattern: compile(arguments)?,
        lines: Lines::new(),
        matches: 0,
        limit_matches: arguments.limit_matches,
        read_bytes: 0,
        skipped: 0,
        cut: false,
    };
    let mut unnameable = None;
    // A path may name one file; whatever else it names, the walk knows or refuses.
    if let Ok(content) = workspace.read(&arguments.path, limits::READ_FILE_BYTES) {
        search.content(&arguments.path, &content.bytes);
        search.cut |= content.is_cut();
    } else {
        let bounds = Bounds { depth: limits::WALK_DEPTH, ignored: arguments.include_ignored };
        let missed = walk((workspace, &arguments.path), bounds, stop, &mut |entry| {
            let skip = wanted.as_ref().is_some_and(|glob| !glob.is_match(entry.below));
            if skip { Flow::On } else { search.entry(entry) }
        })?;
        search.skipped += missed.unreadable;
        search.cut |= missed.limit;
        unnameable = missed.unnameable_line();
    }
    let mut output = search.lines.into_text();
    if search.matches == 0 {
        output.push_str("[no line matches]\n");
    }
    if search.cut {
        output.push_str("[the search ended at a limit; there may be more matches]\n");
    }
    if search.skipped > 0 {
        let _ = writeln!(output, "[{} files or folders were too large or could not be read]", search.skipped);
    }
    output.extend(unnameable);
    Ok(ToolOutcome::done(output, search.cut))
}
