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
