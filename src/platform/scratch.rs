//! Private temporary folders: made for one user of the machine, removed with all that is in them.

use std::path::{Path, PathBuf};

use super::entropy::Entropy;

/// Makes a fresh folder in `parent` that only this user may enter. `parent` is made as well where it is missing.
pub fn create(parent: &Path, entropy: &dyn Entropy) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    builder.recursive(true).create(parent)?;
    let path = parent.join(format!("scratch-{:032x}", entropy.u128()));
    builder.recursive(false).create(&path)?;
    Ok(path)
}

/// Makes the folder that private ones will stand in, if it is absent, and makes sure that nobody else can change what
/// stands there: whoever owns a folder can.
pub fn own(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    let facts = facts(folder)?;
    if facts.kind.is_dir() && is_ours(facts.owner) && facts.mode & 0o022 == 0 {
        return Ok(());
    }
    Err(refused("others can change what it holds"))
}

/// Where a folder for everybody's temporary files leads, if nobody can take away there what is another's.
pub fn shared(folder: &Path) -> std::io::Result<PathBuf> {
    let folder = std::fs::canonicalize(folder)?;
    let facts = facts(&folder)?;
    if !facts.kind.is_dir() || !is_ours(facts.owner) || (facts.mode & 0o022 != 0 && facts.mode & STICKY == 0) {
        return Err(refused("others can take away what it holds"));
    }
    rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
    Ok(folder)
}

/// Removes the folders of this user in `parent` whose names begin with `prefix`, but not `kept`. Says how many went, and
/// how many could not be removed.
pub fn sweep(parent: &Path, prefix: &str, kept: &Path) -> std::io::Result<(usize, usize)> {
    let (mut removed, mut left) = (0, 0);
    #[expect(clippy::disallowed_methods, reason = "this is the platform")]
    for entry in std::fs::read_dir(parent)?.flatten() {
        let path = entry.path();
        let named = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        let ours = facts(&path).is_ok_and(|facts| facts.kind.is_dir() && facts.owner == own_id());
        if !named || !ours || path == kept {
            continue;
        }
        match remove(&path) {
            Ok(()) => removed += 1,
            Err(_) => left += 1,
        }
    }
    Ok((removed, left))
}

/// Whether both are on the same file system; no where either is not there.
pub fn same_file_system(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
    device(one).is_some_and(|found| device(other) == Some(found))
}

/// Bit of a folder in which only owners remove files.
const STICKY: u32 = 0o1000;

struct Facts {
    kind: rustix::fs::FileType,
    owner: u32,
    mode: u32,
}

/// Of the entry itself, not of what a link leads to.
fn facts(path: &Path) -> std::io::Result<Facts> {
    let stat = rustix::fs::lstat(path)?;
    Ok(Facts {
        kind: rustix::fs::FileType::from_raw_mode(stat.st_mode),
        owner: stat.st_uid,
        mode: stat.st_mode & 0o7777,
    })
}

fn own_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_ours(owner: u32) -> bool {
    owner == 0 || owner == own_id()
}

fn refused(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, why)
}

/// Removes a folder and everything below it. Follows no symbolic link.
pub fn remove(path: &Path) -> std::io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the platform; nothing here needs to survive power loss")]
    match std::fs::remove_dir_all(path) {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk themselves")]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_removes_what_is_named_so_and_a_folder_of_everybody_is_no_place() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["ours-1/deep", "ours-2", "ours-kept", "theirs-1"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("ours-file"), "x").unwrap();
        symlink(at("theirs-1"), at("ours-link")).unwrap();
        assert_eq!(sweep(root.path(), "ours-", &at("ours-kept")).unwrap(), (2, 0));
        let mut names: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["ours-file", "ours-kept", "ours-link", "theirs-1"]);
        let open = |mode| std::fs::set_permissions(at("theirs-1"), std::fs::Permissions::from_mode(mode)).unwrap();
        for (mode, usable, private) in [(0o777, false, false), (0o1777, true, false), (0o700, true, true)] {
            open(mode);
            assert_eq!((shared(&at("theirs-1")).is_ok(), own(&at("theirs-1")).is_ok()), (usable, private), "{mode:o}");
        }
        assert!(own(&at("ours-link")).is_err(), "a link is no folder of one's own");
    }

    #[test]
    fn a_scratch_folder_is_private_and_goes_without_following_links() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let entropy = crate::platform::entropy::SystemEntropy::default();
        let path = create(&root.path().join("deep/er"), &entropy).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        symlink(&kept, path.join("link")).unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists() && kept.join("file").exists());
    }
}
