//! A personal part of a record: words of people and models, tool input and output. It may stand in clear, sealed under
//! its subject's key, or outside the record as a blob; folds and digests treat it as opaque.

use serde::{Deserialize, Serialize};

/// Base64 parts of an AES-256-GCM envelope under a per-subject key; destroying the key erases the words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedPart {
    /// Id of the subject's key.
    pub key: String,
    /// Nonce, 12 bytes.
    pub nonce: String,
    /// Ciphertext and tag.
    pub ct: String,
}

/// What stands behind the ciphertext, bytes.
const TAG_BYTES: usize = 16;

/// Where a large part is kept: a file named by the digest of its stored bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// SHA-256 of the stored bytes, hex.
    pub sha256: String,
    /// Length of the stored bytes.
    pub bytes: u64,
}

/// A personal text in one of its three forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Personal {
    /// The words themselves.
    Clear(String),
    /// `{"sealed":{…}}`.
    Sealed {
        /// The envelope.
        sealed: SealedPart,
    },
    /// `{"blob":{…}}`, for parts over 64 KiB.
    Blob {
        /// Where the bytes are.
        blob: BlobRef,
    },
}

impl Personal {
    /// The words, where they stand in the record; `None` reads as "unavailable" until someone fetches or opens them.
    pub fn clear(&self) -> Option<&str> {
        match self {
            Self::Clear(text) => Some(text),
            Self::Sealed { .. } | Self::Blob { .. } => None,
        }
    }

    /// Length of the words where they stand in the record, else of what is stored for them.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Clear(text) => text.len(),
            // Base64 of the words and a tag.
            Self::Sealed { sealed } => (sealed.ct.trim_end_matches('=').len() * 3 / 4).saturating_sub(TAG_BYTES),
            Self::Blob { blob } => usize::try_from(blob.bytes).unwrap_or(usize::MAX),
        }
    }
}

impl From<String> for Personal {
    fn from(text: String) -> Self {
        Self::Clear(text)
    }
}

impl From<&str> for Personal {
    fn from(text: &str) -> Self {
        Self::Clear(text.to_owned())
    }
}
