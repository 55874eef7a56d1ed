//! Following a run: its words as they come, its calls, and, where it waits for a person, the question in place.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArgs, Trouble};
use super::output::{self, Format, escape, escape_lines, talk, tint};
use super::prompt::Prompt;
use super::stream::{Sight, Stream};
use super::wire::segment;
use super::{show, waits};

/// Exit code of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// Lines of a call's output that are shown.
const OUTPUT_LINES: usize = 8;
/// Characters of a call's input that are shown.
const INPUT_CHARACTERS: usize = 200;

/// What the run waits for.
enum Open {
    Approval(Value),
    Question(Value),
}

struct Follower {
    client: Client,
    stream: Stream,
    /// How the run's words are printed; nothing is where absent.
    format: Option<Format>,
    /// Words of the present turn that were shown already.
    streamed: String,
    /// Which turn, and which attempt at it, they are of.
    of: (u64, u64),
    open: Option<Open>,
    /// Why the model stopped in its newest answer.
    stop: Value,
    /// Whether someone can be asked.
    terminal: bool,
    /// What is asked now, and whether the one before it was settled by others.
    prompt: Prompt,
    overtaken: bool,
}

/// Follows a run to its end and prints its words.
pub fn follow(args: &ClientArgs, client: Client, run: &str) -> ExitCode {
    watch(&mut follower(args, client, Some(args.output), run), run)
}

/// Waits until a run has ended, without printing its words: what is said, and asked, is talk. Gives the client back.
pub fn wait(args: &ClientArgs, client: Client, run: &str) -> (Client, ExitCode) {
    let mut follower = follower(args, client, None, run);
    let code = watch(&mut follower, run);
    (follower.client, code)
}

fn follower(args: &ClientArgs, client: Client, format: Option<Format>, run: &str) -> Follower {
    // The stream of a run that does not exist is refused like the run itself.
    let stream = Stream::open(args, client.door.clone(), format!("/v1/runs/{}/stream", segment(run)), 0);
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    Follower {
        client,
        stream,
        format,
        streamed: String::new(),
        of: (0, 0),
        open: None,
        stop: Value::Null,
        terminal,
        prompt: Prompt::default(),
        overtaken: false,
    }
}

fn watch(follower: &mut Follower, run: &str) -> ExitCode {
    talk(&format!("Following {}. Ctrl-C leaves it running.", escape(run)));
    loop {
        match follower.stream.next() {
            Sight::Event { event, data, .. } => {
                let value = serde_json::from_str(&data).unwrap_or_default();
                if !follower.show(&event, &data, &value) {
                    return follower.client.verdict();
                }
                match event.as_str() {
                    "run.completed" => return follower.client.verdict(),
                    "run.failed" | "run.interrupted" | "run.cancelled" => return ExitCode::FAILURE,
                    _ => {}
                }
            }
            Sight::Line { text, typed_ms } => follower.typed(text.as_deref(), typed_ms),
            // Decisions go where the run is.
            Sight::Moved(door) => follower.client.move_to(door),
            Sight::Interrupted => {
                talk(&format!(
                    "\nThe run goes on. See it with `chancery runs follow {0}`, stop it with `chancery runs cancel {0}`.",
                    escape(run)
                ));
                return ExitCode::from(INTERRUPTED);
            }
            Sight::Lost(trouble) => {
                if !matches!(trouble, Trouble::Problem(_)) {
                    talk("The run may go on.");
                }
                return trouble.tell(follower.format.unwrap_or(Format::Human));
            }
        }
    }
}

fn first_words(text: &str, most: usize) -> String {
    let short: String = text.chars().take(most).collect();
    let mark = if short.len() < text.len() { " …" } else { "" };
    format!("{}{mark}", escape(&short))
}

