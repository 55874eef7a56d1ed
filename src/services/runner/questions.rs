//! A question of the model to a person: asked, and its answer given back as the call's result.

use super::drive::{Drive, Flow};
use crate::agent::tools::QuestionArguments;
use crate::agent::transcript::answer_text;
use crate::domain::call::Finished;
use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::ids::{CallId, QuestionId};
use crate::domain::personal::Personal;
use crate::domain::question;
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Bodies as _;

impl Drive {
    async fn keep_some(&self, text: Option<String>) -> Result<Option<Personal>, Refusal> {
        match text {
            Some(text) => self.keep_short(text).await.map(Some),
            None => Ok(None),
        }
    }

    async fn wanted(&self, arguments: QuestionArguments, call_id: CallId) -> Result<question::Ask, Refusal> {
        let mut options = Vec::with_capacity(arguments.options.len());
        for (at, option) in arguments.options.into_iter().enumerate() {
            // An id stands in clear, so that of words that can be erased it is none of the model's.
            let id = option.id.filter(|_| self.story.key.is_none());
            options.push(question::Choice {
                id: id.unwrap_or_else(|| (at + 1).to_string()),
                label: self.keep_short(option.label).await?,
                description: self.keep_some(option.description).await?,
            });
        }
        Ok(question::Ask {
            run_id: self.story.run,
            call_id,
            header: self.keep_some(arguments.header).await?,
            question: self.keep_short(arguments.question).await?,
            options,
            multi_select: arguments.multi_select,
            freeform: arguments.freeform,
        })
    }

    pub(super) async fn ask(&self, id: CallId) -> Result<Flow, Refusal> {
        let arguments = self.ready(id).await.and_then(|ready| {
            serde_json::from_value::<QuestionArguments>(ready.prepared.arguments)
                .map_err(|fault| Refusal::new(Reason::RequestMalformed, format!("The arguments do not fit: {fault}.")))
        });
        let ask = match arguments {
            Ok(arguments) => self.wanted(arguments, id).await?,
            Err(refusal) => return self.refuse(id, refusal.reason, refusal.detail).await,
        };
        match self.house.pen.intent(Command::AskQuestion(ask), self.by()).await {
            Ok(_) => Ok(Flow::On),
            Err(refusal) if refusal.reason == Reason::RequestInvalid => {
                self.refuse(id, refusal.reason, refusal.detail).await
            }
            Err(refusal) if refusal.reason == Reason::PermissionDenied => self.judge(id).await,
            Err(refusal) => Err(refusal),
        }
    }

    pub(super) async fn finish_question(&self, call_id: CallId, id: QuestionId) -> Result<Flow, Refusal> {
        let asked = self.story.transcript.question(self.story.run, id).ok_or(Reason::RunStepOutOfOrder)?;
        let ended = self.story.answer(id).ok_or(Reason::RunStepOutOfOrder)?;
        let published = &self.house.published;
        let text = answer_text(asked, ended, &|part| published.text(part));
        let body = Finished {
            call_id,
            ok: matches!(ended, Event::QuestionAnswered(_)),
            code: None,
            output: self.keep(text).await?,
            truncated: false,
            exit_code: None,
            task_id: None,
            duration_ms: 0,
        };
        self.finish(body).await.map(|()| Flow::On)
    }
}
