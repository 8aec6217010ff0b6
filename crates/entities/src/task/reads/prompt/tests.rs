use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};
use troupe_domain::task::{
    CollaborationModel, HistoryItem, TaskEntry, TaskEvent, TaskState, Work, history,
};
use troupe_store::{AppendError, Entry, JournalStore, OpenError, Opened, WakeChange};
use troupe_testkit::wait_until;
use troupe_types::{
    EntityId, Epoch, Frame, FrameBody, FrameSeq, MessageFrame, MessageId, MessageKind, Ordinal,
    Role, Sender, Status, TaskId, Timestamp, TurnId, UserId,
};

use super::*;
use crate::{
    codec,
    task::{view::Public, window::Held},
};

/// Something that is counted while it is there.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl Counted {
    fn new(bytes: &[u8], count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(bytes.to_vec(), Arc::clone(count))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An archive that is read three entries at a time, and knows what is still held of it.
#[derive(Debug)]
struct Archive {
    bodies: Vec<Bytes>,
    alive: Arc<AtomicUsize>,
    /// What was alive when a page was read.
    seen: Mutex<Vec<usize>>,
    reading: AtomicUsize,
    reading_most: AtomicUsize,
    /// A page takes one of these.
    gate: Semaphore,
}

const PAGE: usize = 3;

#[async_trait]
impl JournalStore for Archive {
    async fn open(&self, _: EntityId, _: Epoch) -> Result<Opened, OpenError> {
        unreachable!("it is only read")
    }

    async fn append(
        &self,
        _: &Opened,
        _: Seq,
        _: Vec<Entry>,
        _: Vec<WakeChange>,
    ) -> Result<(), AppendError> {
        unreachable!("it is only read")
    }

    async fn snapshot(&self, _: &Opened, _: Seq, _: Bytes) -> Result<(), AppendError> {
        unreachable!("it is only read")
    }

    async fn read_archive(
        &self,
        _: EntityId,
        _: FrameSeq,
        _: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        unreachable!("a prompt is made of all entries, those without frames too")
    }

    async fn read_archive_entries(
        &self,
        _: EntityId,
        from: Seq,
        _: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let alive = self.alive.load(Ordering::SeqCst);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(alive);
        let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.reading_most.fetch_max(reading, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.reading.fetch_sub(1, Ordering::SeqCst);
        let all = (1..).map(Seq).zip(&self.bodies);
        let page = all.filter(|(seq, _)| *seq >= from).take(PAGE).map(|(seq, body)| Entry {
            seq,
            first_frame: FrameSeq(seq.0),
            frames: 1,
            body: Bytes::from_owner(Counted::new(body, &self.alive)),
        });
        Ok(page.collect())
    }
}

fn execution() -> ExecutionId {
    ExecutionId::derived(&["e"])
}

fn plan() -> TeamPlan {
    TeamPlan {
        hash: String::new(),
        name: "t".into(),
        namespace: "default".into(),
        display_name: String::new(),
        model: CollaborationModel::Solo,
        max_rounds: 1,
        max_concurrent_tasks: 1,
        members: Vec::new(),
        leader: 0,
        deep_thinking: false,
    }
}

fn event(message: MessageId, n: u32, kind: MessageKind) -> TaskEvent {
    let role = if kind == MessageKind::User { Role::User } else { Role::Assistant };
    let (ordinal, turn) = (Ordinal(n.into()), TurnId::derived(&["t"]));
    TaskEvent::MessagePlanned { message, ordinal, turn, role, kind, step: None }
}

/// A row of a person.
fn said(n: u32) -> TaskEntry {
    let (message, at) = (MessageId::derived(&["m", &n.to_string()]), Timestamp::from_millis(1));
    let frame = MessageFrame {
        message,
        ordinal: Ordinal(n.into()),
        turn: TurnId::derived(&["t"]),
        role: Role::User,
        kind: MessageKind::User,
        sender: Sender::User { user_id: UserId::derived(&["ann"]), user_name: "ann".into() },
        content: format!("word {n}"),
        step: None,
        status: Status::Completed,
        client_message_id: None,
    };
    let body = FrameBody::Message(frame);
    TaskEntry {
        at,
        events: vec![event(message, n, MessageKind::User)],
        frames: vec![Frame { seq: FrameSeq(n.into()), at, body }],
    }
}

/// The row that the execution fills.
fn asked(n: u32) -> TaskEntry {
    let message = MessageId::derived(&["answer"]);
    let planned = TaskEvent::ExecutionPlanned {
        execution: execution(),
        message,
        member: 0,
        work: Work::Answer,
    };
    let events = vec![event(message, n, MessageKind::Answer), planned];
    TaskEntry { at: Timestamp::from_millis(1), events, frames: Vec::new() }
}

/// A Task whose first entries are archived, and one of them is in memory too.
fn task(archived: u32, folds: &Arc<Semaphore>) -> (Reader, Arc<Archive>, Vec<TaskEntry>) {
    let entries: Vec<TaskEntry> =
        (1..=archived + 2).map(said).chain([asked(archived + 3)]).collect();
    let bodies = entries.iter().take(archived.try_into().unwrap());
    let archive = Arc::new(Archive {
        bodies: bodies.map(|entry| codec::encode_entry(entry).unwrap()).collect(),
        alive: Arc::default(),
        seen: Mutex::default(),
        reading: AtomicUsize::new(0),
        reading_most: AtomicUsize::new(0),
        gate: Semaphore::new(0),
    });
    let held = (1..).map(Seq).zip(&entries).skip(archived.saturating_sub(1).try_into().unwrap());
    let held = held.map(|(seq, entry)| Held { seq, bytes: 1, entry: Arc::new(entry.clone()) });
    let reader = Reader {
        entity: EntityId::from(TaskId::derived(&["t"])),
        journal: Arc::<Archive>::clone(&archive),
        public: Arc::new(Public::of(&TaskState::default(), None)),
        head: FrameSeq((archived + 2).into()),
        held: held.collect(),
        folds: Arc::clone(folds),
    };
    (reader, archive, entries)
}

#[tokio::test]
async fn a_page_is_gone_before_the_next_one_is_read() {
    let (reader, archive, entries) = task(20, &Arc::new(Semaphore::new(1)));
    archive.gate.add_permits(1_000);
    let found = reader.conversation(&plan(), execution()).await.unwrap().unwrap();
    let seen = archive.seen.lock().unwrap().clone();
    assert_eq!(seen, [0; 7], "bodies that were held when a page was read");
    assert_eq!(archive.alive.load(Ordering::SeqCst), 0);
    assert_eq!(Some(&found), history::conversation(&entries, &plan(), execution()).as_ref());
    let words: Vec<String> = (1..=22).map(|n| format!("word {n}")).collect();
    let text = |item: &HistoryItem| match item {
        HistoryItem::Person { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found.items.iter().map(text).collect::<Vec<_>>(), words);
    let unknown = ExecutionId::derived(&["another"]);
    assert_eq!(reader.conversation(&plan(), unknown).await.unwrap(), None);
}

#[tokio::test]
async fn few_archives_are_folded_at_once() {
    let folds = Arc::new(Semaphore::new(2));
    let (reader, archive, _) = task(9, &folds);
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let reader = reader.clone();
        all.spawn(async move { reader.conversation(&plan(), execution()).await });
    }
    let reading = || std::future::ready(archive.reading.load(Ordering::SeqCst) == 2);
    wait_until(Duration::from_secs(10), reading).await;
    // One whose entries are all in memory does not wait for them.
    let (small, _, _) = task(0, &folds);
    assert!(small.conversation(&plan(), execution()).await.unwrap().is_some());
    archive.gate.add_permits(1_000);
    while let Some(done) = all.join_next().await {
        assert!(done.unwrap().unwrap().is_some());
    }
    assert_eq!(archive.reading_most.load(Ordering::SeqCst), 2);
}
