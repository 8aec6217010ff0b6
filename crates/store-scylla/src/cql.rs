//! Sending statements: what may be repeated, what may not, and how long it may take.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session},
    deserialize::row::DeserializeRow,
    frame::types::{Consistency, SerialConsistency},
    policies::{
        retry::{DefaultRetryPolicy, FallthroughRetryPolicy},
        speculative_execution::SimpleSpeculativeExecutionPolicy,
    },
    response::query_result::{QueryResult, QueryRowsResult},
    serialize::row::SerializeRow,
    statement::{
        Statement,
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlValue, Row},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use troupe_store::{Cause, cause};

use crate::{
    error::{ConnectError, Failed, attempt},
    options::{ScyllaOptions, Timeouts},
    session::Sessions,
};

/// How often an idempotent write is sent at most.
const TRIES_MAX: u32 = 4;
/// The pause before a refused write is sent again; twice as long each time.
const PAUSE: Duration = Duration::from_millis(40);

/// A connected session with its ways to run statements.
pub(crate) struct Cql {
    sessions: Sessions,
    profiles: Profiles,
    pub(crate) timeouts: Timeouts,
}

struct Profiles {
    /// Repeated and sent twice by the driver: reads have no outcome.
    read: ExecutionProfile,
    /// Sent once, so that we know what became of it.
    once: ExecutionProfile,
    serial: Consistency,
}

/// How a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A quorum read.
    Read,
    /// A linearizable read, which settles conditional updates that are under way.
    Serial,
    /// An idempotent quorum write.
    Write,
    /// A conditional update.
    Lwt,
}

/// What a conditional update came to.
#[derive(Debug)]
pub(crate) enum Lwt {
    Applied,
    /// With what the database says of the row, by the names of its columns. Not every database
    /// tells everything, and a row that is missing tells nothing.
    Refused(HashMap<String, CqlValue>),
    /// It may have happened, or may still happen: read with SERIAL.
    Unknown(Cause),
}

impl Cql {
    pub(crate) async fn connect(options: &ScyllaOptions) -> Result<Self, ConnectError> {
        let profiles = Profiles::new(options);
        let sessions = Sessions::connect(options, &profiles.once).await?;
        Ok(Self { sessions, profiles, timeouts: options.timeouts })
    }

    /// The session of now.
    pub(crate) fn session(&self) -> Arc<Session> {
        self.sessions.current()
    }

    /// ScyllaDB tells its shards to drivers; Cassandra has none.
    pub(crate) fn is_scylla(&self) -> bool {
        let state = self.session().get_cluster_state();
        state.get_nodes_info().iter().any(|node| node.sharder().is_some())
    }

    pub(crate) async fn prepare(
        &self,
        text: &str,
        kind: Kind,
    ) -> Result<PreparedStatement, Failed> {
        let mut statement = timeout(self.timeouts.start, self.session().prepare(text))
            .await
            .map_err(|e| Failed::Refused(cause(e)))??;
        let profile = match kind {
            Kind::Read | Kind::Serial => &self.profiles.read,
            Kind::Write | Kind::Lwt => &self.profiles.once,
        };
        statement.set_execution_profile_handle(Some(profile.clone().into_handle()));
        statement.set_is_idempotent(kind != Kind::Lwt);
        if kind == Kind::Serial {
            statement.set_consistency(self.profiles.serial);
        }
        Ok(statement)
    }

    /// One statement of the schema, as it stands.
    pub(crate) async fn run(&self, text: &str) -> Result<QueryResult, Failed> {
        let mut statement = Statement::new(text);
        // Changes of the schema take their time.
        statement.set_request_timeout(Some(self.timeouts.start));
        timeout(self.timeouts.start, self.session().query_unpaged(statement, ()))
            .await
            .map_err(|e| Failed::Unknown(cause(e)))?
            .map_err(attempt)
    }

    /// All rows, page by page.
    pub(crate) async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, Failed>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
    {
        self.rows_while(statement, values, |_: &R| true).await
    }

