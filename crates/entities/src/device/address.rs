//! The only way to reach a device.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use troupe_api::device::DevicePath;
use troupe_domain::{
    device::{DeviceRefusal, Gone, Registration, Settings},
    task::AttemptToken,
};
use troupe_sharding::{AskError, Router};
use troupe_types::{DeviceId, ExecutionId, Uuid};

use super::ask::{DeviceAsk, DeviceReply, Found, Has, Hello, Numbered, Offer, Running, Settled};

/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for what the actor holds on purpose.
const HELD_TIMEOUT: Duration = Duration::from_secs(20);

/// What became of a question that was not answered well.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The device refused it; nothing happened.
    #[error("the device refused it")]
    Refused(#[source] DeviceRefusal),
    /// The link is not the device's any more.
    #[error("the link is not the device's any more")]
    Stale,
    /// The Router's fate.
    #[error("the device was not reached")]
    Ask(#[source] AskError),
    /// The answer is not what was asked for.
    #[error("the device's answer made no sense")]
    Protocol,
}

/// A device's address plus the Router.
#[derive(Clone, Debug)]
pub struct DeviceAddress {
    router: Router,
    id: DeviceId,
}

impl DeviceAddress {
    /// The address of a device, whether it enrolled or not.
    #[must_use]
    pub const fn new(router: Router, id: DeviceId) -> Self {
        Self { router, id }
    }

    /// Asks anything.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn ask(&self, ask: &DeviceAsk) -> Result<DeviceReply, DeviceError> {
        let body = serde_json::to_vec(ask).map_err(|_| DeviceError::Protocol)?;
        let held = matches!(ask, DeviceAsk::Next { .. } | DeviceAsk::Offer { .. });
        let timeout = if held { HELD_TIMEOUT } else { ASK_TIMEOUT };
        // Every question finds what the first one of its kind found.
        let answer = self.router.ask_or_repeat(self.id.into(), Bytes::from(body), true, timeout);
        let answer = answer.await.map_err(DeviceError::Ask)?;
        match serde_json::from_slice(&answer).map_err(|_| DeviceError::Protocol)? {
            DeviceReply::Refused { refusal } => Err(DeviceError::Refused(refusal)),
            DeviceReply::Stale => Err(DeviceError::Stale),
            reply => Ok(reply),
        }
    }

    async fn tell(&self, ask: DeviceAsk) -> Result<(), DeviceError> {
        match self.ask(&ask).await? {
            DeviceReply::Ok => Ok(()),
            _ => Err(DeviceError::Protocol),
        }
    }

    /// Enrols it; durable when it returns.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn register(&self, registration: Registration) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Register { registration }).await
    }

    /// A link came up; answers what the device may speak for, and whether it will be said of what
    /// the device has when it begins.
    ///
    /// # Errors
    /// [`DeviceError::Stale`]: a newer link is there.
    pub async fn connect(&self, hello: Hello) -> Result<(Vec<Running>, bool), DeviceError> {
        match self.ask(&DeviceAsk::Connect { hello: Box::new(hello) }).await? {
            DeviceReply::Connected { running, begins } => Ok((running, begins)),
            _ => Err(DeviceError::Protocol),
        }
    }

    /// A link is gone.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn disconnect(&self, session: Uuid) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Disconnect { session }).await
    }

    /// It can other things now.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn capable(&self, session: Uuid, found: Found) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Capable { session, found: Box::new(found) }).await
    }

    /// What is there for the device; held for some seconds while there is nothing.
    ///
    /// # Errors
    /// [`DeviceError::Stale`]: the link is to end.
    pub async fn next(
        &self,
        session: Uuid,
        after: u64,
        path: DevicePath,
    ) -> Result<Vec<Numbered>, DeviceError> {
        match self.ask(&DeviceAsk::Next { session, after, path: Some(path) }).await? {
            DeviceReply::Next { commands } => Ok(commands),
            _ => Err(DeviceError::Protocol),
        }
    }

    /// What became of something that it was given.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn settled(&self, session: Uuid, settled: Settled) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Settled { session, settled }).await
    }

    /// Token and secrets of an attempt.
    ///
    /// # Errors
    /// [`DeviceRefusal::NotFound`]: the device has no business with it.
    pub async fn secrets(
        &self,
        session: Uuid,
        has: Has,
    ) -> Result<(AttemptToken, BTreeMap<String, String>), DeviceError> {
        match self.ask(&DeviceAsk::Secrets { session, has }).await? {
            DeviceReply::Secrets { token, secrets } => Ok((token, secrets)),
            _ => Err(DeviceError::Protocol),
        }
    }

    /// Whether the job of an attempt brings the package of this SHA-256 (hexadecimal digits).
    ///
    /// # Errors
    /// [`DeviceRefusal::NotFound`]: it does not, or the device has no business with it.
    pub async fn package(&self, session: Uuid, has: Has, hash: &str) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Package { session, has, hash: hash.to_owned() }).await
    }

    /// Offers an attempt: `Offered` or `Declined`.
    ///
    /// # Errors
    /// See [`DeviceError`]; after an unknown outcome the device may have it.
    pub async fn offer(&self, offer: Offer) -> Result<DeviceReply, DeviceError> {
        self.ask(&DeviceAsk::Offer { offer: Box::new(offer) }).await
    }

    /// What it is, and whether it has an attempt: `Probed`.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn probe(&self, has: Option<Has>) -> Result<DeviceReply, DeviceError> {
        self.ask(&DeviceAsk::Probe { has }).await
    }

    /// Takes or keeps a place in the line for a slot: how many are before it.
    ///
    /// # Errors
    /// See [`DeviceError`]; older entities know of no line.
    pub async fn wait(&self, execution: ExecutionId) -> Result<u64, DeviceError> {
        match self.ask(&DeviceAsk::Wait { execution, leaves: false }).await? {
            DeviceReply::InLine { ahead } => Ok(ahead),
            _ => Err(DeviceError::Protocol),
        }
    }

    /// Gives a place in the line back. If this is lost, it is free some seconds later.
    pub async fn leave(&self, execution: ExecutionId) {
        let told = self.ask(&DeviceAsk::Wait { execution, leaves: true }).await;
        if let Err(error) = told {
            tracing::debug!(device = %self.id, %error, "a place in line was not given back");
        }
    }

    /// The Task has something to say. If this is lost, it is asked in time all the same.
    pub async fn poke(&self, has: Has) {
        if let Err(error) = self.tell(DeviceAsk::Poke { has }).await {
            tracing::debug!(device = %self.id, %error, "a device was not poked");
        }
    }

    /// Changes what its owner may change; durable when it returns.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn change(&self, settings: Settings) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Change { settings }).await
    }

    /// Takes it out for good; durable when it returns. `gone`: what its attempts end with, unless
    /// its owner wants it so.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub async fn revoke(&self, gone: Option<Gone>) -> Result<(), DeviceError> {
        self.tell(DeviceAsk::Revoke { gone }).await
    }
}
