//! The desk at which every use case works: the one write path, the published read side, and the routes there are.

use std::cell::Cell;
use std::sync::{Arc, RwLockReadGuard};

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};

use super::blobs::{self, Kept};
use super::past::{At, Past, Shown};
use super::routing::RouteBook;
use crate::config::routes::{Asked, Routes, check_model};
use crate::domain::command::{Answer, Command, invalid};
use crate::domain::ids::{ApprovalId, QuestionId, RunId, SessionId, SubjectKeyId, TaskId};
use crate::domain::limits::PAGE_BYTES;
use crate::domain::personal::Personal;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{Provenance, Record};
use crate::projections::page::Viewed;
use crate::projections::{Bodies, Models, Page};
use crate::vault::subject::Subjects;

/// Views of one object that are made at a time.
const VIEWS: usize = 16;
/// Pages that are made at a time: each may hold [`PAGE_BYTES`] twice.
const PAGES: usize = 4;

/// Which of the clerk's lanes a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// For what must get through under load: stops, decisions, answers, outcomes.
    Reserved,
    /// For everything else.
    Ordinary,
    /// For what nobody waits for: it goes with the next batch, and has one of its own only where none comes for a moment.
    Unhurried,
}

/// A command that was decided and whose records are durable and published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The object concerned.
    pub answer: Answer,
    /// Its first record; none where nothing changed.
    pub seq: Option<u64>,
    /// Whether the same request had been done before.
    pub replayed: bool,
}

/// The one write path.
pub trait WritePath: Send + Sync {
    /// Decides a command. Answers once its records are durable and published.
    fn submit(&self, command: Command, provenance: Provenance, lane: Lane)
    -> BoxFuture<'_, Result<Committed, Refusal>>;

    /// A text as a record may hold it that has room for so many bytes of it: itself without known secrets, or a blob of that
    /// which is on disk when this returns; encrypted where it belongs to a session that has a key.
    fn keep(
        &self,
        text: String,
        _inline_bytes: usize,
        _key: Option<SubjectKeyId>,
    ) -> BoxFuture<'_, Result<Kept, Refusal>> {
        Box::pin(std::future::ready(Ok(Personal::from(text).into())))
    }
}

/// What is published: durable facts, and the words behind them.
pub trait ReadSide: Bodies + Send + Sync {
    /// The read models. To be let go before any words are read.
    fn models(&self) -> RwLockReadGuard<'_, Models>;

    /// Changes whenever records are published.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Keys of sessions' words.
    fn subjects(&self) -> Subjects {
        Subjects::default()
    }

    /// A record that is still in memory.
    fn recent(&self, _seq: u64) -> Option<Record> {
        None
    }
}

/// Words as far as they are in memory, and whether others were asked for.
struct Recent<'a> {
    read: &'a dyn ReadSide,
    missed: Cell<bool>,
}

impl Recent<'_> {
    fn found<T>(&self, found: Option<T>) -> Option<T> {
        self.missed.set(self.missed.get() || found.is_none());
        found
    }
}

impl Bodies for Recent<'_> {
    fn record(&self, seq: u64) -> Option<Record> {
        self.found(self.read.recent(seq))
    }

    fn text(&self, part: &Personal) -> Option<String> {
        self.found(part.clear().map(str::to_owned))
    }
}

/// On whose behalf something is asked. Made only from a right that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct By {
    /// The caller's organisation.
    pub org: String,
    /// Who acts, and in which request.
    pub provenance: Provenance,
}

/// What a use case answers after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<T> {
    /// The object as it is now.
    pub view: T,
    /// The first record; none where nothing changed.
    pub seq: Option<u64>,
    /// Whether the same request had been done before.
    pub replayed: bool,
}

/// Where use cases work. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    write: Arc<dyn WritePath>,
    read: Arc<dyn ReadSide>,
    routes: Arc<dyn RouteBook>,
    views: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    past: Option<Past>,
}

impl Desk {
    /// A desk over the two sides; `routes` knows the routes that may be asked for.
    pub fn new(write: Arc<dyn WritePath>, read: Arc<dyn ReadSide>, routes: Arc<dyn RouteBook>) -> Self {
        let (views, pages) = (Arc::new(Semaphore::new(VIEWS)), Arc::new(Semaphore::new(PAGES)));
        Self { write, read, routes, views, pages, past: None }
    }

    /// The same desk, which can also be asked how things stood.
    pub fn with_past(self, past: Past) -> Self {
        Self { past: Some(past), ..self }
    }

