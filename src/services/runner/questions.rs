//! A question of the model to a person: asked, and its answer given back as the call's result.

use super::drive::{Drive, Flow};
use crate::agent::tools::QuestionArguments;
use crate::agent::transcript::answer_text;
use crate::domain::call::Finished;
use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::ids::{CallId, QuestionId};
use crate::domain::question;
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Bodies as _;

fn wanted(arguments: QuestionArguments, drive: &Drive, call_id: CallId) -> question::Ask {
    let choice = |(at, option): (usize, crate::agent::tools::OptionArguments)| question::Choice {
        id: option.id.unwrap_or_else(|| (at + 1).to_string()),
        label: option.label.into(),
        description: option.description.map(Into::into),
    };
    question::Ask {
        run_id: drive.story.run,
        call_id,
        header: arguments.header.map(Into::into),
        question: arguments.question.into(),
        options: arguments.options.into_iter().enumerate().map(choice).collect(),
        multi_select: arguments.multi_select,
        freeform: arguments.freeform,
    }
}

impl Drive {
    pub(super) async fn ask(&self, id: CallId) -> Result<Flow, Refusal> {
        let arguments = self.ready(id).await.and_then(|ready| {
            serde_json::from_value::<QuestionArguments>(ready.prepared.arguments)
                .map_err(|fault| Refusal::new(Reason::RequestMalformed, format!("The arguments do not fit: {fault}.")))
        });
        let ask = match arguments {
            Ok(arguments) => wanted(arguments, self, id),
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
            output: self.house.pen.keep(text).await?,
            truncated: false,
            exit_code: None,
            task_id: None,
            duration_ms: 0,
        };
        self.finish(body).await.map(|()| Flow::On)
    }
}
