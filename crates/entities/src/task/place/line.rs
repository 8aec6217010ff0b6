//! The line before devices that are busy: who waits longest goes first.

use tokio::task::JoinSet;
use troupe_actor::spawn_task;
use troupe_api::device::DeviceView;

use super::{Placed, Search};
use crate::device::DeviceAddress;

impl Search {
    /// Those of the devices that fit which have a slot for this execution; else the wait that says
    /// how many are before it.
    pub(super) async fn stand_in_line<'a>(
        &self,
        fitting: &[&'a DeviceView],
    ) -> Result<Vec<&'a DeviceView>, Placed> {
        let room = |view: &DeviceView| u64::from(view.slots.saturating_sub(view.slots_used));
        let open: Vec<&DeviceView> = fitting.iter().copied().filter(|v| !v.draining).collect();
        let at_once = |view: &&DeviceView| view.queued == 0 && room(view) > 0;
        let free: Vec<&DeviceView> = open.iter().copied().filter(at_once).collect();
        if !free.is_empty() {
            return Ok(free);
        }
        let mut asking = JoinSet::new();
        for (n, view) in open.iter().enumerate() {
            let address = DeviceAddress::new(self.router.clone(), view.id);
            let execution = self.execution.id;
            asking.spawn(async move { (n, address.wait(execution).await) });
        }
        let (mut free, mut least) = (Vec::new(), None::<u64>);
        while let Some(answered) = asking.join_next().await {
            let Ok((n, ahead)) = answered else { continue };
            let Some(view) = open.get(n).copied() else { continue };
            // The entity of an older node has no line: whoever comes first has the slot there.
            let ahead = ahead.unwrap_or(0);
            if ahead < room(view) {
                free.push(view);
            }
            least = Some(least.map_or(ahead, |least| least.min(ahead)));
        }
        if free.is_empty() {
            let ahead = least.map(|ahead| ("ahead", told(ahead)));
            let (devices, draining) = (fitting.len(), fitting.len() - open.len());
            let counts = [("devices", devices.to_string()), ("draining", draining.to_string())];
            let args: Vec<(&str, String)> = counts.into_iter().chain(ahead).collect();
            return Err(self.wait("devices_busy", &args));
        }
        Ok(free)
    }

    /// Gives back what places there may be, and waits for nothing.
    pub(super) fn leave_lines(&self, fitting: &[&DeviceView]) {
        let asked = |view: &&&DeviceView| view.queued > 0 || view.slots_used >= view.slots;
        for view in fitting.iter().filter(asked) {
            let address = DeviceAddress::new(self.router.clone(), view.id);
            let execution = self.execution.id;
            spawn_task("task-leave-line", async move { address.leave(execution).await });
        }
    }
}

/// Each change of it is an entry of the Task's journal, so a long line is told in steps.
fn told(ahead: u64) -> String {
    match ahead {
        0..10 => ahead.to_string(),
        10..100 => format!("{}+", ahead / 10 * 10),
        _ => format!("{}+", ahead / 100 * 100),
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_long_line_is_told_in_steps() {
        let cases = [(0, "0"), (9, "9"), (10, "10+"), (19, "10+"), (99, "90+"), (250, "200+")];
        for (ahead, text) in cases {
            assert_eq!(told(ahead), text);
        }
    }
}