impl Follower {
    /// Shows an event; false where nobody reads any more.
    fn show(&mut self, event: &str, text: &str, value: &Value) -> bool {
        let body = &value["data"];
        let printed = match self.format {
            Some(Format::Json) => output::document(text),
            Some(Format::Human) => self.words(event, value, body),
            None => true,
        };
        match event {
            "turn.answered" => {
                self.stop = body["stop"].clone();
                body["tool_calls"].as_array().into_iter().flatten().for_each(asked);
            }
            "turn.failed" => talk(&format!("the model failed: {}: {}", plain(&body["code"]), plain(&body["detail"]))),
            "call.finished" => finished(body),
            "call.refused" => talk(&format!("<- refused: {}: {}", plain(&body["code"]), plain(&body["detail"]))),
            "call.outcome_unknown" => talk("<- what became of the call is unknown"),
            "approval.requested" => self.approval(&plain(&body["approval_id"])),
            "question.asked" => self.question(&plain(&body["question_id"])),
            "approval.decided" | "approval.expired" | "approval.withdrawn" | "question.answered"
            | "question.declined" | "question.expired" | "question.withdrawn" => self.settled(event, value),
            "run.failed" => talk(&format!("{}: {}: {}", tint("failed"), plain(&body["code"]), plain(&body["detail"]))),
            "run.interrupted" | "run.cancelled" => talk(&tint(event.trim_start_matches("run."))),
            "run.completed" => {
                talk(&tint("completed"));
                show::odd_stop(&self.stop).into_iter().for_each(talk);
            }
            _ => {}
        }
        printed
    }

    /// The words of the run: each once, as they come or with the record that holds them.
    fn words(&mut self, event: &str, value: &Value, body: &Value) -> bool {
        match event {
            "delta" => {
                let words = value["text"].as_str().unwrap_or_default();
                let of = (value["turn"].as_u64().unwrap_or(0), value["attempt"].as_u64().unwrap_or(0));
                if std::mem::replace(&mut self.of, of) != of && !std::mem::take(&mut self.streamed).is_empty() {
                    output::data(" …");
                }
                self.streamed.push_str(words);
                output::words(&escape_lines(words))
            }
            "turn.answered" | "turn.failed" => {
                let streamed = std::mem::take(&mut self.streamed);
                let all = body["text"].as_str().unwrap_or_default();
                match all.strip_prefix(streamed.as_str()) {
                    Some("") if streamed.is_empty() => true,
                    Some(rest) => output::data(&escape_lines(rest)),
                    // The words that were shown are not those that were kept: these count.
                    None => output::data(&format!("\n{}", escape_lines(all))),
                }
            }
            _ => true,
        }
    }

    fn approval(&mut self, id: &str) {
        let approval = match self.client.get(&format!("/v1/approvals/{}", segment(id))) {
            Ok(approval) if approval["status"] == "pending" => approval,
            Ok(_) => return,
            Err(trouble) => return talk(&format!("the approval cannot be read: {}", escape(&trouble.sentence()))),
        };
        talk("The run asks to make this call:");
        waits::card(&approval);
        self.open = Some(Open::Approval(approval));
        self.ask();
    }

    fn question(&mut self, id: &str) {
        let question = match self.client.get(&format!("/v1/questions/{}", segment(id))) {
            Ok(question) if question["status"] == "pending" => question,
            Ok(_) => return,
            Err(trouble) => return talk(&format!("the question cannot be read: {}", escape(&trouble.sentence()))),
        };
        talk(&format!("The run asks: {}", escape_lines(question["question"].as_str().unwrap_or_default())));
        for (index, option) in question["options"].as_array().into_iter().flatten().enumerate() {
            let words = ["label", "description"].iter().filter_map(|name| option[*name].as_str());
            let words: Vec<String> = words.map(escape).collect();
            talk(&format!("  {}) {} [{}]", index + 1, words.join(": "), plain(&option["id"])));
        }
        self.open = Some(Open::Question(question));
        self.ask();
    }

    /// Asks the person, or says which command answers.
    fn ask(&mut self) {
        match (&self.open, self.terminal) {
            (Some(Open::Approval(_)), true) => talk("Allow it? [y/n]"),
            (Some(Open::Question(question)), true) => {
                let many = if question["multi_select"] == true { "numbers" } else { "a number" };
                let free = if question["freeform"] == true { " or words" } else { "" };
                talk(&format!("Answer with {many}{free}; an empty line declines."));
            }
            (Some(Open::Approval(approval)), false) => {
                let id = plain(&approval["approval_id"]);
                talk(&format!("To decide: chancery approvals allow {id}   or   chancery approvals deny {id}"));
            }
            (Some(Open::Question(question)), false) => {
                let id = plain(&question["question_id"]);
                talk(&format!("To answer: chancery questions answer {id} [TEXT] [--option ID]…"));
            }
            (None, _) => {}
        }
        if self.terminal && self.open.is_some() {
            self.prompt = Prompt::shown(std::mem::take(&mut self.overtaken));
            self.stream.read_lines();
        }
    }

