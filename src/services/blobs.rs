//! Large parts beside the journal: files named by the digest of their bytes, on disk before the record that names them.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::domain::personal::{BlobRef, Personal};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::disk::{Disk, Open, join, read_bounded, replace_atomically, sweep_temporaries};

const FOLDER: &str = "artifacts/sha256";
/// Blobs that are remembered as durable; beyond it, memory begins anew.
const REMEMBERED: usize = 1 << 16;

type Sha = [u8; 32];

/// The folder of blobs.
#[derive(Clone)]
pub struct Blobs {
    disk: Arc<dyn Disk>,
    /// What is known to survive a power cut since this start.
    durable: Arc<Mutex<Durable>>,
}

#[derive(Default)]
struct Durable {
    blobs: HashSet<Sha>,
    /// Folders of blobs, by the first byte of their digests.
    folders: HashSet<u8>,
}

fn folder(digest: &str) -> String {
    join(FOLDER, digest.get(..2).unwrap_or("xx"))
}

/// Where the blob with this digest lies below the state root.
pub(super) fn path(digest: &str) -> String {
    join(&folder(digest), digest)
}

impl Blobs {
    /// Blobs below a state root.
    pub fn new(disk: Arc<dyn Disk>) -> io::Result<Self> {
        disk.create_dir("artifacts")?;
        disk.create_dir(FOLDER)?;
        disk.sync_dir("")?;
        disk.sync_dir("artifacts")?;
        Ok(Self { disk, durable: Arc::default() })
    }

    /// Removes what a start before this one left half written. Says how many files.
    pub fn sweep(&self) -> io::Result<usize> {
        let folders = self.disk.list(FOLDER)?.into_iter().filter(|entry| entry.folder);
        folders.map(|entry| sweep_temporaries(self.disk.as_ref(), &join(FOLDER, &entry.name), |_| true)).sum()
    }

    /// A text as a record may hold it: itself where it has no more bytes than that, else a blob that is on disk when this
    /// returns.
    pub async fn keep(&self, text: String, inline_bytes: usize) -> Result<Personal, Refusal> {
        if text.len() <= inline_bytes {
            return Ok(Personal::Clear(text));
        }
        let blobs = self.clone();
        match tokio::task::spawn_blocking(move || blobs.write(text.as_bytes())).await {
            Ok(Ok(blob)) => Ok(Personal::Blob { blob }),
            Ok(Err(error)) => Err(not_kept(&error)),
            Err(_) => Err(Reason::InternalError.into()),
        }
    }

    /// The bytes of a blob, if they are kept and still have their digest.
    pub fn read(&self, blob: &BlobRef) -> Option<Vec<u8>> {
        let path = path(&blob.sha256);
        let bytes = read_bounded(self.disk.as_ref(), &path, blob.bytes).ok()?;
        (HEXLOWER.encode(&Sha256::digest(&bytes)) == blob.sha256).then_some(bytes)
    }

    /// Writes a blob. When this returns, its bytes and every name on the way to them survive a power cut.
    fn write(&self, bytes: &[u8]) -> io::Result<BlobRef> {
        let sha: Sha = Sha256::digest(bytes).into();
        let sha256 = HEXLOWER.encode(&sha);
        if !self.durable().blobs.contains(&sha) {
            let folder = folder(&sha256);
            self.settle_folder(&folder, sha[0])?;
            if !self.settle_present(&folder, &sha256, bytes)? {
                replace_atomically(self.disk.as_ref(), &folder, &sha256, bytes)?;
            }
            let mut durable = self.durable();
            if durable.blobs.len() >= REMEMBERED {
                durable.blobs.clear();
            }
            durable.blobs.insert(sha);
        }
        Ok(BlobRef { sha256, bytes: bytes.len() as u64 })
    }

