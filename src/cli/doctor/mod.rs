//! `chancery doctor`: what can be looked at in the state root, and what only a daemon's door can show.

mod door;
mod routes;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{ClientArgs, daemon_of, named_token_files};
use super::output::{self, Format, escape, tint};
use crate::journal::layout;
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::files::Folder;
use crate::services::doctor::{Finding, Holder, Outcome, examine};

/// Lines of the first screen.
const SCREEN: usize = 7;

/// Examines a state root and its daemon. Exit code: 0 in order, 1 advice, 2 broken, 3 something could not be measured.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DoctorArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// Asks whether pages of this origin may call the daemon
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Option<String>,
    /// Shows every check
    #[arg(long)]
    all: bool,
}

/// One part that is looked at more closely.
#[derive(Debug, Subcommand)]
enum Part {
    /// Examines the routes to models
    Routes(routes::RoutesArgs),
}

/// Runs the verb.
pub fn run(client: &ClientArgs, args: &DoctorArgs) -> ExitCode {
    let findings = look(client, args);
    let worst = findings.iter().map(|finding| finding.outcome).max().unwrap_or(Outcome::Unknown);
    match client.output {
        Format::Json => {
            output::json(&json!({ "outcome": worst, "findings": findings }));
        }
        Format::Human if args.all || args.part.is_some() => {
            output::data(&every(&findings));
        }
        Format::Human => {
            output::data(&screen(&findings));
        }
    }
    ExitCode::from(worst.exit_code())
}

fn look(client: &ClientArgs, args: &DoctorArgs) -> Vec<Finding> {
    let mut findings = match &args.part {
        Some(Part::Routes(which)) => routes::check(client, which),
        None => seen(client, args),
    };
    for finding in &mut findings {
        finding.advice = finding.advice.take().map(|advice| client.here(&advice));
    }
    findings
}

fn seen(client: &ClientArgs, args: &DoctorArgs) -> Vec<Finding> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let root = client.root();
    let held = root.as_deref().and_then(|root| Folder::open(root).ok()?.is_locked(layout::LOCK).ok());
    let mut findings = door::check(client, held, args.cors_origin.as_deref());
    // A daemon elsewhere has its state root elsewhere.
    let elsewhere = client.is_remote() && held != Some(true);
    match root {
        Some(root) if !elsewhere => findings.extend(examine(&root, &said_of(&root, held == Some(true)), &clock)),
        Some(_) | None => findings.push(Finding::unknown(
            "state root",
            "it is not on this machine, or nobody named it",
            "run doctor on the daemon's machine, with --state-root",
        )),
    }
    findings
}

/// What the daemon that holds a state root says of itself.
fn said_of(root: &Path, held: bool) -> Holder {
    match daemon_of(root).ok().filter(|_| held) {
        None => Holder { held, ..Holder::default() },
        Some(said) => {
            let token_files = named_token_files(&said);
            Holder { held, asks: Some(token_files.is_some()), token_files }
        }
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |outcome: Outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let order = [Outcome::Broken, Outcome::Unknown, Outcome::Advice, Outcome::Ok];
    let parts: Vec<String> = order
        .into_iter()
        .filter(|outcome| count(*outcome) > 0)
        .map(|outcome| format!("{} {}", count(outcome), tint(outcome.word())))
        .collect();
    parts.join(", ")
}

fn line(finding: &Finding) -> String {
    let (word, detail) = (tint(finding.outcome.word()), escape(&finding.detail));
    let advice = finding.advice.as_ref().map(|advice| format!(" -> {}", escape(advice))).unwrap_or_default();
    format!("{word}: {}: {detail}{advice}", finding.check)
}

/// The worst on one screen.
fn screen(findings: &[Finding]) -> String {
    let mut wrong: Vec<&Finding> = findings.iter().filter(|finding| finding.outcome != Outcome::Ok).collect();
    wrong.sort_by_key(|finding| std::cmp::Reverse(finding.outcome));
    let mut lines = vec![summary(findings)];
    lines.extend(wrong.iter().take(SCREEN - 2).map(|finding| line(finding)));
    let hidden = wrong.len().saturating_sub(SCREEN - 2);
    match hidden {
        0 => lines.push("every check: chancery doctor --all".to_owned()),
        more => lines.push(format!("{more} more: chancery doctor --all")),
    }
    lines.join("\n")
}

fn every(findings: &[Finding]) -> String {
    findings.iter().map(line).chain([summary(findings)]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_screen_has_seven_lines_and_the_worst_first() {
        let mut findings: Vec<Finding> = (0..9).map(|_| Finding::advice("space", "little", "free some")).collect();
        findings.push(Finding::broken("tokens", "equal\nforged", "rotate one"));
        findings.push(Finding::ok("clock", "right"));
        let text = anstream::adapter::strip_str(&screen(&findings)).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), SCREEN);
        assert_eq!(lines[0], "1 broken, 9 advice, 1 ok");
        assert_eq!(lines[1], "broken: tokens: equal\\u{a}forged -> rotate one");
        assert_eq!(lines[6], "5 more: chancery doctor --all");
    }

    #[test]
    fn broken_counts_before_unmeasured_and_unmeasured_before_advice() {
        let worst = |outcomes: &[Outcome]| outcomes.iter().max().copied().map(Outcome::exit_code);
        assert_eq!(worst(&[Outcome::Ok]), Some(0));
        assert_eq!(worst(&[Outcome::Ok, Outcome::Advice]), Some(1));
        assert_eq!(worst(&[Outcome::Unknown, Outcome::Advice]), Some(3));
        assert_eq!(worst(&[Outcome::Unknown, Outcome::Broken, Outcome::Advice]), Some(2));
    }
}
