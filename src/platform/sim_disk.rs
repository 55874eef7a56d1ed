//! A disk in memory on which power can be lost: what was not synced survives in part, in any order, torn at sectors.
//!
//! Model: each file has durable content and a list of unsynced sector writes; names have a durable map and a list of
//! unsynced changes. A power cut keeps, for each unsynced sector, the old or the new bytes by chance; a prefix of
//! unsynced name changes; and of an unsynced length either the old, or the new with zeros where no sector survived.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is written or lost as one piece.
pub const SECTOR: usize = 512;

/// What goes wrong, and when. Operations that change the disk are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Power is lost in the operation with this number; a write may be half done.
    PowerCut(u64),
    /// The sync with this number (counted among syncs, those of folders too) fails. The pages that it should have written
    /// are lost; names stay unsynced.
    SyncError(u64),
    /// The write with this number (counted among writes) fails with EIO after half of its bytes.
    WriteError(u64),
    /// The opening with this number (counted among openings of files) fails so.
    OpenError(u64, rustix::io::Errno),
    /// No file can be given another name: the folder needs room that is not there.
    NamesFull,
    /// No more than this many bytes fit.
    Full(usize),
    /// The file system is mounted read-only.
    ReadOnly,
    /// The same, refused for another reason than a full disk: a quota, a limit of sizes, a disk that has become read-only.
    Capped(usize, rustix::io::Errno),
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors written since the last sync, failed ones included: a failed sync leaves pages marked clean.
    dirty: BTreeSet<usize>,
}

impl File {
    /// Writes the dirty sectors and the length through.
    fn flush(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.flush_sector(sector);
        }
    }

    fn flush_sector(&mut self, sector: usize) {
        let end = ((sector + 1) * SECTOR).min(self.durable.len()).min(self.current.len());
        let start = (sector * SECTOR).min(end);
        self.durable[start..end].copy_from_slice(&self.current[start..end]);
    }
}

/// What becomes of a sync.
enum Syncing {
    /// A disk that takes no writes has nothing to sync.
    Done,
    /// It is this one's turn to fail.
    Failed,
    /// What is unsynced is to be made durable.
    Due,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String, usize),
    Folder(String),
}

#[derive(Debug, Clone)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    folders: BTreeSet<String>,
    durable_folders: BTreeSet<String>,
    fault: Fault,
    operations: u64,
    openings: u64,
    syncs: u64,
    writes: u64,
    dead: bool,
    chance: u64,
}

/// The disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

fn cut() -> io::Error {
    io::Error::other("power is off")
}

impl State {
    fn draw(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }

    /// Counts an operation; an error if power is off. `true` if power goes off within it.
    fn step(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(cut());
        }
        if self.fault == Fault::ReadOnly {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.operations += 1;
        self.dead = self.fault == Fault::PowerCut(self.operations);
        Ok(self.dead)
    }

    /// Counts a sync of a file or a folder.
    fn sync_step(&mut self) -> io::Result<Syncing> {
        if self.fault == Fault::ReadOnly {
            return Ok(Syncing::Done);
        }
        if self.step()? {
            return Err(cut());
        }
        self.syncs += 1;
        Ok(if self.fault == Fault::SyncError(self.syncs) { Syncing::Failed } else { Syncing::Due })
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        if self.step()? {
            return Err(cut());
        }
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
        Ok(())
    }

    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].current.len()).sum()
    }

    /// What a power cut leaves of one file.
    fn survivor(&mut self, index: usize) -> Vec<u8> {
        let mut file = self.files[index].clone();
        let resized = file.current.len() != file.durable.len() && self.draw().is_multiple_of(2);
        if resized {
            file.durable.resize(file.current.len(), 0);
        }
        let all_or_none = self.draw() % 8;
        for sector in std::mem::take(&mut file.dirty) {
            let keep = match all_or_none {
                0 => true,
                1 => false,
                _ => self.draw().is_multiple_of(2),
            };
            if keep {
                file.flush_sector(sector);
            }
        }
        file.durable
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Link(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        NameChange::Folder(_) => {}
    }
}

