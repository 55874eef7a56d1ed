//! Large parts beside the journal: files named by the digest of their bytes, on disk before the record that names them.
//! One that was made for a request which is then refused goes again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::domain::ids::SubjectKeyId;
use crate::domain::personal::{BlobRef, Personal};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::disk::{Disk, Open, join, read_bounded, replace_atomically, sweep_temporaries};
use crate::vault::subject::Subjects;

const FOLDER: &str = "artifacts/sha256";
/// Blobs that are remembered as durable; beyond it, memory begins anew.
const REMEMBERED: usize = 1 << 16;

type Sha = [u8; 32];

/// The folder of blobs.
#[derive(Clone)]
pub struct Blobs {
    disk: Arc<dyn Disk>,
    subjects: Subjects,
    known: Arc<Mutex<Known>>,
    /// Held while something is removed.
    removing: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Known {
    /// What is known to survive a power cut since this start.
    durable: HashSet<Sha>,
    /// Folders of blobs, by the first byte of their digests.
    folders: HashSet<u8>,
    /// Blobs that somebody on the way to a record holds.
    held: HashMap<Sha, Held>,
}

#[derive(Default)]
struct Held {
    holders: usize,
    /// Whether one of the holders made the file.
    made: bool,
    /// Whether a record may name it.
    named: bool,
}

/// A text as a record may hold it. A blob of it stays, unless everybody who held it meanwhile was refused.
pub struct Kept {
    /// The text.
    pub part: Personal,
    hold: Option<Hold>,
}

/// One holder of a blob.
struct Hold {
    blobs: Blobs,
    sha: Sha,
    refused: bool,
}

impl From<Personal> for Kept {
    fn from(part: Personal) -> Self {
        Self { part, hold: None }
    }
}

/// Lets go of what was kept for a request of which surely no record was made.
pub async fn refused(kept: Vec<Kept>) {
    let mut holds: Vec<Hold> = kept.into_iter().filter_map(|kept| kept.hold).collect();
    if holds.is_empty() {
        return;
    }
    let gone = tokio::task::spawn_blocking(move || {
        for hold in &mut holds {
            hold.refused = true;
        }
        drop(holds);
    });
    let _ = gone.await;
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.blobs.let_go(self.sha, self.refused);
    }
}

fn folder(digest: &str) -> String {
    join(FOLDER, digest.get(..2).unwrap_or("xx"))
}

/// Where the blob with this digest lies below the state root.
pub(super) fn path(digest: &str) -> String {
    join(&folder(digest), digest)
}

impl Blobs {
    /// Blobs below a state root, some of them under keys of sessions.
    pub fn new(disk: Arc<dyn Disk>, subjects: Subjects) -> io::Result<Self> {
        disk.create_dir("artifacts")?;
        disk.create_dir(FOLDER)?;
        disk.sync_dir("")?;
        disk.sync_dir("artifacts")?;
        Ok(Self { disk, subjects, known: Arc::default(), removing: Arc::default() })
    }

    /// Removes what a start before this one left half written. Says how many files.
    pub fn sweep(&self) -> io::Result<usize> {
        let folders = self.disk.list(FOLDER)?.into_iter().filter(|entry| entry.folder);
        folders.map(|entry| sweep_temporaries(self.disk.as_ref(), &join(FOLDER, &entry.name), |_| true)).sum()
    }

    /// A text as a record may hold it: itself where it has no more bytes than that, else a blob that is on disk when this
    /// returns.
    pub async fn keep(&self, text: String, inline_bytes: usize, key: Option<SubjectKeyId>) -> Result<Kept, Refusal> {
        // A blank text is nobody's, and is refused by whoever sees that it is blank.
        let key = key.filter(|_| !text.trim().is_empty());
        let inline = text.len() <= inline_bytes;
        if inline && key.is_none() {
            return Ok(Personal::Clear(text).into());
        }
        let blobs = self.clone();
        let work = move || match key {
            Some(key) if inline => Ok(Personal::Sealed { sealed: blobs.subjects.seal(key, &text)? }.into()),
            Some(key) => blobs.put(&blobs.subjects.seal_blob(key, &text)?),
            None => blobs.put(text.as_bytes()),
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Reason::InternalError)?
    }

