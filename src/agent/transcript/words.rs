//! The words of one run, kept within the bounds of a conversation: what no request has room for any more is let go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::{Bounds, CallText, Message};
use crate::domain::ids::{CallId, QuestionId};
use crate::domain::question;

/// Ends a text of which only the beginning is told.
const LEFT_OUT: &str = "\n(left out: the conversation is too long)";
/// What is told of a shortened text, bytes; the mark is not counted.
pub(super) const SHORTENED_BYTES: usize = 200;
/// The result of a call that has none.
const NO_RESULT: &str = "Not done: the run ended before.";

/// The words of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct RunWords {
    input: String,
    pub(super) turns: Vec<TurnWords>,
    pub(super) questions: BTreeMap<QuestionId, question::Asked>,
    /// Words of an answer that broke off and was not replaced by another.
    pub(super) partial: Option<String>,
    /// What stands in for the answer of a run that ended without one.
    in_place: Option<String>,
    /// How many of its oldest turns were let go.
    pub(super) turns_left_out: u32,
}

/// An answer and what came of its calls.
#[derive(Debug, Clone)]
pub(super) struct TurnWords {
    pub(super) text: Option<String>,
    pub(super) calls: Vec<CallWords>,
    /// How many of its texts were shortened.
    pub(super) shortened: u32,
}

/// A call and its result.
#[derive(Debug, Clone)]
pub(super) struct CallWords {
    pub(super) id: CallId,
    pub(super) call: CallText,
    pub(super) result: Option<(bool, String)>,
}

/// How much messages take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) messages: usize,
}

impl Size {
    /// Whether this fits.
    pub(super) fn is_within(self, bounds: Bounds) -> bool {
        self.bytes <= bounds.bytes && self.messages <= bounds.messages
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.messages = self.messages.saturating_add(other.messages);
    }
}

/// A text that may be shortened.
enum Part<'t> {
    Words(&'t mut String),
    /// JSON, and JSON afterwards.
    Arguments(&'t mut String),
}

impl Part<'_> {
    fn len(&self) -> usize {
        let (Self::Words(text) | Self::Arguments(text)) = self;
        text.len()
    }
}

/// Shortens parts while there are bytes to be saved.
struct Scissors {
    over: usize,
}

impl Scissors {
    /// Shortens parts while there are bytes to be saved: to a beginning, or where that is enough to what `fits`. Says how
    /// many were whole before.
    fn cut<'t>(&mut self, parts: impl IntoIterator<Item = Part<'t>>, fits: bool) -> u32 {
        let mut shortened = 0;
        for part in parts {
            if self.over == 0 {
                break;
            }
            let before = part.len();
            let spare = if fits { before.saturating_sub(self.over + LEFT_OUT.len()) } else { 0 };
            let (first, after) = match part {
                Part::Words(text) => (shorten(text, spare.max(SHORTENED_BYTES)), text.len()),
                Part::Arguments(text) => (shorten_arguments(text), text.len()),
            };
            self.over = self.over.saturating_sub(before - after);
            shortened += u32::from(first);
        }
        shortened
    }
}

/// Leaves the beginning of a text and a mark. Says whether the text was whole before and is not now.
pub(super) fn shorten(text: &mut String, keep: usize) -> bool {
    if text.len() <= keep.saturating_add(LEFT_OUT.len()) {
        return false;
    }
    let whole = !text.ends_with(LEFT_OUT);
    text.truncate(text.floor_char_boundary(keep));
    text.push_str(LEFT_OUT);
    text.shrink_to_fit();
    whole
}

/// The same for arguments: their beginning in an object, because servers refuse arguments that are none.
fn shorten_arguments(text: &mut String) -> bool {
    // One that is long in spite of its few letters was shortened before, or would not become shorter.
    if text.len() <= 8 * SHORTENED_BYTES {
        return false;
    }
    let mut beginning = text.clone();
    shorten(&mut beginning, SHORTENED_BYTES);
    *text = serde_json::json!({ "left_out": beginning }).to_string();
    true
}

impl TurnWords {
    fn size(&self) -> Size {
        let of_call = |one: &CallWords| {
            let result = one.result.as_ref().map_or(NO_RESULT.len(), |(_, text)| text.len());
            one.call.input.len() + one.call.tool.len() + result
        };
        let of_calls: usize = self.calls.iter().map(of_call).sum();
        Size { bytes: self.text.as_ref().map_or(0, String::len) + of_calls, messages: 1 + self.calls.len() }
    }

