//! Why a Task waits, in words: for `why`, and for whoever follows it.

use troupe_types::Wait;

/// A wait in English, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitWords {
    /// What it waits for.
    pub summary: String,
    /// What a person can do about it.
    pub next: Option<&'static str>,
}

impl WaitWords {
    /// Words for a wait of a Task of this team; a code that this version does not know stands for
    /// itself.
    #[must_use]
    pub fn of(wait: &Wait, team: &str) -> Self {
        let (summary, next) = match wait.code.as_str() {
            "no_device" => {
                let tool = Some(arg(wait, "tool")).filter(|tool| !tool.is_empty());
                let next = "join a machine that runs it: troupe device invite, or choose a team \
                            whose members run in the Chat shell";
                (format!("waits: no device runs {}", tool.unwrap_or("this runtime")), Some(next))
            }
            "device_refused" => (
                format!("waits: {} does not take it: {}", arg(wait, "device"), arg(wait, "text")),
                Some("see the device's policy: troupe-edge policy check"),
            ),
            "team_slots" => {
                let place = wait.args.get("position").map(|p| format!(", place {p} in line"));
                let team =
                    if team.is_empty() { "its team".to_owned() } else { format!("team {team}") };
                let next = "wait, or raise the team's maxConcurrentTasks";
                (format!("waits for a slot of {team}{}", place.unwrap_or_default()), Some(next))
            }
            "rate_limit" => (
                format!(
                    "waits: the model's provider asked to wait until {}",
                    arg(wait, "retry_at")
                ),
                Some("wait, or cancel it and choose another Model: troupe retry --model"),
            ),
            "model_retry" if !arg(wait, "retry_at").is_empty() => {
                let at = arg(wait, "retry_at");
                (format!("waits: the model failed and is asked again at {at}"), None)
            }
            "resuming" => match arg(wait, "retry_at") {
                "" => ("waits: the work goes on elsewhere".to_owned(), None),
                at => (format!("waits: the work goes on at {at}"), None),
            },
            _ => device(wait),
        };
        Self { summary, next }
    }
}

/// Waits for a place on a machine.
fn device(wait: &Wait) -> (String, Option<&'static str>) {
    let on = match arg(wait, "on") {
        "" => String::new(),
        on => format!(" that is `{on}`"),
    };
    match wait.code.as_str() {
        "no_device_online" => (
            "waits: none of your devices is connected".to_owned(),
            Some("start troupe-edge on one of them, or open its lid"),
        ),
        "no_device_fits" => (
            format!("waits: no connected device{on} has {}", arg(wait, "tool")),
            Some("install it there, or choose another device with --on"),
        ),
        "devices_busy" => busy(wait),
        "no_containers" => (
            "waits: no node runs containers".to_owned(),
            Some("an administrator sets containers.engine on a node, or choose a device with --on"),
        ),
        "container_queued" => {
            let (running, max) = (arg(wait, "running"), arg(wait, "max"));
            let place = place(arg(wait, "ahead"));
            (
                format!("waits for a container: {running} of {max} are there, {place}"),
                Some("wait: one that idles is given up; an administrator may raise containers.max"),
            )
        }
        "container_starting" => {
            ("waits: its container starts".to_owned(), Some("wait some seconds"))
        }
        code => (format!("waits: {code}"), None),
    }
}

/// A place in line, by how many are before it.
fn place(ahead: &str) -> String {
    match ahead {
        "0" => "it is the next".to_owned(),
        ahead => format!("{ahead} before it"),
    }
}

/// Slots are taken, or their owner wants no new work there; older nodes do not tell which.
fn busy(wait: &Wait) -> (String, Option<&'static str>) {
    let slots = "wait, or raise the slots of a device: troupe device set NAME --slots N";
    let undo = "give it new work again: troupe device drain NAME --undo";
    let (devices, draining) = (arg(wait, "devices"), arg(wait, "draining"));
    let full = match draining {
        "" | "0" => "waits: every slot of the devices that fit is taken".to_owned(),
        all if all == devices => {
            return ("waits: the devices that fit are draining".to_owned(), Some(undo));
        }
        some => format!("waits: of {devices} devices that fit {some} drain, the others are full"),
    };
    match arg(wait, "ahead") {
        "" => (full, Some(slots)),
        ahead => (format!("{full}, {}", place(ahead)), Some(slots)),
    }
}

fn arg<'a>(wait: &'a Wait, name: &str) -> &'a str {
    wait.args.get(name).and_then(|value| value.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_known_code_has_words_of_its_own() {
        let codes = "no_device device_refused team_slots rate_limit no_device_online \
                     no_device_fits devices_busy no_containers container_queued \
                     container_starting";
        for code in codes.split_whitespace() {
            let wait = Wait { code: code.to_owned(), args: serde_json::Map::new() };
            let words = WaitWords::of(&wait, "devs");
            assert!(!words.summary.contains(code) && words.next.is_some(), "{words:?}");
        }
        let args = json!({"on": "os=linux", "tool": "codex"}).as_object().unwrap().clone();
        let fits = WaitWords::of(&Wait { code: "no_device_fits".to_owned(), args }, "devs");
        assert_eq!(fits.summary, "waits: no connected device that is `os=linux` has codex");
        for (ahead, place) in
            [("0", "it is the next"), ("3", "3 before it"), ("20+", "20+ before it")]
        {
            let args = json!({"ahead": ahead}).as_object().unwrap().clone();
            let busy = WaitWords::of(&Wait { code: "devices_busy".to_owned(), args }, "devs");
            assert!(busy.summary.ends_with(&format!("is taken, {place}")), "{busy:?}");
        }
        for (draining, told) in [("0", "is taken"), ("1", "1 drain,"), ("2", "are draining")] {
            let args = json!({"devices": "2", "draining": draining}).as_object().unwrap().clone();
            let busy = WaitWords::of(&Wait { code: "devices_busy".to_owned(), args }, "");
            assert!(busy.summary.contains(told), "{busy:?}");
        }
        let args = json!({"retry_at": "12:00"}).as_object().unwrap().clone();
        for code in ["model_retry", "resuming"] {
            let words = WaitWords::of(&Wait { code: code.to_owned(), args: args.clone() }, "");
            assert!(!words.summary.contains(code) && words.summary.contains("12:00"), "{words:?}");
        }
        let newer = Wait { code: "moon".to_owned(), args: serde_json::Map::new() };
        assert_eq!(
            WaitWords::of(&newer, ""),
            WaitWords { summary: "waits: moon".to_owned(), next: None }
        );
    }
}
