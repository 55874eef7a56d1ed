//! What one can ask of background tasks. Their output is not here: it lies beside the journal.

use super::desk::{self, By, Desk, Done, Lane};
use super::sessions::Stop;
use crate::domain::command::Command;
use crate::domain::ids::TaskId;
use crate::domain::reason::Refusal;
use crate::domain::task::{self, Status};
use crate::projections::tasks::TaskView;
use crate::projections::waits::Filter;
use crate::projections::{Page, Paging};

/// The use cases.
#[derive(Clone)]
pub struct Tasks {
    desk: Desk,
}

impl Tasks {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Asks a task to stop. Repeating it changes nothing.
    pub async fn stop(&self, by: By, task_id: TaskId, input: Stop) -> Result<Done<TaskView>, Refusal> {
        let org = by.org.clone();
        let command = Command::RequestTaskStop(task::Stop { org: org.clone(), task_id, note: input.reason });
        self.desk.submit(command, by, Lane::Reserved, desk::task, |id| self.get(&org, id)).await
    }

    /// One task.
    pub fn get(&self, org: &str, id: TaskId) -> Result<TaskView, Refusal> {
        let facts = self.desk.look(|models| models.task(org, id))?;
        Ok(facts.view(self.desk.bodies()))
    }

    /// One page of tasks, newest first.
    pub fn list(&self, org: &str, filter: &Filter<Status>, paging: &Paging) -> Result<Page<TaskView>, Refusal> {
        let page = self.desk.look(|models| models.task_page(org, filter, paging))?;
        Ok(page.map(|facts| facts.view(self.desk.bodies())))
    }
}
