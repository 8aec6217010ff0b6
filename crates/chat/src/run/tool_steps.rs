//! The tool calls of one step: told, run, recorded.

use futures::{FutureExt, StreamExt, future::BoxFuture};
use troupe_types::{BlockPatch, BlockStatus};

use super::{ChatRun, Runner};
use crate::{
    progress::Call,
    record,
    tools::{self, Ran, ToolSet},
    voice::{Stop, Voice},
};

impl Runner<'_> {
    /// Runs the open calls in order; neighbours that are read-only run at the same time.
    pub(super) async fn tool_steps(&mut self, tools: &ToolSet) -> Result<(), Stop> {
        let calls = self.progress.open_calls();
        let read_only = |call: &Call| {
            self.progress.judged(call).is_none()
                && tools.get(&call.name).is_none_or(|tool| tool.read_only())
        };
        let groups: Vec<Vec<Call>> = calls
            .chunk_by(|one, next| read_only(one) && read_only(next))
            .map(<[Call]>::to_vec)
            .collect();
        for group in groups {
            match group.as_slice() {
                [call] if self.progress.judged(call).is_some() => self.decide(call).await?,
                calls => self.run_together(tools, calls).await?,
            }
        }
        Ok(())
    }

    async fn run_together(&mut self, tools: &ToolSet, calls: &[Call]) -> Result<(), Stop> {
        for call in calls {
            let status = Some(BlockStatus::Running);
            self.voice.patch(&call.id, BlockPatch { status, ..BlockPatch::default() }).await?;
        }
        let ChatRun { options, execution, .. } = self.run;
        let cancel = self.voice.cancel();
        // Boxed before they are a stream: a closure's future is not known to be `Send` there.
        let mut futures: Vec<BoxFuture<'_, Ran>> = Vec::with_capacity(calls.len());
        for call in calls {
            let key = format!("{execution}:{}", call.id);
            futures.push(tools::execute(tools, call, key, options, cancel).boxed());
        }
        let running = futures::stream::iter(futures);
        let mut running = running.buffer_unordered(options.parallel_max.max(1));
        loop {
            let ran = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Stop::Cancelled),
                ran = running.next() => ran,
            };
            match ran {
                Some(ran) => {
                    let record = record::of_tool(&ran.id, &ran.result);
                    tell_result(&self.voice, &ran).await?;
                    self.progress.apply(&record);
                    self.voice.step(record, None).await?;
                }
                None => return Ok(()),
            }
        }
    }

    /// A call of the leader's tool: nothing runs, it is just judged.
    async fn decide(&mut self, call: &Call) -> Result<(), Stop> {
        let (text, status) = match self.progress.judged(call) {
            Some(Err(fault)) => {
                let again = self.progress.lead().map(|lead| lead.ask_again(&fault));
                (again.unwrap_or(fault), BlockStatus::Error)
            }
            Some(Ok(_)) | None => ("accepted".to_owned(), BlockStatus::Done),
        };
        let ran = Ran::new(&call.id, &text, status, self.run.options.result_tokens_max);
        tell_result(&self.voice, &ran).await?;
        let record = record::of_tool(&ran.id, &ran.result);
        self.progress.apply(&record);
        self.voice.step(record, None).await
    }
}

async fn tell_result(voice: &Voice<'_>, ran: &Ran) -> Result<(), Stop> {
    let patch = BlockPatch {
        status: Some(ran.status),
        tool_output: Some(ran.shown.clone()),
        ..BlockPatch::default()
    };
    voice.patch(&ran.id, patch).await
}
