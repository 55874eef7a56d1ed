//! A turn: the request to the model, its words as they come, and its answer or what became of it.

use std::num::NonZeroU32;

use serde_json::json;
use tokio::sync::mpsc;

use super::drive::{Drive, Flow, Later};
use super::limits;
use super::live::Delta;
use super::model::{ModelAnswer, ModelFailure, ModelRequest, Piece, ToolText};
use super::pen::doubled;
use crate::agent::tools;
use crate::agent::transcript::{Conversation, LeftOut};
use crate::domain::command::Command;
use crate::domain::limits::INLINE_PART_BYTES;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::domain::turn;
use crate::services::debug_capture::ArtifactKind;
use crate::vault::redaction::StreamRedactor;

/// How a call of the model went.
enum Said {
    Answer(ModelAnswer),
    Failure(ModelFailure),
    /// It was given up.
    Cut,
}

impl Said {
    /// For people who look for a fault.
    fn told(&self, partial: &str) -> serde_json::Value {
        match self {
            Self::Answer(answer) => json!({
                "text": answer.text, "reasoning": answer.reasoning, "calls": answer.calls, "stop": answer.stop,
                "usage": answer.usage,
            }),
            Self::Failure(failure) => json!({
                "code": failure.code, "detail": failure.detail, "retry_after_ms": failure.retry_after_ms,
                "partial": failure.partial.as_deref().unwrap_or(partial),
            }),
            Self::Cut => json!({ "code": Reason::RunStopping, "partial": partial }),
        }
    }
}

/// What was heard of an answer.
#[derive(Default)]
struct Heard {
    /// Words, the first of them.
    words: String,
    /// Bytes in all, also of what nobody is shown.
    bytes: usize,
}

/// How long to wait, of chance in part, so that many that failed at once do not come back at once. What the provider
/// asks for is a floor.
fn pause_ms(own: u64, asked: u64, chance: u64) -> u64 {
    let half = own / 2;
    let own = half.saturating_add(chance % (own - half).saturating_add(1));
    own.max(asked.saturating_add(if asked == 0 { 0 } else { chance % half.saturating_add(1) }))
}

/// Up to which size a part stands in the record, so that parts of these sizes fit into one.
fn inline_bytes(mut sizes: Vec<usize>) -> usize {
    sizes.sort_unstable();
    let mut total = 0_usize;
    for size in sizes {
        total = total.saturating_add(size);
        if total > limits::ANSWER_INLINE_BYTES {
            return INLINE_PART_BYTES.min(size.saturating_sub(1));
        }
    }
    INLINE_PART_BYTES
}

/// Every tool as a model is told of it.
pub(super) fn tool_texts() -> Vec<ToolText> {
    let text = |tool: &&dyn tools::Tool| ToolText {
        name: tool.name().to_owned(),
        description: tool.description().to_owned(),
        schema: tool.schema(),
    };
    tools::all().iter().map(text).collect()
}

impl Drive {
    pub(super) async fn call_model(&mut self, turn: u32, attempt: u32, failures: u32) -> Result<Flow, Refusal> {
        let paused = std::mem::take(&mut self.paused);
        if failures > 0 && !paused {
            return Ok(Flow::Later(Later::Pause(self.pause(failures))));
        }
        let way = self.way()?;
        self.ask_model(turn, attempt, way).await
    }

    /// The route and the model that are asked now: those that are asked again in this turn, or the pinned ones.
    fn way(&self) -> Result<(String, String), Refusal> {
        if let Some(again) = self.story.state.unanswered().last() {
            return Ok(again.clone());
        }
        let claim = self.story.claim.as_ref().ok_or(Reason::RunStepOutOfOrder)?;
        Ok((claim.route.clone(), claim.model.clone()))
    }

    /// The turn and the attempt at it that another route can be asked for, with the first that was not asked yet.
    pub(super) fn elsewhere(&self) -> Option<(u32, u32, (String, String))> {
        let (turn, attempt) = self.story.state.elsewhere(&self.house.stepper)?;
        let asked = self.story.state.unanswered();
        let fallbacks = self.house.models.fallbacks(&self.story.claim.as_ref()?.route);
        let next = fallbacks.into_iter().find(|(route, _)| !asked.iter().any(|(tried, _)| tried == route))?;
        Some((turn, attempt, next))
    }

    /// What the record of the request says of its route.
    fn decision(&self, route: &str) -> Option<turn::RouteDecision> {
        let auth_ref = self.house.models.terms(route).auth_ref;
        let pinned = self.story.claim.as_ref().map(|claim| &claim.route).filter(|pinned| *pinned != route);
        let why = if pinned.is_some() { turn::RouteReason::Fallback } else { turn::RouteReason::Pinned };
        (auth_ref.is_some() || pinned.is_some()).then(|| turn::RouteDecision {
            why,
            payer: turn::Payer::Operator,
            auth_ref,
            in_place_of: pinned.cloned(),
            after: self.story.state.unanswered_because(),
        })
    }

