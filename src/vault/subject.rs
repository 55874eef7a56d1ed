//! Keys of subjects: 32 random bytes each, encrypted under the master key, in a file of its own. A subject's words stand in
//! records and blobs under its key only, so destroying that one file erases them and changes no record.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::{BASE64, HEXLOWER};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::master_key::{KEY_BYTES, MasterKey, joined};
use super::store::{unencrypted, unwritten};
use crate::domain::ids::SubjectKeyId;
use crate::domain::personal::SealedPart;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::disk::{Disk, Open, join, read_bounded, replace_atomically, sweep_temporaries};
use crate::platform::entropy::Entropy;

/// The folder of the files, below the state root.
pub const FOLDER: &str = "auth/subjects";
/// Largest file of a key, bytes.
const FILE_BYTES: u64 = 8 << 10;
/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;
/// How an encrypted blob begins: no text does, for it is no UTF-8. The key's id follows, the nonce, and the ciphertext.
const BLOB: &[u8] = b"\xffchancery sealed blob 1\n";
/// Keys that are remembered; beyond it, memory begins anew.
const REMEMBERED: usize = 1 << 14;

/// The keys of a state root's subjects; none where there is no master key. Clones share them.
#[derive(Clone, Default)]
pub struct Subjects(Option<Arc<Inner>>);

struct Inner {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    master: MasterKey,
    check: String,
    /// Keys in use; none of a key that was destroyed, whatever its file still holds.
    open: Mutex<BTreeMap<SubjectKeyId, Option<MasterKey>>>,
}

type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    format: u32,
    org: String,
    key: SubjectKeyId,
    /// The key under each master key that opens it: one, or two while the master key is being changed.
    wraps: Vec<Wrap>,
}

#[derive(Serialize, Deserialize)]
struct Wrap {
    /// Check value of the master key.
    check: String,
    nonce: String,
    ciphertext: String,
}

/// Names of the files of keys.
pub fn names(disk: &dyn Disk) -> Result<Vec<String>, Refusal> {
    match disk.list(FOLDER) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).filter(|name| id_of(name).is_some()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Refusal::new(Reason::StorageAuditUnavailable, format!("reading {FOLDER}: {error}"))),
    }
}

fn id_of(name: &str) -> Option<SubjectKeyId> {
    SubjectKeyId::parse(name.strip_suffix(".json")?).ok()
}

fn name_of(id: SubjectKeyId) -> String {
    format!("{id}.json")
}

fn aead(key: &MasterKey, parts: &[&[u8]]) -> Result<LessSafeKey, Refusal> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    key.derive(parts, &mut bytes);
    UnboundKey::new(&AES_256_GCM, bytes.as_ref()).map(LessSafeKey::new).map_err(|_| unencrypted())
}

/// Encrypts bytes for one purpose, which the parts name together. Nonce first.
fn encrypt(key: &MasterKey, parts: &[&[u8]], clear: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, Refusal> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    let mut bytes = clear.to_vec();
    let aad = Aad::from(joined(parts));
    let sealed = aead(key, parts)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes)
        .map(|()| bytes);
    Ok([&nonce, sealed.map_err(|_| unencrypted())?.as_slice()].concat())
}

fn decrypt(key: &MasterKey, parts: &[&[u8]], nonce: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = ciphertext.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let clear = aead(key, parts).ok()?.open_in_place(nonce, Aad::from(joined(parts)), &mut bytes).ok()?.len();
    bytes.truncate(clear);
    Some(bytes)
}

impl KeyFile {
    fn parts(&self) -> [Vec<u8>; 3] {
        [b"subject".to_vec(), self.org.clone().into_bytes(), self.key.to_string().into_bytes()]
    }

    /// The key under one master key more.
    fn wrap(&mut self, key: &KeyBytes, (master, check): (&MasterKey, &str), by: &dyn Entropy) -> Result<(), Refusal> {
        let sealed = encrypt(master, &self.parts().each_ref().map(Vec::as_slice), key.as_ref(), by)?;
        let (nonce, ciphertext) = sealed.split_at(NONCE_LEN);
        let check = check.to_owned();
        self.wraps.push(Wrap { check, nonce: BASE64.encode(nonce), ciphertext: BASE64.encode(ciphertext) });
        Ok(())
    }

    fn unwrap(&self, (master, check): (&MasterKey, &str)) -> Option<KeyBytes> {
        let wrap = self.wraps.iter().find(|wrap| wrap.check == check)?;
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let parts = self.parts();
        let parts = parts.each_ref().map(Vec::as_slice);
        let clear = Zeroizing::new(decrypt(master, &parts, &bytes(&wrap.nonce)?, &bytes(&wrap.ciphertext)?)?);
        clear.as_slice().try_into().ok().map(Zeroizing::new)
    }
}

