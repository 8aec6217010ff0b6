//! Frames of the device link: released bytes, limits, other versions, damage.

use std::{fs, path::PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use troupe_types::{Attempt, DeviceId, ExecutionId, OutSeq, TaskId, Timestamp, Uuid};
use troupe_wire::{
    Credit, DecodeError, EncodeError,
    device::{
        Assignment, AssignmentAnswer, AssignmentRefusal, Attach, AttemptKey, Begin, Capabilities,
        CertificateAnswer, CertificateRequest, DEVICE_VERSION, DeviceFrame, DeviceHello,
        DeviceRefusal, DeviceRefusalReason, DeviceWelcome, Drain, Ended, EndedHow, EnrolAnswer,
        EnrolGrant, EnrolRefusal, EnrolRefusalReason, EnrolRequest, ExecutionReport,
        ExecutionState, Forget, GoAway, Input, InputAnswer, InputFate, InputKind, LinkAgo,
        NamedSecret, Output, OutputAck, PackagePart, PackageWanted, Ping, Pong, Revoked,
        SecretsGiven, SecretsWanted, Tool,
        limits::{
            DEVICE_BODY_BYTES_MAX, EXECUTIONS_MAX, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, HASH_BYTES,
        },
    },
};

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)
}

fn key() -> AttemptKey {
    AttemptKey { execution: ExecutionId::from_uuid(id(1)), attempt: Attempt(2) }
}

fn capabilities() -> Capabilities {
    let tool =
        |name: &str, version: &str| Tool { name: name.to_owned(), version: version.to_owned() };
    Capabilities {
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        host: "laptop".to_owned(),
        tools: vec![tool("claude", "2.1.330"), tool("git", "2.47.0")],
        labels: vec![("gpu".to_owned(), "true".to_owned())],
        slots: 5,
        draining: false,
    }
}

fn hello() -> DeviceHello {
    let report = ExecutionReport {
        key: key(),
        task: TaskId::from_uuid(id(3)),
        state: ExecutionState::Running,
        last: OutSeq(41),
        acked: OutSeq(30),
    };
    DeviceHello {
        version_min: 1,
        version_max: 1,
        device: DeviceId::from_uuid(id(4)),
        boot: id(5),
        dial: 6,
        build: "0.1.0".to_owned(),
        capabilities: capabilities(),
        executions: vec![report],
        credit: Credit { bytes: 1_048_576, items: 256 },
        links: Vec::new(),
    }
}

fn hellos() -> Vec<(&'static str, DeviceFrame)> {
    let welcome = DeviceWelcome {
        version: 1,
        session: id(7),
        cluster: "home".to_owned(),
        node: "node-1".to_owned(),
        now: Timestamp::from_millis(1_795_000_000_007),
        credit: Credit { bytes: 4_194_304, items: 4_096 },
        begins: false,
    };
    let begins = DeviceWelcome { begins: true, ..welcome.clone() };
    let refusal = DeviceRefusal {
        reason: DeviceRefusalReason::Revoked,
        message: "this device was revoked".to_owned(),
    };
    let links =
        vec![LinkAgo { began: 86_400_000, ended: 3_600_000 }, LinkAgo { began: 9, ended: 1 }];
    let linked_before = DeviceHello { links, ..hello() };
    vec![
        ("hello", DeviceFrame::Hello(Box::new(hello()))),
        ("hello-links", DeviceFrame::Hello(Box::new(linked_before))),
        ("welcome", DeviceFrame::Welcome(Box::new(welcome))),
        ("welcome-begins", DeviceFrame::Welcome(Box::new(begins))),
        ("refused", DeviceFrame::Refused(refusal)),
    ]
}

fn secret() -> NamedSecret {
    NamedSecret { name: "model-key".to_owned(), value: "sk-secret".to_owned() }
}

