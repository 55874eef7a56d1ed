//! Lapses: approvals and questions that nobody decided in time, and what a start of the daemon finds half done.

use std::sync::Arc;
use std::time::Duration;

use super::pen::{self, Pen};
use super::{House, Worker};
use crate::domain::command::Command;
use crate::domain::reason::{Reason, Refusal};

/// Lets approvals and questions lapse, time after time, until the runner has stopped.
pub(super) async fn keep(house: Arc<House>) {
    let pause = Duration::from_millis(house.settings.sweep_ms);
    loop {
        house.beats.beat(Worker::Sweeps);
        for command in [Command::ExpireApprovals, Command::ExpireQuestions] {
            sweep(&house.pen, &command).await;
        }
        tokio::select! {
            () = house.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sweep(pen: &Pen, command: &Command) {
    loop {
        match pen.once(command.clone()).await {
            Ok(committed) if committed.seq.is_some() => {}
            // Nothing is left. Or the clock is not trusted, or the journal not to be had: the next sweep sees.
            Ok(_) => return,
            Err(refusal) if refusal.reason == Reason::TimeUntrusted => return,
            Err(refusal) => return tracing::debug!(reason = %refusal.reason, "a sweep was refused"),
        }
    }
}

/// Settles what earlier starts left half done, in as many decisions as it takes. Says how many changed something.
pub(super) async fn settle(pen: &Pen) -> Result<u32, Refusal> {
    let mut changed = 0;
    while pen.outcome(Command::SettleBoot, pen::runner()).await?.seq.is_some() {
        changed += 1;
    }
    Ok(changed)
}
