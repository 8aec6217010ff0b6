//! Seals secrets at rest: AES-256-GCM under a key that lies beside the store, not in it.
//!
//! Text form: `sealed:v1:<key id>:<base64 of nonce, ciphertext and tag>`. The place where the
//! secret belongs (a resource's path) is authenticated with it, so that a sealed text copied
//! elsewhere does not open. Key ids are `<number>-<fingerprint>`; the highest number seals, all
//! open.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Generate, Key, Nonce, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::secret::{SecretKey, SecretText};

const PREFIX: &str = "sealed:v1:";
const NONCE_BYTES: usize = 12;
const FILE_PREFIX: &str = "sealing-";
const FILE_SUFFIX: &str = ".key";
/// Longest secret that is sealed, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Why a secret cannot be sealed or opened, or keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key directory cannot be read or written.
    #[error("sealing keys in {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no key.
    #[error("no sealing key in {}", path.display())]
    NoKey {
        /// The directory.
        path: PathBuf,
    },
    /// A key file is not what it should be.
    #[error("sealing key {} is unusable: {detail}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
    /// The text is no sealed text.
    #[error("not a sealed text")]
    NotSealed,
    /// It was sealed under a key that is not here.
    #[error("sealing key {id} is missing")]
    UnknownKey {
        /// The key's id.
        id: String,
    },
    /// It was changed, or belongs elsewhere.
    #[error("sealed text does not open here: changed, or from another place")]
    Refused,
    /// The secret is too long.
    #[error("secret is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    /// The system gave no randomness.
    #[error("no randomness from the system")]
    Random,
}

struct Entry {
    number: u32,
    id: String,
    cipher: Aes256Gcm,
}

/// The sealing keys of a node. No `Debug` shows them.
pub struct Sealer {
    /// By number; the last one seals.
    keys: Vec<Entry>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("key_ids", &self.key_ids()).finish()
    }
}

impl Sealer {
    /// Reads the keys in `dir`; makes the directory and a first key if there is none.
    ///
    /// # Errors
    /// `Io`, `BadKey` (also for a file that others may read), `Random`.
    pub fn load_or_create(dir: &Path) -> Result<Self, SealError> {
        match Self::load(dir) {
            Err(SealError::NoKey { .. }) => {
                let mut sealer = Self { keys: Vec::new() };
                sealer.rotate(dir)?;
                Ok(sealer)
            }
            loaded => loaded,
        }
    }

