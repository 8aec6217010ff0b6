//! A device that worked on while its cluster was set back to a backup.

use anyhow::Result;
use serde_json::json;

use super::{
    faults::{Door, beyond, counting},
    kit::{Machine, counted, is_free, last_answer},
};
use crate::{backup::copy_keys, cli::at};

/// What it said after the backup was acknowledged and is gone: the run ends, the device is told,
/// and a person may try again.
#[tokio::test]
async fn a_run_on_a_device_does_not_go_on_with_a_hole_in_it() -> Result<()> {
    let (door, node) = Door::with(&[]).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&node, &who).await?;
    let task = counting(&node, &who, &machine).await?;
    let me = at(&door.home, &node);
    me.login().await?;
    me.say(&["admin", "backup", "all.backup"]).await?.ok();
    let then = beyond(&machine, 0).await?;
    beyond(&machine, then + 50).await?;
    node.kill().await?;

    let second = door.home.path().join("second");
    copy_keys(&door.home.data().join("keys"), &second.join("keys"))?;
    me.say(&["restore", "all.backup", "--data-dir", "second"]).await?.ok();
    let node = door.again_in(second).await?;
    node.settled(&who, &task, "FAILED").await?;
    let (_, turns) = node.turns(&who, &task).await?;
    assert!(json!(turns).to_string().contains("restored from a backup"), "{turns:#?}");
    node.assert_fold(&who, &task).await?;
    is_free(&node, &who, &device).await?;
    let again = at(&door.home, &node);
    again.login().await?;
    again.say(&["retry", &task, "--detach"]).await?.ok();
    beyond(&machine, 5).await?;
    machine.put_beside("n", "go")?;
    node.settled(&who, &task, "COMPLETED").await?;
    counted(&last_answer(&node, &who, &task).await?)?;
    is_free(&node, &who, &device).await
}
