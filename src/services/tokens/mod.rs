//! The tokens in force: which bearer is whom. The two token files are read at start and again whenever they change; a
//! file that is broken while the daemon runs leaves the last good token in force and becomes a [`TokenProblem`].

mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::Digest as _;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::authority::{Caller, Role};
use crate::domain::actor::CredentialRef;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::{TokenChanged, TokenRole};
use crate::domain::token::{RANDOM_BYTES, TOKEN_BYTES, Token, TokenFault};
use crate::platform::entropy::Entropy;
use crate::platform::keyed::FingerprintKey;
use crate::platform::private_file::{self, PrivateFileFault};
use crate::projections::tokens::Tokens as Recorded;

/// Where the two token files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFiles {
    /// The admin token's file.
    pub admin: PathBuf,
    /// The read-only token's file.
    pub readonly: PathBuf,
}

impl TokenFiles {
    /// The default files below a state root.
    pub fn below(state_root: &Path) -> Self {
        Self { admin: state_root.join("tokens/admin.token"), readonly: state_root.join("tokens/readonly.token") }
    }
}

/// Why a token file has no token that can be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileFault {
    /// The file could not be read safely.
    #[error(transparent)]
    File(#[from] PrivateFileFault),
    /// Its contents are not one token.
    #[error("{path}: {fault}", path = .path.display())]
    Contents {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with its line.
        fault: TokenFault,
    },
    /// Both files are one path.
    #[error("{path}: the admin and the read-only token need a file each", path = .0.display())]
    SamePath(PathBuf),
    /// Both files hold the same token.
    #[error("the admin and the read-only token file hold the same token")]
    Ambiguous,
}

impl TokenFileFault {
    /// The reason that a start refuses with.
    pub fn reason(&self) -> crate::domain::reason::Reason {
        use crate::domain::reason::Reason;
        match self {
            Self::File(PrivateFileFault::Loose(_)) => Reason::StateRootInsecurePermissions,
            Self::Ambiguous => Reason::AuthTokensAmbiguous,
            Self::File(_) | Self::Contents { .. } | Self::SamePath(_) => Reason::ConfigInvalid,
        }
    }
}

impl From<TokenFileFault> for Refusal {
    fn from(fault: TokenFileFault) -> Self {
        Self::new(fault.reason(), fault.to_string())
    }
}

/// Something wrong with the token files of a running daemon, for `doctor` and `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenProblem {
    /// Whose token; none where both files are concerned.
    pub role: Option<Role>,
    /// What is wrong and where; never the value.
    pub detail: String,
}

/// A token came into force in place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenChange {
    /// Whose token.
    pub role: Role,
    /// Public id and keyed fingerprint of the new token.
    pub credential: CredentialRef,
    /// Number of changes of this file since the start.
    pub generation: u64,
}

/// How often each token changed; a stream ends when its caller's number is not the present one any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generations {
    /// Changes of the admin token.
    pub admin: u64,
    /// Changes of the read-only token.
    pub readonly: u64,
}

impl TokenChange {
    /// The change as the journal records it.
    pub fn recorded(&self) -> TokenChanged {
        let role = if self.role == Role::Admin { TokenRole::Admin } else { TokenRole::ReadOnly };
        TokenChanged { role, fp: self.credential.fp.clone() }
    }
}

struct Held {
    digest: [u8; 32],
    caller: Caller,
}

struct TokenSet {
    admin: Held,
    readonly: Held,
    ambiguous: bool,
}