    /// Finds one object and shows it: at once where its words are in memory, as those of what was just written are.
    pub(super) async fn show<F: Viewed>(
        &self,
        find: impl Fn(&Models) -> Result<F, Refusal> + Send + 'static,
    ) -> Result<F::View, Refusal>
    where
        F::View: Send + 'static,
    {
        if let Some(view) = self.show_recent(&find)? {
            return Ok(view);
        }
        self.recall(find, |facts, bodies| Ok(facts.view(bodies))).await
    }

    fn show_recent<F: Viewed>(&self, find: impl Fn(&Models) -> Result<F, Refusal>) -> Result<Option<F::View>, Refusal> {
        let recent = Recent { read: &*self.read, missed: Cell::new(false) };
        let facts = find(&self.read.models())?;
        let view = facts.view(&recent);
        Ok(Some(view).filter(|_| !recent.missed.get()))
    }

    /// Finds places in the models and reads what stands there, where waiting for the disk holds up nobody else.
    pub(super) async fn recall<F, T: Send + 'static>(
        &self,
        find: impl FnOnce(&Models) -> Result<F, Refusal> + Send + 'static,
        words: impl FnOnce(F, &dyn Bodies) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let read = Arc::clone(&self.read);
        let work = move || {
            let facts = find(&read.models())?;
            words(facts, &*read)
        };
        aside(&self.views, work).await?
    }

    /// Finds a page and shows it, off the threads that serve.
    pub(super) async fn page<F: Viewed>(
        &self,
        find: impl FnOnce(&Models) -> Result<Page<F>, Refusal> + Send + 'static,
    ) -> Result<Page<F::View>, Refusal>
    where
        F::View: Send + 'static,
    {
        let read = Arc::clone(&self.read);
        let work = move || {
            let page = find(&read.models())?;
            Ok(page.shown(&*read, PAGE_BYTES))
        };
        aside(&self.pages, work).await?
    }

    /// Finds one object, as it is or as it was, and shows it.
    pub(super) async fn show_at<F: Viewed>(
        &self,
        at: Option<At>,
        find: impl Fn(&Models) -> Result<F, Refusal> + Send + 'static,
    ) -> Result<Shown<F::View>, Refusal>
    where
        F::View: Send + 'static,
    {
        let Some(at) = at else { return self.show(find).await.map(present) };
        let read = Arc::clone(&self.read);
        self.past()?.show(at, move |moment| Ok(find(&moment.models)?.view(&*read))).await
    }

    /// Finds a page of a list, as it is or as it was, and shows it.
    pub(super) async fn page_at<F: Viewed>(
        &self,
        at: Option<At>,
        find: impl FnOnce(&Models) -> Result<Page<F>, Refusal> + Send + 'static,
    ) -> Result<Shown<Page<F::View>>, Refusal>
    where
        F::View: Send + 'static,
    {
        let Some(at) = at else { return self.page(find).await.map(present) };
        let read = Arc::clone(&self.read);
        self.past()?.show(at, move |moment| Ok(find(&moment.models)?.shown(&*read, PAGE_BYTES))).await
    }

    /// Looks something up in the models, as they are or as they were.
    pub(super) async fn look_at<T: Send + 'static>(
        &self,
        at: Option<At>,
        look: impl FnOnce(&Models) -> T + Send + 'static,
    ) -> Result<Shown<T>, Refusal> {
        let Some(at) = at else { return Ok(present(self.look(look))) };
        self.past()?.show(at, move |moment| Ok(look(&moment.models))).await
    }

    fn past(&self) -> Result<&Past, Refusal> {
        self.past.as_ref().ok_or_else(|| Reason::InternalError.into())
    }

    /// Looks something up in the models, which are let go before this returns.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Models) -> T) -> T {
        look(&self.read.models())
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.read.changes()
    }

    pub(super) fn write(&self) -> &dyn WritePath {
        self.write.as_ref()
    }

    pub(super) fn subjects(&self) -> Subjects {
        self.read.subjects()
    }

    /// The routes in force.
    pub(super) fn routes(&self) -> Arc<Routes> {
        self.routes.routes()
    }

    /// The route and the model that a caller means, of which the model may be a selector.
    pub(super) fn check_route(
        &self,
        route: Option<&str>,
        model: Option<&str>,
    ) -> Result<(Option<String>, Option<String>), Refusal> {
        let routes = self.routes.routes();
        let Asked { route, model } = routes.asked(route, model);
        if route.is_some_and(|route| routes.get(route).is_none()) {
            return Err(Refusal::from(Reason::RouteNotFound).at("/route"));
        }
        if let Some(model) = model {
            check_model(model).map_err(|rule| invalid("/model", rule))?;
        }
        Ok((route.map(str::to_owned), model.map(str::to_owned)))
    }

    /// Submits a command about something that is shown without reading words.
    pub(super) async fn submit_plain<T>(
        &self,
        command: Command,
        by: By,
        lane: Lane,
        show: impl FnOnce(&Models) -> T,
    ) -> Result<Done<T>, Refusal> {
        let committed = self.write.submit(command, by.provenance, lane).await?;
        Ok(Done { view: self.look(show), seq: committed.seq, replayed: committed.replayed })
    }

    /// Submits a command and shows the object that it concerns.
    pub(super) async fn submit<Id: Copy + Send + 'static, F: Viewed>(
        &self,
        command: Command,
        by: By,
        lane: Lane,
        pick: impl FnOnce(Answer) -> Option<Id>,
        find: impl Fn(&Models, &str, Id) -> Result<F, Refusal> + Send + 'static,
    ) -> Result<Done<F::View>, Refusal>
    where
        F::View: Send + 'static,
    {
        let org = by.org;
        let committed = self.write.submit(command, by.provenance, lane).await?;
        self.shown(committed, org, pick, find).await
    }

    /// Submits a command that names what was kept for it. What is refused is not kept any longer.
    pub(super) async fn submit_with(
        &self,
        kept: Vec<Kept>,
        command: Command,
        provenance: Provenance,
    ) -> Result<Committed, Refusal> {
        let decided = self.write.submit(command, provenance, Lane::Ordinary).await;
        if decided.as_ref().is_err_and(|refusal| refusal.reason.surely_no_effect()) {
            blobs::refused(kept).await;
        }
        decided
    }

    /// Shows the object that a decision concerns.
    pub(super) async fn shown<Id: Copy + Send + 'static, F: Viewed>(
        &self,
        committed: Committed,
        org: String,
        pick: impl FnOnce(Answer) -> Option<Id>,
        find: impl Fn(&Models, &str, Id) -> Result<F, Refusal> + Send + 'static,
    ) -> Result<Done<F::View>, Refusal>
    where
        F::View: Send + 'static,
    {
        let id = pick(committed.answer).ok_or_else(|| {
            Refusal::new(Reason::InternalError, "The decision concerns another kind of object than was asked for.")
        })?;
        let view = self.show(move |models| find(models, &org, id)).await?;
        Ok(Done { view, seq: committed.seq, replayed: committed.replayed })
    }
}