    /// Asks a model over a route: the request is recorded, sent, and what came of it is recorded.
    pub(super) async fn ask_model(
        &mut self,
        turn: u32,
        attempt: u32,
        (route, model): (String, String),
    ) -> Result<Flow, Refusal> {
        let mut request = self.request(turn, route, model);
        let Some(lane) = self.house.lanes.enter(&request.route) else {
            return Ok(Flow::Later(Later::Room(request.route)));
        };
        // Whoever works meanwhile is told of it by the record of the request.
        self.place = None;
        let LeftOut { runs, turns, parts } = request.left_out;
        request.credential =
            self.house.models.credential(&self.story.org, &request.route, self.subjects(&request.route))?;
        let digest = request.digest()?;
        let body = turn::Requested {
            turn,
            attempt,
            route: request.route.clone(),
            model: request.model.clone(),
            credential: request.credential.clone(),
            request_sha256: self.keyed_hash(digest.clone()).await?.unwrap_or(digest),
            runs_left_out: NonZeroU32::new(runs),
            turns_left_out: NonZeroU32::new(turns),
            parts_shortened: NonZeroU32::new(parts),
            route_decision: self.decision(&request.route),
            reservation: None,
        };
        let quote = self.house.models.quote(&request)?.map(Box::new);
        let ask = turn::Request { run_id: self.story.run, body, quote };
        self.house.pen.intent(Command::RecordTurnRequested(ask), self.by()).await?;
        request.max_output_tokens = self.bought().or(request.max_output_tokens);
        let (run, debug) = (self.story.run, self.house.debug.clone());
        debug.keep(run, ArtifactKind::ModelRequest, || json!(request)).await;
        let clock = self.house.published.clock().clone();
        let began = clock.boot_ms();
        let (said, heard) = self.listen(request, turn, attempt).await;
        let took = clock.boot_ms().saturating_sub(began);
        drop(lane);
        debug.keep(run, ArtifactKind::ModelAnswer, || said.told(&heard.words)).await;
        match said {
            Said::Answer(answer) => self.answered(turn, answer, (took, heard.bytes)).await,
            Said::Failure(failure) => {
                self.leave_alone_ms = failure.retry_after_ms.unwrap_or(0);
                let partial = failure.partial.unwrap_or(heard.words);
                self.broke_off(turn, (failure.code, failure.detail), partial, (took, heard.bytes, None)).await
            }
            // The drain cut it: the next start of the daemon asks again.
            Said::Cut if self.house.hard.is_cancelled() => Ok(Flow::Leave),
            Said::Cut => {
                let reason = Reason::RunStopping;
                self.broke_off(turn, (reason, reason.title().to_owned()), heard.words, (took, heard.bytes, None)).await
            }
        }
    }

    /// Tokens after which the answer ends, where something was set aside for it; never more than was asked for.
    fn bought(&self) -> Option<NonZeroU32> {
        let models = self.house.published.models();
        let limit = models.ledger.books.open(Stream::Run(self.story.run))?.reservation.output_tokens?;
        NonZeroU32::new(u32::try_from(limit).unwrap_or(u32::MAX))
    }

    /// Whom a secret serves that this run uses over a route.
    fn subjects(&self, route: &str) -> Vec<String> {
        let (run, session) = (Stream::Run(self.story.run), Stream::Session(self.story.session));
        vec![run.to_string(), session.to_string(), format!("token/{}", self.story.principal), format!("route/{route}")]
    }

    /// How long to wait before another attempt, milliseconds.
    fn pause(&self, failures: u32) -> u64 {
        let own = doubled(self.house.settings.retry_ms, failures.saturating_sub(1), limits::RETRY_MS_MAX);
        pause_ms(own, self.leave_alone_ms.min(limits::RETRY_MS_MAX), self.house.entropy.u128() as u64)
    }

    fn request(&self, turn: u32, route: String, model: String) -> ModelRequest {
        let tools = if self.house.models.terms(&route).without_tools { Vec::new() } else { self.house.tools.clone() };
        let Conversation { messages, left_out } = self.story.transcript.conversation(self.story.run);
        let mut system = self.story.configuration.system_prompt.over(&self.house.settings.system);
        if let Some(line) = left_out.line() {
            system.push('\n');
            system.push_str(&line);
        }
        ModelRequest {
            run_id: self.story.run,
            turn,
            route,
            model,
            system,
            messages,
            left_out,
            credential: None,
            tools,
            max_output_tokens: self.story.queued.as_ref().and_then(|queued| queued.max_output_tokens),
        }
    }

