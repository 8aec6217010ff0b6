//! What changes in a namespace, through any end of the node's lines.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, time::Duration};

use serde_json::Value;

use crate::{
    client::{Client, RETRY, segment},
    error::CliError,
};

/// A node says where it stands every ten seconds or so.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest line: a resource, written as JSON.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is told.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    /// All that there is, where the node does not know any more what changed in between.
    Listed(&'a Value),
    /// One change.
    Changed(&'a Value),
    /// The link is broken; said once.
    Lost(&'a CliError),
}

/// A namespace that is watched.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    client: &'a Client,
    /// Lists what is watched.
    list: String,
    /// Gives the lines, once a version stands behind it.
    lines: String,
    /// All changes up to here were told; `None`: they have to be listed anew.
    since: Option<u64>,
    /// The version of the last line; there may be more of it.
    last: Option<u64>,
    /// Lines of that version that were told, and those of them that come once more.
    told: usize,
    again: usize,
    pause: Duration,
    lost: bool,
    silence_max: Duration,
}

impl<'a> Watch<'a> {
    /// After a version of the namespace; `list` is the path of the list that has it. What a
    /// selector does not choose is told as deleted, also to who never heard of it.
    pub(super) fn new(
        client: &'a Client,
        namespace: &str,
        list: String,
        selector: Option<&str>,
        since: Option<u64>,
    ) -> Self {
        let selector = selector.map(|s| format!("labelSelector={}&", segment(s)));
        let selector = selector.unwrap_or_default();
        let lines = format!("/api/v1/namespaces/{}/watch?{selector}since=", segment(namespace));
        Self {
            client,
            list,
            lines,
            since,
            last: since,
            told: 0,
            again: 0,
            pause: RETRY.0,
            lost: false,
            silence_max: SILENCE_MAX,
        }
    }

    /// Tells what changes, without end.
    ///
    /// # Errors
    /// What repeating cannot mend.
    pub(super) async fn run(
        mut self,
        mut seen: impl FnMut(Seen<'_>),
    ) -> Result<Infallible, CliError> {
        loop {
            match self.once(&mut seen).await {
                // The node ends the lines now and then, but never in the middle of a version.
                Ok(()) => self.since = self.last,
                Err(CliError::Problem(problem)) if problem.status == 410 => self.since = None,
                Err(error) => {
                    if error.is_transient() && !std::mem::replace(&mut self.lost, true) {
                        seen(Seen::Lost(&error));
                    }
                    self.client.mend(error).await?;
                }
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(RETRY.1);
        }
    }

    /// One connection, to its end.
    async fn once(&mut self, seen: &mut impl FnMut(Seen<'_>)) -> Result<(), CliError> {
        let since = match self.since {
            Some(since) => since,
            None => {
                let listed: Value = self.client.get(&self.list).await?;
                seen(Seen::Listed(&listed));
                let since = version(&listed).unwrap_or(0);
                (self.since, self.last, self.told) = (Some(since), Some(since), 0);
                since
            }
        };
        self.again = self.told;
        let mut response = self.client.lines(&format!("{}{since}", self.lines)).await?;
        let mut buffer = Vec::new();
        loop {
            let chunk = tokio::time::timeout(self.silence_max, response.chunk()).await;
            let chunk = chunk.map_err(|e| CliError::link("the node is silent", e))?;
            let chunk = chunk.map_err(|e| CliError::link("the watch broke", e))?;
            let Some(chunk) = chunk else { return Ok(()) };
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                self.line(&line, seen)?;
            }
            if buffer.len() > LINE_BYTES_MAX {
                let what = format!("a line of the watch has more than {LINE_BYTES_MAX} bytes");
                return Err(CliError::Local { what, source: None });
            }
        }
    }

    fn line(&mut self, line: &[u8], seen: &mut impl FnMut(Seen<'_>)) -> Result<(), CliError> {
        let senseless = |e| CliError::local("the node's answer made no sense", e);
        let event: Value = serde_json::from_slice(line).map_err(senseless)?;
        if event["type"] == "ERROR" {
            let problem = serde_json::from_value(event["resource"].clone()).map_err(senseless)?;
            return Err(CliError::Problem(Box::new(problem)));
        }
        (self.pause, self.lost) = (RETRY.0, false);
        let version = event["resourceVersion"].as_u64();
        if event["type"] == "BOOKMARK" {
            (self.since, self.last, self.told) = (version, version, 0);
        } else if version != self.last {
            (self.since, self.last, self.told) = (self.last, version, 1);
            seen(Seen::Changed(&event));
        } else if self.again > 0 {
            self.again -= 1;
        } else {
            self.told += 1;
            seen(Seen::Changed(&event));
        }
        Ok(())
    }
}

/// The version of a list.
pub(super) fn version(listed: &Value) -> Option<u64> {
    listed["metadata"]["resourceVersion"].as_u64()
}
