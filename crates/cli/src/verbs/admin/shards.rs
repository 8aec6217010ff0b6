//! `admin shards`

use std::collections::BTreeMap;

use troupe_api::admin::{ShardList, ShardState, ShardView};

use super::{nodes::watched, paused, value_of};
use crate::{
    args::{Format, ShardsArgs},
    client::Client,
    error::CliError,
    output::{self, Table},
};

/// Shards that are not at rest and are listed one by one below the sums.
const RESTLESS_MAX: usize = 20;

pub(super) async fn list(
    client: &Client,
    format: Format,
    args: ShardsArgs,
) -> Result<(), CliError> {
    watched(args.watch, async || {
        let mut list: ShardList = client.get("/api/v1/admin/shards").await?;
        if let Some(owner) = &args.owner {
            list.items.retain(|shard| shard.owner.as_ref() == Some(owner));
        }
        let setting = list.rebalance_setting.as_ref();
        let table = || {
            let table = if args.all { one_by_one(&list.items) } else { sums(&list.items) };
            table + &paused(setting)
        };
        let names = || list.items.iter().map(|shard| shard.shard.to_string()).collect();
        Ok(output::text(format, &value_of(&list), table, names))
    })
    .await
}

const fn word(state: ShardState) -> &'static str {
    match state {
        ShardState::Owned => "owned",
        ShardState::Moving => "moving",
        ShardState::Orphaned => "orphaned",
        ShardState::Unowned => "unowned",
    }
}

fn one_by_one<'a>(shards: impl IntoIterator<Item = &'a ShardView>) -> String {
    let mut table = Table::new(&["shard", "owner", "epoch", "state", "entities", "preferred"]);
    for shard in shards {
        let state = match &shard.moving_to {
            Some(to) => format!("moving to {to}"),
            None => word(shard.state).to_owned(),
        };
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            shard.shard.to_string(),
            dash(&shard.owner),
            shard.epoch.to_string(),
            state,
            shard.entities.map_or_else(|| "?".to_owned(), |n| n.to_string()),
            dash(&shard.preferred),
        ]);
    }
    table.render()
}

fn is_restless(shard: &ShardView) -> bool {
    shard.state != ShardState::Owned
        || (shard.preferred.is_some() && shard.preferred != shard.owner)
}

/// Per owner, then what is not at rest.
fn sums(shards: &[ShardView]) -> String {
    #[derive(Default)]
    struct Sum {
        shards: u64,
        entities: u64,
        unknown: bool,
        moving: u64,
        astray: u64,
        epoch: u64,
    }
    let mut by_owner: BTreeMap<String, Sum> = BTreeMap::new();
    for shard in shards {
        let owner = shard.owner.clone().unwrap_or_else(|| "(nobody)".to_owned());
        let sum = by_owner.entry(owner).or_default();
        sum.shards += 1;
        sum.entities += shard.entities.unwrap_or(0);
        sum.unknown |= shard.entities.is_none();
        sum.moving += u64::from(shard.state == ShardState::Moving);
        sum.astray += u64::from(shard.preferred.is_some() && shard.preferred != shard.owner);
        sum.epoch = sum.epoch.max(shard.epoch);
    }
    let mut table = Table::new(&["owner", "shards", "entities", "moving", "astray", "epoch max"]);
    for (owner, sum) in by_owner {
        let entities =
            if sum.unknown { format!("{}+", sum.entities) } else { sum.entities.to_string() };
        table.row(vec![
            owner,
            sum.shards.to_string(),
            entities,
            sum.moving.to_string(),
            sum.astray.to_string(),
            sum.epoch.to_string(),
        ]);
    }
    let mut text = table.render();
    let restless: Vec<&ShardView> = shards.iter().filter(|shard| is_restless(shard)).collect();
    if !restless.is_empty() {
        text.push('\n');
        text.push_str(&one_by_one(restless.iter().take(RESTLESS_MAX).copied()));
        if restless.len() > RESTLESS_MAX {
            let more = restless.len() - RESTLESS_MAX;
            text.push_str(&format!("and {more} more: troupe admin shards --all\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(number: u16, owner: Option<&str>, preferred: &str) -> ShardView {
        ShardView {
            shard: number,
            owner: owner.map(str::to_owned),
            preferred: Some(preferred.to_owned()),
            epoch: u64::from(number),
            state: if owner.is_some() { ShardState::Owned } else { ShardState::Orphaned },
            entities: Some(2),
            ..ShardView::default()
        }
    }

    #[test]
    fn sums_come_first_and_what_is_not_at_rest_below() {
        let list = [shard(1, Some("a"), "a"), shard(2, Some("a"), "b"), shard(3, None, "a")];
        let told = sums(&list);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[1].starts_with("(nobody)"), "{told}");
        let a: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(a, ["a", "2", "4", "0", "1", "2"], "{told}");
        assert!(told.contains("orphaned") && !told.contains("\n1  "), "{told}");
        assert_eq!(sums(&list[..1]).lines().count(), 2, "nothing below when all is at rest");
    }
}
