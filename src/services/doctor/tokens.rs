//! The token files: each holds one token, is closed to others, and differs from the other.

use std::path::Path;

use super::{Finding, Holder};
use crate::domain::token::{TOKEN_BYTES, Token};
use crate::platform::private_file::{self, PrivateFileFault};
use crate::services::tokens::TokenFiles;

const CHECK: &str = "tokens";

fn read(path: &Path) -> Result<Option<Token>, String> {
    let bytes = match private_file::read(path, TOKEN_BYTES + 1) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(PrivateFileFault::Missing(_)) => return Ok(None),
        Err(fault) => return Err(fault.to_string()),
    };
    Token::parse_file(&bytes).map(Some).map_err(|fault| format!("{}: {fault}", path.display()))
}

pub(super) fn check(state_root: &Path, holder: &Holder) -> Finding {
    if holder.asks == Some(false) {
        let detail = "authentication is off: every program on this machine may decide approvals";
        return Finding::advice(CHECK, detail, "start the daemon with --http-auth-mode auto");
    }
    let files = holder.token_files.clone().unwrap_or_else(|| TokenFiles::below(state_root));
    let (admin, readonly) = (read(&files.admin), read(&files.readonly));
    let faults: Vec<String> = [&admin, &readonly].into_iter().filter_map(|read| read.clone().err()).collect();
    if !faults.is_empty() {
        let advice = "chmod 600 a loose file; write a broken one anew with `chancery token rotate [--readonly]`";
        return Finding::broken(CHECK, faults.join("; "), advice);
    }
    match (admin, readonly) {
        (Ok(Some(admin)), Ok(Some(readonly))) if admin == readonly => {
            let detail = "both files hold the same token, so every bearer is refused";
            Finding::broken(CHECK, detail, "chancery token rotate --readonly")
        }
        (Ok(Some(_)), Ok(Some(_))) => Finding::ok(CHECK, "both files hold one token each, closed to others"),
        (admin, _) if holder.asks == Some(true) => {
            let (file, advice) = match admin {
                Ok(Some(_)) => (&files.readonly, "chancery token rotate --readonly"),
                _ => (&files.admin, "chancery token rotate"),
            };
            let detail = format!("{} is gone; the daemon keeps the token that it read until it ends", file.display());
            Finding::broken(CHECK, detail, advice)
        }
        _ => Finding::unknown(
            CHECK,
            "the state root has no pair of token files",
            "start the daemon: `chancery serve` makes missing ones",
        ),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests break files the way operators do")]
mod tests {
    use super::*;
    use crate::services::doctor::Outcome;
    use crate::services::tokens::create_missing;

    #[test]
    fn a_file_that_a_running_daemon_lost_is_broken_and_a_door_that_asks_nobody_is_advice() {
        let temporary = tempfile::tempdir().unwrap();
        let files = TokenFiles { admin: temporary.path().join("a"), readonly: temporary.path().join("b") };
        create_missing(&files, &crate::platform::entropy::SystemEntropy::default()).unwrap();
        let holder = Holder { held: true, asks: Some(true), token_files: Some(files.clone()) };
        assert_eq!(check(temporary.path(), &holder).outcome, Outcome::Ok);
        for (file, advice) in
            [(&files.readonly, "chancery token rotate --readonly"), (&files.admin, "chancery token rotate")]
        {
            std::fs::remove_file(file).unwrap();
            let found = check(temporary.path(), &holder);
            assert_eq!((found.outcome, found.advice.as_deref()), (Outcome::Broken, Some(advice)));
            assert!(found.detail.contains(&file.display().to_string()), "{found:?}");
        }
        let open = Holder { held: true, asks: Some(false), token_files: None };
        assert_eq!(check(temporary.path(), &open).outcome, Outcome::Advice);
    }

    #[test]
    fn missing_is_unknown_and_broken_loose_or_equal_files_are_broken() {
        let temporary = tempfile::tempdir().unwrap();
        let files = TokenFiles::below(temporary.path());
        assert_eq!(check(temporary.path(), &Holder::default()).outcome, Outcome::Unknown);
        create_missing(&files, &crate::platform::entropy::SystemEntropy::default()).unwrap();
        assert_eq!(check(temporary.path(), &Holder::default()).outcome, Outcome::Ok);
        let good = std::fs::read(&files.readonly).unwrap();
        std::fs::write(&files.readonly, "a-value\n").unwrap();
        let broken = check(temporary.path(), &Holder::default());
        assert!(broken.outcome == Outcome::Broken && broken.detail.contains("readonly.token"), "{broken:?}");
        assert!(!broken.detail.contains("a-value"), "a value is never shown");
        std::fs::write(&files.readonly, &good).unwrap();
        std::fs::write(&files.admin, &good).unwrap();
        assert!(check(temporary.path(), &Holder::default()).detail.contains("same token"));
    }
}
