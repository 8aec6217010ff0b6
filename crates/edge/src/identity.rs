//! A device's identity on its disk: three files, for its user alone.
//!
//! ```text
//! device.json   id, name, cluster, addresses, certificates
//! device.key    the private key, PEM, mode 0600
//! ```

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use troupe_link::device::DeviceIdentity;
use troupe_types::DeviceId;
use zeroize::Zeroizing;

const FACTS: &str = "device.json";

/// Why an identity was not read or written.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// This machine is no device.
    #[error("this machine is no device yet: run `troupe-edge join` with an invitation")]
    None,
    /// A file could not be read or written.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("{path} does not read: join anew, or restore it")]
    Broken {
        /// Which.
        path: PathBuf,
    },
}

/// Keeps the identity of a device when it changes.
pub trait IdentityStore: fmt::Debug + Send + Sync + 'static {
    /// The identity now.
    ///
    /// # Errors
    /// There is none, or it does not read.
    fn load(&self) -> Result<DeviceIdentity, IdentityError>;

    /// Replaces certificate and key, whole or not at all.
    ///
    /// # Errors
    /// The old ones stay.
    fn renewed(&self, identity: &DeviceIdentity) -> Result<(), IdentityError>;
}

/// What is known of a device besides its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Its id.
    pub device: DeviceId,
    /// Its name in the cluster.
    pub name: String,
    /// The cluster.
    pub cluster: String,
    /// Where to dial, `host:port`.
    pub addresses: Vec<String>,
    /// Its certificate chain, base64 of DER.
    pub chain: Vec<String>,
    /// The device CA, base64 of DER.
    pub ca: String,
    /// The file with the key, beside this one.
    pub key_file: String,
}

/// The files of an identity in a directory.
#[derive(Clone, Debug)]
pub struct IdentityDir(pub PathBuf);

/// Writes a file for its owner alone, whole or not at all, so that it outlives a power failure.
///
/// # Errors
/// What the disk says; the file is as it was before.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a rename or a new file in a directory outlive a power failure.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Makes a directory for its owner alone.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

impl IdentityDir {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn io(&self, name: &str) -> impl FnOnce(io::Error) -> IdentityError + use<> {
        let path = self.path(name);
        move |source| IdentityError::Io { path, source }
    }

    /// What is known of this device.
    ///
    /// # Errors
    /// It is none, or the file does not read.
    pub fn facts(&self) -> Result<DeviceFacts, IdentityError> {
        let text = match fs::read(self.path(FACTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::None);
            }
            read => read.map_err(self.io(FACTS))?,
        };
        let broken = || IdentityError::Broken { path: self.path(FACTS) };
        serde_json::from_slice(&text).map_err(|_| broken())
    }

    /// Keeps a new identity.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn keep(
        &self,
        identity: &DeviceIdentity,
        name: &str,
        cluster: &str,
        addresses: &[String],
    ) -> Result<(), IdentityError> {
        private_dir(&self.0).map_err(self.io(""))?;
        // A key of its own name, so that facts and key change together with one rename.
        let stamp = identity.valid().map(|(from, _)| from.as_millis()).unwrap_or_default();
        let key_file = format!("device-{stamp}.key");
        let key = identity.key_pem.as_bytes();
        write_private(&self.path(&key_file), key).map_err(self.io(&key_file))?;
        let facts = DeviceFacts {
            device: identity.device,
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            addresses: addresses.to_vec(),
            chain: identity.chain.iter().map(|der| STANDARD.encode(der)).collect(),
            ca: STANDARD.encode(&identity.ca),
            key_file: key_file.clone(),
        };
        let text = serde_json::to_vec_pretty(&facts)
            .map_err(|_| IdentityError::Broken { path: self.path(FACTS) })?;
        write_private(&self.path(FACTS), &text).map_err(self.io(FACTS))?;
        self.remove_keys_but(Some(&key_file));
        Ok(())
    }

    /// Forgets who this device is.
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn forget(&self) -> Result<(), IdentityError> {
        match fs::remove_file(self.path(FACTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(self.io(FACTS))?,
        }
        self.remove_keys_but(None);
        Ok(())
    }

    fn remove_keys_but(&self, kept: Option<&str>) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_key = name.starts_with("device-") && name.ends_with(".key");
            if is_key && Some(name) != kept && fs::remove_file(entry.path()).is_err() {
                tracing::warn!(path = %entry.path().display(), "an old key could not be removed");
            }
        }
    }
}

impl IdentityStore for IdentityDir {
    fn load(&self) -> Result<DeviceIdentity, IdentityError> {
        let facts = self.facts()?;
        let broken = || IdentityError::Broken { path: self.path(FACTS) };
        let der = |text: &String| STANDARD.decode(text).map(Bytes::from).map_err(|_| broken());
        let key_file = Path::new(&facts.key_file).file_name().ok_or_else(broken)?;
        let key_file = key_file.to_str().ok_or_else(broken)?;
        let key = fs::read_to_string(self.path(key_file)).map_err(self.io(key_file))?;
        Ok(DeviceIdentity {
            device: facts.device,
            chain: facts.chain.iter().map(der).collect::<Result<_, _>>()?,
            key_pem: Zeroizing::new(key),
            ca: der(&facts.ca)?,
        })
    }

    fn renewed(&self, identity: &DeviceIdentity) -> Result<(), IdentityError> {
        let facts = self.facts()?;
        self.keep(identity, &facts.name, &facts.cluster, &facts.addresses)
    }
}
