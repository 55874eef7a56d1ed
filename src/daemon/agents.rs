//! The part of a daemon that lets agents work: routes and providers, workspace, sandbox, background tasks, the runner.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::scratch_place::ScratchPlace;
use crate::agent::background::{self, Background, TaskEnd};
use crate::agent::sandbox::{self, Confinement, Launcher, SandboxMode};
use crate::agent::tools;
use crate::agent::workspace::Workspace;
use crate::config::addresses::Bind;
use crate::config::limits::CA_FILE_BYTES;
use crate::config::prices::PriceTable;
use crate::config::routes::Routes;
use crate::config::settings::ServeSettings;
use crate::domain::ids::BootId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::DEFAULT_ORG;
use crate::outbound::client::Deadlines;
use crate::outbound::guard::SystemResolver;
use crate::outbound::providers::Surroundings;
use crate::outbound::trust::Trust;
use crate::platform::bounded_read::bounded_read;
use crate::platform::clock::Clock;
use crate::platform::entropy::Entropy;
use crate::platform::files::Folder;
use crate::platform::tasks::{Milestone, Tasks};
use crate::services::clerk::Clerk;
use crate::services::credentials::Credentials;
use crate::services::debug_capture::DebugCapture;
use crate::services::models::RoutedModels;
use crate::services::published::Published;
use crate::services::routing::{self, RouteBook as _, RoutesFile, Routing};
use crate::services::runner::{Parts, Runner, Settings, sweep_half_written};
use crate::services::status::Readiness;

/// Ends of background tasks that may wait to be recorded.
const WAITING_ENDS: usize = 256;

/// Everything that is checked before anything is bound.
pub(super) struct Agents {
    /// The routes in force.
    pub(super) routing: Arc<Routing>,
    prices: Arc<PriceTable>,
    clock: Arc<dyn Clock>,
    /// The state root, for debug artefacts.
    folder: Arc<Folder>,
    workspace: Arc<Workspace>,
    launcher: Arc<Launcher>,
    /// Where commands have their temporary files.
    pub(super) scratch: ScratchPlace,
    /// What confines commands.
    pub(super) sandbox: String,
}

impl Agents {
    /// Reads the routes and their scripts, opens the workspace, and looks at what can confine commands.
    pub(super) fn prepare(
        settings: &ServeSettings,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, Refusal> {
        let around = Surroundings {
            clock: Arc::clone(clock),
            resolver: Arc::new(SystemResolver),
            allowed: settings.outbound_allow.clone(),
            proxy: settings.outbound_proxy.clone(),
            trust: trust(settings.outbound_ca_file.as_deref())?,
            deadlines: Deadlines::default(),
        };
        let prices = Arc::new(PriceTable::load(settings.price_table_file.as_deref())?);
        let mode = if settings.tool_sandbox { SandboxMode::On } else { SandboxMode::Off };
        let mut commands = sandbox::Settings {
            exe: PathBuf::from("/proc/self/exe"),
            mode,
            tool_network: settings.tool_network,
            confinement: Confinement::probe(),
            scratch: settings.state_root.join("scratch"),
            protected: secrets(settings).map(|(_, path)| path.clone()).chain([settings.state_root.clone()]).collect(),
            read_only: Vec::new(),
        };
        let workspace = Workspace::open(&settings.workspace_root)
            .map_err(|error| Refusal::new(Reason::ConfigInvalid, format!("--workspace-root: {}", error.detail)))?;
        check_secrets(settings, &commands, &workspace)?;
        let routing = Routing::open(routes_file(settings), around, unwritable(settings, &workspace))?;
        // Also where there is no file, for the socket.
        unwritable(settings, &workspace)(&routing.routes())?;
        let scratch = ScratchPlace::choose(&settings.state_root, entropy.as_ref(), |folder| {
            commands.way_to(folder, workspace.path()).map(|way| format!("agents could read it in {}", way.display()))
        });
        commands.scratch.clone_from(&scratch.folder);
        let launcher = Launcher::new(commands);
        let folder = Folder::open(&settings.state_root)
            .map_err(|error| Refusal::new(Reason::ConfigInvalid, format!("--state-root: {error}")))?;
        Ok(Self {
            routing: Arc::new(routing),
            prices,
            folder: Arc::new(folder),
            clock: Arc::clone(clock),
            workspace: Arc::new(workspace),
            sandbox: launcher.label(),
            launcher: Arc::new(launcher),
            scratch,
        })
    }

    /// Version of the price table in force.
    pub(super) fn price_table(&self) -> &str {
        self.prices.version()
    }

    /// Whether the routes can be used.
    pub(super) fn readiness(&self, credentials: Credentials) -> Readiness {
        let usable = move |slot: &str| credentials.check(DEFAULT_ORG, slot).is_ok();
        Readiness::of(Arc::clone(&self.routing)).with_keys(Arc::new(usable))
    }

    /// Removes from the workspace what an earlier daemon left half written. Blocks.
    pub(super) fn sweep(&self, published: &Published) {
        sweep_half_written(published, &self.workspace);
    }

    /// Starts the runner.
    pub(super) fn start(
        self,
        (clerk, published, credentials): (&Clerk, &Published, Credentials),
        entropy: Arc<dyn Entropy>,
        (settings, tasks, boot_id): (&ServeSettings, &Tasks, BootId),
        begun: Milestone,
    ) -> Runner {
        // Beside everything else: what was left may be large.
        std::thread::spawn(move || self.scratch.sweep());
        let (sender, ended) = mpsc::channel::<TaskEnd>(WAITING_ENDS);
        let background = Background::new(background::Settings {
            directory: settings.state_root.join("tasks"),
            keep_bytes: tools::limits::TASK_OUTPUT_BYTES,
            launcher: Arc::clone(&self.launcher),
            tasks: tasks.clone(),
            ended: sender,
            redactor: published.redactor().clone(),
        });
        let parts = Parts {
            write: Arc::new(clerk.clone()),
            published: published.clone(),
            models: Arc::new(RoutedModels::new(self.routing, (credentials, self.prices), self.clock)),
            workspace: self.workspace,
            launcher: self.launcher,
            background,
            debug: DebugCapture::new(self.folder, published.clone()),
            ended,
            entropy,
            boot_id,
            begun,
        };
        let usual = Settings::default();
        let runs_at_a_time = settings.runs_at_a_time.unwrap_or(usual.runs_at_a_time);
        Runner::start(parts, Settings { runs_at_a_time, ..usual })
    }
}

/// Files that nobody but the daemon may read, by the flags that name them.
fn secrets(settings: &ServeSettings) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    let tokens = [
        ("--http-admin-token-file", &settings.admin_token_file),
        ("--http-readonly-token-file", &settings.readonly_token_file),
    ];
    let proxy = settings.trusted_proxy_secret_file.iter().map(|path| ("--trusted-proxy-secret-file", path));
    let master = settings.master_key_file.iter().map(|path| ("--auth-store-master-key-file", path));
    tokens.into_iter().chain(proxy).chain(master)
}

