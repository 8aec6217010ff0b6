//! What a device can do.

use bytes::{BufMut, Bytes, BytesMut};

use super::limits::{DEVICE_NAME_BYTES_MAX, LABELS_MAX, TOOLS_MAX};
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

const WHAT: &str = "capabilities";

/// A program that was found on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tool {
    /// Its name: `claude`, `git`.
    pub name: String,
    /// What it says its version is; empty if it says nothing.
    pub version: String,
}

/// What a device is and can do; selectors are matched against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// What the machine calls itself.
    pub host: String,
    /// What was found on it.
    pub tools: Vec<Tool>,
    /// Its labels, each key once.
    pub labels: Vec<(String, String)>,
    /// Executions that it runs at once: 1 to 20.
    pub slots: u16,
    /// Whether it takes no new work now.
    pub draining: bool,
}

impl Capabilities {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_part("os", self.os.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("arch", self.arch.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("host name", self.host.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_count("tools", self.tools.len(), TOOLS_MAX)?;
        for tool in &self.tools {
            to.put_part("tool", tool.name.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
            to.put_part("version of a tool", tool.version.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        }
        to.put_count("labels", self.labels.len(), LABELS_MAX)?;
        for (key, value) in &self.labels {
            to.put_part("label", key.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
            to.put_part("value of a label", value.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        }
        to.put_u16(self.slots);
        to.put_u8(u8::from(self.draining));
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, WHAT);
        let os = from.text(DEVICE_NAME_BYTES_MAX)?;
        let arch = from.text(DEVICE_NAME_BYTES_MAX)?;
        let host = from.text(DEVICE_NAME_BYTES_MAX)?;
        // Not `with_capacity`: counts may lie.
        let mut tools = Vec::new();
        for _ in 0..from.count(TOOLS_MAX)? {
            let name = from.text(DEVICE_NAME_BYTES_MAX)?;
            tools.push(Tool { name, version: from.text(DEVICE_NAME_BYTES_MAX)? });
        }
        let mut labels = Vec::new();
        for _ in 0..from.count(LABELS_MAX)? {
            labels.push((from.text(DEVICE_NAME_BYTES_MAX)?, from.text(DEVICE_NAME_BYTES_MAX)?));
        }
        let slots = from.u16()?;
        let draining = from.is_some()?;
        Ok(Self { os, arch, host, tools, labels, slots, draining })
    }
}
