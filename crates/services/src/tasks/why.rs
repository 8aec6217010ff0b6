//! Why a Task waits or what it does: what its entity says, and what its devices do.

use troupe_api::{device::DevicePresence, task::WhyAnswer};
use troupe_entities::{DeviceAddress, TaskAddress, device::DeviceReply, task::TaskError};
use troupe_sharding::Router;

/// Devices that are asked; of more the first.
const DEVICES_MAX: usize = 8;

/// Asks the Task, then the devices that it runs on; one that does not answer is left out.
pub(crate) async fn why(router: &Router, task: &TaskAddress) -> Result<WhyAnswer, TaskError> {
    let mut answer = task.why().await?;
    for id in answer.devices.clone().into_iter().take(DEVICES_MAX) {
        let probed = DeviceAddress::new(router.clone(), id).probe(None).await;
        let Ok(DeviceReply::Probed { view: Some(view), .. }) = probed else { continue };
        let name = if view.alias.is_empty() { &view.name } else { &view.alias };
        if view.status != DevicePresence::Away {
            answer.details.push(format!("it runs on the device `{name}`"));
            continue;
        }
        answer.details.push(format!(
            "the device `{name}` is away and works on: what it says comes when it is back"
        ));
        if answer.summary == "runs" {
            answer.summary = format!("runs on `{name}`, which is away");
            answer.next_steps.push("wait, or cancel it: it then ends there once it is back".into());
        }
    }
    Ok(answer)
}
