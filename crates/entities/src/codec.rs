//! Journal entries and snapshots as bytes: versioned records, pinned by golden files.

use bytes::Bytes;
use troupe_domain::{
    device::{DeviceEvent, DeviceState},
    namespace::{NamespaceEntry, NamespaceState},
    task::{TaskEntry, TaskState},
};
use troupe_records::{RecordError, never_upgrades};

/// Version of an encoded [`TaskEntry`].
const ENTRY_VERSION: u8 = 1;
/// Version of an encoded [`TaskState`].
const STATE_VERSION: u8 = 1;

pub(crate) fn encode_entry(entry: &TaskEntry) -> Result<Bytes, RecordError> {
    troupe_records::encode(ENTRY_VERSION, entry)
}

/// Reads the body of a journal entry of a Task.
///
/// # Errors
/// It is damaged, or of a newer build.
pub fn decode_entry(body: &[u8]) -> Result<TaskEntry, RecordError> {
    troupe_records::decode(ENTRY_VERSION, body, never_upgrades)
}

pub(crate) fn encode_state(state: &TaskState) -> Result<Bytes, RecordError> {
    troupe_records::encode(STATE_VERSION, state)
}

pub(crate) fn decode_state(body: &[u8]) -> Result<TaskState, RecordError> {
    troupe_records::decode(STATE_VERSION, body, never_upgrades)
}

/// Version of an encoded [`NamespaceEntry`] and [`NamespaceState`].
const NAMESPACE_VERSION: u8 = 1;

pub(crate) fn encode_namespace_entry(entry: &NamespaceEntry) -> Result<Bytes, RecordError> {
    troupe_records::encode(NAMESPACE_VERSION, entry)
}

pub(crate) fn decode_namespace_entry(body: &[u8]) -> Result<NamespaceEntry, RecordError> {
    troupe_records::decode(NAMESPACE_VERSION, body, never_upgrades)
}

pub(crate) fn encode_namespace(state: &NamespaceState) -> Result<Bytes, RecordError> {
    troupe_records::encode(NAMESPACE_VERSION, state)
}

pub(crate) fn decode_namespace(body: &[u8]) -> Result<NamespaceState, RecordError> {
    troupe_records::decode(NAMESPACE_VERSION, body, never_upgrades)
}

/// Version of an encoded [`DeviceEvent`] and [`DeviceState`].
const DEVICE_VERSION: u8 = 1;

pub(crate) fn encode_device_event(event: &DeviceEvent) -> Result<Bytes, RecordError> {
    troupe_records::encode(DEVICE_VERSION, event)
}

pub(crate) fn decode_device_event(body: &[u8]) -> Result<DeviceEvent, RecordError> {
    troupe_records::decode(DEVICE_VERSION, body, never_upgrades)
}

pub(crate) fn encode_device(state: &DeviceState) -> Result<Bytes, RecordError> {
    troupe_records::encode(DEVICE_VERSION, state)
}

pub(crate) fn decode_device(body: &[u8]) -> Result<DeviceState, RecordError> {
    troupe_records::decode(DEVICE_VERSION, body, never_upgrades)
}
