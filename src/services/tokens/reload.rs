//! Hot reload of the token files: what is good of them comes into force, what is not leaves the last good token there.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Generations, Held, TokenChange, TokenFileFault, TokenProblem, TokenSet, Tokens, digest, hold, read};
use crate::domain::token::Token;
use crate::platform::tasks::Tasks;
use crate::services::authority::Role;
use crate::services::file_watch::{self, Followed};

/// What both files hold at one moment.
pub(in crate::services) struct Contents {
    admin: Result<Token, TokenFileFault>,
    readonly: Result<Token, TokenFileFault>,
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Result<Token, TokenFileFault>, two: &Result<Token, TokenFileFault>| match (one, two) {
            (Ok(one), Ok(two)) => one == two,
            (Err(one), Err(two)) => one.to_string() == two.to_string(),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        same(&self.admin, &other.admin) && same(&self.readonly, &other.readonly)
    }
}

impl Tokens {
    /// Reads both files once and puts what is good into force. Returns what changed.
    pub fn reload(&self) -> Vec<TokenChange> {
        self.put(&self.contents())
    }

    fn next(
        &self,
        role: Role,
        contents: &Result<Token, TokenFileFault>,
        held: &Held,
        problems: &mut Vec<TokenProblem>,
    ) -> Option<Held> {
        match contents {
            Ok(token) => self.changed(role, token, held),
            Err(fault) => {
                problems.push(TokenProblem { role: Some(role), detail: fault.to_string() });
                None
            }
        }
    }

    fn changed(&self, role: Role, token: &Token, held: &Held) -> Option<Held> {
        (digest(token.expose().as_bytes()) != held.digest)
            .then(|| hold(&self.key, self.via, role, token, held.caller.generation() + 1))
    }

    /// Keeps the problems, and logs them when they change.
    fn note(&self, problems: Vec<TokenProblem>) {
        if **self.problems.load() == problems {
            return;
        }
        for problem in &problems {
            tracing::error!(detail = problem.detail, "a token file is broken; the last good token stays in force");
        }
        if problems.is_empty() {
            tracing::info!("the token files are in order again");
        }
        self.problems.store(Arc::new(problems));
    }

    /// Follows the files until the drain. Each change goes to `changes` after it is in force.
    pub fn follow(self: &Arc<Self>, tasks: &Tasks, changes: mpsc::Sender<TokenChange>) {
        file_watch::follow(self, tasks, changes);
    }
}

impl Followed for Tokens {
    type Contents = Contents;
    type Change = TokenChange;

    fn paths(&self) -> Vec<&Path> {
        vec![&self.files.admin, &self.files.readonly]
    }

    fn contents(&self) -> Contents {
        Contents { admin: read(&self.files.admin), readonly: read(&self.files.readonly) }
    }

    fn is_present(&self, contents: &Contents) -> bool {
        let present = self.set.load();
        let same = |token: &Result<Token, TokenFileFault>, held: &Held| {
            token.as_ref().is_ok_and(|token| digest(token.expose().as_bytes()) == held.digest)
        };
        same(&contents.admin, &present.admin) && same(&contents.readonly, &present.readonly)
    }

    fn put(&self, contents: &Contents) -> Vec<TokenChange> {
        let present = self.set.load_full();
        let mut problems = Vec::new();
        let admin = self.next(Role::Admin, &contents.admin, &present.admin, &mut problems);
        let readonly = self.next(Role::ReadOnly, &contents.readonly, &present.readonly, &mut problems);
        let digest_of = |next: &Option<Held>, held: &Held| next.as_ref().map_or(held.digest, |new| new.digest);
        let ambiguous = digest_of(&admin, &present.admin) == digest_of(&readonly, &present.readonly);
        if ambiguous {
            let detail = "both token files hold the same token; every bearer is refused until they differ".to_owned();
            problems.push(TokenProblem { role: None, detail });
        }
        let mut changes = Vec::new();
        for (role, next) in [(Role::Admin, &admin), (Role::ReadOnly, &readonly)] {
            changes.extend(next.as_ref().and_then(|held| held.change(role)));
        }
        if !changes.is_empty() || ambiguous != present.ambiguous {
            let set = TokenSet {
                admin: admin.unwrap_or_else(|| present.admin.again()),
                readonly: readonly.unwrap_or_else(|| present.readonly.again()),
                ambiguous,
            };
            let generations =
                Generations { admin: set.admin.caller.generation(), readonly: set.readonly.caller.generation() };
            self.set.store(Arc::new(set));
            self.generations.send_replace(generations);
        }
        for change in &changes {
            tracing::warn!(role = change.role.name(), fp = change.credential.fp, "a token was replaced");
        }
        self.note(problems);
        changes
    }
}

