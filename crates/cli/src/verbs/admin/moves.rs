//! `admin move`

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use troupe_api::admin::{ShardMove, ShardState, ShardView};

use super::{failed, value_of};
use crate::{args::Format, client::Client, error::CliError, output};

/// Between two looks at a shard that moves.
const LOOK: Duration = Duration::from_millis(300);
/// A shard that has not been seen on its way for so long stays. What a node tells is half a second
/// old, and a target is asked for two seconds.
const STAYS_AFTER: Duration = Duration::from_secs(3);

/// Begins it; `wait`: how long it is waited for its end.
pub(super) async fn run(
    client: &Client,
    format: Format,
    shard: u16,
    to: &str,
    wait: Option<Duration>,
) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/shards/{shard}");
    let begun: ShardMove = client.post(&format!("{path}/move"), &json!({ "to": to })).await?;
    let Some(limit) = wait.filter(|_| begun.outcome != "already_there") else {
        let line = || format!("{}\n", begun.detail);
        output::print(format, &value_of(&begun), line, || vec![begun.outcome.clone()]);
        return Ok(());
    };
    let from = begun.from.as_deref().unwrap_or("its owner");
    let start = Instant::now();
    let mut moved_at = start;
    let mut orphan_of = None;
    loop {
        // A node that hands over or takes up may be slow to answer: the next look tells.
        let seen = match client.get::<ShardView>(&path).await {
            Ok(seen) => Some(seen),
            Err(CliError::Problem(problem)) if problem.status == 503 => None,
            Err(CliError::Unreachable { .. }) => None,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        match seen.as_ref().map(|seen| how(seen, from, to)) {
            Some(How::Arrived) => {
                arrived(format, &begun, seen.as_ref(), now - start);
                return Ok(());
            }
            Some(How::Elsewhere(other)) => {
                return Err(failed(
                    "moved_elsewhere",
                    format!("Shard {shard} is `{other}`'s now."),
                ));
            }
            Some(How::Rests) if now - moved_at >= STAYS_AFTER => {
                let detail = format!(
                    "Shard {shard} stays at `{from}`: `{to}` did not take it, or not in time. See \
                     the logs of both nodes, and: troupe admin doctor"
                );
                return Err(failed("stayed", detail));
            }
            Some(How::Rests) => orphan_of = None,
            Some(How::UnderWay) => (moved_at, orphan_of) = (now, None),
            Some(How::Orphaned(gone)) => (moved_at, orphan_of) = (now, Some(gone.to_owned())),
            None => moved_at = now,
        }
        if now - start >= limit {
            return Err(late(&begun, orphan_of.as_deref(), limit));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum How<'a> {
    Arrived,
    UnderWay,
    /// It is where it was, and nobody moves it.
    Rests,
    Elsewhere(&'a str),
    /// Its owner, this one, is gone, and nobody has it yet: whoever takes it, by itself.
    Orphaned(&'a str),
}

fn how<'a>(seen: &'a ShardView, from: &str, to: &str) -> How<'a> {
    match seen.owner.as_deref() {
        Some(owner) if seen.state == ShardState::Orphaned => How::Orphaned(owner),
        Some(owner) if owner == to => How::Arrived,
        Some(owner) if owner != from => How::Elsewhere(owner),
        _ if seen.moving_to.is_some() => How::UnderWay,
        _ => How::Rests,
    }
}

/// Why it is not there after so long.
fn late(begun: &ShardMove, orphan_of: Option<&str>, limit: Duration) -> CliError {
    let ShardMove { shard, to, .. } = begun;
    let seconds = limit.as_secs();
    match orphan_of {
        Some(gone) => {
            let detail = format!(
                "`{gone}`, which owned shard {shard}, is gone, and nobody has taken the shard \
                 after {seconds} s; some node takes it by itself, be it `{to}` or not: troupe \
                 admin shards, troupe admin doctor"
            );
            failed("orphaned", detail)
        }
        None => {
            let detail = format!(
                "Shard {shard} is not `{to}`'s after {seconds} s; it goes on: troupe admin shards"
            );
            failed("timeout", detail)
        }
    }
}

fn arrived(format: Format, begun: &ShardMove, seen: Option<&ShardView>, took: Duration) {
    let ShardMove { shard, to, .. } = begun;
    let epoch = seen.map_or(0, |seen| seen.epoch);
    let told = ShardMove {
        outcome: "moved".to_owned(),
        detail: format!("`{to}` owns shard {shard} under epoch {epoch}."),
        ..begun.clone()
    };
    let line = || format!("{} It took {:.1} s.\n", told.detail, took.as_secs_f64());
    output::print(format, &value_of(&told), line, || vec![told.outcome.clone()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_on_its_way_there_or_somewhere_else() {
        let seen = |owner: &str, moving_to: Option<&str>| ShardView {
            owner: Some(owner.to_owned()),
            moving_to: moving_to.map(str::to_owned),
            ..ShardView::default()
        };
        assert_eq!(how(&seen("b", None), "a", "b"), How::Arrived);
        assert_eq!(how(&seen("a", Some("b")), "a", "b"), How::UnderWay);
        assert_eq!(how(&seen("a", None), "a", "b"), How::Rests);
        assert_eq!(how(&seen("c", None), "a", "b"), How::Elsewhere("c"));
    }

    /// Killed, and perhaps back under its name: its shards do not rest at it.
    #[test]
    fn a_shard_whose_owner_is_gone_is_waited_for_and_called_so_in_the_end() {
        for (owner, moving_to) in [("a", None), ("a", Some("b")), ("b", None), ("c", None)] {
            let seen = ShardView {
                owner: Some(owner.to_owned()),
                moving_to: moving_to.map(str::to_owned),
                state: ShardState::Orphaned,
                ..ShardView::default()
            };
            assert_eq!(how(&seen, "a", "b"), How::Orphaned(owner));
        }
        let begun = ShardMove { shard: 7, to: "b".to_owned(), ..ShardMove::default() };
        let told = |orphan_of| match late(&begun, orphan_of, Duration::from_secs(90)) {
            CliError::Problem(problem) => (problem.code, problem.detail),
            other => panic!("{other:?}"),
        };
        let (code, detail) = told(Some("a"));
        assert_eq!(code, "orphaned");
        assert!(detail.starts_with("`a`, which owned shard 7, is gone"), "{detail}");
        assert_eq!(told(None).0, "timeout");
    }
}
