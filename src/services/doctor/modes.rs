//! Nobody but the owner may read or change what lies in a state root.

use super::Finding;
use crate::journal::layout;
use crate::platform::files::Folder;

const CHECK: &str = "modes";
const PLACES: [&str; 12] = [
    ".",
    layout::FOLDER,
    layout::QUARANTINE,
    layout::AUTH,
    "tokens",
    "control-plane-auth",
    layout::SIGNING_KEY,
    layout::SIGNING_KEY_NEXT,
    layout::FINGERPRINT_KEY,
    crate::vault::store::PATH,
    "tokens/admin.token",
    "tokens/readonly.token",
];

pub(super) fn check(folder: &Folder) -> Finding {
    let mut loose = Vec::new();
    let mut looked = 0;
    for place in PLACES {
        match folder.mode(place) {
            Ok(mode) if mode & 0o077 != 0 => loose.push((place, mode)),
            Ok(_) => looked += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let advice = "run doctor as the user that the daemon runs as";
                return Finding::unknown(CHECK, format!("{place}: {error}"), advice);
            }
        }
    }
    if loose.is_empty() {
        return Finding::ok(CHECK, format!("{looked} files and folders are closed to others"));
    }
    let found: Vec<String> = loose.iter().map(|(place, mode)| format!("{place} ({mode:04o})")).collect();
    let names: Vec<String> = loose.iter().map(|(place, _)| folder.path().join(place).display().to_string()).collect();
    let detail = format!("others can open {}", found.join(", "));
    Finding::broken(CHECK, detail, format!("chmod go-rwx {}", names.join(" ")))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests change modes the way operators do")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::platform::disk::{Disk as _, replace_atomically};

    #[test]
    fn a_loose_secret_is_broken_and_named() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("state")).unwrap();
        folder.create_dir("tokens").unwrap();
        replace_atomically(&folder, "tokens", "admin.token", b"x").unwrap();
        assert_eq!(check(&folder), Finding::ok(CHECK, "3 files and folders are closed to others"));
        let file = folder.path().join("tokens/admin.token");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let advice = format!("chmod go-rwx {}", file.display());
        assert_eq!(check(&folder), Finding::broken(CHECK, "others can open tokens/admin.token (0644)", advice));
    }
}
