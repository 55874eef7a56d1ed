//! Closed chunks of the access log are named by digest in the journal, so that a chunk that was changed afterwards is
//! found. What was closed and not named before a stop is named at the next start.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::clerk::Clerk;
use super::desk::{Lane, WritePath as _};
use super::published::Published;
use crate::domain::command::Command;
use crate::domain::journal::AccessLogClosed;
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance};
use crate::domain::stream::Stream;
use crate::platform::rotated_log::{ClosedChunk, closed_chunks, read_chunk};
use crate::platform::tasks::Tasks;

/// Folder of the access log below the state root, and its open file.
pub const FOLDER: &str = "control-plane-auth";
/// Name of the open file; closed chunks have it in front of theirs.
pub const FILE: &str = "audit.jsonl";
/// Closed chunks that may wait to be named.
pub const WAITING: usize = 16;

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Has the journal name each chunk that is closed, and those on disk that it does not name yet.
pub fn follow(
    tasks: &Tasks,
    clerk: Clerk,
    published: Published,
    log: PathBuf,
    mut closed: mpsc::Receiver<ClosedChunk>,
) {
    let stopping = tasks.stopping();
    tasks.spawn(async move {
        let work = async {
            let models = published.clone();
            let unnamed = tokio::task::spawn_blocking(move || unnamed(&models, &log)).await;
            match unnamed {
                Ok(Ok(chunks)) => {
                    for chunk in chunks {
                        record(&clerk, &published, &chunk).await;
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "the chunks of the access log cannot be listed"),
                Err(_) => {}
            }
            while let Some(chunk) = closed.recv().await {
                record(&clerk, &published, &chunk).await;
            }
        };
        tokio::select! {
            () = stopping => {}
            () = work => {}
        }
    });
}

fn unnamed(published: &Published, log: &Path) -> std::io::Result<Vec<ClosedChunk>> {
    let mut chunks = Vec::new();
    for (_, path) in closed_chunks(log)? {
        if name(&path).is_some_and(|file| !published.models().access_log.names(file)) {
            chunks.push(read_chunk(&path)?);
        }
    }
    Ok(chunks)
}

async fn record(clerk: &Clerk, published: &Published, chunk: &ClosedChunk) {
    let Some(file) = name(&chunk.path) else { return };
    if published.models().access_log.names(file) {
        return;
    }
    let event = AccessLogClosed { file: file.to_owned(), sha256: chunk.sha256.clone(), lines: chunk.lines };
    let draft = Draft::new(DEFAULT_ORG, Stream::ControlPlane, event.into());
    let by = Provenance::system("access-log");
    if let Err(refusal) = clerk.submit(Command::Note(draft), by, Lane::Ordinary).await {
        tracing::warn!(code = refusal.reason.code(), file, "a chunk is named at the next start only");
    }
}

#[cfg(test)]
mod tests;
