//! What one can ask of background tasks. Their output is not a record: it lies in files beside the journal, the newest
//! part of it.

use serde::Serialize;

use super::desk::{self, By, Desk, Done, Lane};
use super::sessions::Stop;
use crate::agent::background::Background;
use crate::agent::tools::limits::{TASK_PAGE_BYTES_DEFAULT, TASK_PAGE_BYTES_MAX};
use crate::domain::command::{Command, invalid};
use crate::domain::ids::TaskId;
use crate::domain::reason::Refusal;
use crate::domain::task::{self, Status, TerminalReason};
use crate::platform::spool::Piece;
use crate::projections::tasks::TaskView;
use crate::projections::waits::Filter;
use crate::projections::{Models, Page, Paging};

/// A page of a task's output. Offsets count every byte that the task wrote, those that are no longer kept included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct OutputView {
    /// The task.
    pub task_id: TaskId,
    /// Where the page begins; later than asked for where that part is no longer kept.
    pub offset: u64,
    /// Where the next page begins.
    pub next_offset: u64,
    /// The output; bytes that are no UTF-8 are shown as U+FFFD.
    pub text: String,
    /// Bytes at the beginning of the output that are no longer kept.
    pub dropped_bytes: u64,
    /// Bytes that the task has written so far.
    pub output_bytes: u64,
    /// Whether the task has ended and this page reaches the end of its output.
    pub complete: bool,
}

/// The use cases.
#[derive(Clone)]
pub struct Tasks {
    desk: Desk,
}

/// What one can ask of the output of tasks.
#[derive(Clone)]
pub struct Outputs {
    tasks: Tasks,
    background: Background,
}

impl Tasks {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Asks a task to stop. Repeating it changes nothing.
    pub async fn stop(&self, by: By, task_id: TaskId, input: Stop) -> Result<Done<TaskView>, Refusal> {
        let command = Command::RequestTaskStop(task::Stop { org: by.org.clone(), task_id, note: input.reason });
        self.desk.submit(command, by, Lane::Reserved, desk::task, Models::task).await
    }

    /// One task.
    pub async fn get(&self, org: &str, id: TaskId) -> Result<TaskView, Refusal> {
        let org = org.to_owned();
        self.desk.show(move |models| models.task(&org, id)).await
    }

    /// One page of tasks, newest first.
    pub async fn list(&self, org: &str, filter: Filter<Status>, paging: Paging) -> Result<Page<TaskView>, Refusal> {
        let org = org.to_owned();
        self.desk.page(move |models| models.task_page(&org, &filter, &paging)).await
    }
}

impl Outputs {
    /// Of these tasks; `background` knows where their output lies.
    pub fn new(tasks: Tasks, background: Background) -> Self {
        Self { tasks, background }
    }

    /// One page of a task's output.
    pub async fn page(
        &self,
        org: &str,
        id: TaskId,
        offset: Option<u64>,
        limit: Option<u64>,
    ) -> Result<OutputView, Refusal> {
        let limit = limit.unwrap_or(TASK_PAGE_BYTES_DEFAULT);
        if !(1..=TASK_PAGE_BYTES_MAX).contains(&limit) {
            return Err(invalid("/limit", format!("A page of output has 1 to {TASK_PAGE_BYTES_MAX} bytes.")));
        }
        // Looked up before the file is read: what has ended by now writes no more.
        let task = self.tasks.get(org, id).await?;
        let ended = task.status != Status::InProgress;
        let told = ended && task.terminal_reason != Some(TerminalReason::DaemonRestarted);
        let rotated = !(told && task.rotations == Some(0));
        let offset = offset.unwrap_or(0);
        let found = self.background.piece(id, offset, limit, rotated).await?;
        let written = task.output_bytes.unwrap_or(0);
        let mut piece =
            found.unwrap_or(Piece { bytes: Vec::new(), offset: written, dropped_bytes: written, end: written });
        if offset > piece.end {
            return Err(invalid("/offset", format!("The output has {} bytes so far.", piece.end)));
        }
        let more = !ended || piece.offset + (piece.bytes.len() as u64) < piece.end;
        if more {
            piece.bytes.truncate(whole_characters(&piece.bytes));
        }
        let next_offset = piece.offset + piece.bytes.len() as u64;
        Ok(OutputView {
            task_id: id,
            offset: piece.offset,
            next_offset,
            text: String::from_utf8_lossy(&piece.bytes).into_owned(),
            dropped_bytes: piece.dropped_bytes,
            output_bytes: piece.end,
            complete: ended && next_offset >= piece.end,
        })
    }
}

/// Length of the text without a character at its end whose rest is still to come. Never cuts everything.
fn whole_characters(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let wanted = match byte {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => break,
        };
        let kept = bytes.len() - back - 1;
        return if wanted > back + 1 && kept > 0 { kept } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_between_two_characters() {
        let text = "a€b😀".as_bytes();
        let lengths: Vec<usize> = (0..=text.len()).map(|cut| whole_characters(&text[..cut])).collect();
        assert_eq!(lengths, [0, 1, 1, 1, 4, 5, 5, 5, 5, 9]);
        assert_eq!(whole_characters(b"\xF0\x9F"), 2, "a page that would be empty is not cut");
        assert_eq!(whole_characters(b"a\x80\x80\x80\x80"), 5, "what is no UTF-8 is not waited for");
    }
}
