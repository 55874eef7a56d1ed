//! The routes in force and the drivers behind them, swapped together: a routes file that changes while the daemon runs is
//! validated whole, and one that is broken leaves the last good one in force and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::Digest as _;
use tokio::sync::mpsc;

use super::file_watch::{self, Followed};
use super::lanes::Lanes;
use super::numbers::ProviderNumbers;
use crate::config::routes::Routes;
use crate::domain::reason::Refusal;
use crate::domain::routes::Loaded;
use crate::outbound::providers::{Providers, Surroundings};
use crate::platform::tasks::Tasks;

/// What else must hold of routes besides their grammar.
pub type Check = Box<dyn Fn(&Routes) -> Result<(), Refusal> + Send + Sync>;

/// Who knows the routes in force.
pub trait RouteBook: Send + Sync {
    /// The routes in force.
    fn routes(&self) -> Arc<Routes>;
}

impl RouteBook for Routes {
    fn routes(&self) -> Arc<Routes> {
        Arc::new(self.clone())
    }
}

/// The routes file as the command line names it.
#[derive(Debug, Clone)]
pub struct RoutesFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The default route that the command line names.
    pub default_route: Option<String>,
}

/// Routes and their drivers.
pub struct InForce {
    /// The routes.
    pub routes: Arc<Routes>,
    /// Their drivers.
    pub providers: Providers,
    /// SHA-256 of the file, hex; none where there is no file.
    pub sha256: Option<String>,
}

/// Where the routes in force are looked up.
pub struct Routing {
    file: Option<RoutesFile>,
    check: Check,
    around: Surroundings,
    force: ArcSwap<InForce>,
    problem: ArcSwap<Option<String>>,
    numbers: ProviderNumbers,
    lanes: Lanes,
}

/// What the file holds, or why it cannot be read.
type Contents = Result<String, String>;

fn digest(text: &str) -> String {
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(text.as_bytes()))
}

fn build((file, text): (&RoutesFile, &str), check: &Check, around: &Surroundings) -> Result<InForce, Refusal> {
    let routes = Routes::of_file(text, &file.path, file.default_route.as_deref())?;
    check(&routes)?;
    let providers = Providers::new(&routes, around)?;
    Ok(InForce { routes: Arc::new(routes), providers, sha256: Some(digest(text)) })
}

impl Routing {
    /// Reads the file, or takes the routes that there are without one.
    pub fn open(file: Option<RoutesFile>, around: Surroundings, check: Check) -> Result<Self, Refusal> {
        let force = if let Some(file) = &file {
            build((file, &Routes::read(&file.path)?), &check, &around)?
        } else {
            let routes = Routes::default();
            let providers = Providers::new(&routes, &around)?;
            InForce { routes: Arc::new(routes), providers, sha256: None }
        };
        let numbers = ProviderNumbers::new(force.routes.iter().map(|(id, _)| id.to_owned()));
        let (force, problem) = (ArcSwap::from_pointee(force), ArcSwap::default());
        Ok(Self { file, check, around, force, problem, numbers, lanes: Lanes::default() })
    }

    /// What is in force now: routes and drivers that belong together.
    pub fn now(&self) -> Arc<InForce> {
        self.force.load_full()
    }

    /// Why the file as it is now is not in force; none where it is.
    pub fn problem(&self) -> Option<String> {
        self.problem.load().as_ref().clone()
    }

    /// What is counted of the calls.
    pub fn numbers(&self) -> &ProviderNumbers {
        &self.numbers
    }

    /// Calls under way.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// What is in force, as the journal records it.
    pub fn loaded(&self) -> Loaded {
        let now = self.now();
        Loaded {
            sha256: now.sha256.clone(),
            default_route: now.routes.default_route().to_owned(),
            routes: now.routes.iter().map(|(id, _)| id.to_owned()).collect(),
        }
    }

    /// Follows the file until the drain, where there is one. Each change goes to `changes` after it is in force.
    pub fn follow(self: &Arc<Self>, tasks: &Tasks, changes: mpsc::Sender<Loaded>) {
        if self.file.is_some() {
            file_watch::follow(self, tasks, changes);
        }
    }

    /// Keeps the problem, and logs it when it changes.
    fn note(&self, problem: Option<String>) {
        if **self.problem.load() == problem {
            return;
        }
        if let Some(detail) = &problem {
            tracing::error!(detail, "the routes file is broken; the last good routes stay in force");
        } else {
            tracing::info!("the routes file is in order again");
        }
        self.problem.store(Arc::new(problem));
    }

