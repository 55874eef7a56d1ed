//! What the journal needs of a file system, as a trait, so that power can be lost on a simulated one.
//!
//! Paths are relative to the state root, with `/` between parts, and never leave it. Each method says what survives a
//! power cut.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Must exist; for reading.
    Read,
    /// Must exist; for reading and writing.
    Write,
    /// Must not exist; created with mode 0600. The name survives only after [`Disk::sync_dir`].
    Create,
    /// Created with mode 0600 or, where it exists, emptied.
    Replace,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Name without folder.
    pub name: String,
    /// Whether it is a plain file.
    pub plain: bool,
    /// Whether it is a folder.
    pub folder: bool,
    /// Length in bytes, for plain files.
    pub bytes: u64,
}

/// One folder tree with durable files.
pub trait Disk: Send + Sync {
    /// Opens a plain file; never follows a link, never waits on a pipe.
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what stands there. Survives after [`Disk::sync_dir`] of the folder.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Survives after [`Disk::sync_dir`] of the folder.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a folder with mode 0700 if it is absent. Survives after [`Disk::sync_dir`] of the folder above.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Entries of a folder, sorted by name.
    fn list(&self, path: &str) -> io::Result<Vec<Entry>>;
    /// Makes names in a folder survive.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
}

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Reads at an offset; fewer bytes only at the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at an offset. Survives only after [`DiskFile::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written survive, length included.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file. Only `recover_tail` and `close_segment` of the journal may.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// The same; none where no name leads to the file any more: what is written then ends with the process.
    fn named_bytes(&self) -> io::Result<Option<u64>> {
        self.bytes().map(Some)
    }
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_bounded(disk: &dyn Disk, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let bytes = file.bytes()?;
    if bytes > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{path} has {bytes} bytes, the limit is {limit}"),
        ));
    }
    let mut out = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let read = file.read_at(0, &mut out)?;
    out.truncate(read);
    Ok(out)
}

/// How the names of files end that are not yet what they will be.
pub(super) const TEMPORARY: &str = ".tmp";

/// Writes a file so that after a power cut there is either what was there before or all of the new content: temporary
/// name, sync, rename, sync of the folder. Whoever writes the same file at the same time has another temporary name; the
/// last rename counts. An error takes the temporary file away again.
pub fn replace_atomically(disk: &dyn Disk, folder: &str, name: &str, content: &[u8]) -> io::Result<()> {
    let (temporary, file) = create_temporary(disk, folder, name)?;
    let written = file.write_at(0, content).and_then(|()| file.sync());
    if let Err(error) = written.and_then(|()| disk.rename(&temporary, &join(folder, name))) {
        // What cannot be removed now is swept at the next start.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.sync_dir(folder)
}

/// Makes a file under a name that nobody has, neither another thread nor a process that died.
fn create_temporary(disk: &dyn Disk, folder: &str, name: &str) -> io::Result<(String, Arc<dyn DiskFile>)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = join(folder, &format!("{name}.{number}{TEMPORARY}"));
        match disk.open(&path, Open::Create) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((path, opened?)),
        }
    }
}

/// The file that a name is a temporary one of, as [`replace_atomically`] gives them; none for every other name.
pub fn temporary_of(name: &str) -> Option<&str> {
    let (file, number) = name.strip_suffix(TEMPORARY)?.rsplit_once('.')?;
    let counted = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (counted && !file.is_empty()).then_some(file)
}

/// Removes what writers that died have left of these files in a folder; only while nobody else writes there. Says how
/// many files. Temporary files of anybody else stay.
pub fn sweep_temporaries(disk: &dyn Disk, folder: &str, ours: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut removed = 0;
    for entry in disk.list(folder)? {
        if entry.plain && temporary_of(&entry.name).is_some_and(&ours) {
            disk.remove(&join(folder, &entry.name))?;
            removed += 1;
        }
    }
    if removed > 0 {
        disk.sync_dir(folder)?;
    }
    Ok(removed)
}

/// `folder/name`, or the name alone at the top.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
