//! `chancery secrets …`: through the daemon, or offline on a state root that none holds. A secret is read from standard
//! input, a file or a variable, never from the command line.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ask::{print, with};
use super::client::{ClientArgs, Trouble};
use super::output::{self, Format, escape, talk};
use super::secret_shapes;
use super::wire::segment;
use crate::config::settings::AuthStoreKey;
use crate::domain::reason::{Reason, Refusal};
use crate::journal::layout;
use crate::platform::clock::SystemClock;
use crate::platform::disk::Disk;
use crate::platform::entropy::SystemEntropy;
use crate::platform::files::Folder;
use crate::platform::private_file;
use crate::services::secrets::SetSecret;
use crate::services::secrets_offline::Place;
use crate::vault::master_key::{MasterKey, VARIABLE};
use crate::vault::secret::{SECRET_BYTES, Secret};

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderWord {
    /// A key of Anthropic's interface.
    Anthropic,
    /// A key of Google's interface.
    Google,
    /// A key of OpenAI's interface, or a compatible one.
    #[value(name = "openai")]
    OpenAi,
    /// A key of OpenRouter's interface.
    #[value(name = "openrouter")]
    OpenRouter,
    /// A key of xAI's interface.
    Xai,
    /// Anything else.
    Generic,
}

/// Whether a daemon is asked.
#[derive(Debug, Args)]
pub struct Offline {
    /// Works on the state root itself, while no daemon holds it
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    key: AuthStoreKey,
}

/// Where a new secret comes from; standard input where nothing is named.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Source {
    /// The variable that holds it
    #[arg(long, value_name = "VARIABLE")]
    from_env: Option<String>,
    /// The file that holds it
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// Something about secrets.
#[derive(Debug, Subcommand)]
pub enum SecretsVerb {
    /// Prints a fresh master key: keep it outside of the state root, and outside of its backups
    Generate {
        /// Writes it to this file, which must not exist, with mode 0600, and prints nothing
        #[arg(long, value_name = "FILE")]
        to_file: Option<PathBuf>,
    },
    /// Stores a secret, as its next version where there is one; leases on earlier versions end
    Set {
        /// Its dotted name, such as openai.prod
        reference: String,
        /// What it is for
        #[arg(long, value_enum)]
        provider: ProviderWord,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        offline: Offline,
    },
    /// Lists what is known of every secret
    List {
        #[command(flatten)]
        offline: Offline,
    },
    /// Shows what is known of one
    Get {
        /// Its dotted name
        reference: String,
    },
    /// Deletes a secret; calls that use it are cut
    Delete {
        /// Its dotted name
        reference: String,
        #[command(flatten)]
        offline: Offline,
    },
    /// Encrypts all secrets under another master key, offline
    Rekey {
        #[command(flatten)]
        key: AuthStoreKey,
        /// File with the new master key
        #[arg(long, value_name = "FILE")]
        new_master_key_file: PathBuf,
        /// A copy of the state root that holds the same secrets under the old key
        #[arg(long, value_name = "DIR", required_unless_present = "force")]
        backup: Option<PathBuf>,
        /// Does it without a copy
        #[arg(long)]
        force: bool,
    },
}

/// Runs `secrets`.
pub fn run(args: &ClientArgs, verb: &SecretsVerb) -> ExitCode {
    match verb {
        SecretsVerb::Generate { to_file } => generate(args, to_file.as_deref()),
        SecretsVerb::Set { reference, provider, source, offline } => {
            let value = match given(source) {
                Ok(value) => value,
                Err(trouble) => return trouble.tell(args.output),
            };
            let provider = provider.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default();
            set(args, offline, SetSecret::new(reference.clone(), provider, &value))
        }
        SecretsVerb::List { offline } if offline.offline => told(
            args,
            secret_shapes::SECRETS,
            offline.run(args, |place, key| async move { Ok(json!(place.list(key).await?)) }),
        ),
        SecretsVerb::List { .. } => {
            with(args, |client| client.get("/v1/runtime/secrets").map(|list| (secret_shapes::SECRETS, list)))
        }
        SecretsVerb::Get { reference } => with(args, |client| {
            client.get(&format!("/v1/runtime/secrets/{}", segment(reference))).map(|view| (secret_shapes::SECRET, view))
        }),
        SecretsVerb::Delete { reference, offline } if offline.offline => {
            let reference = reference.clone();
            told(
                args,
                secret_shapes::REVOCATION,
                offline
                    .run(args, |place, key| async move { place.delete(key, reference).await.map(|done| json!(done)) }),
            )
        }
        SecretsVerb::Delete { reference, .. } => with(args, |client| {
            client
                .change("DELETE", &format!("/v1/runtime/secrets/{}", segment(reference)), &json!({}))
                .map(|view| (secret_shapes::REVOCATION, view))
        }),
        SecretsVerb::Rekey { key, new_master_key_file, backup, .. } => {
            told(args, secret_shapes::REKEYED, rekey(args, key, new_master_key_file, backup.as_deref()))
        }
    }
}

fn told(args: &ClientArgs, shape: super::show::Shape, done: Result<Value, Refusal>) -> ExitCode {
    match done {
        Ok(value) => {
            print(args.output, shape, &value);
            ExitCode::SUCCESS
        }
        Err(refusal) => args.refused(&refusal),
    }
}