impl Inner {
    fn own(&self) -> (&MasterKey, &str) {
        (&self.master, &self.check)
    }

    fn read(&self, id: SubjectKeyId) -> Result<KeyFile, Refusal> {
        let corrupt = |what: &str| Refusal::new(Reason::VaultSlotCorrupt, format!("The key {id} {what}."));
        let bytes = match read_bounded(self.disk.as_ref(), &join(FOLDER, &name_of(id)), FILE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(corrupt("is not kept any more")),
            read => read.map_err(|error| corrupt(&format!("cannot be read: {error}")))?,
        };
        let file: KeyFile = serde_json::from_slice(&bytes).map_err(|_| corrupt("is damaged"))?;
        if file.format == FORMAT && file.key == id { Ok(file) } else { Err(corrupt("is damaged")) }
    }

    fn bytes_of(&self, file: &KeyFile) -> Result<KeyBytes, Refusal> {
        let corrupt = || Refusal::new(Reason::VaultSlotCorrupt, format!("The key {} does not open.", file.key));
        file.unwrap(self.own()).ok_or_else(corrupt)
    }

    fn write(&self, file: &KeyFile) -> Result<(), Refusal> {
        let bytes = serde_json::to_vec(file).map_err(|_| unencrypted())?;
        replace_atomically(self.disk.as_ref(), FOLDER, &name_of(file.key), &bytes).map_err(|error| unwritten(&error))
    }

    fn key(&self, id: SubjectKeyId) -> Result<MasterKey, Refusal> {
        // Held while the file is read: what is being destroyed is not remembered again.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = open.get(&id) {
            let destroyed = || Refusal::new(Reason::VaultSlotCorrupt, format!("The key {id} was destroyed."));
            return key.clone().ok_or_else(destroyed);
        }
        let key = MasterKey::of_bytes(self.bytes_of(&self.read(id)?)?.as_ref());
        if open.len() >= REMEMBERED {
            open.retain(|_, key| key.is_none());
        }
        open.insert(id, Some(key.clone()));
        Ok(key)
    }

    fn destroy(&self, id: SubjectKeyId) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, None);
        let path = join(FOLDER, &name_of(id));
        let file = match self.disk.open(&path, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let bytes = usize::try_from(file.bytes()?.min(FILE_BYTES)).unwrap_or(0);
        file.write_at(0, &vec![0; bytes])?;
        file.sync()?;
        self.disk.remove(&path)?;
        self.disk.sync_dir(FOLDER)
    }
}

