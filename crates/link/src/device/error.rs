//! Why a device has no link.

use std::io;

use thiserror::Error;
use troupe_wire::{
    DecodeError, EncodeError,
    device::{DeviceRefusal, DeviceRefusalReason, EnrolRefusal},
};

use crate::{cert::CertError, error::LinkError};

/// Why a link between a device and the cluster did not come to be, or ended.
#[derive(Debug, Error)]
pub enum DeviceLinkError {
    /// There is no connection (any more).
    #[error("no connection to the cluster")]
    Link(#[source] LinkError),
    /// The cluster does not want it.
    #[error("the cluster refused the device ({:?}): {}", .0.reason, .0.message)]
    Refused(DeviceRefusal),
    /// The stream broke off.
    #[error("the stream broke off")]
    Stream(#[source] io::Error),
    /// What came does not read.
    #[error("what came does not read")]
    Frame(#[source] DecodeError),
    /// What is to be said does not fit.
    #[error("what is to be said does not fit")]
    OwnFrame(#[source] EncodeError),
    /// Something came that cannot come here.
    #[error("unexpected: {what}")]
    Unexpected {
        /// What.
        what: &'static str,
    },
    /// The peer sent more than it may.
    #[error("more came than there was credit for")]
    OverCredit,
    /// It took too long.
    #[error("not ready in time")]
    Deadline,
}

impl DeviceLinkError {
    /// Whether dialling again is of use while nothing else changes.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Refused(DeviceRefusal {
                reason: DeviceRefusalReason::Revoked | DeviceRefusalReason::Unknown,
                ..
            })
        )
    }
}

/// Why an invitation does not read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InviteError {
    /// Another scheme.
    #[error("an invitation starts with `troupe://`")]
    Scheme,
    /// No host, or a port that is none.
    #[error("`{found}` is not HOST or HOST:PORT")]
    Address {
        /// What stands there.
        found: String,
    },
    /// The token is cut off, or has other characters in it.
    #[error(
        "the token has {found} characters, {expected} belong there: copy the whole line once more"
    )]
    TokenLength {
        /// How many there are.
        found: usize,
        /// How many belong there.
        expected: usize,
    },
    /// The token does not read.
    #[error("the token does not read: copy the whole line once more")]
    Token,
    /// A token of a later version.
    #[error("the token has version {found}, this program reads version 1: update it")]
    Version {
        /// Which version.
        found: u8,
    },
}

/// Why a machine did not become a device.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The host has no address.
    #[error("the host `{host}` is not found")]
    Resolve {
        /// Which.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No connection.
    #[error("no connection to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: LinkError,
    },
    /// The server is not the one that made the invitation.
    #[error("the server at {address} is not the one that made the invitation")]
    WrongServer {
        /// Where.
        address: String,
    },
    /// The cluster said no.
    #[error("the cluster refused the invitation ({:?}): {}", .0.reason, .0.message)]
    Refused(EnrolRefusal),
    /// Keys or certificates.
    #[error("keys and certificates could not be made")]
    Cert(#[source] CertError),
    /// What was said does not read.
    #[error("the talk broke off")]
    Talk(#[source] DeviceLinkError),
    /// It took too long.
    #[error("no answer from {address} in time")]
    Deadline {
        /// Where.
        address: String,
    },
}
