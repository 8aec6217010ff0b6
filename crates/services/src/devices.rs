//! Devices: invitations, lists, changes, revocation; the door's authority; sessions.
//!
//! ```text
//! EdgeListener --asks--> Authority            who becomes a device, who is let in
//!              --gives-> sessions::serve      one task per link: frames <-> asks of entities
//! Devices (use cases)                         what REST and the command line can do
//! ```
//! A device works for its owner alone; what is somebody else's answers as what is not there.

mod authority;
mod containers;
mod convert;
mod inbox;
mod invites;
mod live;
mod packages;
mod refusals;
mod session;

use std::fmt;

use async_trait::async_trait;
use troupe_api::{
    Problem,
    device::{DeviceInvitation, DevicePatch, DeviceView, InvitationView, InviteDevice},
    task::Page,
};

pub use authority::Authority;
pub use containers::{ContainerInvitation, Idleness};
pub use live::{EdgePoint, LiveDevices};
pub use session::Sessions;

use crate::caller::Caller;

/// Use cases of devices.
#[async_trait]
pub trait Devices: fmt::Debug + Send + Sync + 'static {
    /// A one-time invitation.
    async fn invite(
        &self,
        caller: &Caller,
        invite: InviteDevice,
    ) -> Result<DeviceInvitation, Problem>;
    /// What became of an invitation of the caller's.
    async fn invitation(&self, caller: &Caller, id: &str) -> Result<InvitationView, Problem>;
    /// The caller's devices by name, revoked ones left out.
    async fn list(&self, caller: &Caller) -> Result<Page<DeviceView>, Problem>;
    /// One of the caller's devices, by id, name or alias.
    async fn view(&self, caller: &Caller, device: &str) -> Result<DeviceView, Problem>;
    /// Changes one.
    async fn change(
        &self,
        caller: &Caller,
        device: &str,
        patch: DevicePatch,
    ) -> Result<DeviceView, Problem>;
    /// Takes one out for good: durable when it returns, its link ends within a second.
    async fn revoke(&self, caller: &Caller, device: &str) -> Result<(), Problem>;
}
