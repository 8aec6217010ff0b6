//! Questions from node to node that are no messages to entities: what a node knows of itself,
//! and what an operator wants of it.
//!
//! Each goes over a bulk stream of its own, so it delays nothing and is delayed by nothing.
//! Question and answer have at most [`QUESTION_BYTES_MAX`] bytes; both ends have deadlines, and
//! a node answers [`ANSWERED_AT_ONCE`] questions at once.

use std::{fmt, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use troupe_actor::spawn_task;
use troupe_link::{BoxRead, BoxWrite, LinkStream};
use troupe_wire::{
    AnswerHead, AnswerOutcome, DecodeError, QuestionHead, limits::QUESTION_BYTES_MAX,
};

use super::NodeLink;
use crate::placement::NodeName;

/// Questions that a node answers at the same time; a further one is told that it is busy.
pub const ANSWERED_AT_ONCE: usize = 16;
/// From the opening of a stream to the last byte of the question.
const HEARD_IN: Duration = Duration::from_secs(10);
/// For one answer, from then on.
const ANSWERED_IN: Duration = Duration::from_secs(60);

/// Takes streams that a peer opened for large data. Called from the link's task: must not block.
pub trait BulkHandler: fmt::Debug + Send + Sync + 'static {
    /// A stream of this peer. Dropped, it is closed.
    fn stream(&self, from: &NodeName, stream: LinkStream);
}

/// Why a question was not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    /// Nobody here answers this topic.
    #[error("the topic is not known")]
    UnknownTopic,
    /// In words.
    #[error("{0}")]
    Refused(String),
}

/// Answers what other nodes ask.
#[async_trait]
pub trait Answerer: fmt::Debug + Send + Sync + 'static {
    /// The answer, at most [`QUESTION_BYTES_MAX`] bytes. Dropped when it takes too long or the
    /// link ends.
    ///
    /// # Errors
    /// See [`AnswerError`].
    async fn answer(
        &self,
        from: &NodeName,
        topic: u16,
        question: Bytes,
    ) -> Result<Bytes, AnswerError>;
}