    /// Asks the model and passes its words on while they come. Also gives what was heard so far.
    async fn listen(&self, request: ModelRequest, turn: u32, attempt: u32) -> (Said, Heard) {
        let (sender, mut pieces) = mpsc::channel(limits::DELTAS_ON_THE_WAY);
        let mut call = self.house.models.call(request, sender, self.stop.clone());
        let mut heard = Heard::default();
        // A provider that repeats a secret may do so over several words.
        let mut clean = self.house.published.redactor().stream();
        let mut open = true;
        let outcome = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break None,
                piece = pieces.recv(), if open => match piece {
                    Some(piece) => self.hear(&mut heard, (turn, attempt), piece, &mut clean),
                    None => open = false,
                },
                outcome = &mut call => break Some(outcome),
            }
        };
        while let Ok(piece) = pieces.try_recv() {
            self.hear(&mut heard, (turn, attempt), piece, &mut clean);
        }
        self.pass_on(&mut heard, (turn, attempt), clean.finish_text());
        let said = match outcome {
            Some(Ok(answer)) => Said::Answer(answer),
            Some(Err(failure)) => Said::Failure(failure),
            None => Said::Cut,
        };
        (said, heard)
    }

    fn hear(&self, heard: &mut Heard, at: (u32, u32), piece: Piece, clean: &mut StreamRedactor) {
        match piece {
            Piece::Words(text) => {
                heard.bytes += text.len();
                self.pass_on(heard, at, clean.push_text(&text));
            }
            Piece::Unshown(bytes) => heard.bytes += bytes,
        }
    }

    fn pass_on(&self, heard: &mut Heard, (turn, attempt): (u32, u32), text: String) {
        if text.is_empty() {
            return;
        }
        let room = limits::PARTIAL_BYTES.saturating_sub(heard.words.len());
        heard.words.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
        self.house.live.publish(self.story.run, Delta { turn, attempt, text: text.into() });
    }

    async fn answered(&self, turn: u32, answer: ModelAnswer, took: (u64, usize)) -> Result<Flow, Refusal> {
        let pen = &self.house.pen;
        let texts = [&answer.text, &answer.reasoning].into_iter().flatten();
        let parts = texts.chain(answer.calls.iter().map(|call| &call.input));
        let inline = inline_bytes(parts.map(String::len).collect());
        let mut calls = Vec::with_capacity(answer.calls.len());
        for call in answer.calls {
            let input = self.keep_within(call.input, inline).await?;
            let [provider_id, tool] = [call.provider_id, call.tool].map(|name| pen.clean(name));
            calls.push(turn::Wanted { provider_id, tool, input });
        }
        let mut parts = [None, None];
        for (part, text) in parts.iter_mut().zip([answer.text, answer.reasoning]) {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                *part = Some(self.keep_within(text, inline).await?);
            }
        }
        let [text, reasoning] = parts;
        let (stop, usage, run_id) = (answer.stop, answer.usage, self.story.run);
        let ask =
            turn::Answer { run_id, turn, text, reasoning, calls, stop, usage: usage.clone(), duration_ms: took.0 };
        match pen.outcome(Command::RecordTurnAnswered(ask), self.by()).await {
            Ok(_) => Ok(Flow::On),
            Err(refusal) if [Reason::ToolLimitExceeded, Reason::RequestTooLarge].contains(&refusal.reason) => {
                self.broke_off(turn, (refusal.reason, refusal.detail), String::new(), (took.0, took.1, usage)).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn broke_off(
        &self,
        turn: u32,
        (code, detail): (Reason, String),
        partial: String,
        (duration_ms, heard_bytes, usage): (u64, usize, Option<turn::Usage>),
    ) -> Result<Flow, Refusal> {
        let partial = if partial.is_empty() { None } else { Some(self.keep(partial).await?) };
        let detail = self.told(code, detail);
        let body = turn::Failed { turn, code, detail, partial, cost: None, duration_ms };
        let ask = turn::Fail { run_id: self.story.run, body, heard_bytes, usage };
        self.house.pen.outcome(Command::RecordTurnFailed(ask), self.by()).await.map(|_| Flow::On)
    }
}

#[cfg(test)]
mod tests {
    use super::{INLINE_PART_BYTES, inline_bytes, limits, pause_ms};

    #[test]
    fn parts_stand_in_a_record_as_long_as_they_fit_and_the_smallest_stay() {
        let most = limits::ANSWER_INLINE_BYTES;
        assert_eq!(inline_bytes(vec![]), INLINE_PART_BYTES);
        assert_eq!(inline_bytes(vec![INLINE_PART_BYTES, most - INLINE_PART_BYTES]), INLINE_PART_BYTES);
        assert_eq!(inline_bytes(vec![60_000; 20]), 59_999);
        assert_eq!(inline_bytes(vec![50_000, 7, 60_000, 1_000, 60_001]), 60_000);
        assert_eq!(inline_bytes(vec![2 << 20]), INLINE_PART_BYTES);
    }

    proptest::proptest! {
        #[test]
        fn a_pause_is_never_shorter_than_asked_nor_longer_than_both_together(
            own in 0u64..60_000, asked in 0u64..60_000, chance: u64,
        ) {
            let pause = pause_ms(own, asked, chance);
            proptest::prop_assert!(pause >= asked.max(own / 2));
            proptest::prop_assert!(pause <= asked + own);
        }
    }
}