/// Whoever holds the admin token decides on approvals: no agent may come by one.
fn check_secrets(settings: &ServeSettings, commands: &sandbox::Settings, workspace: &Workspace) -> Result<(), Refusal> {
    let problems: Vec<String> = secrets(settings)
        .filter_map(|(flag, path)| {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let way = commands.way_to(&whole, workspace.path())?;
            Some(format!("{flag}: agents could read {} in {}; move it", whole.display(), way.display()))
        })
        .collect();
    refused(&problems)
}

fn routes_file(settings: &ServeSettings) -> Option<RoutesFile> {
    let path = settings.routes_file.clone()?;
    Some(RoutesFile { path, default_route: settings.default_route.clone() })
}

/// The same asked of routes that come into force later.
fn unwritable(settings: &ServeSettings, workspace: &Workspace) -> routing::Check {
    let (settings, place) = (settings.clone(), workspace.path().to_owned());
    Box::new(move |routes| check_unwritable(&settings, routes, &place))
}

/// Routes say which machine gets every conversation, scripts what is answered, and clients send their tokens to the socket:
/// none of them must lie where agents write.
fn check_unwritable(settings: &ServeSettings, routes: &Routes, workspace: &Path) -> Result<(), Refusal> {
    let scripts = routes.iter().filter_map(|(_, route)| route.script.as_ref());
    let routes = settings.routes_file.iter().chain(scripts).map(|path| ("--routes-file", path));
    let socket = if let Bind::Unix(path) = &settings.bind { Some(("--bind", path)) } else { None };
    let authorities = settings.outbound_ca_file.iter().map(|path| ("--outbound-ca-file", path));
    let problems: Vec<String> = routes
        .chain(authorities)
        .chain(socket)
        .map(|(flag, path)| (flag, std::path::absolute(path).unwrap_or_else(|_| path.clone())))
        .filter(|(_, whole)| sandbox::leads_through(whole, workspace))
        .map(|(flag, whole)| {
            let (whole, place) = (whole.display(), workspace.display());
            format!("{flag}: agents could change {whole} in {place}; move it")
        })
        .collect();
    refused(&problems)
}

/// The machine's authorities, and those of the operator's file.
fn trust(ca_file: Option<&Path>) -> Result<Trust, Refusal> {
    let Some(path) = ca_file else { return Trust::of_machine(None) };
    let place = |problem: String| {
        Refusal::new(Reason::ConfigInvalid, format!("--outbound-ca-file {}: {problem}", path.display()))
    };
    let pem = bounded_read(path, CA_FILE_BYTES).map_err(|error| place(error.to_string()))?;
    Trust::of_machine(Some(&pem)).map_err(|refusal| place(refusal.detail))
}

fn refused(problems: &[String]) -> Result<(), Refusal> {
    if problems.is_empty() { Ok(()) } else { Err(Refusal::new(Reason::ConfigInvalid, problems.join("; "))) }
}
