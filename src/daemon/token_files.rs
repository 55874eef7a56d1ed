//! The token files of a start: which they are, which of them the start may make, and the tokens that they hold.

use std::path::Path;
use std::sync::Arc;

use crate::config::addresses::Bind;
use crate::config::settings::{AuthMode, ServeSettings};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::entropy::Entropy;
use crate::platform::keyed::FingerprintKey;
use crate::services::tokens::{self, TokenFiles, Tokens, create_missing};

/// Where the tokens are read from; nowhere where nobody is asked for one.
fn files(settings: &ServeSettings) -> Result<Option<TokenFiles>, Refusal> {
    if settings.auth_mode == AuthMode::None {
        return Ok(None);
    }
    let whole = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Refusal::new(Reason::ConfigInvalid, format!("{}: {error}", path.display())))
    };
    let state_root = whole(&settings.state_root)?;
    let files =
        TokenFiles { admin: whole(&settings.admin_token_file)?, readonly: whole(&settings.readonly_token_file)? };
    check_places(settings.auth_mode, &state_root, &files)?;
    Ok(Some(files))
}

/// Looks at the files that there are, before the journal is opened: a start that refuses leaves it as it was.
pub(super) fn check(settings: &ServeSettings) -> Result<(), Refusal> {
    files(settings)?.map_or(Ok(()), |files| tokens::check(&files).map_err(Refusal::from))
}

/// The tokens in force; none where nobody is asked for one.
pub(super) fn open(
    settings: &ServeSettings,
    key: &FingerprintKey,
    entropy: &dyn Entropy,
) -> Result<Option<Arc<Tokens>>, Refusal> {
    let Some(files) = files(settings)? else { return Ok(None) };
    create_missing(&files, entropy)?;
    let via = if matches!(settings.bind, Bind::Unix(_)) { "unix" } else { "http" };
    Tokens::open(files, key.clone(), via).map(Some).map_err(Refusal::from)
}

/// A path that was mistyped must not become a token that nobody knows of: `bearer` makes no file, and outside the state
/// root no folder is made.
fn check_places(mode: AuthMode, state_root: &Path, files: &TokenFiles) -> Result<(), Refusal> {
    let named = [("--http-admin-token-file", &files.admin), ("--http-readonly-token-file", &files.readonly)];
    let problems: Vec<String> = named
        .into_iter()
        .filter(|(_, path)| !path.exists())
        .filter_map(|(flag, path)| {
            let shown = path.display();
            if mode == AuthMode::Bearer {
                return Some(format!("{flag}: there is no {shown}, and --http-auth-mode bearer makes none"));
            }
            let placed = path.starts_with(state_root) || path.parent().is_some_and(Path::is_dir);
            (!placed).then(|| format!("{flag}: the folder of {shown} does not exist"))
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Refusal::new(Reason::ConfigInvalid, problems.join("; "))) }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay files out the way operators do")]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_path_makes_neither_a_token_nor_a_folder() {
        let house = tempfile::tempdir().unwrap();
        let root = house.path().join("state");
        let below = TokenFiles::below(&root);
        let typo = TokenFiles { admin: house.path().join("typo/deep/admin"), ..below.clone() };
        let beside = TokenFiles { admin: house.path().join("admin"), ..below.clone() };
        let judge = |mode, files: &TokenFiles| check_places(mode, &root, files).map_err(|refusal| refusal.detail);
        assert_eq!(judge(AuthMode::Auto, &below), Ok(()));
        assert_eq!(judge(AuthMode::Auto, &beside), Ok(()));
        let said = judge(AuthMode::Auto, &typo).unwrap_err();
        assert!(said.contains("--http-admin-token-file") && !said.contains("readonly"), "{said}");
        let said = judge(AuthMode::Bearer, &beside).unwrap_err();
        assert!(said.contains("--http-admin-token-file") && said.contains("--http-readonly-token-file"), "{said}");
        std::fs::create_dir_all(root.join("tokens")).unwrap();
        std::fs::write(&beside.admin, "x").unwrap();
        std::fs::write(&beside.readonly, "y").unwrap();
        assert_eq!(judge(AuthMode::Bearer, &beside), Ok(()));
    }
}