    /// Rows, page by page, as long as they are wanted; the first that is not is left out.
    pub(crate) async fn rows_while<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        mut wanted: impl FnMut(&R) -> bool,
    ) -> Result<Vec<R>, Failed>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
    {
        let late = |e| Failed::Unknown(cause(e));
        let session = self.session();
        let pages = session.execute_iter(statement.clone(), values);
        let pages = timeout(self.timeouts.request, pages).await.map_err(late)??;
        let mut rows = pages.rows_stream::<R>().map_err(|e| Failed::Odd(cause(e)))?;
        let mut found = Vec::new();
        loop {
            let next = timeout(self.timeouts.request, rows.try_next()).await.map_err(late)?;
            match next.map_err(next_row)? {
                Some(row) if wanted(&row) => found.push(row),
                _ => return Ok(found),
            }
        }
    }

    /// The first row, of a statement that finds one or none.
    pub(crate) async fn row<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<R>, Failed>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
    {
        let session = self.session();
        let read = session.execute_unpaged(statement, values);
        let read = timeout(self.timeouts.request, read).await;
        let result = read.map_err(|e| Failed::Unknown(cause(e)))?.map_err(attempt)?;
        let result = result.into_rows_result().map_err(|e| Failed::Odd(cause(e)))?;
        result.maybe_first_row::<R>().map_err(|e| Failed::Odd(cause(e)))
    }

    /// An idempotent write.
    pub(crate) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), Failed> {
        let values = &values;
        self.repeat(|| async move {
            self.session().execute_unpaged(statement, values).await.map(drop).map_err(attempt)
        })
        .await
    }

    /// Idempotent writes to one partition, which each replica takes whole or not at all.
    pub(crate) async fn write_all<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        rows: &[V],
    ) -> Result<(), Failed> {
        match rows {
            [] => return Ok(()),
            [one] => return self.write(statement, one).await,
            _ => {}
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        for _ in rows {
            batch.append_statement(statement.clone());
        }
        batch.set_execution_profile_handle(Some(self.profiles.once.clone().into_handle()));
        batch.set_is_idempotent(true);
        let batch = &batch;
        self.repeat(
            || async move { self.session().batch(batch, rows).await.map(drop).map_err(attempt) },
        )
        .await
    }

    /// Sends a write again when it is refused, and beside itself when it takes too long. It
    /// counts as refused only if every try was.
    async fn repeat<F>(&self, send: impl Fn() -> F) -> Result<(), Failed>
    where
        F: Future<Output = Result<(), Failed>>,
    {
        let deadline = Instant::now() + self.timeouts.request;
        let mut running = FuturesUnordered::new();
        let (mut tries, mut doubt, mut pause) = (1, None, PAUSE);
        running.push(send());
        loop {
            let more = tries < TRIES_MAX;
            tokio::select! {
                biased;
                Some(outcome) = running.next() => match outcome {
                    Ok(()) => return Ok(()),
                    Err(failed) => {
                        let refused = matches!(failed, Failed::Refused(_));
                        if !refused {
                            doubt = Some(failed.clone());
                        }
                        if running.is_empty() {
                            if !more || Instant::now() + pause > deadline {
                                return Err(doubt.unwrap_or(failed));
                            }
                            sleep(pause).await;
                            (tries, pause) = (tries + 1, pause * 2);
                            running.push(send());
                        }
                    }
                },
                () = sleep(self.timeouts.repeat_after), if more => {
                    tries += 1;
                    running.push(send());
                }
                () = sleep_until(deadline) => {
                    let late = || Failed::Unknown(cause("the database does not answer"));
                    return Err(doubt.unwrap_or_else(late));
                }
            }
        }
    }

    /// A conditional update, sent once.
    pub(crate) async fn lwt(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Lwt, Failed> {
        let session = self.session();
        let sent = session.execute_unpaged(statement, values);
        let result = match timeout(self.timeouts.request, sent).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => return lwt_failed(error),
            Err(late) => return Ok(Lwt::Unknown(cause(late))),
        };
        let result = result.into_rows_result().map_err(|e| Failed::Odd(cause(e)))?;
        lwt_answer(&result)
    }
}

/// A refusal by the servers may come late in a conditional update, so that it proves nothing.
fn lwt_failed(error: scylla::errors::ExecutionError) -> Result<Lwt, Failed> {
    use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
    let unavailable = matches!(
        &error,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Unavailable { .. },
            _
        ))
    );
    match attempt(error) {
        Failed::Refused(source) if !unavailable => Err(Failed::Refused(source)),
        other => Ok(Lwt::Unknown(other.cause())),
    }
}

/// `[applied]` is read by its name: ScyllaDB always tells the old row, Cassandra only when it
/// refuses.
fn lwt_answer(result: &QueryRowsResult) -> Result<Lwt, Failed> {
    let odd = |text: &str| Failed::Odd(cause(text));
    let names: Vec<String> =
        result.column_specs().iter().map(|spec| spec.name().to_owned()).collect();
    let row: Row = result.first_row().map_err(|e| Failed::Odd(cause(e)))?;
    let mut columns: HashMap<String, CqlValue> =
        names.into_iter().zip(row.columns).filter_map(|(name, v)| Some((name, v?))).collect();
    match columns.remove("[applied]") {
        Some(CqlValue::Boolean(true)) => Ok(Lwt::Applied),
        Some(CqlValue::Boolean(false)) => Ok(Lwt::Refused(columns)),
        _ => Err(odd("the answer to a conditional update has no column [applied]")),
    }
}

fn next_row(error: scylla::errors::NextRowError) -> Failed {
    use scylla::errors::NextRowError;
    match error {
        NextRowError::NextPageError(e) => Failed::Unknown(cause(e)),
        other => Failed::Odd(cause(other)),
    }
}

impl Profiles {
    fn new(options: &ScyllaOptions) -> Self {
        let (consistency, serial_consistency, serial) = match options.datacenter {
            None => (Consistency::Quorum, SerialConsistency::Serial, Consistency::Serial),
            Some(_) => {
                (Consistency::LocalQuorum, SerialConsistency::LocalSerial, Consistency::LocalSerial)
            }
        };
        let base = || {
            ExecutionProfile::builder()
                .consistency(consistency)
                .serial_consistency(Some(serial_consistency))
                .request_timeout(Some(options.timeouts.request))
        };
        let twice = SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: options.timeouts.repeat_after,
        };
        Self {
            read: base()
                .retry_policy(Arc::new(DefaultRetryPolicy::new()))
                .speculative_execution_policy(Some(Arc::new(twice)))
                .build(),
            once: base()
                .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
                .speculative_execution_policy(None)
                .build(),
            serial,
        }
    }
}

/// CQL's integers are signed; sequence numbers never come near the difference.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A code of ours as CQL's smallest integer; they are all below 128.
pub(crate) fn tiny(code: u8) -> i8 {
    i8::try_from(code).unwrap_or(i8::MAX)
}

pub(crate) fn from_tiny(code: i8) -> u8 {
    u8::try_from(code).unwrap_or(0)
}
