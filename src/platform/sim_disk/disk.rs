//! The simulated disk as the house uses it: files and names, each operation counted, and failing when it is its turn.

use std::io;
use std::sync::Arc;

use super::{Fault, File, NameChange, SECTOR, SimDisk, Syncing, apply_name, cut};
use crate::platform::disk::{Disk, DiskFile, Entry, Open};

impl Disk for SimDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.dead {
            return Err(cut());
        }
        state.openings += 1;
        if let Fault::OpenError(number, errno) = state.fault
            && number == state.openings
        {
            return Err(errno.into());
        }
        let index = match (state.names.get(path).copied(), how) {
            (Some(_), Open::Write) if state.fault == Fault::ReadOnly => {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            (None, Open::Read | Open::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(_), Open::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(index), Open::Replace) => {
                if state.step()? {
                    return Err(cut());
                }
                state.files[index].current.clear();
                state.files[index].dirty.clear();
                index
            }
            (Some(index), Open::Read | Open::Write) => index,
            (None, Open::Create | Open::Replace) => {
                let index = state.files.len();
                state.change_name(NameChange::Link(path.to_owned(), index))?;
                state.files.push(File::default());
                index
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), index }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        if state.fault == Fault::NamesFull {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Unlink(path.to_owned()))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.fault == Fault::ReadOnly && !state.folders.contains(path) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if state.folders.insert(path.to_owned()) {
            state.unsynced_names.push(NameChange::Folder(path.to_owned()));
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let inside = |name: &str| -> Option<String> {
            let rest = if path.is_empty() { name } else { name.strip_prefix(path)?.strip_prefix('/')? };
            (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned())
        };
        let files = state.names.iter().filter_map(|(name, file)| {
            let bytes = state.files[*file].current.len() as u64;
            Some(Entry { name: inside(name)?, plain: true, folder: false, bytes })
        });
        let folders = state
            .folders
            .iter()
            .filter_map(|name| Some(Entry { name: inside(name)?, plain: false, folder: true, bytes: 0 }));
        let mut entries: Vec<Entry> = files.chain(folders).collect();
        entries.sort();
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        match state.sync_step()? {
            Syncing::Done => return Ok(()),
            Syncing::Failed => return Err(rustix::io::Errno::IO.into()),
            Syncing::Due => {}
        }
        let within = |name: &str| name.rsplit_once('/').map_or("", |(folder, _)| folder) == path;
        let pending = std::mem::take(&mut state.unsynced_names);
        for change in pending {
            let here = match &change {
                NameChange::Link(name, _)
                | NameChange::Unlink(name)
                | NameChange::Rename(name, _, _)
                | NameChange::Folder(name) => within(name),
            };
            if here {
                apply_name(&mut state.durable_names, &change);
                if let NameChange::Folder(name) = change {
                    state.durable_folders.insert(name);
                }
            } else {
                state.unsynced_names.push(change);
            }
        }
        Ok(())
    }
}

/// A file of the simulated disk.
struct SimFile {
    disk: SimDisk,
    index: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let content = &state.files[self.index].current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let n = out.len().min(content.len() - start);
        out[..n].copy_from_slice(&content[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let dying = state.step()?;
        state.writes += 1;
        let failing = state.fault == Fault::WriteError(state.writes);
        let mut room = bytes.len();
        let capped = match state.fault {
            Fault::Full(capacity) => Some((capacity, rustix::io::Errno::NOSPC)),
            Fault::Capped(capacity, errno) => Some((capacity, errno)),
            Fault::None
            | Fault::PowerCut(_)
            | Fault::SyncError(_)
            | Fault::WriteError(_)
            | Fault::NamesFull
            | Fault::OpenError(..)
            | Fault::ReadOnly => None,
        };
        if let Some((capacity, _)) = capped {
            let end = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(bytes.len());
            let growth = end.saturating_sub(state.files[self.index].current.len());
            let free = capacity.saturating_sub(state.used());
            room = bytes.len() - growth.saturating_sub(free).min(bytes.len());
        }
        if dying || failing {
            room = bytes.len() / 2;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if room > 0 {
            let File { current, dirty, .. } = &mut state.files[self.index];
            if current.len() < start + room {
                current.resize(start + room, 0);
            }
            current[start..start + room].copy_from_slice(&bytes[..room]);
            dirty.extend(start / SECTOR..=(start + room - 1) / SECTOR);
        }
        match (dying, failing) {
            (true, _) => Err(cut()),
            (false, true) => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            (false, false) => match capped {
                Some((_, errno)) if room < bytes.len() => Err(io::Error::from_raw_os_error(errno.raw_os_error())),
                Some(_) | None => Ok(()),
            },
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.sync_step()? {
            Syncing::Done => {}
            Syncing::Failed => {
                state.files[self.index].dirty.clear();
                return Err(rustix::io::Errno::IO.into());
            }
            Syncing::Due => state.files[self.index].flush(),
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.step()? {
            return Err(cut());
        }
        state.files[self.index].current.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.index].current.len() as u64)
    }

    fn named_bytes(&self) -> io::Result<Option<u64>> {
        let state = self.disk.state();
        let named = state.names.values().any(|index| *index == self.index);
        Ok(named.then(|| state.files[self.index].current.len() as u64))
    }
}
