//! A daemon from start to drain: take the state root, recover, start the clerk and the workers, open the door, and on a
//! signal close everything in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use ulid::Ulid;

use super::agents::Agents;
use super::beginning::{Beginning, DAEMON_FILE};
use super::door_path::DoorPath;
use super::drain::Drain;
use super::log_level::{self, SetLevel};
use super::signals::{self, Signals};
use super::status_source::status_source;
use super::token_files;
use super::workers::{Workers, follow_routes, follow_tokens};
use crate::config::addresses::Bind;
use crate::config::settings::ServeSettings;
use crate::domain::event::Event;
use crate::domain::ids::BootId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::routes::Loaded;
use crate::domain::stream::Stream;
use crate::http::app::App;
use crate::http::audit::{self, AuditSink};
use crate::http::auth::{Authentication, ProxySecret};
use crate::http::canonical::Hosts;
use crate::http::connection::accept::{Listener, serve as accept};
use crate::http::edge::{Edge, EdgeParts};
use crate::http::limits::Limits;
use crate::http::metrics::{self, EdgeMetrics};
use crate::http::numbers::HouseNumbers;
use crate::http::routes::Route;
use crate::http::{handlers, health, sse};
use crate::journal::layout;
use crate::journal::writer::Options;
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::descriptors;
use crate::platform::disk::Disk;
use crate::platform::entropy::{Entropy, SystemEntropy};
use crate::platform::executable;
use crate::platform::keyed::FingerprintKey;
use crate::platform::own_process;
use crate::platform::private_file;
use crate::platform::rotated_log::ClosedChunk;
use crate::platform::tasks::{Milestone, Tasks};
use crate::services::access_log;
use crate::services::clerk::{Clerk, ClerkThread};
use crate::services::credentials::Credentials;
use crate::services::daemon_file::DaemonFile;
use crate::services::desk::{Desk, WritePath};
use crate::services::doctor;
use crate::services::numbers::BatchNumbers;
use crate::services::opening::{Opened, Opening, open_beside};
use crate::services::past::Past;
use crate::services::published::Published;
use crate::services::routing::Routing;
use crate::services::secrets::Secrets;
use crate::services::snapshotter::Snapshotter;
use crate::services::state_root::{self, StateRoot};
use crate::services::status::StatusSource;
use crate::services::tokens::{TokenChange, Tokens};
use crate::services::vault;
use crate::vault::master_key::MasterKey;
use crate::vault::redaction::Redactor;

/// Most bytes of a proxy's secret file.
const SECRET_BYTES: usize = 4_096;

/// A state root that is taken and open, before the door.
struct House {
    settings: ServeSettings,
    proxy_secret: Option<ProxySecret>,
    agents: Agents,
    root: StateRoot,
    opened: Opened,
    credentials: Credentials,
    machine: Machine,
    batches: BatchNumbers,
    build_digest: Option<String>,
}

/// Time, chance, and which start this is.
struct Machine {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    boot_id: BootId,
}

/// Serves until a signal. Everything is checked before anything is bound. `redactor` is the one of the log: the secrets in
/// use are told to it.
pub async fn serve(settings: ServeSettings, set_level: SetLevel, redactor: Redactor) -> Result<(), Refusal> {
    signals::outlive()?;
    own_process::close_memory()
        .and_then(|()| own_process::adopt_orphans())
        .map_err(|error| Refusal::new(Reason::InternalError, error.to_string()))?;
    descriptors::raise_limit();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
    let boot_id = BootId::from_ulid(Ulid::from_parts(clock.wall_ms(), entropy.u128()));
    let house = tokio::task::spawn_blocking(move || take(settings, (clock, entropy, redactor), boot_id)).await;
    run(house.map_err(|_| Refusal::from(Reason::InternalError))??, set_level).await
}