    /// Reads the keys in `dir`.
    ///
    /// # Errors
    /// `NoKey`, `Io`, `BadKey`.
    pub fn load(dir: &Path) -> Result<Self, SealError> {
        let none = || SealError::NoKey { path: dir.to_owned() };
        let listing = match fs::read_dir(dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            Err(error) => return Err(at(dir)(error)),
        };
        let mut keys = Vec::new();
        for file in listing {
            let path = file.map_err(at(dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let id = name.strip_prefix(FILE_PREFIX).and_then(|id| id.strip_suffix(FILE_SUFFIX));
            if let Some(id) = id {
                keys.push(read_key(&path, id)?);
            }
        }
        keys.sort_by_key(|key| key.number);
        if keys.is_empty() { Err(none()) } else { Ok(Self { keys }) }
    }

    /// Keys that are in memory only.
    #[must_use]
    pub fn in_memory(keys: &[SecretKey]) -> Self {
        let keys = keys.iter().zip(1..).map(|(key, number)| entry(number, key)).collect();
        Self { keys }
    }

    /// Makes a new key that seals from now on; older ones still open.
    ///
    /// # Errors
    /// `Io`, `Random`.
    pub fn rotate(&mut self, dir: &Path) -> Result<(), SealError> {
        let key = Key::<Aes256Gcm>::try_generate().map_err(|_| SealError::Random)?;
        let key = SecretKey::new(key.into());
        let number = self.keys.last().map_or(1, |last| last.number + 1);
        let entry = entry(number, &key);
        write_key(dir, &entry.id, &key)?;
        self.keys.push(entry);
        Ok(())
    }

    /// The ids of all keys, oldest first.
    #[must_use]
    pub fn key_ids(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.id.as_str()).collect()
    }

    /// Whether a text has the sealed form.
    #[must_use]
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Seals a secret for the place `path` (`namespaces/{ns}/models/{name}#api_key`).
    ///
    /// # Errors
    /// `TooLong`, `Random`, `UnknownKey` if there is no key at all.
    pub fn seal(&self, path: &str, secret: &str) -> Result<String, SealError> {
        if secret.len() > SECRET_BYTES_MAX {
            return Err(SealError::TooLong);
        }
        let Some(Entry { id, cipher, .. }) = self.keys.last() else {
            return Err(SealError::UnknownKey { id: String::new() });
        };
        let nonce = Nonce::<Aes256Gcm>::try_generate().map_err(|_| SealError::Random)?;
        let aad = aad(id, path);
        let payload = Payload { msg: secret.as_bytes(), aad: &aad };
        let sealed = cipher.encrypt(&nonce, payload).map_err(|_| SealError::TooLong)?;
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(format!("{PREFIX}{id}:{}", BASE64.encode(bytes)))
    }

    /// Opens what was sealed for the place `path`.
    ///
    /// # Errors
    /// `NotSealed`, `UnknownKey`, `Refused`.
    pub fn open(&self, path: &str, sealed: &str) -> Result<SecretText, SealError> {
        let (id, body) = split(sealed)?;
        let key = self.keys.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| SealError::UnknownKey { id: id.to_owned() })?;
        let bytes = BASE64.decode(body).map_err(|_| SealError::NotSealed)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_BYTES).ok_or(SealError::NotSealed)?;
        let nonce = Nonce::<Aes256Gcm>::try_from(nonce).map_err(|_| SealError::NotSealed)?;
        let aad = aad(id, path);
        let plain = key.cipher.decrypt(&nonce, Payload { msg: body, aad: &aad });
        let plain = Zeroizing::new(plain.map_err(|_| SealError::Refused)?);
        std::str::from_utf8(&plain).map(SecretText::new).map_err(|_| SealError::Refused)
    }

    /// Seals anew under the newest key what an older one sealed; `None` if it is the newest.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`seal`](Self::seal).
    pub fn reseal(&self, path: &str, sealed: &str) -> Result<Option<String>, SealError> {
        let (id, _) = split(sealed)?;
        if self.keys.last().is_some_and(|key| key.id == id) {
            return Ok(None);
        }
        let secret = self.open(path, sealed)?;
        self.seal(path, secret.expose()).map(Some)
    }
}

fn split(sealed: &str) -> Result<(&str, &str), SealError> {
    sealed.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).ok_or(SealError::NotSealed)
}

fn aad(id: &str, path: &str) -> Vec<u8> {
    [PREFIX, id, ":", path].concat().into_bytes()
}

fn entry(number: u32, key: &SecretKey) -> Entry {
    let id = format!("{number}-{}", fingerprint(key));
    Entry { number, id, cipher: Aes256Gcm::new(key.expose().into()) }
}

/// Eight hex digits by which a key is known; they tell nothing of it.
fn fingerprint(key: &SecretKey) -> String {
    let mut hash = Sha256::new();
    hash.update(b"troupe sealing key id\0");
    hash.update(key.expose());
    hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn read_key(path: &Path, id: &str) -> Result<Entry, SealError> {
    let bad = |detail| SealError::BadKey { path: path.to_owned(), detail };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(at(path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(bad("others may read it (want mode 0600)"));
        }
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(at(path))?);
    let bytes = BASE64.decode(text.trim_end()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| bad("it is no base64"))?;
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| bad("it is not 32 bytes"))?;
    let number = id.split_once('-').and_then(|(number, _)| number.parse().ok());
    let entry = entry(number.ok_or_else(|| bad("its name has no number"))?, &SecretKey::new(bytes));
    if entry.id == id { Ok(entry) } else { Err(bad("its name does not fit its content")) }
}