fn work() -> Vec<(&'static str, DeviceFrame)> {
    let assignment = Assignment {
        key: key(),
        task: TaskId::from_uuid(id(3)),
        token: "attempt-token".to_owned(),
        team: "default/dev-team".to_owned(),
        user: "ada".to_owned(),
        spec: Bytes::from_static(b"{\"runtime\":\"claude\"}"),
        secrets: vec![secret()],
    };
    let refused = AssignmentAnswer::Refused {
        key: key(),
        reason: AssignmentRefusal::Policy,
        message: "the policy file does not allow the team".to_owned(),
    };
    let input = Input {
        key: key(),
        id: id(8),
        kind: InputKind::Approval,
        name: "toolu_1".to_owned(),
        body: Bytes::from_static(b"{\"decision\":\"allow\"}"),
    };
    let answer = InputAnswer {
        key: key(),
        id: id(8),
        fate: InputFate::Unsupported,
        message: "the runtime takes no answers".to_owned(),
    };
    let output =
        Output { key: key(), out_seq: OutSeq(42), body: Bytes::from_static(b"{\"run\":\"done\"}") };
    let ended = Ended {
        key: key(),
        last: OutSeq(42),
        how: EndedHow::Cancelled,
        message: "stopped".to_owned(),
    };
    let forget = Forget { key: key(), reason: "committed".to_owned() };
    let wanted = PackageWanted { key: key(), hash: [9; HASH_BYTES], from: 262_144 };
    let bytes = Bytes::from_static(b"PK..");
    let part =
        PackagePart { key: key(), hash: [9; HASH_BYTES], from: 262_144, size: 262_148, bytes };
    vec![
        ("assignment", DeviceFrame::Assignment(Box::new(assignment))),
        ("taken", DeviceFrame::AssignmentAnswer(AssignmentAnswer::Taken(key()))),
        ("not-taken", DeviceFrame::AssignmentAnswer(refused)),
        ("attach", DeviceFrame::Attach(Attach { key: key(), from: OutSeq(31) })),
        ("output", DeviceFrame::Output(output)),
        ("output-ack", DeviceFrame::OutputAck(OutputAck { key: key(), out_seq: OutSeq(42) })),
        ("input", DeviceFrame::Input(input)),
        ("input-answer", DeviceFrame::InputAnswer(answer)),
        ("ended", DeviceFrame::Ended(ended)),
        ("begin", DeviceFrame::Begin(Begin { key: key() })),
        ("forget", DeviceFrame::Forget(forget)),
        ("package-wanted", DeviceFrame::PackageWanted(wanted)),
        ("package-part", DeviceFrame::PackagePart(Box::new(part))),
        ("secrets-wanted", DeviceFrame::SecretsWanted(SecretsWanted { key: key() })),
        (
            "secrets",
            DeviceFrame::SecretsGiven(SecretsGiven {
                key: key(),
                token: "attempt-token".to_owned(),
                secrets: vec![secret()],
            }),
        ),
    ]
}

fn steering() -> Vec<(&'static str, DeviceFrame)> {
    let csr = Bytes::from_static(b"csr");
    let granted = CertificateAnswer::Granted(vec![Bytes::from_static(b"cert")]);
    let refused = CertificateAnswer::Refused("later".to_owned());
    vec![
        ("credit", DeviceFrame::Credit(Credit { bytes: 9, items: 8 })),
        ("capabilities", DeviceFrame::Capabilities(Box::new(capabilities()))),
        ("certificate-request", DeviceFrame::CertificateRequest(CertificateRequest { csr })),
        ("certificate", DeviceFrame::CertificateAnswer(granted)),
        ("no-certificate", DeviceFrame::CertificateAnswer(refused)),
        ("revoked", DeviceFrame::Revoked(Revoked { message: "lost".to_owned() })),
        ("drain", DeviceFrame::Drain(Drain { on: true, reason: "update".to_owned() })),
        (
            "go-away",
            DeviceFrame::GoAway(GoAway { reason: "restart".to_owned(), redial_after_ms: 250 }),
        ),
        ("ping", DeviceFrame::Ping(Ping { nonce: 77 })),
        ("pong", DeviceFrame::Pong(Pong { nonce: 77 })),
    ]
}

fn frames() -> Vec<(&'static str, DeviceFrame)> {
    [hellos(), work(), steering()].concat()
}

fn request() -> EnrolRequest {
    EnrolRequest {
        secret: [7; 16],
        csr: Bytes::from_static(b"csr"),
        host: "laptop".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        build: "0.1.0".to_owned(),
    }
}

fn answers() -> Vec<(&'static str, EnrolAnswer)> {
    let grant = EnrolGrant {
        device: DeviceId::from_uuid(id(4)),
        name: "laptop".to_owned(),
        cluster: "home".to_owned(),
        chain: vec![Bytes::from_static(b"cert")],
        ca: Bytes::from_static(b"ca"),
        addresses: vec!["edge.example:8443".to_owned()],
    };
    let refusal = EnrolRefusal {
        reason: EnrolRefusalReason::RateLimited,
        message: "too many tries".to_owned(),
        retry_after_ms: 1_500,
    };
    vec![
        ("enrol-granted", EnrolAnswer::Granted(grant)),
        ("enrol-refused", EnrolAnswer::Refused(refusal)),
    ]
}