    fn put(&self, bytes: &[u8]) -> Result<Kept, Refusal> {
        let (blob, hold) = self.write(bytes).map_err(|error| not_kept(&error))?;
        Ok(Kept { part: Personal::Blob { blob }, hold: Some(hold) })
    }

    /// Keys of sessions' words.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// The words of a blob, if it is kept, still has its digest, and its key is not destroyed.
    pub fn read(&self, blob: &BlobRef) -> Option<Vec<u8>> {
        let path = path(&blob.sha256);
        let bytes = read_bounded(self.disk.as_ref(), &path, blob.bytes).ok()?;
        let same = HEXLOWER.encode(&Sha256::digest(&bytes)) == blob.sha256;
        same.then_some(bytes).and_then(|bytes| self.subjects.open_blob(bytes))
    }

    /// Writes a blob. When this returns, its bytes and every name on the way to them survive a power cut.
    fn write(&self, bytes: &[u8]) -> io::Result<(BlobRef, Hold)> {
        let sha: Sha = Sha256::digest(bytes).into();
        let sha256 = HEXLOWER.encode(&sha);
        let (mut hold, durable) = {
            // Nobody begins to hold what is being removed.
            let _removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
            self.hold(sha)
        };
        if !durable {
            // What cannot be written is named by nobody.
            hold.refused = true;
            let folder = folder(&sha256);
            self.settle_folder(&folder, sha[0])?;
            let found = self.settle_present(&folder, &sha256, bytes)?;
            if found != Found::Same {
                replace_atomically(self.disk.as_ref(), &folder, &sha256, bytes)?;
            }
            let mut known = self.known();
            if known.durable.len() >= REMEMBERED {
                known.durable.clear();
            }
            known.durable.insert(sha);
            // What stood there before may be named by a record, whatever became of its bytes.
            known.held.entry(sha).or_default().made |= found == Found::Nothing;
            hold.refused = false;
        }
        Ok((BlobRef { sha256, bytes: bytes.len() as u64 }, hold))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One holder more. Also says whether the blob is known to be durable.
    fn hold(&self, sha: Sha) -> (Hold, bool) {
        let mut known = self.known();
        known.held.entry(sha).or_default().holders += 1;
        (Hold { blobs: self.clone(), sha, refused: false }, known.durable.contains(&sha))
    }

    /// One holder less. The last removes what was made and no record can name; nobody begins to hold it meanwhile. Who was
    /// not refused removes nothing, and waits for no disk.
    fn let_go(&self, sha: Sha, refused: bool) {
        let _removing = refused.then(|| self.removing.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known = self.known();
        let Some(held) = known.held.get_mut(&sha) else { return };
        held.holders -= 1;
        held.named |= !refused;
        if held.holders > 0 {
            return;
        }
        let unneeded = held.made && !held.named;
        known.held.remove(&sha);
        if unneeded {
            known.durable.remove(&sha);
            drop(known);
            if let Err(error) = self.disk.remove(&path(&HEXLOWER.encode(&sha))) {
                tracing::warn!(%error, "what was kept for a refused request stays on disk");
            }
        }
    }

    /// Makes the folder of a blob, once a start.
    fn settle_folder(&self, folder: &str, number: u8) -> io::Result<()> {
        if !self.known().folders.contains(&number) {
            self.disk.create_dir(folder)?;
            self.disk.sync_dir(FOLDER)?;
            self.known().folders.insert(number);
        }
        Ok(())
    }

    /// What stands there already. The same bytes are made to survive: whoever wrote them may have died before their name was
    /// on disk, or may not be there yet. Anything else under the name is written anew.
    fn settle_present(&self, folder: &str, name: &str, bytes: &[u8]) -> io::Result<Found> {
        let path = join(folder, name);
        match read_bounded(self.disk.as_ref(), &path, bytes.len() as u64) {
            Ok(found) if found == bytes => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Ok(_) | Err(_) => return Ok(Found::Other),
        }
        self.disk.open(&path, Open::Write)?.sync()?;
        self.disk.sync_dir(folder)?;
        Ok(Found::Same)
    }
}

/// What stands under a blob's name.
#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Same,
    Other,
}

fn not_kept(error: &io::Error) -> Refusal {
    let detail = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Refusal::new(Reason::StorageFull, detail).retry_after_ms(1_000)
        }
        io::ErrorKind::ReadOnlyFilesystem => Refusal::new(Reason::StorageReadOnly, detail).retry_after_ms(10_000),
        _ => Refusal::new(Reason::StorageJournalUnavailable, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits;
    use crate::platform::files::Folder;
    use crate::platform::sim_disk::{Fault, SimDisk};

    fn long() -> String {
        "ä".repeat(limits::INLINE_PART_BYTES)
    }

    async fn keep(blobs: &Blobs) -> BlobRef {
        named(&blobs.keep(long(), limits::INLINE_PART_BYTES, None).await.unwrap())
    }

    fn named(kept: &Kept) -> BlobRef {
        let Personal::Blob { blob } = &kept.part else { panic!("a blob") };
        blob.clone()
    }

    /// A state root as the next start after a power cut finds it.
    fn after_power_cut(disk: &SimDisk) -> Blobs {
        Blobs {
            disk: Arc::new(disk.after_power_cut()),
            subjects: Subjects::default(),
            known: Arc::default(),
            removing: Arc::default(),
        }
    }

    #[tokio::test]
    async fn a_long_text_is_kept_outside_and_a_changed_file_reads_as_unavailable() {
        for seed in 1..32 {
            let disk = SimDisk::new(seed);
            let blobs = Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap();
            assert_eq!(
                blobs.keep("short".to_owned(), limits::INLINE_PART_BYTES, None).await.unwrap().part,
                Personal::Clear("short".to_owned())
            );
            let blob = keep(&blobs).await;
            assert_eq!(blobs.read(&blob), Some(long().into_bytes()));
            assert!(after_power_cut(&disk).read(&blob).is_some(), "it must be on disk before a record names it");
            disk.tamper(&join(&folder(&blob.sha256), &blob.sha256), |bytes| bytes[7] ^= 1);
            assert_eq!(blobs.read(&blob), None);
        }
    }

    #[tokio::test]
    async fn a_text_that_stands_there_without_a_durable_name_is_made_durable_before_it_counts_as_kept() {
        for seed in 1..32 {
            let disk = SimDisk::new(seed);
            keep(&Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap()).await;
            let (_, path) = blob_path();
            // Another start was killed between the name and its sync.
            let disk = disk.copy();
            let temporary = format!("{path}.tmp");
            disk.rename(&path, &temporary).unwrap();
            disk.sync_dir(path.rsplit_once('/').unwrap().0).unwrap();
            disk.rename(&temporary, &path).unwrap();
            let blobs = Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap();
            let blob = keep(&blobs).await;
            assert!(after_power_cut(&disk).read(&blob).is_some(), "seed {seed}");
        }
    }

    fn blob_path() -> (String, String) {
        let sha256 = HEXLOWER.encode(&Sha256::digest(long()));
        let path = join(&folder(&sha256), &sha256);
        (sha256, path)
    }

    #[tokio::test]
    async fn a_rotten_blob_is_written_anew_where_its_text_is_kept_again() {
        let disk = SimDisk::new(1);
        keep(&Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap()).await;
        disk.tamper(&blob_path().1, |bytes| bytes[7] ^= 1);
        let blobs = Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap();
        let blob = keep(&blobs).await;
        assert_eq!(blobs.read(&blob), Some(long().into_bytes()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hundred_equal_texts_at_a_time_are_kept_as_one_whole_file_and_nothing_else_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = Folder::create(&temporary.path().join("root")).unwrap();
        let blobs = Blobs::new(Arc::new(disk), Subjects::default()).unwrap();
        for round in 0..5 {
            let text = format!("{round}{}", long());
            let kept = (0..100).map(|_| blobs.keep(text.clone(), limits::INLINE_PART_BYTES, None));
            let kept = futures_util::future::join_all(kept).await;
            let blob = BlobRef { sha256: HEXLOWER.encode(&Sha256::digest(&text)), bytes: text.len() as u64 };
            let kept: Vec<BlobRef> = kept.into_iter().map(|kept| named(&kept.unwrap())).collect();
            assert_eq!(kept, vec![blob.clone(); 100]);
            assert_eq!(blobs.read(&blob), Some(text.into_bytes()));
            let names: Vec<String> =
                blobs.disk.list(&folder(&blob.sha256)).unwrap().into_iter().map(|entry| entry.name).collect();
            assert!(names.contains(&blob.sha256) && names.iter().all(|name| name.len() == 64), "{names:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_keeps_nothing_half_written_and_what_a_killed_start_left_is_swept() {
        let disk = SimDisk::new(1);
        let blobs = Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap();
        disk.set_fault(Fault::Full(10));
        let refusal = blobs.keep(long(), limits::INLINE_PART_BYTES, None).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::StorageFull);
        let (sha256, path) = blob_path();
        assert_eq!(disk.list(&folder(&sha256)).unwrap(), []);
        disk.set_fault(Fault::None);
        keep(&blobs).await;
        disk.open(&format!("{path}.7.tmp"), Open::Create).unwrap();
        assert_eq!(Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap().sweep().unwrap(), 1);
        let names: Vec<String> = disk.list(&folder(&sha256)).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [sha256]);
    }

    #[tokio::test]
    async fn a_blob_of_a_refused_request_goes_unless_it_stood_there_before_or_someone_else_may_name_it() {
        let disk = SimDisk::new(1);
        let blobs = Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap();
        let (_, path) = blob_path();
        let kept = |blobs: Blobs| async move { blobs.keep(long(), limits::INLINE_PART_BYTES, None).await.unwrap() };
        let there = || disk.open(&path, Open::Read).is_ok();
        refused(vec![kept(blobs.clone()).await, kept(blobs.clone()).await]).await;
        assert!(!there(), "the last of them takes it away");
        let (first, second) = (kept(blobs.clone()).await, kept(blobs.clone()).await);
        assert!(after_power_cut(&disk).read(&named(&first)).is_some(), "it is made again");
        refused(vec![first]).await;
        assert!(there(), "another still holds it");
        drop(second);
        refused(vec![kept(blobs.clone()).await]).await;
        assert!(there(), "a record may name it");
        // A later start does not know who names it.
        let later = Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap();
        refused(vec![kept(later.clone()).await]).await;
        disk.tamper(&path, |bytes| bytes[7] ^= 1);
        refused(vec![kept(Blobs::new(Arc::new(disk.clone()), Subjects::default()).unwrap()).await]).await;
        assert!(there());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_equal_texts_at_a_time_the_one_that_is_not_refused_is_there_and_of_two_refused_none() {
        let temporary = tempfile::tempdir().unwrap();
        let blobs =
            Blobs::new(Arc::new(Folder::create(&temporary.path().join("root")).unwrap()), Subjects::default()).unwrap();
        for round in 0..300 {
            let text = format!("{round}{}", long());
            let one = |refuse: bool| {
                let (blobs, text) = (&blobs, text.clone());
                async move {
                    let kept = blobs.keep(text, limits::INLINE_PART_BYTES, None).await.unwrap();
                    let blob = named(&kept);
                    if refuse {
                        refused(vec![kept]).await;
                    } else {
                        assert!(blobs.read(&blob).is_some(), "it is there for as long as it is held");
                    }
                    blob
                }
            };
            let accepted = round % 3 > 0;
            let (blob, _) = tokio::join!(one(true), one(!accepted));
            assert_eq!(blobs.read(&blob).is_some(), accepted, "round {round}");
        }
        assert!(blobs.known().held.is_empty());
    }
}
