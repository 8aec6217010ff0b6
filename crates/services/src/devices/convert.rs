//! Between frames of the link and questions to entities.

use std::collections::BTreeMap;

use bytes::Bytes;
use troupe_api::device::{DeviceTool, LinkSpan};
use troupe_domain::device::Connection;
use troupe_entities::device::{Found, Has, Hello, Settled, ToDevice, Work};
use troupe_types::{Timestamp, Uuid};
use troupe_wire::device::{
    Assignment, AssignmentAnswer, AssignmentRefusal, AttemptKey, Begin, Capabilities, DeviceFrame,
    DeviceHello, Drain, Forget, Input, InputKind, LinkAgo, NamedSecret, Revoked,
};

pub(super) const fn has(key: AttemptKey) -> Has {
    Has { execution: key.execution, attempt: key.attempt }
}

pub(super) const fn key(has: Has) -> AttemptKey {
    AttemptKey { execution: has.execution, attempt: has.attempt }
}

pub(super) fn found(capabilities: Capabilities) -> Found {
    let Capabilities { os, arch, host, tools, labels, slots, draining } = capabilities;
    let tool =
        |tool: troupe_wire::device::Tool| DeviceTool { name: tool.name, version: tool.version };
    Found {
        os,
        arch,
        host,
        tools: tools.into_iter().map(tool).collect(),
        labels: labels.into_iter().collect(),
        slots,
        draining,
    }
}

/// `now`: what the ages in a hello are counted from.
pub(super) fn hello(session: Uuid, node: &str, hello: &DeviceHello, now: Timestamp) -> Hello {
    let ago = |ms: u32| Timestamp::from_millis(now.as_millis() - i64::from(ms));
    let span = |link: &LinkAgo| LinkSpan { from: ago(link.began), to: Some(ago(link.ended)) };
    Hello {
        connection: Connection { session, boot: hello.boot, dial: hello.dial },
        node: node.to_owned(),
        build: hello.build.clone(),
        found: found(hello.capabilities.clone()),
        has: hello.executions.iter().map(|report| has(report.key)).collect(),
        links: hello.links.iter().map(span).collect(),
        begins: true,
    }
}

/// What a session does with a word of the entity.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// The device is told.
    Frame(DeviceFrame),
    /// A word of a newer version, which this one cannot say: nothing is better than a guess.
    Nothing,
    /// The link ends.
    End,
}

/// What a device is told.
pub(super) fn say(what: ToDevice) -> Say {
    Say::Frame(match what {
        ToDevice::Assign(work) => {
            let Work { has, task, token, team, user, spec, secrets } = *work;
            DeviceFrame::Assignment(Box::new(Assignment {
                key: key(has),
                task,
                token: token.expose().to_owned(),
                team,
                user,
                spec: Bytes::from(spec),
                secrets: named(secrets),
            }))
        }
        ToDevice::Input { has, id, kind, name, body } => {
            let kind = match kind.as_str() {
                "approval" => InputKind::Approval,
                "answer" => InputKind::Answer,
                "cancel" => InputKind::Cancel,
                other => {
                    tracing::warn!(kind = other, ?has, "an input that this version does not know");
                    return Say::Nothing;
                }
            };
            DeviceFrame::Input(Input { key: key(has), id, kind, name, body: Bytes::from(body) })
        }
        ToDevice::Begin { has } => DeviceFrame::Begin(Begin { key: key(has) }),
        ToDevice::Forget { has, reason } => DeviceFrame::Forget(Forget { key: key(has), reason }),
        ToDevice::Drain { on } => {
            DeviceFrame::Drain(Drain { on, reason: "its owner said so".to_owned() })
        }
        ToDevice::Revoked => {
            let message = "the device was revoked by its owner".to_owned();
            DeviceFrame::Revoked(Revoked { message })
        }
        ToDevice::Replaced => return Say::End,
    })
}

pub(super) fn named(secrets: BTreeMap<String, String>) -> Vec<NamedSecret> {
    secrets.into_iter().map(|(name, value)| NamedSecret { name, value }).collect()
}

/// `None`: a word that this version does not know.
pub(super) fn answered(answer: AssignmentAnswer) -> Option<Settled> {
    Some(match answer {
        AssignmentAnswer::Taken(of) => Settled::Taken { has: has(of), begins: true },
        AssignmentAnswer::Refused { key, reason, message } => {
            let reason = match reason {
                AssignmentRefusal::NoSlot => "busy",
                AssignmentRefusal::Policy => "policy",
                AssignmentRefusal::NoRuntime => "no_runtime",
                AssignmentRefusal::Draining => "draining",
                AssignmentRefusal::BadSpec => "bad_spec",
                AssignmentRefusal::Disk => "disk",
                AssignmentRefusal::Stale => "stale",
                AssignmentRefusal::Other(_) => "other",
            };
            Settled::Refused { has: has(key), reason: reason.to_owned(), message }
        }
        AssignmentAnswer::Other(..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use troupe_types::{Attempt, ExecutionId};

    use super::*;

    #[test]
    fn a_word_of_a_newer_version_cancels_nothing() {
        let has = Has { execution: ExecutionId::from_uuid(Uuid::nil()), attempt: Attempt(1) };
        let said = |kind: &str| {
            let (kind, name, body) = (kind.to_owned(), String::new(), String::new());
            say(ToDevice::Input { has, id: Uuid::nil(), kind, name, body })
        };
        for (word, kind) in [
            ("approval", InputKind::Approval),
            ("answer", InputKind::Answer),
            ("cancel", InputKind::Cancel),
        ] {
            let Say::Frame(DeviceFrame::Input(input)) = said(word) else { panic!("{word}") };
            assert_eq!(input.kind, kind);
        }
        assert_eq!(said("steer"), Say::Nothing);
    }
}