fn golden(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    dir.join(format!("device-{name}.v{DEVICE_VERSION}.golden"))
}

/// As in `golden.rs`: made when missing, then never changed.
fn check(name: &str, found: &[u8]) -> Vec<PathBuf> {
    let path = golden(name);
    if let Ok(expected) = fs::read(&path) {
        assert_eq!(expected, found, "{name}: its bytes changed");
        return Vec::new();
    }
    fs::write(&path, found).unwrap();
    vec![path]
}

fn payload(bytes: &Bytes) -> (u8, Bytes) {
    let head = bytes[..FRAME_HEAD_BYTES].try_into().unwrap();
    let (code, len) = DeviceFrame::head(head).unwrap();
    (code, bytes.slice(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + len))
}

#[test]
fn frames_have_the_released_bytes_and_read_back() {
    let mut made = Vec::new();
    for (name, frame) in frames() {
        made.extend(check(name, &frame.encode().unwrap()));
        let kept = Bytes::from(fs::read(golden(name)).unwrap());
        assert_eq!(DeviceFrame::decode_whole(kept).unwrap(), frame, "{name}");
    }
    made.extend(check("enrol-request", &request().encode().unwrap()));
    let (code, kept) = payload(&Bytes::from(fs::read(golden("enrol-request")).unwrap()));
    assert_eq!(EnrolRequest::decode(code, kept).unwrap(), request());
    for (name, answer) in answers() {
        made.extend(check(name, &answer.encode().unwrap()));
        let (code, kept) = payload(&Bytes::from(fs::read(golden(name)).unwrap()));
        assert_eq!(EnrolAnswer::decode(code, kept).unwrap(), answer, "{name}");
    }
    assert!(made.is_empty(), "made {made:?}; look at them and keep them");
}

#[test]
fn a_newer_kind_comes_through_as_such() {
    let newer = DeviceFrame::Other(200, Bytes::from_static(b"from the future"));
    assert_eq!(DeviceFrame::decode_whole(newer.encode().unwrap()).unwrap(), newer);
}

#[test]
fn fields_that_a_newer_program_adds_are_ignored() {
    for (name, frame) in frames() {
        let (code, payload) = payload(&frame.encode().unwrap());
        let mut longer = BytesMut::from(&payload[..]);
        longer.put_u64(77);
        longer.put_u32(78);
        assert_eq!(DeviceFrame::decode(code, longer.freeze()).unwrap(), frame, "{name}");
    }
    for (name, answer) in answers() {
        let (code, payload) = payload(&answer.encode().unwrap());
        let mut longer = BytesMut::from(&payload[..]);
        longer.put_u64(77);
        assert_eq!(EnrolAnswer::decode(code, longer.freeze()).unwrap(), answer, "{name}");
    }
}

#[test]
fn newer_values_come_through_as_such() {
    let newer = [
        DeviceFrame::AssignmentAnswer(AssignmentAnswer::Other(key(), 99)),
        DeviceFrame::CertificateAnswer(CertificateAnswer::Other(99)),
        DeviceFrame::Input(Input {
            key: key(),
            id: id(1),
            kind: InputKind::Other(99),
            name: String::new(),
            body: Bytes::new(),
        }),
        DeviceFrame::Ended(Ended {
            key: key(),
            last: OutSeq(1),
            how: EndedHow::Other(99),
            message: String::new(),
        }),
    ];
    for frame in newer {
        assert_eq!(DeviceFrame::decode_whole(frame.encode().unwrap()).unwrap(), frame);
    }
}

#[test]
fn another_version_of_a_hello_is_refused_by_name() {
    for (name, frame) in hellos() {
        let mut bytes = BytesMut::from(&frame.encode().unwrap()[..]);
        bytes[FRAME_HEAD_BYTES] = 9;
        let refused = DeviceFrame::decode_whole(bytes.freeze()).unwrap_err();
        assert!(matches!(refused, DecodeError::Version { found: 9, .. }), "{name}: {refused}");
    }
    assert_eq!(hello().common_version(1, 3), Some(1));
    assert_eq!(hello().common_version(2, 3), None);
}

