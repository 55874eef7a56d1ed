//! The signing key is there, and it is the one that signs.

use ed25519_dalek::SigningKey;

use super::Finding;
use crate::journal::create::read_key;
use crate::journal::layout;
use crate::journal::recovery::read_root;
use crate::platform::disk::Disk;

const CHECK: &str = "keys";

pub(super) fn check(disk: &dyn Disk) -> Finding {
    let newest = match read_root(disk).map(|(_, ring)| ring.newest()) {
        Ok(newest) => newest,
        Err(error) => return Finding::unknown(CHECK, error.to_string(), "see what is said of the journal"),
    };
    let read = |path: &'static str| read_key(disk, path).map_err(|error| error.to_string());
    let signing = read(layout::SIGNING_KEY).map(|seed| SigningKey::from_bytes(&seed).verifying_key());
    let next = read(layout::SIGNING_KEY_NEXT).map(|seed| SigningKey::from_bytes(&seed).verifying_key());
    let newest = newest.map(|(_, key)| key);
    match (signing, read(layout::FINGERPRINT_KEY)) {
        (Err(why), _) | (_, Err(why)) => {
            Finding::broken(CHECK, why, "put the file back from a copy of this state root, with mode 0600")
        }
        (Ok(key), Ok(_)) if Some(key) == newest => {
            Finding::ok(CHECK, "the signing key is the newest of the state root")
        }
        (Ok(_), Ok(_)) if next.ok() == newest => {
            Finding::ok(CHECK, "a handover to the newest key was broken off; the next start ends it")
        }
        (Ok(_), Ok(_)) => {
            let detail = format!("{} is another key than the newest of {}", layout::SIGNING_KEY, layout::STATE_ROOT);
            Finding::broken(CHECK, detail, "put back the key that belongs to this state root")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::create;
    use crate::platform::clock::FakeClock;
    use crate::platform::disk::replace_atomically;
    use crate::platform::entropy::SystemEntropy;
    use crate::platform::files::Folder;
    use crate::services::doctor::Outcome;

    #[test]
    fn a_missing_odd_or_foreign_key_is_broken() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("state")).unwrap();
        assert_eq!(check(&folder).outcome, Outcome::Unknown, "there is no state root");
        create::create(&folder, &FakeClock::at(1_700_000_000_000, 1_000), &SystemEntropy::default()).unwrap();
        assert_eq!(check(&folder).outcome, Outcome::Ok);
        let good = read_key(&folder, layout::SIGNING_KEY).unwrap();
        for wrong in [&[7; 32][..], &[7; 31]] {
            replace_atomically(&folder, "", layout::SIGNING_KEY, wrong).unwrap();
            let found = check(&folder);
            assert!(found.outcome == Outcome::Broken && found.detail.contains(layout::SIGNING_KEY), "{found:?}");
        }
        replace_atomically(&folder, "", layout::SIGNING_KEY, &good).unwrap();
        for lost in [layout::FINGERPRINT_KEY, layout::SIGNING_KEY] {
            folder.remove(lost).unwrap();
            let found = check(&folder);
            assert!(found.outcome == Outcome::Broken && found.detail.contains(lost), "{found:?}");
        }
    }
}
