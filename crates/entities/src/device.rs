//! The Device actor: one enrolled machine, wherever its link ends.
//!
//! Its session (at any node with the role `edge`) asks it; it never asks a session: what is for
//! the device waits here until the session's [`DeviceAsk::Next`] takes it. So nothing needs to
//! know where a session is, and a session that is gone is one that does not ask any more.

mod actor;
mod address;
mod ask;
pub mod container;
mod factory;
mod link;
mod past;
mod row;
mod work;

pub use address::{DeviceAddress, DeviceError};
pub use ask::{
    DeviceAsk, DeviceReply, Found, Has, Hello, Numbered, Offer, Running, Settled, ToDevice, Work,
};
pub use factory::{DeviceFactory, DeviceInternal};
pub use row::{DEVICES_MAX, DeviceRow, devices_of};
