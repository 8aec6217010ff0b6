//! Appends of the clustered store beside conditional inserts (`IF NOT EXISTS`) of the same
//! entries into a table with the same columns, in the same keyspace, turn by turn.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::{Consistency, SerialConsistency, Statement, prepared::PreparedStatement},
    value::{CqlValue, Row},
};
use tokio::{sync::Barrier, task::JoinSet, time::Instant};
use troupe_store::{Entry, JournalStore as _, NewLease, Opened, Ownership as _};
use troupe_store_scylla::{Replication, ScyllaOptions, ScyllaStore};
use troupe_types::{EntityId, EntityKind, Epoch, FrameSeq, Roles, Seq, Uuid};

use crate::stats::{Rate, Times, note, row, verdict};

/// About an entry with one small frame.
const BODY: &[u8] = &[b'x'; 400];
const TABLE: &str = "CREATE TABLE conditional (kind tinyint, entity uuid, seq bigint,
    fence_tag bigint, append_last bigint, first_frame bigint, frames bigint, crc int, body blob,
    PRIMARY KEY ((kind, entity), seq))";
const INSERT: &str = "INSERT INTO conditional (kind, entity, seq, fence_tag, append_last,
    first_frame, frames, crc, body) VALUES (?, ?, ?, 1, ?, ?, 1, 0, ?) IF NOT EXISTS";
/// Changes of the schema take their time.
const SCHEMA_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `host:port` of a server
    #[arg(long)]
    cql: String,
    /// What it is, for the rows
    #[arg(long)]
    server: String,
    /// How long each part of a round takes, in seconds
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 2)]
    rounds: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ForgetArgs {
    /// `host:port` of a server
    #[arg(long)]
    cql: String,
    /// What is dropped, if it is there
    #[arg(long)]
    keyspace: String,
}

pub(crate) async fn forget(args: &ForgetArgs) -> Result<()> {
    let session = SessionBuilder::new().known_node(&args.cql).build().await;
    let session = session.context("connect to the server")?;
    let drop = format!("DROP KEYSPACE IF EXISTS {}", args.keyspace);
    schema(&session, &drop).await.context("drop the keyspace")
}

/// Rate and latencies of one way to append.
#[derive(Debug, Default)]
struct Figures {
    rate: Rate,
    times: Times,
}

impl Figures {
    fn add(&mut self, (took, times): (Duration, Times)) {
        self.rate.add(times.len(), took);
        self.times.append(times);
    }

    fn text(&mut self) -> String {
        format!("{} appends/s, {}", self.rate, self.times.summary())
    }
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let keyspace = format!("troupe_bench_{}", &Uuid::new_v4().simple().to_string()[..12]);
    let mut options = ScyllaOptions::new([&args.cql], keyspace.clone());
    options.create_keyspace = Some(Replication::Simple(1));
    let store = ScyllaStore::connect(&options).await.context("connect to the server")?;
    let table = Arc::new(Conditional::prepare(&args.cql, &keyspace).await?);
    let lease = NewLease {
        node: "bench".into(),
        boot_id: Uuid::new_v4(),
        addr: "127.0.0.1:1".to_owned(),
        build: "bench".to_owned(),
        roles: Roles::ALL,
        weight: 100,
    };
    let lease = store.join(&lease).await.context("join the cluster")?;
    let (epoch, time) = (Epoch(lease.inc.0), Duration::from_secs(args.seconds));
    row("server", &args.server);
    for entities in [1, 32, 128] {
        let (mut ours, mut theirs) = (Figures::default(), Figures::default());
        for round in 1..=args.rounds {
            note(&format!("{entities} entities, round {round} of {}", args.rounds));
            let journals = (0..entities).map(|_| Journal::open(&store, epoch));
            ours.add(measure(try_join_all(journals).await?, time).await?);
            let partition = |_| Partition { table: Arc::clone(&table), entity: Uuid::new_v4() };
            theirs.add(measure((0..entities).map(partition).collect(), time).await?);
        }
        let times = ours.rate.over(&theirs.rate);
        let aim = match entities {
            32 => format!("; at least 3 times: {}", verdict(times >= 3.0)),
            _ => String::new(),
        };
        let name = if entities == 1 { "1 entity".into() } else { format!("{entities} entities") };
        row(&format!("{name}: conditional insert"), theirs.text());
        row(&format!("{name}: append"), format!("{}; {times:.2} times{aim}", ours.text()));
    }
    table.clean_up(&keyspace).await
}

