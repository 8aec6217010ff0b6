//! Activates devices.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use troupe_sharding::{Crash, EntityContext, EntityFactory};
use troupe_store::AppendError;
use troupe_types::EntityKind;

use super::{actor::DeviceActor, ask::Has};
use crate::{commit::Appended, models::SealedSecrets, task::DeviceChecked};

/// Makes activations of devices.
#[derive(Clone, Debug)]
pub struct DeviceFactory {
    pub(super) secrets: Arc<SealedSecrets>,
    pub(super) lease: Duration,
}

impl DeviceFactory {
    /// `secrets` opens what an execution needs; `lease`: how long a device may be away.
    #[must_use]
    pub const fn new(secrets: Arc<SealedSecrets>, lease: Duration) -> Self {
        Self { secrets, lease }
    }
}

/// What a device's own tasks and timers tell it.
#[derive(Debug)]
pub enum DeviceInternal {
    /// An append ended.
    Appended(Appended),
    /// A snapshot ended.
    Snapshot(Result<(), AppendError>),
    /// Time passed.
    Tick,
    /// A Task said how an attempt stands; `None`: it was not reached.
    Checked {
        /// Which.
        has: Has,
        /// How.
        checked: Option<DeviceChecked>,
    },
    /// A Task was told that an attempt is over (or was not reached).
    EndTold {
        /// Which.
        has: Has,
        /// Whether it was.
        told: bool,
    },
}

#[async_trait]
impl EntityFactory for DeviceFactory {
    type Entity = DeviceActor;

    fn kind(&self) -> EntityKind {
        EntityKind::Device
    }

    fn idle_for(&self) -> Duration {
        Duration::from_secs(120)
    }

    async fn activate(&self, context: EntityContext<DeviceInternal>) -> Result<DeviceActor, Crash> {
        DeviceActor::activate(self.clone(), context).await
    }
}