    fn results(&mut self) -> impl Iterator<Item = Part<'_>> {
        self.calls.iter_mut().filter_map(|one| one.result.as_mut()).map(|(_, text)| Part::Words(text))
    }

    fn said(&mut self) -> impl Iterator<Item = Part<'_>> {
        let calls = self.calls.iter_mut().map(|one| Part::Arguments(&mut one.call.input));
        self.text.iter_mut().map(Part::Words).chain(calls)
    }

    /// Every part, the largest first.
    fn parts(&mut self) -> Vec<Part<'_>> {
        let mut parts: Vec<Part<'_>> = self.text.iter_mut().map(Part::Words).collect();
        for CallWords { call, result, .. } in &mut self.calls {
            parts.push(Part::Arguments(&mut call.input));
            parts.extend(result.as_mut().map(|(_, text)| Part::Words(text)));
        }
        parts.sort_by_key(|part| Reverse(part.len()));
        parts
    }
}

impl RunWords {
    /// A run that was asked this.
    pub(super) fn of(input: String) -> Self {
        Self { input, ..Self::default() }
    }

    /// How much its messages take.
    pub(super) fn size(&self) -> Size {
        let mut size = Size { bytes: self.input.len(), messages: 1 };
        for turn in &self.turns {
            size += turn.size();
        }
        if let Some(text) = &self.in_place {
            size += Size { bytes: text.len(), messages: 1 };
        }
        size
    }

    /// How many of its texts were shortened.
    pub(super) fn shortened(&self) -> u32 {
        self.turns.iter().map(|turn| turn.shortened).sum()
    }