/// Writes a key so that it is there whole or not at all, also after a power failure.
fn write_key(dir: &Path, id: &str, key: &SecretKey) -> Result<(), SealError> {
    use std::io::Write;

    make_dir(dir).map_err(at(dir))?;
    let path = dir.join(format!("{FILE_PREFIX}{id}{FILE_SUFFIX}"));
    let part = dir.join(format!(".{FILE_PREFIX}{id}.part"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text = Zeroizing::new(format!("{}\n", BASE64.encode(key.expose())));
    let write = || {
        let mut file = options.open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(dir)?.sync_all()?;
        // The directory may be as new as the key. Best effort: the one above it may be one that we
        // may not open.
        let _ = fs::File::open(parent(dir)).and_then(|above| above.sync_all());
        Ok(())
    };
    write().map_err(at(&path))
}

fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

fn at(path: &Path) -> impl Fn(io::Error) -> SealError + '_ {
    move |source| SealError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "namespaces/default/models/m#api_key";

    #[test]
    fn what_was_sealed_opens_at_its_place_only() {
        let sealer = Sealer::in_memory(&[SecretKey::new([1; 32])]);
        let sealed = sealer.seal(PATH, "sk-密钥-🙂").unwrap();
        assert!(Sealer::is_sealed(&sealed) && !sealed.contains("sk-"), "{sealed}");
        assert_eq!(sealer.open(PATH, &sealed).unwrap().expose(), "sk-密钥-🙂");
        assert_ne!(sealer.seal(PATH, "sk-密钥-🙂").unwrap(), sealed, "nonces are random");
        assert!(matches!(sealer.open("elsewhere", &sealed), Err(SealError::Refused)));
        let other = Sealer::in_memory(&[SecretKey::new([2; 32])]);
        assert!(matches!(other.open(PATH, &sealed), Err(SealError::UnknownKey { .. })));
        assert!(matches!(sealer.seal(PATH, &"x".repeat(65 * 1024)), Err(SealError::TooLong)));
        assert_eq!(sealer.open(PATH, &sealer.seal(PATH, "").unwrap()).unwrap().expose(), "");
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let sealer = Sealer::in_memory(&[SecretKey::new([1; 32])]);
        let sealed = sealer.seal(PATH, "secret").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(sealer.open(PATH, &changed).is_err(), "{changed}");
        }
        for bad in ["", "sealed:v1:", "sealed:v1:1-0", "sealed:v2:x:y", "plain"] {
            assert!(sealer.open(PATH, bad).is_err(), "{bad}");
        }
        assert!(sealer.open(PATH, &sealed[..sealed.len() - 4]).is_err());
    }

    #[test]
    fn keys_are_kept_rotated_and_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        let mut sealer = Sealer::load_or_create(&dir).unwrap();
        let old = sealer.seal(PATH, "secret").unwrap();
        assert_eq!(sealer.reseal(PATH, &old).unwrap(), None);
        sealer.rotate(&dir).unwrap();
        let new = sealer.reseal(PATH, &old).unwrap().unwrap();

        let again = Sealer::load_or_create(&dir).unwrap();
        assert_eq!(again.key_ids(), sealer.key_ids());
        assert_eq!(again.key_ids().len(), 2);
        for sealed in [&old, &new] {
            assert_eq!(again.open(PATH, sealed).unwrap().expose(), "secret");
        }
        assert_eq!(again.reseal(PATH, &new).unwrap(), None);
        assert!(!format!("{again:?}").contains("cipher"));

        let file = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(Sealer::load(&dir), Err(SealError::BadKey { .. })));
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(&file, BASE64.encode([9; 32])).unwrap();
        assert!(matches!(Sealer::load(&dir), Err(SealError::BadKey { .. })), "swapped content");
        fs::write(&file, "???").unwrap();
        assert!(matches!(Sealer::load_or_create(&dir), Err(SealError::BadKey { .. })));
    }
}
