//! Links between devices and the cluster: a CA of their own, enrolment, sessions.
//!
//! ```text
//! on the device                                   on a node
//! Invitation -> enrol()        troupe-enrol/1     EdgeListener: DeviceAuthority::redeem
//! DeviceIdentity -> Dialler    troupe-edge/1      EdgeListener: DeviceAuthority::admit
//!   greet() -> DeviceLink                           -> DeviceSession (frames in, handle out)
//! ```
//! Two networks carry both: QUIC over UDP, and a WebSocket over TCP where UDP is not let
//! through. A device tries them beside each other, QUIC first.
//!
//! Invariants:
//! - A device is who its certificate names. Its key is made on it and never leaves it.
//! - A server of devices is pinned: by the fingerprint of the device CA in the invitation, then
//!   by that CA itself.
//! - An invitation is redeemed by the authority, once; the listener keeps nothing about it.
//! - A device that is revoked has no link one second later.
//! - What a device can make a node keep is bounded: by credit, by the queue of its session, by
//!   the number of its streams.

mod addresses;
mod authority;
mod ca;
mod credits;
mod dial;
mod dialler;
mod enrol;
mod error;
mod frames;
mod heard;
mod identity;
mod invite;
mod listener;
mod quic;
mod rate;
mod session;
mod tls;
mod ws;

pub use authority::{Admission, DeviceAuthority, Enrolled, JoinFault, Redemption, RefusedJoin};
pub use ca::{DEVICE_VALID, DeviceCa, EDGE_SERVER_NAME, EdgeServerCert};
pub use credits::Credits;
pub use dial::{DeviceLink, greet};
pub use dialler::{Dialler, EdgeDialler};
pub use enrol::{EnrolFacts, enrol};
pub use error::{DeviceLinkError, EnrolError, InviteError};
pub use frames::{FrameReader, FrameWriter, read_frame, write_frame};
pub use heard::{DeviceFrames, Held};
pub use identity::{DeviceIdentity, DeviceKey, cert_fingerprint, cert_valid, device_cert_name};
pub use invite::{EDGE_PORT, INVITE_VALID, Invitation};
pub use listener::{EdgeListener, EdgeListenerOptions};
pub use quic::QuicEdgeNetwork;
pub use rate::{RateOptions, network_of};
pub use session::{DeviceSession, DeviceSessionHandle, SessionError};
pub use ws::WsEdgeNetwork;
