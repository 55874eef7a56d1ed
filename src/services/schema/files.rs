//! Samples of the files that only a damaged state root has: what is kept of rot, and what a repair is doing. Both are
//! made from the vectors' journal with one changed byte, as the daemon and `journal repair` make them.

use super::Files;
use super::vectors::{FIRST_FILE, Made, new_key, ulid};
use crate::domain::ids::EpochId;
use crate::journal::cold::{self, Found};
use crate::journal::recovery::read_root;
use crate::journal::{layout, repair, segments};
use crate::platform::disk::{Disk as _, Open, read_bounded};
use crate::platform::sim_disk::SimDisk;

/// Where the byte is changed: a word of the second batch.
const ROTTEN: &str = "session.created";

/// Adds the samples.
pub(super) fn add(files: &mut Files, good: &Made) -> Result<(), String> {
    let disk = rotten(good).map_err(|error| error.to_string())?;
    let said = |error: crate::journal::error::OpenError| error.to_string();
    let (root, ring) = read_root(&disk).map_err(said)?;
    let listed = segments::list(&disk).map_err(said)?;
    let [file, next] = listed.as_slice() else { return Err("the vectors have two segments".to_owned()) };
    let found = cold::check(&disk, (&root, &ring), file, next, &mut || true);
    let Ok(Found::Rot(range)) = found else { return Err(format!("the changed byte is not found: {found:?}")) };
    cold::write_damage(&disk, root.created_at_ms, &[range]).map_err(|error| error.to_string())?;
    let damage = read_bounded(&disk, layout::DAMAGE, 1 << 20).map_err(|error| error.to_string())?;
    files.insert("state-schema/samples/damage.json".to_owned(), damage);
    let plan = repair::plan(&disk, EpochId::from_ulid(ulid(3))).map_err(said)?;
    files.insert("state-schema/samples/repair.json".to_owned(), plan.render());
    Ok(())
}

/// The vectors' state root with its signing key and one changed byte.
fn rotten(good: &Made) -> std::io::Result<SimDisk> {
    let disk = SimDisk::new(1);
    disk.create_dir(layout::FOLDER)?;
    let key = (layout::SIGNING_KEY.to_owned(), new_key().to_bytes().to_vec());
    for (path, bytes) in good.files.iter().chain([(&key.0, &key.1)]) {
        let mut bytes = bytes.clone();
        if path == FIRST_FILE {
            let at = bytes.windows(ROTTEN.len()).position(|window| window == ROTTEN.as_bytes());
            at.and_then(|at| bytes.get_mut(at)).into_iter().for_each(|byte| *byte ^= 1);
        }
        disk.open(path, Open::Replace)?.write_at(0, &bytes)?;
    }
    Ok(disk)
}
