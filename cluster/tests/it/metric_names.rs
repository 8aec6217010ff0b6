//! All names of metrics: dashboards and alerts of operators lean on them.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};

/// Units and endings that a name may have; the rest are gauges of things.
const GAUGES: [&str; 10] = [
    "troupe_gateway_sockets",
    "troupe_sharding_entities",
    "troupe_sharding_lease_valid",
    "troupe_sharding_queued_messages",
    "troupe_sharding_remote_streams",
    "troupe_sharding_shards_owned",
    "troupe_sharding_wakes_waiting",
    "troupe_soft_state_degraded",
    "troupe_telemetry_open_files",
    "troupe_telemetry_resident_bytes",
];

fn gather(dir: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            // What tests count is their own.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let named = code.split("\"troupe_").skip(1).filter_map(|rest| rest.split('"').next());
            let is_name = |name: &&str| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            };
            names.extend(named.filter(is_name).map(|name| format!("troupe_{name}")));
        }
    }
    Ok(())
}

#[test]
fn names_of_metrics_stay_and_keep_to_the_rule() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    let mut names = BTreeSet::new();
    gather(&root.join("cluster/src"), &mut names)?;
    for library in fs::read_dir(root.join("crates"))? {
        let library = library?.path();
        // The load generator, the fuzz targets and the automation have none that a node tells.
        let is_ours = |name: &str| !library.ends_with(name);
        if ["bench", "fuzz", "xtask", "testkit"].into_iter().all(is_ours) {
            gather(&library.join("src"), &mut names)?;
        }
    }
    for name in &names {
        let is_counter = name.ends_with("_total");
        let is_measure = name.ends_with("_seconds") || name.ends_with("_bytes");
        assert!(is_counter || is_measure || GAUGES.contains(&name.as_str()), "{name}");
    }
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    insta::assert_snapshot!(list);
    Ok(())
}