fn take(
    settings: ServeSettings,
    (clock, entropy, redactor): (Arc<dyn Clock>, Arc<dyn Entropy>, Redactor),
    boot_id: BootId,
) -> Result<House, Refusal> {
    // Read beside the taking of the state root: the first record of this start names the binary.
    let hashing = std::thread::spawn(executable::digest);
    let root = state_root::take(&settings.state_root, &settings.workspace_root, boot_id)?;
    // Resolved once: where a link to it leads later is nobody's business.
    let settings = settings.at_state_root(root.folder.path());
    if let Some(doubts) = doctor::doubts_about_file_system(&root.folder) {
        let advice = doubts.advice.unwrap_or_default();
        tracing::warn!(advice, "file system of the state root: {}", doubts.detail);
    }
    // A file of an earlier daemon names an address that is not ours.
    let _ = root.folder.remove(DAEMON_FILE);
    // What the operator named and what lies there refuses the start before the journal is written.
    token_files::check(&settings)?;
    let proxy_secret = proxy_secret(settings.trusted_proxy_secret_file.as_deref())?;
    Listener::look(&settings.bind).map_err(|error| unbound(&settings.bind, &error))?;
    audit::look(&access_log_file(&root)).map_err(|error| unlogged(&error))?;
    let agents = Agents::prepare(&settings, &clock, &entropy)?;
    let build_digest = digest_of(hashing);
    let master = MasterKey::given(settings.master_key_file.as_deref())?;
    let disk: Arc<dyn Disk> = root.folder.clone();
    let store = vault::open(&disk, clock.as_ref(), &entropy, master)?;
    let subjects = vault::subjects(store.as_ref())?;
    let batches = BatchNumbers::default();
    let counted = batches.clone();
    let opening = Opening {
        disk: root.folder.clone(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        options: Options::default(),
        boot_id,
        build: build(build_digest.as_deref()),
        price_table: Some(agents.price_table().to_owned()),
        encode: sse::encode_record,
        observe: Arc::new(move |records, took| counted.observe(records, took)),
        redactor,
        subjects,
    };
    let opened = open_beside(opening, store.as_ref())?;
    root.make_folders()?;
    agents.sweep(&opened.published);
    let (published, time) = (opened.published.clone(), Arc::clone(&clock));
    let credentials = Credentials::new(store, published, time, Arc::clone(&entropy));
    let machine = Machine { clock, entropy, boot_id };
    Ok(House { settings, proxy_secret, agents, root, opened, credentials, machine, batches, build_digest })
}

fn digest_of(hashing: JoinHandle<std::io::Result<String>>) -> Option<String> {
    match hashing.join() {
        Ok(Ok(digest)) => Some(digest),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the running program could not be read; its digest is unknown");
            None
        }
        Err(_) => None,
    }
}

/// Version and digest of the running program, as `context.set` names them.
fn build(digest: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    digest.map_or_else(|| format!("{version}+unknown"), |digest| format!("{version}+sha256.{digest}"))
}