/// The tokens in force, shared by all who ask.
pub struct Tokens {
    files: TokenFiles,
    key: FingerprintKey,
    via: &'static str,
    set: ArcSwap<TokenSet>,
    problems: ArcSwap<Vec<TokenProblem>>,
    generations: watch::Sender<Generations>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Makes the token files that do not exist yet. Call it before the socket is bound. Returns the roles that got one.
pub fn create_missing(files: &TokenFiles, entropy: &dyn Entropy) -> Result<Vec<Role>, TokenFileFault> {
    let mut made = Vec::new();
    for (role, path) in [(Role::Admin, &files.admin), (Role::ReadOnly, &files.readonly)] {
        let mut random = zeroize::Zeroizing::new([0; RANDOM_BYTES]);
        entropy.fill(random.as_mut());
        let token = Token::generate(&random);
        let line = zeroize::Zeroizing::new(format!("{}\n", token.expose()));
        if private_file::create(path, line.as_bytes())? {
            made.push(role);
        }
    }
    Ok(made)
}

fn read(path: &Path) -> Result<Token, TokenFileFault> {
    let bytes = zeroize::Zeroizing::new(private_file::read(path, TOKEN_BYTES + 1)?);
    Token::parse_file(&bytes).map_err(|fault| TokenFileFault::Contents { path: path.to_owned(), fault })
}

fn digest(token: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(token).into()
}

/// Whether the files hold a token each, and not the same one. One that is not there yet can still be made.
pub fn check(files: &TokenFiles) -> Result<(), TokenFileFault> {
    if files.admin == files.readonly {
        return Err(TokenFileFault::SamePath(files.admin.clone()));
    }
    let there = |path: &Path| match read(path) {
        Err(TokenFileFault::File(PrivateFileFault::Missing(_))) => Ok(None),
        read => read.map(Some),
    };
    match (there(&files.admin)?, there(&files.readonly)?) {
        (Some(admin), Some(readonly)) if admin == readonly => Err(TokenFileFault::Ambiguous),
        _ => Ok(()),
    }
}

impl Tokens {
    /// Reads both files; anything wrong with them refuses. `via` is the door of these callers: `http` or `unix`.
    pub fn open(files: TokenFiles, key: FingerprintKey, via: &'static str) -> Result<Arc<Self>, TokenFileFault> {
        check(&files)?;
        let (admin, readonly) = (read(&files.admin)?, read(&files.readonly)?);
        let set = TokenSet {
            admin: hold(&key, via, Role::Admin, &admin, 1),
            readonly: hold(&key, via, Role::ReadOnly, &readonly, 1),
            ambiguous: admin == readonly,
        };
        Ok(Arc::new(Self {
            files,
            key,
            via,
            set: ArcSwap::from_pointee(set),
            problems: ArcSwap::from_pointee(Vec::new()),
            generations: watch::Sender::new(Generations { admin: 1, readonly: 1 }),
        }))
    }

    /// Where they are read from.
    pub fn files(&self) -> &TokenFiles {
        &self.files
    }

    /// Who bears this token. Both digests are compared in full, whatever was presented.
    pub fn caller(&self, presented: &[u8]) -> Result<Caller, Refusal> {
        let hashed = digest(presented);
        let set = self.set.load();
        let admin = hashed.ct_eq(&set.admin.digest);
        let readonly = hashed.ct_eq(&set.readonly.digest);
        if set.ambiguous {
            return Err(Reason::AuthTokensAmbiguous.into());
        }
        match (bool::from(admin), bool::from(readonly)) {
            (true, _) => Ok(set.admin.caller.clone()),
            (false, true) => Ok(set.readonly.caller.clone()),
            (false, false) => Err(Reason::AuthInvalid.into()),
        }
    }

    /// Whether the token that this caller showed is still in force. A caller without a token always is.
    pub fn in_force(&self, caller: &Caller) -> bool {
        let set = self.set.load();
        match caller.role() {
            Role::Anonymous => true,
            Role::Admin => !set.ambiguous && set.admin.caller.generation() == caller.generation(),
            Role::ReadOnly => !set.ambiguous && set.readonly.caller.generation() == caller.generation(),
        }
    }

    /// Which tokens in force are not those that were recorded last: they were replaced while no daemon ran or no disk
    /// took it, or are the first.
    pub fn unrecorded(&self, recorded: &Recorded) -> Vec<TokenChanged> {
        let set = self.set.load();
        let changes = [(Role::Admin, &set.admin), (Role::ReadOnly, &set.readonly)].into_iter();
        let changes = changes.filter_map(|(role, held)| held.change(role)).map(|change| change.recorded());
        changes.filter(|change| !recorded.names(change)).collect()
    }

    /// Resolves whenever a token changes.
    pub fn generations(&self) -> watch::Receiver<Generations> {
        self.generations.subscribe()
    }

    /// What is wrong with the files now.
    pub fn problems(&self) -> Arc<Vec<TokenProblem>> {
        self.problems.load_full()
    }
}

impl Held {
    /// That this token came into force.
    fn change(&self, role: Role) -> Option<TokenChange> {
        let credential = self.caller.actor().credential.clone()?;
        Some(TokenChange { role, credential, generation: self.caller.generation() })
    }
}

fn hold(key: &FingerprintKey, via: &str, role: Role, token: &Token, generation: u64) -> Held {
    let credential = CredentialRef {
        id: token.public_id().unwrap_or(role.name()).to_owned(),
        fp: key.fingerprint(token.expose().as_bytes()),
    };
    Held { digest: digest(token.expose().as_bytes()), caller: Caller::token_holder(role, credential, via, generation) }
}