#[test]
fn the_largest_body_fits_and_one_byte_more_does_not() {
    let of = |len| {
        let body = Bytes::from(vec![b'x'; len]);
        DeviceFrame::Output(Output { key: key(), out_seq: OutSeq(1), body })
    };
    let largest = of(DEVICE_BODY_BYTES_MAX).encode().unwrap();
    assert_eq!(DeviceFrame::decode_whole(largest).unwrap(), of(DEVICE_BODY_BYTES_MAX));
    let refused = of(DEVICE_BODY_BYTES_MAX + 1).encode().unwrap_err();
    let (found, max) = (DEVICE_BODY_BYTES_MAX + 1, DEVICE_BODY_BYTES_MAX);
    assert_eq!(refused, EncodeError::TooLarge { what: "output", found, max });
    let mut long = hello();
    long.executions = vec![long.executions[0]; EXECUTIONS_MAX];
    let long_frame = DeviceFrame::Hello(Box::new(long.clone()));
    assert_eq!(DeviceFrame::decode_whole(long_frame.encode().unwrap()).unwrap(), long_frame);
    long.executions.push(long.executions[0]);
    assert!(DeviceFrame::Hello(Box::new(long)).encode().is_err());
}

/// A length that promises gigabytes costs nothing: it is refused from the head alone.
#[test]
fn a_length_that_lies_is_refused_before_anything_is_made() {
    let [a, b, c, d] = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
    let refused = DeviceFrame::head([7, a, b, c, d]).unwrap_err();
    assert!(matches!(refused, DecodeError::TooLarge { .. }), "{refused}");
    let mut lying = BytesMut::new();
    key_bytes(&mut lying);
    lying.put_u64(1);
    lying.put_u32(u32::MAX);
    let refused = DeviceFrame::decode(7, lying.freeze()).unwrap_err();
    assert!(matches!(refused, DecodeError::TooLarge { .. }), "{refused}");
}

fn key_bytes(to: &mut BytesMut) {
    to.put_slice(key().execution.uuid().as_bytes());
    to.put_u32(2);
}

#[test]
fn secrets_are_not_shown() {
    for (_, frame) in work() {
        assert!(!format!("{frame:?}").contains("sk-secret"), "{frame:?}");
        assert!(!format!("{frame:?}").contains("attempt-token"), "{frame:?}");
    }
    assert!(!format!("{:?}", request()).contains("7, 7"));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(code in 0_u8..32, bytes in vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(bytes);
        let _ = DeviceFrame::decode(code, bytes.clone());
        let _ = DeviceFrame::decode_whole(bytes.clone());
        let _ = EnrolRequest::decode(1, bytes.clone());
        let _ = EnrolAnswer::decode(code, bytes);
    }

    #[test]
    fn damaged_frames_give_an_answer(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let all = frames();
        let good = all[which.index(all.len())].1.encode().unwrap();
        let mut turned = good.to_vec();
        turned[at.index(good.len())] ^= 1 << bit;
        let _ = DeviceFrame::decode_whole(Bytes::from(turned));
        let cut = at.index(good.len());
        prop_assert!(DeviceFrame::decode_whole(good.slice(..cut)).is_err(), "cut at {}", cut);
    }

    #[test]
    fn what_is_written_is_read_again(
        numbers in any::<(u128, u32, u64)>(),
        text in ".{0,60}",
        body in vec(any::<u8>(), 0..2_000),
        kind in 0_u8..,
    ) {
        let key = AttemptKey {
            execution: ExecutionId::from_uuid(Uuid::from_u128(numbers.0)),
            attempt: Attempt(numbers.1),
        };
        let body = Bytes::from(body);
        let kind = match kind {
            1 => InputKind::Approval,
            2 => InputKind::Answer,
            3 => InputKind::Steer,
            4 => InputKind::Interrupt,
            5 => InputKind::Cancel,
            6 => InputKind::Withdrawn,
            7 => InputKind::Expired,
            other => InputKind::Other(other),
        };
        let frames = [
            DeviceFrame::Output(Output { key, out_seq: OutSeq(numbers.2), body: body.clone() }),
            DeviceFrame::Input(Input { key, id: id(1), kind, name: text.clone(), body: body.clone() }),
            DeviceFrame::Assignment(Box::new(Assignment {
                key,
                task: TaskId::from_uuid(id(2)),
                token: text.clone(),
                team: text.clone(),
                user: text.clone(),
                spec: body,
                secrets: vec![NamedSecret { name: text.clone(), value: text.clone() }],
            })),
            DeviceFrame::Forget(Forget { key, reason: text }),
        ];
        for frame in frames {
            prop_assert_eq!(DeviceFrame::decode_whole(frame.encode().unwrap()).unwrap(), frame);
        }
    }
}