impl Held {
    fn again(&self) -> Held {
        Held { digest: self.digest, caller: self.caller.clone() }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests replace files the way operators do")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::domain::reason::Reason;
    use crate::platform::entropy::SystemEntropy;
    use crate::platform::keyed::FingerprintKey;
    use crate::services::tokens::{TokenFiles, create_missing};

    struct Folder {
        folder: tempfile::TempDir,
        files: TokenFiles,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = TokenFiles::below(folder.path());
            assert_eq!(create_missing(&files, &SystemEntropy::default()).unwrap(), [Role::Admin, Role::ReadOnly]);
            assert_eq!(create_missing(&files, &SystemEntropy::default()).unwrap(), []);
            Self { folder, files }
        }

        fn open(&self) -> Result<Arc<Tokens>, TokenFileFault> {
            Tokens::open(self.files.clone(), FingerprintKey::new(&[1; 32]), "http")
        }

        fn text(path: &PathBuf) -> String {
            std::fs::read_to_string(path).unwrap().trim_end().to_owned()
        }
    }

    fn own(letter: char) -> String {
        format!("operators-own-string-0123456789-{letter}")
    }

    #[test]
    fn a_loose_broken_or_equal_file_refuses_to_start() {
        let folder = Folder::new();
        let path = folder.files.admin.clone();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(folder.open().unwrap_err().to_string().contains("others may read"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short\n").unwrap();
        assert!(folder.open().unwrap_err().to_string().contains("line 1: shorter"));
        std::fs::copy(&folder.files.readonly, &path).unwrap();
        assert!(matches!(folder.open(), Err(TokenFileFault::Ambiguous)));
        let same = TokenFiles { admin: path.clone(), readonly: path };
        assert!(matches!(Tokens::open(same, FingerprintKey::new(&[1; 32]), "http"), Err(TokenFileFault::SamePath(_))));
    }

    #[test]
    fn each_broken_state_of_a_running_file_leaves_the_last_good_token_in_force() {
        let folder = Folder::new();
        let tokens = folder.open().unwrap();
        let good = Folder::text(&folder.files.admin);
        let whole = format!("{good}\n");
        let huge = vec![b'a'; 1 << 20];
        let broken: [&[u8]; 6] = [b"", &whole.as_bytes()[..20], b"\xff\xfe", b"# none\n", &huge, b"one\ntwo\n"];
        for bytes in broken {
            std::fs::write(&folder.files.admin, bytes).unwrap();
            assert_eq!(tokens.reload(), []);
            assert!(tokens.caller(good.as_bytes()).is_ok());
            let problems = tokens.problems();
            assert_eq!(problems.len(), 1);
            assert!(problems[0].detail.contains("admin.token") && !problems[0].detail.contains(&good[..20]));
        }
        std::fs::remove_file(&folder.files.admin).unwrap();
        assert_eq!(tokens.reload(), []);
        assert!(tokens.caller(good.as_bytes()).is_ok() && tokens.problems().len() == 1);
        std::fs::write(&folder.files.admin, &whole).unwrap();
        std::fs::set_permissions(&folder.files.admin, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(tokens.reload(), []);
        assert!(tokens.caller(good.as_bytes()).is_ok() && tokens.problems().len() == 1);
        std::fs::set_permissions(&folder.files.admin, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(tokens.reload(), []);
        assert!(tokens.problems().is_empty());
    }

    #[test]
    fn equal_tokens_refuse_every_bearer_until_they_differ() {
        let folder = Folder::new();
        let tokens = folder.open().unwrap();
        let (admin, readonly) = (Folder::text(&folder.files.admin), Folder::text(&folder.files.readonly));
        let streaming = tokens.caller(admin.as_bytes()).unwrap();
        std::fs::write(&folder.files.readonly, &admin).unwrap();
        tokens.reload();
        for presented in [&admin, &readonly, "other"] {
            assert_eq!(tokens.caller(presented.as_bytes()).unwrap_err().reason, Reason::AuthTokensAmbiguous);
        }
        assert!(!tokens.in_force(&streaming));
        assert_eq!(tokens.problems().len(), 1);
        std::fs::write(&folder.files.readonly, own('r')).unwrap();
        assert_eq!(tokens.reload().len(), 1);
        assert_eq!(tokens.caller(own('r').as_bytes()).unwrap().role(), Role::ReadOnly);
        assert!(tokens.caller(readonly.as_bytes()).is_err() && tokens.in_force(&streaming));
    }

    #[tokio::test]
    async fn a_token_that_is_written_in_pieces_is_never_in_force_by_half() {
        let folder = Folder::new();
        let tokens = folder.open().unwrap();
        let old = Folder::text(&folder.files.admin);
        let tasks = Tasks::new();
        let (sender, mut changes) = mpsc::channel(8);
        tokens.follow(&tasks, sender);
        let whole = own('w');
        for end in [24, 28, whole.len()] {
            std::fs::write(&folder.files.admin, &whole[..end]).unwrap();
            for _ in 0..15 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(
                    end == whole.len() || tokens.caller(&whole.as_bytes()[..end]).is_err(),
                    "{end} characters count"
                );
                assert!(end == whole.len() || tokens.caller(old.as_bytes()).is_ok(), "the old token is gone");
            }
        }
        let change = tokio::time::timeout(Duration::from_secs(2), changes.recv()).await.unwrap().unwrap();
        assert_eq!(change.generation, 2, "one change, to the whole token");
        assert!(tokens.caller(whole.as_bytes()).is_ok() && tokens.caller(old.as_bytes()).is_err());
        tasks.stop();
    }

    #[tokio::test]
    async fn without_a_watch_the_poll_alone_finds_each_change() {
        let folder = Folder::new();
        let tokens = folder.open().unwrap();
        // No hint ever comes: the machine has no watch to give, or lost what it had to say.
        let (hint, hints) = mpsc::channel(1);
        drop(hint);
        let (sender, mut changes) = mpsc::channel(8);
        let looking = tokio::spawn(file_watch::look_again_and_again(tokens.clone(), hints, sender));
        for letter in ['a', 'b'] {
            std::fs::write(&folder.files.admin, own(letter)).unwrap();
            tokio::time::timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap();
            assert_eq!(tokens.caller(own(letter).as_bytes()).unwrap().role(), Role::Admin);
        }
        looking.abort();
    }

    #[tokio::test]
    async fn a_replaced_token_is_in_force_within_two_seconds_and_so_is_the_next_one() {
        let folder = Folder::new();
        let tokens = folder.open().unwrap();
        let old = tokens.caller(Folder::text(&folder.files.admin).as_bytes()).unwrap();
        let tasks = Tasks::new();
        let (sender, mut changes) = mpsc::channel(8);
        tokens.follow(&tasks, sender);
        let mut generations = tokens.generations();
        let second = Duration::from_secs(2);
        // By rename over the file.
        let beside = folder.folder.path().join("tokens/new");
        std::fs::write(&beside, own('a')).unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&beside, &folder.files.admin).unwrap();
        let change = tokio::time::timeout(second, changes.recv()).await.unwrap().unwrap();
        assert_eq!((change.role, change.generation), (Role::Admin, 2));
        assert!(generations.has_changed().unwrap() && generations.borrow_and_update().admin == 2);
        assert!(!tokens.in_force(&old) && tokens.caller(own('a').as_bytes()).is_ok());
        // By replacing the whole directory, which the watch cannot see.
        let directory = folder.folder.path().join("tokens");
        std::fs::rename(&directory, folder.folder.path().join("old")).unwrap();
        for (path, text) in [(&folder.files.admin, own('b')), (&folder.files.readonly, own('r'))] {
            crate::platform::private_file::create(path, text.as_bytes()).unwrap();
        }
        tokio::time::timeout(second, changes.recv()).await.unwrap().unwrap();
        assert!(tokens.caller(own('b').as_bytes()).is_ok());
        // By a symbolic link that is swapped, as mounted secrets do.
        std::fs::remove_file(&folder.files.admin).unwrap();
        crate::platform::private_file::create(&folder.folder.path().join("data/2"), own('c').as_bytes()).unwrap();
        std::os::unix::fs::symlink(folder.folder.path().join("data/2"), &folder.files.admin).unwrap();
        tokio::time::timeout(second, async {
            while tokens.caller(own('c').as_bytes()).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        tasks.stop();
        assert!(tasks.drained(second).await);
    }
}
