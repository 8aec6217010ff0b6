//! Follows a Task in the terminal: text as it comes, and through any cut of the link or restart
//! of the node, from the last frame that was printed.

mod print;
mod socket;

use std::time::Duration;

use serde_json::Value;
use troupe_types::{FrameSeq, Status, TaskId};

use crate::{args::Format, client::Client, error::CliError};

pub use print::{Printer, printable};

/// When to stop following.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The turn ends, or waits for a person.
    TurnEnds,
    /// Never (Ctrl-C).
    Forever,
}

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    /// Frames up to here are known already.
    pub after: FrameSeq,
    /// When to stop.
    pub until: Until,
    /// How to print.
    pub format: Format,
}

/// Shortest and longest pause between two tries to reach the node.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Follows until the turn has ended; the answer is the Task's status then.
///
/// # Errors
/// A refusal of the node. A link that breaks is none: it is made anew without end.
pub async fn follow(
    client: &Client,
    task: TaskId,
    options: FollowOptions,
) -> Result<Status, CliError> {
    let mut printer = Printer::new(options.format);
    let mut after = options.after;
    let mut pause = RETRY.0;
    loop {
        match once(client, task, &mut after, &mut printer, options.until).await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => pause = RETRY.0,
            Err(error @ CliError::Problem(_)) => match &error {
                // Of the node, or of a proxy while it starts again.
                CliError::Problem(p) if matches!(p.status, 429 | 500..) || p.code == "http" => {}
                CliError::Problem(p) if p.status == 401 => {
                    if !client.renew(&client.token().await).await? {
                        return Err(error);
                    }
                }
                _ => return Err(error),
            },
            Err(error @ CliError::Untrusted { .. }) => return Err(error),
            Err(_) => {}
        }
        printer.link_lost(after);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// One connection. `Some`: the turn has ended. `None`: the connection has.
async fn once(
    client: &Client,
    task: TaskId,
    after: &mut FrameSeq,
    printer: &mut Printer,
    until: Until,
) -> Result<Option<Status>, CliError> {
    let mut socket = socket::Socket::open(client).await?;
    let head = socket.resume(task, *after).await?;
    printer.link_found(*after, head);
    loop {
        // What may have ended before this connection began is seen by asking.
        if until == Until::TurnEnds && *after >= head {
            let view: Value = client.get(&format!("/api/v1/tasks/{task}")).await?;
            let caught_up = view["head"].as_u64().is_some_and(|h| h <= after.0);
            if let Some(status) = ended(&view["status"]).filter(|_| caught_up) {
                printer.finish();
                return Ok(Some(status));
            }
        }
        let Some((event, data)) = socket.next().await? else { return Ok(None) };
        if event == "task:resync" {
            return Ok(None);
        }
        let Some(seq) = data["seq"].as_u64().map(FrameSeq) else { continue };
        if seq <= *after {
            continue;
        }
        if seq > after.next() {
            // A gap: ask again from what was printed.
            return Ok(None);
        }
        *after = seq;
        printer.frame(&event, &data);
        if until == Until::TurnEnds
            && event == "task:updated"
            && let Some(status) = ended(&data["status"])
        {
            printer.finish();
            return Ok(Some(status));
        }
    }
}

fn ended(status: &Value) -> Option<Status> {
    let status: Status = serde_json::from_value(status.clone()).ok()?;
    (!status.is_active()).then_some(status)
}

/// What the end of a followed turn means for the exit code.
///
/// # Errors
/// [`CliError::TaskEnded`] unless it ended well.
pub fn verdict(task: TaskId, status: Status) -> Result<(), CliError> {
    let (message, code) = match status {
        Status::Failed => (format!("the task failed; see: troupe why {task}"), 10),
        Status::Cancelled => ("the task was cancelled".to_owned(), 11),
        Status::PendingConfirmation => {
            (format!("a stage waits for you; go on with: troupe confirm {task}"), 12)
        }
        _ => return Ok(()),
    };
    Err(CliError::TaskEnded { message, code })
}
