//! Where things are, and what the device's user chose.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use troupe_edge::{
    EdgeOptions, Policy,
    engine::all_engines,
    identity::{IdentityDir, IdentityError},
    tools::host_name,
};
use troupe_executor::{Containment, Machine};
use troupe_types::{DeviceId, SystemClock};

use crate::{ABSENT, Global, coded};

/// What a user may set in `edge.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// Executions at once, 1 to 20.
    pub(crate) slots: u16,
    /// Labels for selectors.
    pub(crate) labels: BTreeMap<String, String>,
    /// Most MiB of output that wait to be acknowledged.
    pub(crate) outbox_mib: u64,
    /// Most MiB of memory of one run; 0: no bound. Absent: three quarters of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_memory_mib: Option<u64>,
    /// Days after which a workspace in which no turn began is removed; 0: never.
    pub(crate) keep_workspaces_days: u32,
    /// Programs of the runtime `Command`, by name; the policy must allow them too.
    pub(crate) commands: BTreeMap<String, PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let (labels, commands) = (BTreeMap::new(), BTreeMap::new());
        let (outbox_mib, run_memory_mib, keep_workspaces_days) = (256, None, 7);
        Self { slots: 5, labels, outbox_mib, run_memory_mib, keep_workspaces_days, commands }
    }
}

/// The places of one device.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    pub(crate) policy: PathBuf,
}

impl Home {
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let home = std::env::home_dir();
        let below = |given: &Option<PathBuf>, path: &str| match given {
            Some(path) => std::path::absolute(path).context("the directory"),
            None => home
                .as_ref()
                .map(|home| home.join(path))
                .ok_or_else(|| anyhow!("there is no home directory: name one with --dir")),
        };
        Ok(Self {
            dir: below(&global.dir, ".local/state/troupe-edge")?,
            policy: below(&global.policy, ".config/troupe-edge/policy.toml")?,
        })
    }

    pub(crate) fn identity(&self) -> IdentityDir {
        IdentityDir(self.dir.join("identity"))
    }

    pub(crate) fn settings_file(&self) -> PathBuf {
        self.dir.join("edge.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    pub(crate) fn settings(&self) -> Result<Settings> {
        let path = self.settings_file();
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
            Ok(text) => toml::from_str(&text).with_context(|| format!("{}", path.display())),
        }
    }

    /// The policy, and whether there is a file.
    pub(crate) fn read_policy(&self) -> Result<(Policy, bool)> {
        let policy = Policy::read(&self.policy)?;
        let there = policy.is_some();
        Ok((policy.unwrap_or_default(), there))
    }

    /// What is known of this device.
    pub(crate) fn facts(&self) -> Result<troupe_edge::identity::DeviceFacts> {
        self.identity().facts().map_err(|error| match error {
            IdentityError::None => coded(ABSENT, error.to_string()),
            other => other.into(),
        })
    }

    /// Held as long as an agent works here.
    pub(crate) fn lock(&self) -> Result<fs::File> {
        make_private(&self.dir)?;
        let path = self.dir.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("{}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                bail!("an agent works in {} already", self.dir.display())
            }
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{}", path.display()))
            }
        }
    }

    /// What an agent is started with. From here on this process may make cgroups, and be in one.
    pub(crate) fn options(&self, device: DeviceId) -> Result<EdgeOptions> {
        self.options_with(device, Containment::detect(&device.to_string()))
    }

    /// The same for a look around, which changes nothing.
    pub(crate) fn options_to_look(&self, device: DeviceId) -> Result<EdgeOptions> {
        self.options_with(device, Containment::without_cgroups(&device.to_string()))
    }

    fn options_with(&self, device: DeviceId, containment: Containment) -> Result<EdgeOptions> {
        let (settings, (policy, _)) = (self.settings()?, self.read_policy()?);
        let clock = SystemClock::shared();
        let machine = Machine {
            containment,
            path: search_path(),
            login_home: std::env::home_dir(),
            fenced: policy.fenced,
            clock,
        };
        let mut options = EdgeOptions::new(device, self.dir.clone(), machine.clone());
        options.engines = all_engines(&machine, settings.commands.clone());
        options.policy = policy;
        options.slots = settings.slots;
        options.labels = settings.labels.into_iter().collect();
        options.outbox_bytes_max = settings.outbox_mib.saturating_mul(1024 * 1024);
        if let Some(mib) = settings.run_memory_mib {
            options.run_memory_bytes_max = mib.saturating_mul(1024 * 1024);
        }
        options.host = host_name();
        let days = u64::from(settings.keep_workspaces_days);
        options.workspaces_unused_max = (days > 0).then(|| Duration::from_secs(days * 24 * 3_600));
        options.identity = Some(Arc::new(self.identity()));
        Ok(options)
    }
}

/// Where programs are looked for.
fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

pub(crate) fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).with_context(|| format!("{}", dir.display()))
}