    /// What a model is told of it.
    pub(super) fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::User { text: self.input.clone() }];
        for turn in &self.turns {
            let calls = turn.calls.iter().map(|one| one.call.clone()).collect();
            messages.push(Message::Assistant { text: turn.text.clone(), calls });
            for one in &turn.calls {
                let (ok, text) = one.result.clone().unwrap_or_else(|| (false, NO_RESULT.to_owned()));
                let CallText { provider_id, tool, .. } = one.call.clone();
                messages.push(Message::Result { provider_id, tool, ok, text });
            }
        }
        let in_place = self.in_place.iter().cloned();
        messages.extend(in_place.map(|text| Message::Assistant { text: Some(text), calls: Vec::new() }));
        messages
    }

    /// It ended without an answer: its words so far, or a mark, stand in for one, so that the next message of the session
    /// does not follow this one's.
    pub(super) fn end(&mut self, how: &str) {
        let mark = match self.partial.take() {
            Some(words) => format!("{words}\n(The answer broke off here: {how})"),
            None => format!("(No answer: {how})"),
        };
        match self.turns.last_mut().filter(|turn| turn.calls.is_empty()) {
            Some(turn) => {
                turn.text.get_or_insert(mark);
            }
            None => self.in_place = Some(mark),
        }
    }

    /// Lets go what does not fit, while the run works. The newest turn stays whole as long as it fits beside the input, and
    /// gets half of the room where it does not. Of the turns before it the results are shortened first, then what the
    /// model said and its arguments, and then they are left out whole; the oldest first each time.
    pub(super) fn fit(&mut self, bounds: Bounds) {
        let mut size = self.size();
        let Some((newest, older)) = self.turns.split_last_mut() else { return };
        if size.is_within(bounds) {
            return;
        }
        let room = bounds.bytes.saturating_sub(self.input.len());
        let of_newest = newest.size().bytes;
        let mut scissors = Scissors { over: 0 };
        if of_newest > room {
            scissors.over = of_newest - room / 2;
            newest.shortened += scissors.cut(newest.parts(), true);
            size.bytes -= of_newest - newest.size().bytes;
        }
        scissors.over = size.bytes.saturating_sub(bounds.bytes);
        for turn in &mut *older {
            turn.shortened += scissors.cut(turn.results(), false);
        }
        for turn in &mut *older {
            turn.shortened += scissors.cut(turn.said(), false);
        }
        let mut gone = 0;
        for turn in &*older {
            if scissors.over == 0 && size.messages <= bounds.messages {
                break;
            }
            scissors.over = scissors.over.saturating_sub(turn.size().bytes);
            size.messages -= turn.size().messages;
            gone += 1;
        }
        self.turns.drain(..gone);
        self.turns_left_out = self.turns_left_out.saturating_add(u32::try_from(gone).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const BOUNDS: Bounds = Bounds { bytes: 256 * KIB, messages: 40 };

    fn run(input: usize) -> RunWords {
        RunWords::of("i".repeat(input))
    }

    /// A turn that says and asks so much, and gets so long results.
    fn takes(run: &mut RunWords, said: usize, calls: &[(usize, usize)]) {
        let text = Some("é".repeat(said / 2));
        let call = |(asked, result): &(usize, usize)| CallWords {
            id: CallId::from_ulid(ulid::Ulid(1)),
            call: CallText {
                provider_id: "c".into(),
                tool: "bash".into(),
                input: format!("{{\"a\":\"{}\"}}", "\u{1}".repeat(asked / 6)),
            },
            result: Some((true, "r".repeat(*result))),
        };
        run.turns.push(TurnWords { text, calls: calls.iter().map(call).collect(), shortened: 0 });
        run.fit(BOUNDS);
        let messages = run.messages();
        let told = Size { bytes: messages.iter().map(Message::bytes).sum(), messages: messages.len() };
        assert_eq!(told, run.size());
        assert!(told.is_within(BOUNDS), "{told:?}");
        assert_eq!(messages[0], Message::User { text: run.input.clone() }, "the input stays whole");
        assert_paired(&messages);
    }

    /// Every call is followed by its result, and every result belongs to a call; arguments are objects still.
    fn assert_paired(messages: &[Message]) {
        let mut open = 0;
        for message in messages {
            match message {
                Message::Result { .. } => open -= 1,
                Message::User { .. } => assert_eq!(open, 0),
                Message::Assistant { calls, .. } => {
                    assert_eq!(open, 0);
                    open = calls.len();
                    for call in calls.iter().filter(|call| call.input.contains("left_out")) {
                        assert!(serde_json::from_str::<serde_json::Value>(&call.input).unwrap().is_object());
                    }
                }
            }
        }
        assert_eq!(open, 0);
    }

    #[test]
    fn whatever_a_run_says_calls_and_hears_stays_within_the_bounds_with_its_newest_turn_whole() {
        for (said, calls) in [
            (60 * KIB, vec![]),
            (10, vec![(60 * KIB, 10)]),
            (10, vec![(10, 60 * KIB)]),
            (10, vec![(10, 10); 20]),
            (20 * KIB, vec![(6 * KIB, 2 * KIB); 5]),
        ] {
            let mut run = run(128 * KIB);
            for turn in 1..=60 {
                takes(&mut run, said, &calls);
                let newest = run.turns.last().unwrap();
                assert_eq!(newest.shortened, 0);
                assert_eq!(newest.text.as_ref().unwrap().len(), said);
                assert_eq!(run.turns_left_out as usize + run.turns.len(), turn);
            }
            assert!(run.turns_left_out > 0, "{said} {calls:?}");
        }
    }

    #[test]
    fn a_turn_that_does_not_fit_alone_keeps_its_small_parts_and_half_of_the_room() {
        let mut large = run(128 * KIB);
        takes(&mut large, 1_000, &[(900, 700 * KIB), (10, 400)]);
        let turn = large.turns.last().unwrap();
        assert_eq!((turn.shortened, turn.text.as_ref().unwrap().len()), (1, 1_000));
        let told = &turn.calls[0].result.as_ref().unwrap().1;
        assert!(told.len() > 60 * KIB && told.ends_with(LEFT_OUT), "{}", told.len());
        takes(&mut large, 100 * KIB, &[]);
        assert_eq!((large.turns.len(), large.shortened()), (2, 1), "it was shortened once");
    }

    #[test]
    fn results_go_before_what_was_said_and_the_oldest_first() {
        let mut told = run(0);
        for _ in 0..5 {
            takes(&mut told, 40 * KIB, &[(10, 40 * KIB)]);
        }
        let lengths = |run: &RunWords| -> Vec<(usize, usize)> {
            let of = |turn: &TurnWords| {
                (turn.text.as_ref().unwrap().len() / KIB, turn.calls[0].result.as_ref().unwrap().1.len() / KIB)
            };
            run.turns.iter().map(of).collect()
        };
        assert_eq!(lengths(&told), [(40, 0), (40, 0), (40, 0), (40, 0), (40, 40)]);
        takes(&mut told, 60 * KIB, &[(10, 40 * KIB)]);
        assert_eq!(lengths(&told), [(0, 0), (0, 0), (40, 0), (40, 0), (40, 0), (60, 40)]);
        assert_eq!((told.shortened(), told.turns_left_out), (7, 0));
    }
}
