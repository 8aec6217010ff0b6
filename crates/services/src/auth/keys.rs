//! The key that signs access tokens, kept in files that only the node's user may read.

use std::{
    fmt, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use data_encoding::HEXLOWER;
use jsonwebtoken::{DecodingKey, EncodingKey};
use thiserror::Error;

const PREFIX: &str = "access-token.";
const SUFFIX: &str = ".p8";
/// A PKCS#8 Ed25519 key is below 100 bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Why the keys could not be read or made.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The directory or a file could not be read or written.
    #[error("{path} could not be read or written")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the node's user may read it.
    #[error("{path} may be read by others: chmod 600 it, or replace it if it may have leaked")]
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// Not a key of ours.
    #[error("{path} holds no Ed25519 key in PKCS#8")]
    Malformed {
        /// Which.
        path: PathBuf,
    },
    /// There is no key.
    #[error("no access-token key in {path}; `troupe node init` makes them for a cluster")]
    NoKey {
        /// The directory.
        path: PathBuf,
    },
    /// The random source failed.
    #[error("a key could not be generated")]
    Generate,
}

/// Keys for access tokens: the first one signs, all of them verify (for rotation by hand).
#[derive(Clone)]
pub struct Keys {
    all: Vec<SigningKey>,
}

#[derive(Clone)]
struct SigningKey {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|k| &k.kid)).finish()
    }
}

impl Keys {
    /// Reads `access-token.*.p8` from `dir`, or makes one at first start (directory 0700, file
    /// 0600). Of several keys the one whose file name sorts last signs.
    ///
    /// # Errors
    /// See [`KeysError`]. A key is never replaced silently.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeysError> {
        create_dir(dir)?;
        if let Err(KeysError::NoKey { .. }) = Self::load(dir) {
            create_key(dir)?;
        }
        Self::load(dir)
    }

    /// Reads the keys that are there.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        let mut files = Vec::new();
        let entries = fs::read_dir(dir).map_err(at(dir))?;
        for entry in entries {
            let entry = entry.map_err(at(dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                files.push(entry.path());
            }
        }
        if files.is_empty() {
            return Err(KeysError::NoKey { path: dir.to_owned() });
        }
        files.sort();
        files.reverse();
        let all = files.iter().map(|path| load_key(path)).collect::<Result<_, _>>()?;
        Ok(Self { all })
    }

    /// Ids of the keys, the signing one first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|key| key.kid.as_str())
    }

    pub(super) fn signing(&self) -> (&str, &EncodingKey) {
        let key = self.all.first().expect("load_or_create gives at least one key");
        (&key.kid, &key.encoding)
    }

    pub(super) fn verifying(&self, kid: &str) -> Option<&DecodingKey> {
        self.all.iter().find(|key| key.kid == kid).map(|key| &key.decoding)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeysError + '_ {
    move |source| KeysError::Io { path: path.to_owned(), source }
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

fn create_dir(dir: &Path) -> Result<(), KeysError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(at(dir))
}

fn create_key(dir: &Path) -> Result<PathBuf, KeysError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    let document = document.map_err(|_| KeysError::Generate)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeysError::Generate)?;
    // A leading stamp would need a clock; names of later keys are the operator's choice.
    let path = dir.join(format!("{PREFIX}{}{SUFFIX}", kid(&pair)));
    let part = dir.join(format!(".{PREFIX}{}.part", kid(&pair)));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Whole or not at all: half a key would keep the node from its next start.
    let write = || {
        let mut file = options.open(&part)?;
        file.write_all(document.as_ref())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(dir)?.sync_all()?;
        // The directory may be as new as the key. Best effort: the one above it may be one that we
        // may not open.
        let _ = fs::File::open(parent(dir)).and_then(|above| above.sync_all());
        Ok(())
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&part);
        return Err(at(&path)(error));
    }
    Ok(path)
}

fn load_key(path: &Path) -> Result<SigningKey, KeysError> {
    let meta = fs::metadata(path).map_err(at(path))?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned() });
    }
    let malformed = || KeysError::Malformed { path: path.to_owned() };
    if meta.len() > FILE_BYTES_MAX {
        return Err(malformed());
    }
    let bytes = zeroize::Zeroizing::new(fs::read(path).map_err(at(path))?);
    let pair = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| malformed())?;
    Ok(SigningKey {
        kid: kid(&pair),
        encoding: EncodingKey::from_ed_der(&bytes),
        decoding: DecodingKey::from_ed_der(pair.public_key().as_ref()),
    })
}

/// First 8 bytes of the public key's hash.
fn kid(pair: &Ed25519KeyPair) -> String {
    HEXLOWER.encode(&super::hash(pair.public_key().as_ref())[..8])
}