    fn durable(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the folder of a blob, once a start.
    fn settle_folder(&self, folder: &str, number: u8) -> io::Result<()> {
        if !self.durable().folders.contains(&number) {
            self.disk.create_dir(folder)?;
            self.disk.sync_dir(FOLDER)?;
            self.durable().folders.insert(number);
        }
        Ok(())
    }

    /// Whether these bytes stand there already; then they are made to survive: whoever wrote them may have died before
    /// their name was on disk, or may not be there yet. Anything else under the name is written anew.
    fn settle_present(&self, folder: &str, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = join(folder, name);
        let same = read_bounded(self.disk.as_ref(), &path, bytes.len() as u64).is_ok_and(|found| found == bytes);
        if same {
            self.disk.open(&path, Open::Write)?.sync()?;
            self.disk.sync_dir(folder)?;
        }
        Ok(same)
    }
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
        let Personal::Blob { blob } = blobs.keep(long(), limits::INLINE_PART_BYTES).await.unwrap() else {
            panic!("a blob")
        };
        blob
    }

    /// A state root as the next start after a power cut finds it.
    fn after_power_cut(disk: &SimDisk) -> Blobs {
        Blobs { disk: Arc::new(disk.after_power_cut()), durable: Arc::default() }
    }

    #[tokio::test]
    async fn a_long_text_is_kept_outside_and_a_changed_file_reads_as_unavailable() {
        for seed in 1..32 {
            let disk = SimDisk::new(seed);
            let blobs = Blobs::new(Arc::new(disk.clone())).unwrap();
            assert_eq!(
                blobs.keep("short".to_owned(), limits::INLINE_PART_BYTES).await.unwrap(),
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
            keep(&Blobs::new(Arc::new(disk.clone())).unwrap()).await;
            let (_, path) = blob_path();
            // Another start was killed between the name and its sync.
            let disk = disk.copy();
            let temporary = format!("{path}.tmp");
            disk.rename(&path, &temporary).unwrap();
            disk.sync_dir(path.rsplit_once('/').unwrap().0).unwrap();
            disk.rename(&temporary, &path).unwrap();
            let blobs = Blobs::new(Arc::new(disk.clone())).unwrap();
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
        keep(&Blobs::new(Arc::new(disk.clone())).unwrap()).await;
        disk.tamper(&blob_path().1, |bytes| bytes[7] ^= 1);
        let blobs = Blobs::new(Arc::new(disk.clone())).unwrap();
        let blob = keep(&blobs).await;
        assert_eq!(blobs.read(&blob), Some(long().into_bytes()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hundred_equal_texts_at_a_time_are_kept_as_one_whole_file_and_nothing_else_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = Folder::create(&temporary.path().join("root")).unwrap();
        let blobs = Blobs::new(Arc::new(disk)).unwrap();
        for round in 0..5 {
            let text = format!("{round}{}", long());
            let kept = (0..100).map(|_| blobs.keep(text.clone(), limits::INLINE_PART_BYTES));
            let kept = futures_util::future::join_all(kept).await;
            let blob = BlobRef { sha256: HEXLOWER.encode(&Sha256::digest(&text)), bytes: text.len() as u64 };
            assert_eq!(kept, vec![Ok(Personal::Blob { blob: blob.clone() }); 100]);
            assert_eq!(blobs.read(&blob), Some(text.into_bytes()));
            let names: Vec<String> =
                blobs.disk.list(&folder(&blob.sha256)).unwrap().into_iter().map(|entry| entry.name).collect();
            assert!(names.contains(&blob.sha256) && names.iter().all(|name| name.len() == 64), "{names:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_keeps_nothing_half_written_and_what_a_killed_start_left_is_swept() {
        let disk = SimDisk::new(1);
        let blobs = Blobs::new(Arc::new(disk.clone())).unwrap();
        disk.set_fault(Fault::Full(10));
        assert_eq!(blobs.keep(long(), limits::INLINE_PART_BYTES).await.unwrap_err().reason, Reason::StorageFull);
        let (sha256, path) = blob_path();
        assert_eq!(disk.list(&folder(&sha256)).unwrap(), []);
        disk.set_fault(Fault::None);
        keep(&blobs).await;
        disk.open(&format!("{path}.7.tmp"), Open::Create).unwrap();
        assert_eq!(Blobs::new(Arc::new(disk.clone())).unwrap().sweep().unwrap(), 1);
        let names: Vec<String> = disk.list(&folder(&sha256)).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [sha256]);
    }
}
