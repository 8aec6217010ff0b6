//! A question from one node to another, and its answer: each once over a bulk stream of its own.
//!
//! ```text
//! question = version, topic, length, body          answer = version, outcome, length, body
//! ```
//! The form of the heads is as old as the link and stays; what a body means is a matter of its
//! topic, whose readers ignore what they do not know.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::Reader,
    error::{DecodeError, EncodeError},
    limits::QUESTION_BYTES_MAX,
};

/// The version of the form of questions and answers.
pub const QUESTION_VERSION: u8 = 1;

const QUESTION: &str = "question";
const ANSWER: &str = "answer";

/// What comes before the body of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionHead {
    /// What the body is about; the numbers are those of the asking crates.
    pub topic: u16,
    /// Bytes of the body, at most [`QUESTION_BYTES_MAX`].
    pub len: usize,
}

/// How a question was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// The body is the answer.
    Done,
    /// The body says in words why not.
    Refused,
    /// Nobody there answers this topic.
    UnknownTopic,
    /// Too many questions are being answered there.
    Busy,
    /// The form of the question is newer than that node.
    UnknownVersion,
    /// Something newer.
    Other(u8),
}

/// What comes before the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// How it was taken.
    pub outcome: AnswerOutcome,
    /// Bytes of the body, at most [`QUESTION_BYTES_MAX`].
    pub len: usize,
}

impl QuestionHead {
    /// Bytes of a head.
    pub const BYTES: usize = 7;

    /// The bytes.
    ///
    /// # Errors
    /// The body is too large.
    pub fn encode(self) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(Self::BYTES);
        to.put_u8(QUESTION_VERSION);
        to.put_u16(self.topic);
        to.put_u32(length(QUESTION, self.len)?);
        Ok(to.freeze())
    }

    /// Reads a head.
    ///
    /// # Errors
    /// See [`DecodeError`]; another version is told as such.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, QUESTION);
        version(&mut reader, QUESTION)?;
        Ok(Self { topic: reader.u16()?, len: reader.count(QUESTION_BYTES_MAX)? })
    }
}

impl AnswerHead {
    /// Bytes of a head.
    pub const BYTES: usize = 6;

    /// The bytes.
    ///
    /// # Errors
    /// The body is too large.
    pub fn encode(self) -> Result<Bytes, EncodeError> {
        let mut to = BytesMut::with_capacity(Self::BYTES);
        to.put_u8(QUESTION_VERSION);
        to.put_u8(match self.outcome {
            AnswerOutcome::Done => 0,
            AnswerOutcome::Refused => 1,
            AnswerOutcome::UnknownTopic => 2,
            AnswerOutcome::Busy => 3,
            AnswerOutcome::UnknownVersion => 4,
            AnswerOutcome::Other(code) => code,
        });
        to.put_u32(length(ANSWER, self.len)?);
        Ok(to.freeze())
    }

    /// Reads a head.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, ANSWER);
        version(&mut reader, ANSWER)?;
        let outcome = match reader.u8()? {
            0 => AnswerOutcome::Done,
            1 => AnswerOutcome::Refused,
            2 => AnswerOutcome::UnknownTopic,
            3 => AnswerOutcome::Busy,
            4 => AnswerOutcome::UnknownVersion,
            code => AnswerOutcome::Other(code),
        };
        Ok(Self { outcome, len: reader.count(QUESTION_BYTES_MAX)? })
    }
}

fn length(what: &'static str, len: usize) -> Result<u32, EncodeError> {
    let max = QUESTION_BYTES_MAX;
    let small = u32::try_from(len).ok().filter(|_| len <= max);
    small.ok_or(EncodeError::TooLarge { what, found: len, max })
}

fn version(reader: &mut Reader, what: &'static str) -> Result<(), DecodeError> {
    match reader.u8()? {
        QUESTION_VERSION => Ok(()),
        found => Err(DecodeError::Version {
            what,
            found,
            oldest: QUESTION_VERSION,
            newest: QUESTION_VERSION,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_and_have_their_size() {
        let question = QuestionHead { topic: 7, len: QUESTION_BYTES_MAX };
        let bytes = question.encode().unwrap();
        assert_eq!(bytes.len(), QuestionHead::BYTES);
        assert_eq!(QuestionHead::decode(bytes), Ok(question));
        for code in 0..=9 {
            let bytes = Bytes::from(vec![QUESTION_VERSION, code, 0, 0, 0, 5]);
            assert_eq!(bytes.len(), AnswerHead::BYTES);
            let head = AnswerHead::decode(bytes.clone()).unwrap();
            assert_eq!(head.len, 5);
            assert_eq!(head.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_too_large_or_of_another_version_is_refused() {
        let large = QUESTION_BYTES_MAX + 1;
        assert!(QuestionHead { topic: 1, len: large }.encode().is_err());
        assert!(AnswerHead { outcome: AnswerOutcome::Done, len: large }.encode().is_err());
        let told = Bytes::from_static(&[1, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(QuestionHead::decode(told), Err(DecodeError::TooLarge { .. })));
        let newer = Bytes::from_static(&[2, 0, 1, 0, 0, 0, 0]);
        assert!(matches!(QuestionHead::decode(newer), Err(DecodeError::Version { found: 2, .. })));
        let short = Bytes::from_static(&[1, 0]);
        assert!(matches!(QuestionHead::decode(short), Err(DecodeError::Short { .. })));
    }
}
