//! The bytes of released versions. Files are made when they are missing, and the test fails once
//! so that somebody looks at them; they are never changed afterwards: a new form is a new version.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use troupe_wire::{
    AnswerHead, AnswerOutcome, BATCH_VERSION, Batch, HELLO_VERSION, QUESTION_VERSION, QuestionHead,
    Welcome,
};

use crate::samples::{TOKEN, batch, items, welcomes};

fn path(name: &str, version: u8) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    dir.join(format!("{name}.v{version}.golden"))
}

/// Compares; answers the file if it had to be made.
#[must_use]
fn check(name: &str, version: u8, found: &[u8]) -> Option<PathBuf> {
    let path = path(name, version);
    if let Ok(expected) = fs::read(&path) {
        assert_eq!(expected, found, "{name}: its bytes changed");
        return None;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, found).unwrap();
    Some(path)
}

#[test]
fn items_have_the_released_bytes_and_read_back() {
    let mut made = Vec::new();
    for (name, item) in items() {
        made.extend(check(name, BATCH_VERSION, &batch(std::slice::from_ref(&item))));
        let kept = fs::read(path(name, BATCH_VERSION)).unwrap();
        let read = Batch::decode(Bytes::from(kept)).unwrap();
        assert_eq!(read.token, TOKEN);
        assert_eq!(read.items.into_iter().map(|(item, _)| item).collect::<Vec<_>>(), [item]);
    }
    assert!(made.is_empty(), "made {made:?}; look at them and keep them");
}

#[test]
fn hellos_have_the_released_bytes_and_read_back() {
    let mut made = Vec::new();
    for (name, welcome) in welcomes() {
        made.extend(check(name, HELLO_VERSION, &welcome.encode().unwrap()));
        let kept = fs::read(path(name, HELLO_VERSION)).unwrap();
        assert_eq!(Welcome::decode(Bytes::from(kept)).unwrap(), welcome);
    }
    assert!(made.is_empty(), "made {made:?}; look at them and keep them");
}

#[test]
fn heads_of_questions_have_the_released_bytes_and_read_back() {
    let question = QuestionHead { topic: 1, len: 77 };
    let answer = AnswerHead { outcome: AnswerOutcome::Refused, len: 78 };
    let mut made = Vec::new();
    made.extend(check("question", QUESTION_VERSION, &question.encode().unwrap()));
    made.extend(check("answer", QUESTION_VERSION, &answer.encode().unwrap()));
    let kept = |name| Bytes::from(fs::read(path(name, QUESTION_VERSION)).unwrap());
    assert_eq!(QuestionHead::decode(kept("question")).unwrap(), question);
    assert_eq!(AnswerHead::decode(kept("answer")).unwrap(), answer);
    assert!(made.is_empty(), "made {made:?}; look at them and keep them");
}