/// One entity, whose entries are appended one after the other.
trait Appender: Send + Sync + 'static {
    fn append(&self, seq: u64) -> impl Future<Output = Result<()>> + Send;
}

/// All at once for so long. The first append of each, which makes the entity, is not timed.
async fn measure<A: Appender>(entities: Vec<A>, time: Duration) -> Result<(Duration, Times)> {
    let (mut writers, start) = (JoinSet::new(), Arc::new(Barrier::new(entities.len())));
    let started = Instant::now();
    for entity in entities {
        let start = Arc::clone(&start);
        writers.spawn(async move {
            entity.append(1).await?;
            start.wait().await;
            let (begun, mut times) = (Instant::now(), Times::default());
            for seq in 2.. {
                let asked = Instant::now();
                if asked.duration_since(begun) > time {
                    break;
                }
                entity.append(seq).await?;
                times.push(asked.elapsed());
            }
            anyhow::Ok((begun, times))
        });
    }
    let (mut all, mut begun) = (Times::default(), started);
    while let Some(written) = writers.join_next().await {
        let (at, times) = written.context("a writer died")??;
        begun = begun.max(at);
        all.append(times);
    }
    Ok((begun.elapsed(), all))
}

/// An entity's journal in the store.
struct Journal {
    store: ScyllaStore,
    at: Opened,
}

impl Journal {
    async fn open(store: &ScyllaStore, epoch: Epoch) -> Result<Self> {
        let id = EntityId { kind: EntityKind::Task, id: Uuid::new_v4() };
        let at = store.open(id, epoch).await.context("open a journal")?;
        Ok(Self { store: store.clone(), at })
    }
}

impl Appender for Journal {
    async fn append(&self, seq: u64) -> Result<()> {
        let (first_frame, body) = (FrameSeq(seq), Bytes::from_static(BODY));
        let entry = Entry { seq: Seq(seq), first_frame, frames: 1, body };
        self.store.append(&self.at, Seq(seq), vec![entry], Vec::new()).await.context("append")
    }
}

/// Entries as lightweight transactions.
struct Conditional {
    session: Session,
    insert: PreparedStatement,
}

impl Conditional {
    async fn prepare(address: &str, keyspace: &str) -> Result<Self> {
        let session = SessionBuilder::new().known_node(address).use_keyspace(keyspace, false);
        let session = session.build().await.context("connect to the server")?;
        schema(&session, TABLE).await.context("make a table")?;
        let mut insert = session.prepare(INSERT).await.context("prepare an insert")?;
        insert.set_consistency(Consistency::Quorum);
        insert.set_serial_consistency(Some(SerialConsistency::Serial));
        Ok(Self { session, insert })
    }

    async fn clean_up(&self, keyspace: &str) -> Result<()> {
        schema(&self.session, &format!("DROP KEYSPACE {keyspace}")).await.context("clean up")
    }
}

async fn schema(session: &Session, text: &str) -> Result<()> {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(SCHEMA_MAX));
    session.query_unpaged(statement, ()).await?;
    Ok(())
}

struct Partition {
    table: Arc<Conditional>,
    entity: Uuid,
}

impl Appender for Partition {
    async fn append(&self, seq: u64) -> Result<()> {
        let (kind, seq) = (EntityKind::Task.code().cast_signed(), i64::try_from(seq)?);
        let values = (kind, self.entity, seq, seq, seq, BODY);
        let Conditional { session, insert } = &*self.table;
        let result = session.execute_unpaged(insert, values).await.context("insert")?;
        let row: Row = result.into_rows_result()?.first_row()?;
        let applied = row.columns.into_iter().next().flatten();
        ensure!(applied == Some(CqlValue::Boolean(true)), "an insert was refused");
        Ok(())
    }
}