impl Subjects {
    /// The keys below a state root, under this master key of that root. A key that opens none of them is refused.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        entropy: &Arc<dyn Entropy>,
        (master, check): (&MasterKey, &str),
    ) -> Result<Self, Refusal> {
        let (disk, entropy) = (Arc::clone(disk), Arc::clone(entropy));
        let names = names(disk.as_ref())?;
        let inner = Inner { disk, entropy, master: master.clone(), check: check.to_owned(), open: Mutex::default() };
        let known = |name: &String| id_of(name).and_then(|id| inner.read(id).ok());
        let mut files = names.iter().filter_map(known).take(1);
        if files.any(|file| file.wraps.iter().all(|wrap| wrap.check != check)) {
            let detail = format!("The keys in {FOLDER} are encrypted under another master key.");
            return Err(Refusal::new(Reason::StateRootMasterKeyMismatch, detail));
        }
        if !names.is_empty() {
            // A file that somebody died over while the master key was changed holds a key, too.
            let swept = sweep_temporaries(inner.disk.as_ref(), FOLDER, |name| id_of(name).is_some());
            swept.map_err(|error| unwritten(&error))?;
        }
        Ok(Self(Some(Arc::new(inner))))
    }

    fn inner(&self) -> Result<&Inner, Refusal> {
        self.0.as_deref().ok_or_else(|| Reason::VaultLocked.into())
    }

    /// Refuses where no key can be made.
    pub fn ready(&self) -> Result<(), Refusal> {
        self.inner().map(drop)
    }

    /// Makes a key, which is on disk when this returns.
    pub fn make(&self, org: &str) -> Result<SubjectKeyId, Refusal> {
        let inner = self.inner()?;
        let folder = inner.disk.create_dir(FOLDER).and_then(|()| inner.disk.sync_dir(super::store::FOLDER));
        folder.map_err(|error| unwritten(&error))?;
        let id = SubjectKeyId::from_ulid(ulid::Ulid(inner.entropy.u128()));
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        inner.entropy.fill(key.as_mut());
        let mut file = KeyFile { format: FORMAT, org: org.to_owned(), key: id, wraps: Vec::new() };
        file.wrap(&key, inner.own(), inner.entropy.as_ref())?;
        inner.write(&file).map(|()| id)
    }

    /// Encrypts words that stand in a record.
    pub fn seal(&self, id: SubjectKeyId, text: &str) -> Result<SealedPart, Refusal> {
        let (inner, key) = (self.inner()?, id.to_string());
        let parts: [&[u8]; 2] = [b"part", key.as_bytes()];
        let sealed = encrypt(&inner.key(id)?, &parts, text.as_bytes(), inner.entropy.as_ref())?;
        let (nonce, ct) = sealed.split_at(NONCE_LEN);
        Ok(SealedPart { nonce: BASE64.encode(nonce), ct: BASE64.encode(ct), key })
    }

    /// The words of a part of a record; none once its key is destroyed.
    pub fn open_part(&self, part: &SealedPart) -> Option<String> {
        let key = self.inner().ok()?.key(SubjectKeyId::parse(&part.key).ok()?).ok()?;
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let parts: [&[u8]; 2] = [b"part", part.key.as_bytes()];
        String::from_utf8(decrypt(&key, &parts, &bytes(&part.nonce)?, &bytes(&part.ct)?)?).ok()
    }

    /// Encrypts words that are kept as a blob.
    pub fn seal_blob(&self, id: SubjectKeyId, text: &str) -> Result<Vec<u8>, Refusal> {
        let (inner, name) = (self.inner()?, id.to_string());
        let parts: [&[u8]; 2] = [b"blob", name.as_bytes()];
        let sealed = encrypt(&inner.key(id)?, &parts, text.as_bytes(), inner.entropy.as_ref())?;
        Ok([BLOB, name.as_bytes(), &sealed].concat())
    }

    /// The bytes of a blob: as they are where they are not encrypted; none once their key is destroyed.
    pub fn open_blob(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let Some(sealed) = bytes.strip_prefix(BLOB) else { return Some(bytes) };
        let (name, sealed) = sealed.split_at_checked(SubjectKeyId::LENGTH)?;
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
        let id = SubjectKeyId::parse(std::str::from_utf8(name).ok()?).ok()?;
        decrypt(&self.inner().ok()?.key(id).ok()?, &[b"blob", name], nonce, ciphertext)
    }

    /// A keyed hash, hex: the same each time, and nobody's guess once the key is destroyed.
    pub fn keyed_hash(&self, id: SubjectKeyId, text: &str) -> Result<String, Refusal> {
        let mut hash = [0; 32];
        self.inner()?.key(id)?.derive(&[b"hash", text.as_bytes()], &mut hash);
        Ok(HEXLOWER.encode(&hash))
    }

    /// Destroys a key: when this returns, its file is overwritten and gone. One that is gone already is no fault.
    pub fn destroy(&self, id: SubjectKeyId) -> Result<(), Refusal> {
        // Without a master key there is no file: the start would have been refused.
        self.0.as_deref().map_or(Ok(()), |inner| inner.destroy(id).map_err(|error| unwritten(&error)))
    }

    /// Destroys what is still kept of keys that records say are destroyed. Says how many files.
    pub fn finish(&self, erased: impl Fn(SubjectKeyId) -> bool) -> Result<usize, Refusal> {
        let Some(inner) = self.0.as_deref() else { return Ok(0) };
        let left: Vec<SubjectKeyId> =
            names(inner.disk.as_ref())?.iter().filter_map(|name| id_of(name)).filter(|id| erased(*id)).collect();
        left.iter().try_for_each(|id| self.destroy(*id))?;
        Ok(left.len())
    }

    /// Encrypts every key under another master key of this root besides, so that both open all of them.
    pub(super) fn wrap_also(&self, next: (&MasterKey, &str)) -> Result<(), Refusal> {
        self.each(|inner, file| {
            let key = inner.bytes_of(file)?;
            file.wraps.retain(|wrap| wrap.check == inner.check);
            file.wrap(&key, next, inner.entropy.as_ref())
        })
    }

    /// Takes every other master key's copy of the keys away.
    pub fn wrap_only(&self) -> Result<(), Refusal> {
        self.each(|inner, file| {
            inner.bytes_of(file)?;
            file.wraps.retain(|wrap| wrap.check == inner.check);
            Ok(())
        })
    }

    fn each(&self, change: impl Fn(&Inner, &mut KeyFile) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let inner = self.inner()?;
        for id in names(inner.disk.as_ref())?.iter().filter_map(|name| id_of(name)) {
            let mut file = inner.read(id)?;
            change(inner, &mut file)?;
            inner.write(&file)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