/// Why a question to another node has no answer.
#[derive(Debug, Error)]
pub enum QuestionError {
    /// There is no link to that node.
    #[error("there is no link to {0}")]
    NoLink(NodeName),
    /// The question is too large.
    #[error("a question has at most {QUESTION_BYTES_MAX} bytes")]
    TooLarge,
    /// No answer in time.
    #[error("no answer in time")]
    TooLate,
    /// The link ended.
    #[error("the link ended")]
    Link(#[source] io::Error),
    /// The answer makes no sense.
    #[error("the answer makes no sense")]
    Garbled(#[source] DecodeError),
    /// That node answers too many already.
    #[error("the node answers too many questions at once")]
    Busy,
    /// That node is too old, or too new, for this question.
    #[error("the node does not know such questions")]
    Unsupported,
    /// That node said why not.
    #[error("{0}")]
    Refused(String),
}

/// Gives the bulk streams of peers to an [`Answerer`].
#[derive(Debug)]
pub struct Questions {
    answerer: Arc<dyn Answerer>,
    places: Arc<Semaphore>,
}

impl Questions {
    /// Answered by `answerer`.
    #[must_use]
    pub fn new(answerer: Arc<dyn Answerer>) -> Self {
        Self { answerer, places: Arc::new(Semaphore::new(ANSWERED_AT_ONCE)) }
    }
}

impl BulkHandler for Questions {
    fn stream(&self, from: &NodeName, stream: LinkStream) {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let (answerer, from) = (Arc::clone(&self.answerer), from.clone());
        // The number of streams of one link is bounded by the link.
        drop(spawn_task("answer a node", async move {
            if let Err(error) = serve(&*answerer, &from, stream, place).await {
                tracing::debug!(peer = %from, %error, "a question was not answered");
            }
        }));
    }
}

async fn serve(
    answerer: &dyn Answerer,
    from: &NodeName,
    stream: LinkStream,
    place: Option<OwnedSemaphorePermit>,
) -> io::Result<()> {
    let LinkStream { mut read, mut write, .. } = stream;
    let heard = timeout(HEARD_IN, hear(&mut read)).await.map_err(|_| late())??;
    let (outcome, body) = match heard {
        _ if place.is_none() => (AnswerOutcome::Busy, Bytes::new()),
        None => (AnswerOutcome::UnknownVersion, Bytes::new()),
        Some((topic, question)) => {
            match timeout(ANSWERED_IN, answerer.answer(from, topic, question)).await {
                Ok(Ok(body)) if body.len() <= QUESTION_BYTES_MAX => (AnswerOutcome::Done, body),
                Ok(Ok(_)) => refused("the answer is too large"),
                Ok(Err(AnswerError::UnknownTopic)) => (AnswerOutcome::UnknownTopic, Bytes::new()),
                Ok(Err(AnswerError::Refused(why))) => refused(&why),
                Err(_) => refused("it took too long"),
            }
        }
    };
    let head = AnswerHead { outcome, len: body.len() }.encode().map_err(io::Error::other)?;
    write.write_all(&head).await?;
    write.write_all(&body).await?;
    write.shutdown().await
}

fn refused(why: &str) -> (AnswerOutcome, Bytes) {
    let end = why.floor_char_boundary(4 * 1024);
    (AnswerOutcome::Refused, Bytes::copy_from_slice(&why.as_bytes()[..end]))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the question did not arrive in time")
}

/// The question; `None`: it is of another version.
async fn hear(read: &mut BoxRead) -> io::Result<Option<(u16, Bytes)>> {
    let mut head = vec![0; QuestionHead::BYTES];
    read.read_exact(&mut head).await?;
    match QuestionHead::decode(Bytes::from(head)) {
        Ok(head) => Ok(Some((head.topic, exactly(read, head.len).await?))),
        Err(DecodeError::Version { .. }) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// So many bytes; room is made for what has arrived, not for what was announced.
async fn exactly(read: &mut BoxRead, len: usize) -> io::Result<Bytes> {
    let mut body = Vec::new();
    let limit = u64::try_from(len).unwrap_or(u64::MAX);
    read.take(limit).read_to_end(&mut body).await?;
    if body.len() == len { Ok(body.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn put(mut write: BoxWrite, head: &[u8], body: &[u8]) -> io::Result<BoxWrite> {
    write.write_all(head).await?;
    write.write_all(body).await?;
    write.flush().await?;
    // Kept open until the answer is here: its end would be the peer's end of file.
    Ok(write)
}

impl NodeLink {
    /// Has streams that peers open for large data taken by `handler`; before, and without one,
    /// the observer gets them.
    pub fn take_bulk(&self, handler: Arc<dyn BulkHandler>) {
        self.links.take_bulk(handler);
    }

    /// Asks another node something and waits at most `within` for its answer. It may be heard
    /// twice only if the caller asks twice.
    ///
    /// # Errors
    /// See [`QuestionError`]. After `TooLate` and `Link` it may have been heard.
    pub async fn question(
        &self,
        to: &NodeName,
        topic: u16,
        question: Bytes,
        within: Duration,
    ) -> Result<Bytes, QuestionError> {
        let head = QuestionHead { topic, len: question.len() };
        let head = head.encode().map_err(|_| QuestionError::TooLarge)?;
        let asking = async {
            let no_link = || QuestionError::NoLink(to.clone());
            let LinkStream { mut read, write, .. } =
                self.open_bulk(to).await.ok_or_else(no_link)?;
            let _open = put(write, &head, &question).await.map_err(QuestionError::Link)?;
            let mut head = vec![0; AnswerHead::BYTES];
            read.read_exact(&mut head).await.map_err(QuestionError::Link)?;
            let head = AnswerHead::decode(head.into()).map_err(QuestionError::Garbled)?;
            let body = exactly(&mut read, head.len).await.map_err(QuestionError::Link)?;
            match head.outcome {
                AnswerOutcome::Done => Ok(body),
                AnswerOutcome::Refused => {
                    Err(QuestionError::Refused(String::from_utf8_lossy(&body).into_owned()))
                }
                AnswerOutcome::Busy => Err(QuestionError::Busy),
                AnswerOutcome::UnknownTopic
                | AnswerOutcome::UnknownVersion
                | AnswerOutcome::Other(_) => Err(QuestionError::Unsupported),
            }
        };
        timeout(within, asking).await.map_err(|_| QuestionError::TooLate)?
    }
}
