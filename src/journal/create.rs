//! The first start of a state root: keys, an empty first segment, `acked`, and last of all `state-root.json`.

use std::io;

use ed25519_dalek::SigningKey;
use ulid::Ulid;

use super::acked::Acked;
use super::error::OpenError;
use super::keys::{STATE_ROOT_FORMAT, StateRoot, pin_entry};
use super::layout;
use super::line::Header;
use super::merkle::Frontier;
use super::note::{Note, Origin};
use super::walk;
use crate::domain::ids::{EpochId, RootId};
use crate::platform::clock::Clock;
use crate::platform::disk::{Disk, Open, join, read_bounded, replace_atomically};
use crate::platform::entropy::Entropy;

/// Bytes of an Ed25519 seed and of the fingerprint key.
pub const KEY_BYTES: usize = 32;

/// Whether a state root is here; its file is written last, so without it there is none.
pub fn exists(disk: &dyn Disk) -> Result<bool, OpenError> {
    match disk.open(layout::STATE_ROOT, Open::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io("opening state-root.json")(error)),
    }
}

/// Makes a new state root. A half-made one is made anew, unless a segment of it holds a record.
pub fn create(disk: &dyn Disk, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<StateRoot, OpenError> {
    let io = |what: &str| OpenError::io(what.to_owned());
    for folder in [layout::FOLDER, layout::QUARANTINE, layout::AUTH] {
        disk.create_dir(folder).map_err(io("making the folders"))?;
    }
    refuse_records(disk)?;
    let key = ensure_key(disk, "", layout::SIGNING_KEY, entropy)?;
    ensure_key(disk, layout::AUTH, "fingerprint.key", entropy)?;
    let now = clock.wall_ms();
    let root_id = RootId::from_ulid(Ulid::from_parts(now, entropy.u128()));
    let epoch = EpochId::from_ulid(Ulid::from_parts(now, entropy.u128()));
    let key = SigningKey::from_bytes(&key);
    let header = Header { root_id, epoch, first_seq: 0, checkpoint: None, frontier: Frontier::default() };
    let first = || -> io::Result<()> {
        let file = disk.open(&layout::segment_path(0), Open::Replace)?;
        file.write_at(0, &[header.render(), b"\n".to_vec()].concat())?;
        file.sync()?;
        let nothing = Note::sign(Origin { root_id, epoch }, 0, Frontier::default().root(), &[&key]);
        Acked::create(disk, &nothing)?;
        [layout::QUARANTINE, layout::FOLDER, layout::AUTH, ""].iter().try_for_each(|folder| disk.sync_dir(folder))
    };
    first().map_err(io("making the first segment"))?;
    let root =
        StateRoot { id: root_id, format: STATE_ROOT_FORMAT, created_at_ms: now, keys: vec![pin_entry(epoch, &key)] };
    replace_atomically(disk, "", layout::STATE_ROOT, &root.render()).map_err(io("writing state-root.json"))?;
    Ok(root)
}

/// Refuses to make a root anew over a journal that holds something.
fn refuse_records(disk: &dyn Disk) -> Result<(), OpenError> {
    for entry in disk.list(layout::FOLDER).map_err(OpenError::io("listing the journal"))? {
        if layout::parse_segment_name(&entry.name).is_none() {
            continue;
        }
        let path = join(layout::FOLDER, &entry.name);
        let file = disk.open(&path, Open::Read).map_err(OpenError::io(path.clone()))?;
        let holds = match walk::open(file).map_err(OpenError::io(path.clone()))? {
            Ok((_, mut walker)) => !matches!(walker.step(), Ok(walk::Step::End)),
            Err(_) => entry.bytes > 0 && !is_filler(disk, &path)?,
        };
        if holds {
            return Err(OpenError::file(layout::STATE_ROOT, format!("the file is missing, but {path} holds records")));
        }
    }
    Ok(())
}

/// Whether a file holds nothing but the newlines and zeros that a crash can leave, or a torn header.
fn is_filler(disk: &dyn Disk, path: &str) -> Result<bool, OpenError> {
    let bytes = read_bounded(disk, path, 64 << 20).map_err(OpenError::io(path.to_owned()))?;
    Ok(!bytes.split(|byte| *byte == b'\n' || *byte == 0).any(|text| super::line::shape(text).is_some()))
}

/// Reads a 32-byte key, or makes it where it is absent; what an operator provided is kept.
fn ensure_key(disk: &dyn Disk, folder: &str, name: &str, entropy: &dyn Entropy) -> Result<[u8; KEY_BYTES], OpenError> {
    match read_key(disk, &join(folder, name)) {
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; KEY_BYTES];
            entropy.fill(&mut key);
            replace_atomically(disk, folder, name, &key).map_err(OpenError::io(name.to_owned()))?;
            Ok(key)
        }
        other => other,
    }
}

/// Reads a 32-byte key.
pub fn read_key(disk: &dyn Disk, path: &str) -> Result<[u8; KEY_BYTES], OpenError> {
    let bytes = read_bounded(disk, path, 1 << 10).map_err(OpenError::io(path.to_owned()))?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| OpenError::Keys(format!("{path} has {length} bytes instead of {KEY_BYTES}")))
}
