//! Whether a file can be written, synced and removed in the state root, now.

use super::Finding;
use crate::platform::disk::{Disk as _, Open, read_bounded};
use crate::platform::files::Folder;

const CHECK: &str = "write probe";
const WORDS: &[u8] = b"a probe of doctor; it may be removed\n";

pub(super) fn check(folder: &Folder) -> Finding {
    let name = format!("doctor-probe-{}.tmp", std::process::id());
    let probe = || -> std::io::Result<bool> {
        let file = folder.open(&name, Open::Replace)?;
        file.write_at(0, WORDS)?;
        file.sync()?;
        Ok(read_bounded(folder, &name, 1_024)? == WORDS)
    };
    let written = probe();
    let removed = folder.remove(&name);
    match (written, removed) {
        (Ok(true), Ok(())) => Finding::ok(CHECK, "a file was written, synced, read and removed"),
        (Ok(true), Err(error)) => Finding::broken(
            CHECK,
            format!("{name} cannot be removed: {error}"),
            "look at the file system's mount options",
        ),
        (Ok(false), _) => Finding::broken(CHECK, "what was read is not what was written", "replace the disk"),
        (Err(error), _) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::unknown(CHECK, error.to_string(), "run doctor as the user that the daemon runs as")
        }
        (Err(error), _) => {
            let advice = "free space, and look at the mount options and the kernel's log";
            Finding::broken(CHECK, format!("the state root cannot be written: {error}"), advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("state")).unwrap();
        assert_eq!(check(&folder), Finding::ok(CHECK, "a file was written, synced, read and removed"));
        assert_eq!(folder.list("").unwrap(), []);
    }
}
