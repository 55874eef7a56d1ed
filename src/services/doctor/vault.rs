//! The file of secrets reads whole. Whether each of them opens only a daemon with the master key can say.

use super::Finding;
use crate::platform::disk::Disk;
use crate::vault::store::{DAMAGED_PATH, PATH, look};

const CHECK: &str = "vault";

pub(super) fn check(disk: &dyn Disk) -> Finding {
    let found = match look(disk) {
        Ok(found) => found,
        Err(refusal) => {
            return Finding::unknown(CHECK, refusal.detail, "run doctor as the user that the daemon runs as");
        }
    };
    let Some(slots) = found else { return Finding::ok(CHECK, "no secret is stored") };
    let stored = slots.sealed.len();
    if slots.head.is_none() || slots.unreadable > 0 {
        let detail = format!("{PATH} is damaged: {stored} secrets can be read, {} cannot", slots.unreadable);
        let advice = "see `chancery secrets list`, and store what is missing again; the damaged file is then put aside";
        return Finding::broken(CHECK, detail, advice);
    }
    if disk.open(DAMAGED_PATH, crate::platform::disk::Open::Read).is_ok() {
        let detail = format!("{stored} secrets are stored; {DAMAGED_PATH} was put aside when the file was damaged");
        return Finding::advice(CHECK, detail, "remove it once `chancery secrets list` shows what you expect");
    }
    Finding::ok(CHECK, format!("{stored} secrets are stored"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::platform::disk::replace_atomically;
    use crate::platform::entropy::SystemEntropy;
    use crate::platform::files::Folder;
    use crate::services::doctor::Outcome;
    use crate::vault::master_key::MasterKey;
    use crate::vault::seal::Place;
    use crate::vault::secret::Secret;
    use crate::vault::store::{FOLDER, NAME, Store};

    #[test]
    fn a_damaged_file_of_secrets_is_broken_and_one_that_was_put_aside_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::create(&temporary.path().join("state")).unwrap());
        folder.create_dir(FOLDER).unwrap();
        assert_eq!(check(folder.as_ref()).outcome, Outcome::Ok);
        let open = || {
            let key = MasterKey::parse(&"0123456789abcdef".repeat(4), "here").unwrap();
            let disk: Arc<dyn Disk> = folder.clone();
            Store::open(&disk, Arc::new(SystemEntropy::default()), &key, "root_x").unwrap()
        };
        let put = |reference: &str| {
            let place = Place { org: "default".into(), reference: reference.into(), version: 1 };
            open().put(place, &Secret::parse(b"sk-one").unwrap()).unwrap();
        };
        put("a");
        put("b");
        assert_eq!(check(folder.as_ref()), Finding::ok(CHECK, "2 secrets are stored"));
        let bytes = crate::platform::disk::read_bounded(folder.as_ref(), PATH, 1 << 20).unwrap();
        let struck = String::from_utf8(bytes).unwrap().replacen("{\"org\":", "{\"orh\":", 1);
        replace_atomically(folder.as_ref(), FOLDER, NAME, struck.as_bytes()).unwrap();
        let found = check(folder.as_ref());
        assert!(
            found.outcome == Outcome::Broken && found.detail.contains("1 secrets can be read, 1 cannot"),
            "{found:?}"
        );
        put("c");
        let found = check(folder.as_ref());
        assert!(found.outcome == Outcome::Advice && found.detail.contains(DAMAGED_PATH), "{found:?}");
    }
}