/// What is shown of the present.
fn present<T>(view: T) -> Shown<T> {
    Shown { view, as_of: None }
}

/// Does work that waits for the disk on a thread of its own, so many at a time. Who is no longer waited for still
/// counts until it is done.
async fn aside<T: Send + 'static>(
    at_a_time: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let permit = Arc::clone(at_a_time).acquire_owned().await.map_err(|_| Reason::InternalError)?;
    let work = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    work.await.map_err(|_| Reason::InternalError.into())
}

/// Checks an id from a path; one that is none of that noun names nothing.
pub fn parse_id<Id: std::str::FromStr>(text: &str, absent: Reason) -> Result<Id, Refusal> {
    text.parse().map_err(|_| absent.into())
}

/// Checks an id from a body or a query.
pub fn parse_filter<Id: std::str::FromStr>(pointer: &str, text: &str) -> Result<Id, Refusal> {
    text.parse().map_err(|_| invalid(pointer, "That is no id of the wanted noun."))
}

pub(super) fn session(answer: Answer) -> Option<SessionId> {
    if let Answer::Session(id) = answer { Some(id) } else { None }
}

pub(super) fn run(answer: Answer) -> Option<RunId> {
    if let Answer::Run(id) = answer { Some(id) } else { None }
}

pub(super) fn approval(answer: Answer) -> Option<ApprovalId> {
    if let Answer::Approval(id) = answer { Some(id) } else { None }
}

pub(super) fn question(answer: Answer) -> Option<QuestionId> {
    if let Answer::Question(id) = answer { Some(id) } else { None }
}

pub(super) fn task(answer: Answer) -> Option<TaskId> {
    if let Answer::Task(id) = answer { Some(id) } else { None }
}
