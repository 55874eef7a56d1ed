//! What one can ask of questions.

use serde::{Deserialize, Serialize};

use super::desk::{self, By, Desk, Done, Lane};
use crate::domain::command::Command;
use crate::domain::ids::QuestionId;
use crate::domain::question;
use crate::domain::reason::Refusal;
use crate::projections::questions::{QuestionView, Status};
use crate::projections::waits::Filter;
use crate::projections::{Models, Page, Paging};

/// An answer: options, free text, or both where the question takes both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Ids of the chosen options.
    #[serde(default)]
    pub selected: Vec<String>,
    /// Free text.
    #[serde(default)]
    pub freeform: Option<String>,
}

/// Words that may go with a decline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decline {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The use cases.
#[derive(Clone)]
pub struct Questions {
    desk: Desk,
}

impl Questions {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Answers a question.
    pub async fn answer(&self, by: By, question_id: QuestionId, input: Answer) -> Result<Done<QuestionView>, Refusal> {
        let key = self.desk.look(|models| {
            let session = models.question(&by.org, question_id)?.row.session;
            Ok::<_, Refusal>(models.subjects.of(session).filter(|key| !key.erased).map(|key| key.id))
        })?;
        let ask = question::Answer {
            org: by.org.clone(),
            question_id,
            selected: input.selected,
            freeform: self.desk.keep_short(input.freeform, key).await?,
        };
        self.submit(Command::AnswerQuestion(ask), by).await
    }

    /// Declines to answer.
    pub async fn decline(
        &self,
        by: By,
        question_id: QuestionId,
        input: Decline,
    ) -> Result<Done<QuestionView>, Refusal> {
        let ask = question::Decline { org: by.org.clone(), question_id, note: input.reason };
        self.submit(Command::DeclineQuestion(ask), by).await
    }

    /// One question.
    pub async fn get(&self, org: &str, id: QuestionId) -> Result<QuestionView, Refusal> {
        let org = org.to_owned();
        self.desk.show(move |models| models.question(&org, id)).await
    }

    /// One page of questions, newest first.
    pub async fn list(&self, org: &str, filter: Filter<Status>, paging: Paging) -> Result<Page<QuestionView>, Refusal> {
        let org = org.to_owned();
        self.desk.page(move |models| models.question_page(&org, &filter, &paging)).await
    }

    async fn submit(&self, command: Command, by: By) -> Result<Done<QuestionView>, Refusal> {
        self.desk.submit(command, by, Lane::Reserved, desk::question, Models::question).await
    }
}