    fn settled(&mut self, event: &str, record: &Value) {
        if self.open.take().is_some() {
            self.overtaken = true;
            talk(&format!("{event} by {}", plain(&record["actor"]["id"])));
        }
    }

    /// Takes what the person typed.
    fn typed(&mut self, line: Option<&str>, typed_ms: u64) {
        let Some(open) = self.open.take() else { return };
        let Some(line) = line else {
            self.terminal = false;
            self.open = Some(open);
            return self.ask();
        };
        if !self.prompt.takes(typed_ms) {
            talk("That was typed before this could be read, so it is not taken.");
            self.open = Some(open);
            return self.ask();
        }
        let sent = match &open {
            Open::Approval(approval) => self.decide(approval, line.trim()),
            Open::Question(question) => self.answer(question, line.trim()),
        };
        match sent {
            Some(Ok(_)) => {}
            Some(Err(trouble)) => talk(&escape(&trouble.sentence())),
            None => {
                self.open = Some(open);
                self.ask();
            }
        }
    }

    fn decide(&self, approval: &Value, line: &str) -> Option<Result<Value, Trouble>> {
        let decision = match line.to_ascii_lowercase().as_str() {
            "y" | "yes" | "allow" => "allow",
            "n" | "no" | "deny" => "deny",
            _ => return None,
        };
        Some(waits::decision_of(&self.client, approval, decision, None))
    }

    fn answer(&self, question: &Value, line: &str) -> Option<Result<Value, Trouble>> {
        let id = question["question_id"].as_str().unwrap_or_default();
        if line.is_empty() {
            let path = format!("/v1/questions/{}/decline", segment(id));
            return Some(self.client.post(&path, &serde_json::json!({})));
        }
        match chosen(question, line) {
            Some(options) => Some(waits::answer(&self.client, id, &options, None)),
            None if question["freeform"] == true => Some(waits::answer(&self.client, id, &[], Some(&line.to_owned()))),
            None => None,
        }
    }
}

/// The options that numbers or ids name.
fn chosen(question: &Value, line: &str) -> Option<Vec<String>> {
    let ids: Vec<&str> = question["options"].as_array()?.iter().filter_map(|option| option["id"].as_str()).collect();
    let named = |word: &str| {
        let number = word.parse::<usize>().ok().and_then(|number| ids.get(number.checked_sub(1)?));
        number.or_else(|| ids.iter().find(|id| **id == word)).map(|id| (*id).to_owned())
    };
    let words = line.split([',', ' ']).filter(|word| !word.is_empty());
    words.map(named).collect::<Option<Vec<String>>>().filter(|options| !options.is_empty())
}

fn plain(value: &Value) -> String {
    escape(value.as_str().unwrap_or("-"))
}

fn asked(call: &Value) {
    let input = call["input"].as_str().unwrap_or("(kept apart)");
    let tool = escape(call["tool"].as_str().unwrap_or_default());
    talk(&format!("-> {tool} {}", first_words(input, INPUT_CHARACTERS)));
}

fn finished(body: &Value) {
    let outcome = if body["ok"] == true { "ok" } else { "failed" };
    let exit = body["exit_code"].as_i64().map(|code| format!(", exit code {code}")).unwrap_or_default();
    talk(&format!("<- {}{exit}, {} ms", tint(outcome), body["duration_ms"].as_u64().unwrap_or(0)));
    let text = body["output"].as_str().unwrap_or("(kept apart)");
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .take(OUTPUT_LINES)
        .for_each(|line| talk(&format!("   {}", first_words(&line.replace('\t', "    "), INPUT_CHARACTERS))));
    if lines.len() > OUTPUT_LINES {
        talk(&format!("   … {} more lines", lines.len() - OUTPUT_LINES));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_chosen_by_number_or_id_and_anything_else_is_words() {
        let question = json!({ "options": [{ "id": "red" }, { "id": "blue" }] });
        let chose = |line: &str| chosen(&question, line);
        assert_eq!(chose("2"), Some(vec!["blue".to_owned()]));
        assert_eq!(chose("red, 2"), Some(vec!["red".to_owned(), "blue".to_owned()]));
        assert_eq!([chose("3"), chose("0"), chose("red please"), chose(" ")], [None, None, None, None]);
    }
}
