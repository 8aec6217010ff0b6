//! Why a Task waits or what it does: what its entity says, and what its devices do.

use std::time::Duration;

use troupe_api::{
    device::DevicePresence,
    task::{RUNS, WhyAnswer},
};
use troupe_entities::{DeviceAddress, TaskAddress, device::DeviceReply, task::TaskError};
use troupe_sharding::Router;

/// Devices that are asked; of more the first.
const DEVICES_MAX: usize = 8;

/// How long the devices may take together: it is asked for when something does not answer.
const DEVICES_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the Task, then the devices that it runs on; one that does not answer is left out.
pub(crate) async fn why(router: &Router, task: &TaskAddress) -> Result<WhyAnswer, TaskError> {
    let mut answer = task.why().await?;
    let asked = answer.devices.iter().take(DEVICES_MAX).map(|id| {
        let address = DeviceAddress::new(router.clone(), *id);
        async move { tokio::time::timeout(DEVICES_TIMEOUT, address.probe(None)).await }
    });
    for probed in futures::future::join_all(asked).await {
        let Ok(Ok(DeviceReply::Probed { view: Some(view), .. })) = probed else { continue };
        let name = if view.alias.is_empty() { &view.name } else { &view.alias };
        answer.details.push(match view.status {
            DevicePresence::Online => format!("it runs on the device `{name}`"),
            DevicePresence::Revoked => format!("its device `{name}` was revoked"),
            DevicePresence::Away | DevicePresence::Offline => format!(
                "its device `{name}` is away and may be at work: what it says comes when it is back"
            ),
        });
        if view.status == DevicePresence::Away && answer.summary == RUNS {
            answer.summary = format!("runs on `{name}`, which is away");
            answer.next_steps.push("wait, or cancel it: it then ends there once it is back".into());
        }
    }
    Ok(answer)
}