fn generate(args: &ClientArgs, to_file: Option<&Path>) -> ExitCode {
    let key = MasterKey::generate(&SystemEntropy::default());
    let Some(file) = to_file else {
        match args.output {
            Format::Human => output::data(&key),
            Format::Json => output::json(&json!({ "master_key": *key })),
        };
        talk(&format!("Keep it in a file with mode 0600 outside of the state root, and name that in {VARIABLE}_FILE."));
        return ExitCode::SUCCESS;
    };
    match private_file::create(file, format!("{}\n", *key).as_bytes()) {
        Ok(false) => args.refused(&Refusal::new(Reason::ConfigInvalid, format!("{} exists already.", file.display()))),
        Ok(true) => {
            talk(&format!("The new master key is in {}.", escape(&file.to_string_lossy())));
            ExitCode::SUCCESS
        }
        Err(fault) => args.refused(&Refusal::new(Reason::ConfigInvalid, fault.to_string())),
    }
}

/// The secret's text. Longer than any secret is read, so that one that is too long is named and not cut.
fn given(source: &Source) -> Result<Zeroizing<String>, Trouble> {
    let usage = |why: String| Trouble::Usage(why);
    let text = |bytes: Vec<u8>| {
        let bytes = Zeroizing::new(bytes);
        let secret = Secret::parse(&bytes).map_err(|fault| usage(fault.to_string()))?;
        Ok(Zeroizing::new(secret.expose().to_owned()))
    };
    if let Some(name) = &source.from_env {
        let value = std::env::var(name).map_err(|_| usage(format!("the variable {name} is not set, or is no text")))?;
        return text(value.into_bytes());
    }
    let limit = SECRET_BYTES as u64 + 2;
    let mut bytes = Vec::new();
    if let Some(file) = &source.from_file {
        let read = private_file::read(file, SECRET_BYTES + 2).map_err(|fault| usage(fault.to_string()))?;
        return text(read);
    }
    if std::io::stdin().is_terminal() {
        talk("Type the secret and end it with Enter; it is not shown.");
        return text(super::prompt::hidden_line(SECRET_BYTES + 2).map_err(|error| usage(error.to_string()))?);
    }
    std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(|error| usage(error.to_string()))?;
    text(bytes)
}

fn set(args: &ClientArgs, offline: &Offline, ask: SetSecret) -> ExitCode {
    if offline.offline {
        return told(
            args,
            secret_shapes::SECRET,
            offline.run(args, |place, key| async move { Ok(json!(place.set(key, ask).await?.view)) }),
        );
    }
    with(args, |client| client.post("/v1/runtime/secrets", &ask.body()).map(|view| (secret_shapes::SECRET, view)))
}

impl Offline {
    /// Works on the state root under its lock.
    fn run<F: Future<Output = Result<Value, Refusal>>>(
        &self,
        args: &ClientArgs,
        work: impl FnOnce(Place, Option<MasterKey>) -> F,
    ) -> Result<Value, Refusal> {
        let key = MasterKey::given(self.key.file.as_deref())?;
        under_lock(args, |place| work(place, key))
    }
}

fn open_root(path: &Path) -> Result<Folder, Refusal> {
    let absent = |why: String| Refusal::new(Reason::StateRootNotFound, why);
    let folder = Folder::open(path).map_err(|error| absent(format!("{}: {error}", path.display())))?;
    match folder.mode(layout::STATE_ROOT) {
        Ok(_) => Ok(folder),
        Err(_) => Err(absent(format!("{} is no state root.", path.display()))),
    }
}

fn under_lock<F: Future<Output = Result<Value, Refusal>>>(
    args: &ClientArgs,
    work: impl FnOnce(Place) -> F,
) -> Result<Value, Refusal> {
    let path = args.root().ok_or_else(|| Refusal::new(Reason::StateRootNotFound, "No state root is named."))?;
    let folder = open_root(&path)?;
    let lock = folder.try_lock(layout::LOCK);
    let lock = lock.map_err(|error| Refusal::new(Reason::StorageJournalUnavailable, error.to_string()))?;
    let Some(_lock) = lock else {
        return Err(Refusal::new(Reason::StateRootLocked, "A daemon holds the state root: ask it, without --offline."));
    };
    let digest = crate::platform::executable::digest().map_or_else(|_| "unknown".to_owned(), |d| format!("sha256.{d}"));
    let place = Place {
        disk: Arc::new(folder),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::default()),
        build: format!("{}+{digest}", env!("CARGO_PKG_VERSION")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refusal::new(Reason::InternalError, error.to_string()))?;
    runtime.block_on(work(place))
}

fn rekey(args: &ClientArgs, key: &AuthStoreKey, new: &Path, backup: Option<&Path>) -> Result<Value, Refusal> {
    let none = || Refusal::new(Reason::VaultLocked, format!("Name the present master key in {VARIABLE}_FILE."));
    let old = MasterKey::given(key.file.as_deref())?.ok_or_else(none)?;
    let new = MasterKey::read(new)?;
    let copy = backup.map(open_root).transpose()?;
    let whole = |path: &Path| path.canonicalize().ok();
    if copy.as_ref().is_some_and(|copy| whole(copy.path()) == args.root().and_then(|root| whole(&root))) {
        return Err(Refusal::new(Reason::RequestInvalid, "The copy is the state root itself."));
    }
    let copy = copy.map(|folder| Arc::new(folder) as Arc<dyn Disk>);
    let done = under_lock(args, |place| async move {
        if let Some(copy) = copy {
            place.proves_copy(&copy, &old)?;
        }
        place.rekey(old, new).await.map(|done| json!(done))
    })?;
    talk("From now on only the new key opens the vault. Copies made before need the old one: keep it as long as them.");
    Ok(done)
}
