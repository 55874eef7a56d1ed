//! The background check of closed segments: once per start and every seven days, with at most a quarter of one core.
//! What it finds rotten freezes all writing and is kept for the next start.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clerk::Clerk;
use super::published::Published;
use crate::domain::reason::Refusal;
use crate::journal::cold::{self, Found, Range};
use crate::journal::recovery::read_root;
use crate::journal::segments;
use crate::platform::disk::Disk;
use crate::platform::tasks::Tasks;

/// How long after one check the next begins.
const EVERY: Duration = Duration::from_hours(7 * 24);
/// Time until a check that failed for a passing reason is made again.
const SOON: Duration = Duration::from_mins(10);
/// Work after which the check rests.
const STINT: Duration = Duration::from_millis(10);
/// How much longer than it worked it rests: a quarter of one core.
const REST: u32 = 3;
/// Longest rest in one piece, so that a drain need not wait.
const NAP: Duration = Duration::from_millis(50);

/// The worker that checks closed segments.
#[derive(Clone)]
pub struct ColdCheck {
    pub(super) clerk: Clerk,
    pub(super) published: Published,
    pub(super) disk: Arc<dyn Disk>,
    /// All that was found rotten.
    rot: Arc<Mutex<Vec<Range>>>,
}

/// What one pass over the closed segments found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Segments that were checked to their end.
    pub segments: usize,
    /// What is rotten.
    pub rot: Vec<Range>,
    /// Whether it was told to stop.
    pub stopped: bool,
}

impl ColdCheck {
    /// A worker for this state root.
    pub fn new(clerk: Clerk, published: Published, disk: Arc<dyn Disk>) -> Self {
        Self { clerk, published, disk, rot: Arc::default() }
    }

    /// Checks now and every seven days, until the drain begins.
    pub fn follow(self, tasks: &Tasks) {
        let (stopping, all) = (tasks.stopping(), tasks.clone());
        tasks.spawn(async move {
            let work = async {
                loop {
                    let (check, tasks) = (self.clone(), all.clone());
                    let pass = tokio::task::spawn_blocking(move || check.pass(&|| tasks.is_stopping())).await;
                    let pause = match pass {
                        Ok(Ok(pass)) if pass.rot.is_empty() => {
                            tracing::info!(segments = pass.segments, "closed segments were checked");
                            EVERY
                        }
                        Ok(Ok(_)) => return,
                        Ok(Err(refusal)) => {
                            tracing::warn!(detail = refusal.detail, "closed segments could not be checked");
                            SOON
                        }
                        Err(fault) => {
                            tracing::error!(%fault, "the check of closed segments did not end");
                            EVERY
                        }
                    };
                    tokio::time::sleep(pause).await;
                }
            };
            tokio::select! {
                () = stopping => {}
                () = work => {}
            }
        });
    }

    /// Checks every closed segment once. Rot freezes all writing and goes into `damage.json`. Blocks for long.
    pub fn pass(&self, stopping: &dyn Fn() -> bool) -> Result<Pass, Refusal> {
        let disk = self.disk.as_ref();
        let (root, ring) = read_root(disk)?;
        let files = segments::list(disk)?;
        let mut pass = Pass { segments: 0, rot: Vec::new(), stopped: false };
        let mut pace = Pace { published: &self.published, since: self.published.clock().since_boot(), stopping };
        for pair in files.windows(2) {
            let [file, next] = pair else { continue };
            let last = next.first_seq.saturating_sub(1);
            let found = match cold::check(disk, (&root, &ring), file, next, &mut || pace.rest()) {
                Ok(found) => found,
                Err(error) if is_of_the_medium(&error) => Found::Rot(Range {
                    file: file.path.clone(),
                    from_byte: 0,
                    to_byte: file.bytes,
                    from_seq: file.first_seq,
                    to_seq: last,
                    why: error.to_string(),
                }),
                Err(error) => return Err(crate::journal::error::OpenError::io(file.path.clone())(error).into()),
            };
            match found {
                Found::Sound => pass.segments += 1,
                Found::Stopped => return Ok(Pass { stopped: true, ..pass }),
                Found::Rot(range) => {
                    self.freeze(range.clone());
                    // A header is found wrong by the check of the segment before it as well.
                    pass.rot.retain(|known| known.file != range.file);
                    pass.rot.push(range);
                }
            }
        }
        Ok(pass)
    }

    /// Stops all writing, then keeps what was found beside what was found before.
    pub(super) fn freeze(&self, range: Range) {
        let mut rot = self.rot.lock().unwrap_or_else(PoisonError::into_inner);
        rot.retain(|known| known.file != range.file);
        rot.push(range);
        let words: Vec<String> = rot.iter().map(ToString::to_string).collect();
        let why = format!("acknowledged bytes are wrong or missing: {}", words.join("; "));
        tracing::error!(why, "nothing more is written");
        self.clerk.errand(Box::new(move |scribe| scribe.journal().freeze(&why)));
        let kept = cold::write_damage(self.disk.as_ref(), self.published.clock().wall_ms(), &rot);
        if let Err(error) = kept {
            tracing::error!(%error, "damage.json could not be written; the next start finds the damage by itself later");
        }
    }
}

/// Whether reading failed because of what is read, not because the machine lacks something for the moment.
fn is_of_the_medium(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Keeps the check to its share of a core.
struct Pace<'a> {
    published: &'a Published,
    since: Duration,
    stopping: &'a dyn Fn() -> bool,
}

impl Pace<'_> {
    /// Rests three times as long as it has worked since the last rest. Says whether to go on.
    fn rest(&mut self) -> bool {
        let clock = self.published.clock();
        let worked = clock.since_boot().saturating_sub(self.since);
        if worked >= STINT {
            let mut left = worked * REST;
            while !left.is_zero() && !(self.stopping)() {
                let nap = left.min(NAP);
                std::thread::sleep(nap);
                left -= nap;
            }
            self.since = clock.since_boot();
        }
        !(self.stopping)()
    }
}