/// Whether each folder on the way to a file is among these.
fn reachable(folders: &BTreeSet<String>, path: &str) -> bool {
    path.match_indices('/').all(|(end, _)| folders.contains(&path[..end]))
}

impl SimDisk {
    /// An empty disk; `seed` decides what a power cut leaves.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            folders: BTreeSet::from([String::new()]),
            durable_folders: BTreeSet::from([String::new()]),
            fault: Fault::None,
            operations: 0,
            openings: 0,
            syncs: 0,
            writes: 0,
            dead: false,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what goes wrong from here on; counting begins anew.
    pub fn set_fault(&self, fault: Fault) {
        let mut state = self.state();
        (state.fault, state.openings, state.operations, state.syncs, state.writes) = (fault, 0, 0, 0, 0);
    }

    /// Operations, syncs and writes since the fault was set.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.operations, state.syncs, state.writes)
    }

    /// Openings of files since the fault was set.
    pub fn openings(&self) -> u64 {
        self.state().openings
    }

    /// Whether the planned power cut has happened.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The disk as the next boot finds it after a power cut now.
    pub fn after_power_cut(&self) -> SimDisk {
        let mut state = self.state();
        let mut names = state.durable_names.clone();
        let pending = state.unsynced_names.clone();
        let kept = usize::try_from(state.draw()).unwrap_or(0) % (pending.len() + 1);
        let mut folders = state.durable_folders.clone();
        for change in pending.iter().take(kept) {
            apply_name(&mut names, change);
            if let NameChange::Folder(name) = change {
                folders.insert(name.clone());
            }
        }
        names.retain(|name, _| reachable(&folders, name));
        folders = folders.iter().filter(|name| reachable(&folders, name)).cloned().collect();
        let files: Vec<File> = (0..state.files.len())
            .map(|index| {
                let durable = state.survivor(index);
                File { current: durable.clone(), durable, dirty: BTreeSet::new() }
            })
            .collect();
        let chance = state.draw();
        let next = SimDisk::new(chance);
        let mut fresh = next.state();
        (fresh.files, fresh.names, fresh.durable_names) = (files, names.clone(), names);
        (fresh.folders, fresh.durable_folders) = (folders.clone(), folders);
        drop(fresh);
        next
    }

    /// The disk as the next process finds it after a kill: nothing is lost, unsynced pages stay in the cache.
    pub fn after_kill(&self) -> SimDisk {
        let mut state = self.state();
        let next = SimDisk::new(state.draw());
        let mut fresh = next.state();
        let chance = fresh.chance;
        *fresh = State { chance, fault: Fault::None, operations: 0, syncs: 0, writes: 0, dead: false, ..state.clone() };
        drop(fresh);
        next
    }

    /// The content of a file now.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|file| state.files[*file].current.clone())
    }

    /// Changes a file behind everyone's back, durably: rot, or an attacker.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        if let Some(index) = state.names.get(path).copied() {
            let file = &mut state.files[index];
            change(&mut file.current);
            file.durable.clone_from(&file.current);
        }
    }

    /// Removes or renames files behind everyone's back.
    pub fn tamper_names(&self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        let mut state = self.state();
        change(&mut state.names);
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
    }

    /// An independent copy of the disk as it is.
    pub fn copy(&self) -> SimDisk {
        let state = self.state();
        let next = SimDisk::new(state.chance);
        let mut fresh = next.state();
        fresh.files.clone_from(&state.files);
        fresh.names.clone_from(&state.names);
        fresh.durable_names.clone_from(&state.names);
        (fresh.folders, fresh.durable_folders) = (state.folders.clone(), state.folders.clone());
        drop(fresh);
        next
    }
}
