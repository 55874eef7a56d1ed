//! Large parts beside the journal: files named by the digest of their bytes, on disk before the record that names them.

use std::io;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::domain::limits;
use crate::domain::personal::{BlobRef, Personal};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::disk::{Disk, Open, join, read_bounded, replace_atomically};

const FOLDER: &str = "artifacts/sha256";

/// The folder of blobs.
#[derive(Clone)]
pub struct Blobs {
    disk: Arc<dyn Disk>,
}

fn folder(digest: &str) -> String {
    join(FOLDER, digest.get(..2).unwrap_or("xx"))
}

impl Blobs {
    /// Blobs below a state root.
    pub fn new(disk: Arc<dyn Disk>) -> io::Result<Self> {
        disk.create_dir("artifacts")?;
        disk.create_dir(FOLDER)?;
        Ok(Self { disk })
    }

    /// A text as a record may hold it: itself where it is short, else a blob that is on disk when this returns.
    pub async fn keep(&self, text: String) -> Result<Personal, Refusal> {
        if text.len() <= limits::INLINE_PART_BYTES {
            return Ok(Personal::Clear(text));
        }
        let disk = Arc::clone(&self.disk);
        let written = tokio::task::spawn_blocking(move || write(disk.as_ref(), text.as_bytes())).await;
        match written {
            Ok(Ok(blob)) => Ok(Personal::Blob { blob }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {
                Err(Refusal::new(Reason::StorageFull, error.to_string()).retry_after_ms(1_000))
            }
            Ok(Err(error)) => Err(Refusal::new(Reason::StorageJournalUnavailable, error.to_string())),
            Err(_) => Err(Reason::InternalError.into()),
        }
    }

    /// The bytes of a blob, if they are kept and still have their digest.
    pub fn read(&self, blob: &BlobRef) -> Option<Vec<u8>> {
        let path = join(&folder(&blob.sha256), &blob.sha256);
        let bytes = read_bounded(self.disk.as_ref(), &path, blob.bytes).ok()?;
        (HEXLOWER.encode(&Sha256::digest(&bytes)) == blob.sha256).then_some(bytes)
    }
}

fn write(disk: &dyn Disk, bytes: &[u8]) -> io::Result<BlobRef> {
    let sha256 = HEXLOWER.encode(&Sha256::digest(bytes));
    let folder = folder(&sha256);
    let present =
        disk.open(&join(&folder, &sha256), Open::Read).is_ok_and(|file| file.bytes().ok() == Some(bytes.len() as u64));
    if !present {
        disk.create_dir(&folder)?;
        disk.sync_dir(FOLDER)?;
        replace_atomically(disk, &folder, &sha256, bytes)?;
    }
    Ok(BlobRef { sha256, bytes: bytes.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::sim_disk::SimDisk;

    #[tokio::test]
    async fn a_long_text_is_kept_outside_and_a_changed_file_reads_as_unavailable() {
        let disk = SimDisk::new(1);
        let blobs = Blobs::new(Arc::new(disk.clone())).unwrap();
        assert_eq!(blobs.keep("short".to_owned()).await.unwrap(), Personal::Clear("short".to_owned()));
        let long = "ä".repeat(limits::INLINE_PART_BYTES);
        let Personal::Blob { blob } = blobs.keep(long.clone()).await.unwrap() else { panic!("a blob") };
        assert_eq!(blobs.read(&blob), Some(long.into_bytes()));
        let after = Blobs { disk: Arc::new(disk.after_power_cut()) };
        assert!(after.read(&blob).is_some(), "it must be on disk before a record names it");
        disk.tamper(&join(&folder(&blob.sha256), &blob.sha256), |bytes| bytes[7] ^= 1);
        assert_eq!(blobs.read(&blob), None);
    }
}
