//! Follows a Task in the terminal: text as it comes, and through any cut of the link or restart
//! of the node, from the last frame that was printed.

mod print;
mod socket;
#[cfg(test)]
mod tests;

use serde_json::Value;
use troupe_api::task::FramesPage;
use troupe_types::{FrameSeq, Status, TaskId, limits};

use self::socket::Socket;
use crate::{
    args::Format,
    client::{Client, RETRY},
    error::CliError,
};

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
    /// Turns that ended up to here are history, and no reason to stop.
    pub past: FrameSeq,
    /// When to stop.
    pub until: Until,
    /// How to print.
    pub format: Format,
}

/// Follows until the turn has ended; the answer is the Task's status then.
///
/// # Errors
/// What repeating cannot mend. A link that breaks can be: it is made anew without end.
pub async fn follow(
    client: &Client,
    task: TaskId,
    options: FollowOptions,
) -> Result<Status, CliError> {
    let FollowOptions { after, past, until, format } = options;
    let printer = Printer::new(format);
    let mut following = Following { client, task, after, past, until, printer };
    let mut pause = RETRY.0;
    loop {
        match following.once().await {
            Ok(Some(status)) => {
                following.printer.finish();
                return Ok(status);
            }
            Ok(None) => pause = RETRY.0,
            Err(error) => client.mend(error).await?,
        }
        following.printer.link_lost(following.after);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// A Task that is followed.
struct Following<'a> {
    client: &'a Client,
    task: TaskId,
    /// What was printed last.
    after: FrameSeq,
    past: FrameSeq,
    until: Until,
    printer: Printer,
}

/// What a frame is for who follows.
enum Step {
    /// Printed now, or before.
    Next,
    /// It is not the one that comes next.
    Gap,
    /// Printed, and the turn has ended.
    Ended(Status),
}

impl Following<'_> {
    /// One connection. `Some`: the turn has ended. `None`: the connection has.
    async fn once(&mut self) -> Result<Option<Status>, CliError> {
        let (mut socket, head) = loop {
            let mut socket = Socket::open(self.client).await?;
            if let Some(head) = socket.resume(self.task, self.after).await? {
                break (socket, head);
            }
            drop(socket);
            if let Some(status) = self.read_older().await? {
                return Ok(Some(status));
            }
        };
        self.printer.link_found(self.after, head);
        let mut ask_at = (self.until == Until::TurnEnds).then_some(head);
        loop {
            // What may have ended before this connection began is seen by asking.
            if ask_at.is_some_and(|at| self.after >= at) {
                let view: Value = self.client.get(&format!("/api/v1/tasks/{}", self.task)).await?;
                let head = FrameSeq(view["head"].as_u64().unwrap_or(0));
                ask_at = match ended(&view["status"]) {
                    Some(status) if head <= self.after => return Ok(Some(status)),
                    Some(_) => Some(head),
                    // Its end will be a frame.
                    None => None,
                };
            }
            let Some((event, data)) = socket.next().await? else { return Ok(None) };
            if event == "task:resync" {
                return Ok(None);
            }
            match self.take(&event, &data) {
                Step::Next => {}
                // Asks again from what was printed.
                Step::Gap => return Ok(None),
                Step::Ended(status) => return Ok(Some(status)),
            }
        }
    }

    /// Prints up to the head what is too much for the stream to send again.
    async fn read_older(&mut self) -> Result<Option<Status>, CliError> {
        loop {
            let (task, before) = (self.task, self.after);
            let max = limits::RESUME_FRAMES_MAX;
            let path = format!("/api/v1/tasks/{task}/frames?after={before}&limit={max}");
            let page: FramesPage = self.client.get(&path).await?;
            self.printer.link_found(before, page.head);
            for frame in &page.frames {
                match self.take(&frame.event, &frame.data) {
                    Step::Next => {}
                    Step::Gap => break,
                    Step::Ended(status) => return Ok(Some(status)),
                }
            }
            if self.after == before {
                // As after a restore from a backup.
                let what = format!(
                    "the node has another history of {task} than the one that was followed to \
                     frame {before}; see it with: troupe attach {task}"
                );
                return Err(CliError::Local { what, source: None });
            }
            if self.after >= page.head {
                return Ok(None);
            }
        }
    }

    fn take(&mut self, event: &str, data: &Value) -> Step {
        let Some(seq) = data["seq"].as_u64().map(FrameSeq) else { return Step::Next };
        if seq <= self.after {
            return Step::Next;
        }
        if seq > self.after.next() {
            return Step::Gap;
        }
        self.after = seq;
        self.printer.frame(event, data);
        let stops = self.until == Until::TurnEnds && event == "task:updated" && seq > self.past;
        match ended(&data["status"]).filter(|_| stops) {
            Some(status) => Step::Ended(status),
            None => Step::Next,
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
