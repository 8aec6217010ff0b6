//! Questions from node to node, over QUIC and over links in memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use troupe_link::MemoryHub;
use troupe_sharding::{AnswerError, Answerer, NodeName, QuestionError, Questions};
use troupe_wire::{AnswerHead, AnswerOutcome, limits::QUESTION_BYTES_MAX};

use crate::{
    counter::LONG,
    nodes::{Cluster, Node, name},
};

/// Topic 1: echoes, with the asker's name in front; `large`, `no`, `wait` do what they say.
#[derive(Debug)]
struct Echo {
    gate: Semaphore,
}

#[async_trait]
impl Answerer for Echo {
    async fn answer(
        &self,
        from: &NodeName,
        topic: u16,
        question: Bytes,
    ) -> Result<Bytes, AnswerError> {
        if topic != 1 {
            return Err(AnswerError::UnknownTopic);
        }
        match &question[..] {
            b"no" => Err(AnswerError::Refused("not today".to_owned())),
            b"large" => Ok(Bytes::from(vec![7; QUESTION_BYTES_MAX])),
            b"too large" => Ok(Bytes::from(vec![7; QUESTION_BYTES_MAX + 1])),
            b"wait" => {
                self.gate.acquire().await.unwrap().forget();
                Ok(Bytes::new())
            }
            other => Ok([from.0.as_bytes(), b": ", other].concat().into()),
        }
    }
}

struct Pair {
    cluster: Cluster,
    a: Node,
    b: Node,
    echo: Arc<Echo>,
}

async fn pair(memory: bool) -> Pair {
    let mut cluster = Cluster::new("node-2");
    if memory {
        cluster.hub = Some(MemoryHub::new());
    }
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    let echo = Arc::new(Echo { gate: Semaphore::new(0) });
    b.link.take_bulk(Arc::new(Questions::new(Arc::clone(&echo) as Arc<dyn Answerer>)));
    cluster.join(&[&a, &b]).await;
    for node in [&a, &b] {
        node.until("streams can be opened", |node| !node.ear.ups.lock().unwrap().is_empty()).await;
    }
    Pair { cluster, a, b, echo }
}

impl Pair {
    async fn ask(&self, topic: u16, question: impl Into<Bytes>) -> Result<Bytes, QuestionError> {
        self.a.link.question(&name("node-2"), topic, question.into(), LONG).await
    }
}

async fn every_answer_comes_back(pair: &Pair) {
    assert_eq!(pair.ask(1, "hello").await.unwrap(), "node-1: hello");
    assert_eq!(pair.ask(1, Bytes::new()).await.unwrap(), "node-1: ");
    assert_eq!(pair.ask(1, "large").await.unwrap().len(), QUESTION_BYTES_MAX);
    let largest = vec![b'q'; QUESTION_BYTES_MAX - 8];
    assert_eq!(pair.ask(1, largest).await.unwrap().len(), QUESTION_BYTES_MAX);
    let no = pair.ask(1, "no").await.unwrap_err();
    assert_eq!(no.to_string(), "not today");
    assert!(matches!(pair.ask(2, "hello").await, Err(QuestionError::Unsupported)));
    let large = pair.ask(1, "too large").await.unwrap_err();
    assert!(large.to_string().contains("too large"), "{large}");
    let larger = vec![0; QUESTION_BYTES_MAX + 1];
    assert!(matches!(pair.ask(1, larger).await, Err(QuestionError::TooLarge)));
    let nobody = pair.a.link.question(&name("nobody"), 1, Bytes::new(), LONG).await;
    assert!(matches!(nobody, Err(QuestionError::NoLink(_))));
    let short = Duration::from_millis(50);
    let late = pair.a.link.question(&name("node-2"), 1, "wait".into(), short).await;
    assert!(matches!(late, Err(QuestionError::TooLate)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_question_is_answered_over_quic() {
    every_answer_comes_back(&pair(false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_question_is_answered_over_links_in_memory() {
    every_answer_comes_back(&pair(true).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_answers_too_many_says_so_and_recovers() {
    let pair = pair(true).await;
    let mut waiting = JoinSet::new();
    let link = Arc::new(pair.a.link);
    for _ in 0..20 {
        let link = Arc::clone(&link);
        waiting.spawn(async move { link.question(&name("node-2"), 1, "wait".into(), LONG).await });
    }
    for _ in 0..4 {
        let answer = timeout(LONG, waiting.join_next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(answer, Err(QuestionError::Busy)), "{answer:?}");
    }
    pair.echo.gate.add_permits(16);
    while let Some(answer) = timeout(LONG, waiting.join_next()).await.unwrap() {
        answer.unwrap().unwrap();
    }
    let after = link.question(&name("node-2"), 1, "hello".into(), LONG).await;
    assert_eq!(after.unwrap(), "node-1: hello");
}

/// A question that is given up before its first byte is read is the end of its stream, not of the
/// link, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_question_that_is_given_up_leaves_the_link_alone() {
    let pair = pair(false).await;
    for _ in 0..200 {
        // Reset at once: the other end may see the reset before the purpose.
        drop(pair.a.link.open_bulk(&name("node-2")).await.expect("the link is up"));
    }
    assert_eq!(pair.ask(1, "hello").await.unwrap(), "node-1: hello");
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.ear.ups.lock().unwrap().len(), 1, "{}: one link", node.name);
    }
}

/// A node of the next version asks: it is told, in the form that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newer_form_is_refused_by_name() {
    let pair = pair(false).await;
    let mut stream = pair.a.link.open_bulk(&name("node-2")).await.unwrap();
    stream.write.write_all(&[9, 0, 1, 0, 0, 0, 0, 42]).await.unwrap();
    stream.write.shutdown().await.unwrap();
    let mut head = vec![0; AnswerHead::BYTES];
    timeout(LONG, stream.read.read_exact(&mut head)).await.unwrap().unwrap();
    let head = AnswerHead::decode(head.into()).unwrap();
    assert_eq!(head, AnswerHead { outcome: AnswerOutcome::UnknownVersion, len: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_link_ends_the_wait() {
    let pair = pair(false).await;
    let waiting = pair.ask(1, "wait");
    let cutting = async { pair.cluster.cut("node-1", "node-2", true) };
    let (answer, ()) = timeout(LONG, async { tokio::join!(waiting, cutting) }).await.unwrap();
    assert!(matches!(answer, Err(QuestionError::Link(_) | QuestionError::NoLink(_))), "{answer:?}");
    drop(pair.b);
}