async fn run(house: House, set_level: SetLevel) -> Result<(), Refusal> {
    let signals = Signals::listen()?;
    let House { settings, proxy_secret, agents, root, opened, credentials, machine, batches, build_digest } = house;
    let Machine { clock, entropy, boot_id } = machine;
    let Opened { clerk, thread, published, found } = opened;
    let (tasks, begun) = (Tasks::new(), Milestone::default());
    log_level::follow(&tasks, published.clone(), set_level);
    let key = FingerprintKey::new(&root.fingerprint_key()?);
    let tokens = token_files::open(&settings, &key, entropy.as_ref())?;
    let (listener, bound) = bind(&settings.bind).await?;
    let snapshots = Snapshotter::new(clerk.clone(), published.clone(), root.folder.clone(), found.snapshot.clone());
    let past = Past::new(published.clone(), root.folder.clone(), snapshots.clone());
    let (sink, log, closed) = open_access_log(&root, &clock)?;
    let (sides, kept) = ((&clerk, &published, &begun), (&snapshots, &past));
    let calls = (agents.readiness(credentials.clone()), &credentials);
    let place = (agents.sandbox.as_str(), &root);
    let status = status_source(sides, calls, place, (&bound, &tokens), kept, build_digest);
    let (file, replaced) =
        (daemon_file(&bound, boot_id, tokens.as_deref()), unrecorded(tokens.as_deref(), &agents.routing, &published));
    let mut beginning = Beginning::new(clerk.clone(), Arc::clone(&clock), found, root.folder.clone(), file, replaced);
    let announced = beginning.announced().await?;
    let mut registry = metrics::registry();
    let parts = EdgeParts {
        limits: limits(&root),
        authentication: authentication(tokens.as_ref(), &bound),
        hosts: hosts(&bound, &settings.http_hosts),
        proxy_secret,
        cors_origins: settings.cors_origins.clone(),
        fingerprint: key.clone(),
        metrics: EdgeMetrics::register(&mut registry),
        redactor: published.redactor().clone(),
        audit: sink,
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        tasks: tasks.clone(),
    };
    let path = DoorPath { clerk: clerk.clone(), begun: begun.clone(), tasks: tasks.clone() };
    let door: Arc<dyn WritePath> = Arc::new(path);
    let desk = Desk::new(Arc::clone(&door), Arc::new(published.clone()), agents.routing.clone()).with_past(past);
    let secrets = Secrets::new(desk.clone(), credentials.clone(), key, agents.routing.clone());
    settle_secrets(&secrets, &begun, &tasks);
    // Background tasks have a set of their own: they end when the runner stops them, not when the door closes.
    let (commands, scratch) = (Tasks::new(), agents.scratch.clone());
    let routing = Arc::clone(&agents.routing);
    let gateway = agents.gateway((door, &clerk), credentials.clone(), (&published, &tasks));
    let runner =
        agents.start((&clerk, &published, credentials), entropy, (&settings, &commands, boot_id), begun.clone());
    let vault = secrets.credentials().numbers().clone();
    let numbers = HouseNumbers { status: Arc::clone(&status), batches, beats: runner.beats().clone(), vault };
    let routes = routes(Arc::clone(&status), registry, numbers);
    let edge = Edge::new(parts, routes, App::new(desk, (secrets, gateway), published.clone(), status, &runner));
    beginning.write_file()?;
    let changes = (tokens.as_ref().map(|tokens| follow_tokens(tokens, &tasks)), follow_routes(&routing, &tasks));
    let workers = workers((&clerk, published, &snapshots), &root, closed, changes);
    beginning.go_on(announced, begun, workers, &tasks);
    tasks.spawn(accept(listener, edge));
    tracing::info!(address = %bound, %boot_id, "serving");
    let (runner, commands, tasks, snapshots, clerk) = (&runner, &commands, &tasks, &snapshots, &clerk);
    let drain = Drain { runner, commands, scratch: &scratch, tasks, snapshots, clerk, boot_id };
    until_ended(signals, drain, thread, (log, root)).await
}

/// Once the daemon may write: records which master key is in force, and removes what no record puts to use.
fn settle_secrets(secrets: &Secrets, begun: &Milestone, tasks: &Tasks) {
    let (secrets, begun, stopping) = (secrets.clone(), begun.reached(), tasks.stopping());
    tasks.spawn(async move {
        tokio::select! {
            () = stopping => {}
            () = async { begun.await; secrets.settle().await } => {}
        }
    });
}

/// What follows the house once the daemon may write.
fn workers(
    (clerk, published, snapshots): (&Clerk, Published, &Snapshotter),
    root: &StateRoot,
    closed: mpsc::Receiver<ClosedChunk>,
    (changes, routes): (Option<mpsc::Receiver<TokenChange>>, mpsc::Receiver<Loaded>),
) -> Workers {
    Workers {
        clerk: clerk.clone(),
        published,
        folder: root.folder.clone(),
        snapshots: snapshots.clone(),
        access_log: (access_log_file(root), closed),
        changes,
        routes,
    }
}

/// Waits for the signal to end and ends everything; a further signal cuts that short.
async fn until_ended(
    mut signals: Signals,
    drain: Drain<'_>,
    thread: ClerkThread,
    (log, root): (JoinHandle<()>, StateRoot),
) -> Result<(), Refusal> {
    signals.next().await;
    // From here on nobody is to be led to this daemon.
    let _ = root.folder.remove(DAEMON_FILE);
    let ended = tokio::select! {
        ended = drain.run(thread) => Some(ended),
        () = signals.next() => None,
    };
    drop(log);
    let_go(root, ended)
}

/// Lets go of the state root, unless the clerk may still write: then its lock is held until the process has ended.
fn let_go(root: StateRoot, ended: Option<Result<(), Refusal>>) -> Result<(), Refusal> {
    if !matches!(ended, Some(Ok(()))) {
        Box::leak(Box::new(root));
    }
    // Whoever supervises the daemon must not take that for a clean end.
    let cut = || Refusal::new(Reason::StorageJournalUnavailable, "a second signal cut the drain short");
    ended.unwrap_or_else(|| Err(cut()))
}

