//! Why a verb has no answer, how people and scripts are told, and with which exit code.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{self, Format};
use crate::vault::redaction::Redactor;

const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The command line cannot be meant.
    Usage(String),
    /// No daemon could be reached.
    Unreachable(String),
    /// A request was sent, and no answer came.
    Cut(String),
    /// A change was asked for, twice, and no answer came: nobody knows here whether it was made.
    Unsure(String),
    /// The daemon refused: its problem document.
    Problem(Value),
    /// The answer is there, and is not what was asked for.
    Refused(String),
}

impl Trouble {
    /// Prints it and gives the exit code.
    pub fn tell(&self, format: Format) -> ExitCode {
        if format == Format::Json {
            let mut document = self.document();
            Redactor::default().strict_json(&mut document);
            output::document(&document.to_string());
        }
        match self {
            Self::Usage(why) => {
                output::talk(&output::safe(why));
                ExitCode::from(USAGE)
            }
            Self::Unsure(why) => {
                output::talk(&format!("it may have happened, the answer was lost: {}", output::safe(why)));
                output::talk("next: look whether it did before you ask for it again");
                ExitCode::FAILURE
            }
            Self::Unreachable(why) | Self::Cut(why) => {
                output::talk(&format!("no daemon can be reached: {}", output::safe(why)));
                output::talk("next: start one with `chancery serve`, or name it with --url");
                ExitCode::from(UNREACHABLE)
            }
            Self::Problem(problem) => {
                let part = |name: &str| output::safe(problem[name].as_str().unwrap_or_default());
                output::talk(&format!("{}: {}", part("code"), part("detail")));
                // The daemon's advice is for its own machine; here a token is missing although one may be there.
                if problem["code"] == "auth.missing" {
                    output::talk("next: name the file of the token with --token-file, or CHANCERY_TOKEN_FILE");
                } else {
                    output::talk(&format!("next: {}", part("next")));
                }
                if problem["request_id"].is_string() {
                    output::talk(&format!("request: {}", part("request_id")));
                }
                ExitCode::FAILURE
            }
            Self::Refused(why) => {
                output::talk(&output::safe(why));
                ExitCode::FAILURE
            }
        }
    }

    /// It for a script, in one line: the problem document as it came, or one without a code.
    fn document(&self) -> Value {
        match self {
            Self::Problem(problem) => problem.clone(),
            Self::Usage(_) | Self::Unreachable(_) | Self::Cut(_) | Self::Unsure(_) | Self::Refused(_) => {
                json!({ "code": null, "detail": self.sentence() })
            }
        }
    }

    /// Whether what was asked for may have been done all the same. A proxy that has no answer from the daemon says so in
    /// the daemon's words.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Cut(_) => true,
            Self::Problem(problem) => problem["surely_no_effect"] == false && problem["code"] == "request.overloaded",
            Self::Usage(_) | Self::Unreachable(_) | Self::Unsure(_) | Self::Refused(_) => false,
        }
    }

    /// The code of the daemon's refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => problem["code"].as_str(),
            Self::Usage(_) | Self::Unreachable(_) | Self::Cut(_) | Self::Unsure(_) | Self::Refused(_) => None,
        }
    }

    /// It in one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Usage(why) | Self::Unreachable(why) | Self::Cut(why) | Self::Refused(why) => why.clone(),
            Self::Unsure(why) => format!("it may have happened, the answer was lost: {why}"),
            Self::Problem(problem) => {
                let part = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", part("code"), part("detail"))
            }
        }
    }
}

/// The problem that an answer tells; an answer that tells none is no daemon's.
pub fn problem(status: u16, bytes: &[u8]) -> Trouble {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value["code"].is_string() => Trouble::Problem(value),
        Ok(_) | Err(_) => Trouble::Refused(format!("what answers is no Chancery daemon: status {status}")),
    }
}