    fn swap(&self, next: InForce) -> Loaded {
        let before = self.now();
        let changed = |id: &str| before.routes.get(id) != next.routes.get(id);
        self.numbers.now_of(next.routes.iter().map(|(id, _)| (id.to_owned(), changed(id))));
        self.force.store(Arc::new(next));
        let loaded = self.loaded();
        tracing::warn!(sha256 = loaded.sha256, routes = loaded.routes.len(), "other routes are in force");
        loaded
    }
}

impl RouteBook for Routing {
    fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.force.load().routes)
    }
}

impl Followed for Routing {
    type Contents = Contents;
    type Change = Loaded;

    fn paths(&self) -> Vec<&Path> {
        self.file.iter().map(|file| file.path.as_path()).collect()
    }

    fn contents(&self) -> Contents {
        let Some(file) = &self.file else { return Err("there is no routes file".to_owned()) };
        Routes::read(&file.path).map_err(|refusal| refusal.detail)
    }

    fn is_present(&self, contents: &Contents) -> bool {
        contents.as_ref().is_ok_and(|text| self.force.load().sha256.as_ref() == Some(&digest(text)))
    }

    fn put(&self, contents: &Contents) -> Vec<Loaded> {
        if self.is_present(contents) {
            self.note(None);
            return Vec::new();
        }
        let Some(file) = &self.file else { return Vec::new() };
        let built = contents
            .as_ref()
            .map_err(String::clone)
            .and_then(|text| build((file, text), &self.check, &self.around).map_err(|refusal| refusal.detail));
        match built {
            Ok(next) => {
                self.note(None);
                vec![self.swap(next)]
            }
            Err(detail) => {
                self.note(Some(detail));
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use super::{Path, RoutesFile, Routing, Surroundings};
    use crate::outbound::client::Deadlines;
    use crate::outbound::guard::SystemResolver;
    use crate::outbound::trust::Trust;
    use crate::platform::clock::SystemClock;

    /// Routes out of a file of this text.
    #[allow(clippy::disallowed_methods, reason = "a test lays a file out the way operators do")]
    pub(crate) fn routing(folder: &Path, text: &str) -> Routing {
        let path = folder.join("routes.toml");
        std::fs::write(&path, text).unwrap();
        let around = Surroundings {
            clock: Arc::new(SystemClock),
            resolver: Arc::new(SystemResolver),
            allowed: Vec::new(),
            deadlines: Deadlines::default(),
            proxy: None,
            trust: Trust::of_machine(None).unwrap(),
        };
        Routing::open(Some(RoutesFile { path, default_route: None }), around, Box::new(|_| Ok(()))).unwrap()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests change files the way operators do")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::reason::Reason;
    use crate::services::numbers::LastCall;

    fn file(model: &str) -> String {
        format!("version = 1\n[routes.play]\ndriver = \"rehearsal\"\ndefault_model = \"{model}\"\n")
    }

    fn model(routing: &Routing) -> String {
        routing.routes().get("play").map(|route| route.default_model.clone()).unwrap()
    }

    #[test]
    fn a_broken_file_leaves_the_last_good_routes_in_force_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let routing = testing::routing(folder.path(), &file("one"));
        let (path, before) = (folder.path().join("routes.toml"), routing.loaded());
        let call = LastCall { code: Some(Reason::ProviderUnavailable), at_ms: 1 };
        routing.numbers().observe("play", call, Duration::ZERO, None);
        for text in ["", "version = 1", "not toml", &file("../x")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(routing.put(&routing.contents()), []);
            assert_eq!((model(&routing).as_str(), routing.loaded()), ("one", before.clone()));
            assert!(routing.problem().is_some_and(|problem| problem.contains("routes.toml")));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(routing.put(&routing.contents()), []);
        assert!(routing.problem().is_some() && routing.numbers().last("play").is_some());
        std::fs::write(&path, file("two")).unwrap();
        let loaded = routing.put(&routing.contents());
        assert_eq!((loaded.len(), model(&routing).as_str(), routing.problem()), (1, "two", None));
        assert_ne!(loaded[0].sha256, before.sha256);
        assert!(routing.numbers().last("play").is_none(), "what is known of a route that changed is of another one");
    }

    #[test]
    fn what_must_hold_at_the_start_must_hold_of_every_later_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut routing = testing::routing(folder.path(), &file("one"));
        let forbid = |_: &Routes| Err(Refusal::new(Reason::ConfigInvalid, "not there"));
        routing.check = Box::new(forbid);
        std::fs::write(folder.path().join("routes.toml"), file("two")).unwrap();
        assert_eq!(routing.put(&routing.contents()), []);
        assert_eq!((model(&routing).as_str(), routing.problem().as_deref()), ("one", Some("not there")));
    }
}