/// Every route of the door.
fn routes(status: Arc<StatusSource>, mut registry: metrics::Registry, numbers: HouseNumbers) -> Vec<Route<App>> {
    registry.register_collector(Box::new(numbers));
    let mut routes = health::routes(Arc::new(move || status.ready()), Arc::new(registry));
    routes.extend(handlers::routes());
    routes
}

/// The limits of the door, within what the machine allows and the journal needs.
fn limits(root: &StateRoot) -> Limits {
    let segments = root.folder.list(layout::FOLDER).map_or(0, |entries| entries.len() as u64);
    Limits::default().within(descriptors::raise_limit(), segments)
}

fn access_log_file(root: &StateRoot) -> PathBuf {
    root.folder.anchored(access_log::FOLDER).join(access_log::FILE)
}

fn open_access_log(
    root: &StateRoot,
    clock: &Arc<dyn Clock>,
) -> Result<(AuditSink, JoinHandle<()>, mpsc::Receiver<ClosedChunk>), Refusal> {
    let (chunks, closed) = mpsc::channel(access_log::WAITING);
    let started = audit::start(&access_log_file(root), Arc::clone(clock), Some(chunks));
    started.map(|(sink, log)| (sink, log, closed)).map_err(|error| unlogged(&error))
}

fn unlogged(error: &std::io::Error) -> Refusal {
    Refusal::new(Reason::StorageAuditUnavailable, error.to_string())
}

/// Listens, and says where: port 0 lets the machine choose.
async fn bind(wanted: &Bind) -> Result<(Listener, Bind), Refusal> {
    let listener = Listener::bind(wanted).await.map_err(|error| unbound(wanted, &error))?;
    let bound = listener.bound().map_err(|error| unbound(wanted, &error))?;
    Ok((listener, bound))
}

fn unbound(bind: &Bind, error: &std::io::Error) -> Refusal {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another process listens there: stop it, or choose another address",
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 and foreign folders are not for this user",
        _ => "",
    };
    Refusal::new(Reason::ConfigInvalid, format!("--bind {bind}: {error}{advice}"))
}

fn authentication(tokens: Option<&Arc<Tokens>>, bound: &Bind) -> Authentication {
    match tokens {
        Some(tokens) => Authentication::Bearer(Arc::clone(tokens)),
        None => Authentication::none(if matches!(bound, Bind::Unix(_)) { "unix" } else { "http" }),
    }
}

fn hosts(bound: &Bind, further: &[String]) -> Hosts {
    match bound {
        Bind::Tcp(address) => Hosts::of_tcp(*address, further),
        Bind::Unix(_) => Hosts::of_unix(further),
    }
}

fn proxy_secret(path: Option<&Path>) -> Result<Option<ProxySecret>, Refusal> {
    let Some(path) = path else { return Ok(None) };
    let refuse = |why: String| Refusal::new(Reason::ConfigInvalid, format!("--trusted-proxy-secret-file: {why}"));
    // What is wrong with the file itself already names it.
    let bytes = private_file::read(path, SECRET_BYTES).map_err(|error| refuse(error.to_string()))?;
    ProxySecret::parse(&bytes).map(Some).map_err(|why| refuse(format!("{}: {why}", path.display())))
}

/// The tokens and the routes in force that the journal does not know. That there is no routes file, and never was, is
/// nothing to record.
fn unrecorded(tokens: Option<&Tokens>, routing: &Routing, published: &Published) -> Vec<(Stream, Event)> {
    let models = published.models();
    let tokens = tokens.map(|tokens| tokens.unrecorded(&models.tokens)).unwrap_or_default();
    let loaded = Some(routing.loaded());
    let news = loaded != models.routes && (routing.now().sha256.is_some() || models.routes.is_some());
    let routes = loaded.filter(|_| news).map(|loaded| (Stream::Daemon, loaded.into()));
    tokens.into_iter().map(|token| (Stream::ControlPlane, token.into())).chain(routes).collect()
}

fn daemon_file(bound: &Bind, boot_id: BootId, tokens: Option<&Tokens>) -> DaemonFile {
    DaemonFile {
        address: bound.from_here().to_string(),
        pid: std::process::id(),
        boot_id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        token_files: tokens.map(|tokens| tokens.files().into()),
    }
}
