//! What a device decides: links, offers, ends, what its Tasks have to say.

use std::time::Duration;

use troupe_actor::spawn_task;
use troupe_api::device::{DevicePresence, DeviceView, DeviceWork};
use troupe_domain::device::{
    Assigned, DeviceEvent, DeviceRefusal, Gone, Registration, SLOTS_DEFAULT,
};
use troupe_executor::Job;
use troupe_sharding::{Crash, Reply};
use troupe_types::{Uuid, derive_uuid, limits};

use super::{
    actor::{DeviceActor, Effect, Key, Offered, encode},
    ask::{DeviceAsk, DeviceReply, Has, Hello, Offer, Running, Settled, ToDevice, Work},
    link::Link,
};
use crate::task::{DeviceChecked, TaskAddress};

/// How long a device may take to say that it has an assignment.
const TAKE_MAX: Duration = Duration::from_secs(10);
/// How long a question of a session is held.
const HOLD_MAX: Duration = Duration::from_secs(8);
/// A session that asks nothing for so long is gone.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// How often Tasks are asked how their attempts stand, in case a notice was lost.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// Inputs that are remembered as taken.
const SETTLED_MAX: usize = 4_096;

const fn key(has: Has) -> Key {
    (has.execution, has.attempt)
}

const fn has((execution, attempt): Key) -> Has {
    Has { execution, attempt }
}

/// The same stop has the same name, however often it goes out.
fn cancel_id(of: Has) -> Uuid {
    derive_uuid("cancel", &[&of.execution.to_string(), &of.attempt.to_string()])
}

impl DeviceActor {
    pub(super) fn asked(&mut self, ask: DeviceAsk, reply: Reply) -> Result<(), Crash> {
        match ask {
            DeviceAsk::Register { registration } => self.register(registration, reply)?,
            DeviceAsk::Connect { hello } => self.connect(*hello, reply)?,
            DeviceAsk::Offer { offer } => self.offer(*offer, reply)?,
            DeviceAsk::Probe { has } => {
                let answer = self.probe(has);
                self.answer(reply, &answer);
            }
            DeviceAsk::Wait { execution, leaves: true } => {
                self.line.leave(execution);
                self.answer(reply, &DeviceReply::Ok);
            }
            DeviceAsk::Wait { execution, leaves: false } => {
                let ahead = self.line.wait(execution, self.now()) as u64;
                self.answer(reply, &DeviceReply::InLine { ahead });
            }
            DeviceAsk::Poke { has } => {
                self.check(key(has));
                self.answer(reply, &DeviceReply::Ok);
            }
            DeviceAsk::Change { settings } => {
                let drains = settings.draining != self.state.settings.draining;
                let on = settings.draining;
                let changed = self.state.change(settings);
                let drains = drains && changed.is_ok();
                self.decided(changed, Vec::new(), reply)?;
                if drains {
                    // It hears this before any work, and says of itself what it is told.
                    self.found.draining = on;
                    self.push(ToDevice::Drain { on });
                }
            }
            DeviceAsk::Revoke { gone } => self.revoke(gone, reply)?,
            of_a_session => self.of_a_session(of_a_session, reply)?,
        }
        Ok(())
    }

    /// What only the current link may say.
    fn of_a_session(&mut self, ask: DeviceAsk, reply: Reply) -> Result<(), Crash> {
        let (DeviceAsk::Disconnect { session }
        | DeviceAsk::Capable { session, .. }
        | DeviceAsk::Next { session, .. }
        | DeviceAsk::Settled { session, .. }
        | DeviceAsk::Secrets { session, .. }
        | DeviceAsk::Package { session, .. }) = &ask
        else {
            return Ok(());
        };
        let now = self.now();
        let Some(link) = self.link.as_mut().filter(|l| l.connection.session == *session) else {
            self.answer(reply, &DeviceReply::Stale);
            return Ok(());
        };
        self.lease.heard(now);
        link.heard = now;
        match ask {
            DeviceAsk::Next { after, path, .. } => {
                link.path = path.or(link.path.take());
                if let Some((reply, commands)) = link.next(after, reply, now) {
                    reply.ok(encode(&DeviceReply::Next { commands }));
                }
                return Ok(());
            }
            DeviceAsk::Disconnect { .. } => self.end_link(),
            DeviceAsk::Capable { found, .. } => self.found = *found,
            DeviceAsk::Settled { settled, .. } => return self.settled(settled, reply),
            DeviceAsk::Secrets { has, .. } => {
                let answer = match self.held(has).cloned() {
                    Some(held) => {
                        let secrets = self.open(&held);
                        DeviceReply::Secrets { token: held.token, secrets }
                    }
                    None => DeviceReply::Refused { refusal: DeviceRefusal::NotFound },
                };
                self.answer(reply, &answer);
                return Ok(());
            }
            DeviceAsk::Package { has, hash, .. } => {
                let brings = self.held(has).is_some_and(|held| held.packages.contains(&hash));
                let none = DeviceReply::Refused { refusal: DeviceRefusal::NotFound };
                self.answer(reply, if brings { &DeviceReply::Ok } else { &none });
                return Ok(());
            }
            _ => {}
        }
        self.answer(reply, &DeviceReply::Ok);
        Ok(())
    }

    fn decided(
        &mut self,
        decision: Result<Option<DeviceEvent>, DeviceRefusal>,
        after: Vec<Effect>,
        reply: Reply,
    ) -> Result<(), Crash> {
        match decision {
            Ok(event) => {
                if let Some(event) = event {
                    self.stage(&event, after)?;
                }
                self.answer(reply, &DeviceReply::Ok);
            }
            Err(refusal) => self.refuse(reply, refusal),
        }
        Ok(())
    }

    fn register(&mut self, registration: Registration, reply: Reply) -> Result<(), Crash> {
        let decision = self.state.register(registration);
        self.decided(decision, Vec::new(), reply)
    }

    fn revoke(&mut self, gone: Option<Gone>, reply: Reply) -> Result<(), Crash> {
        if self.state.device.is_none() {
            self.refuse(reply, DeviceRefusal::NotFound);
            return Ok(());
        }
        if !self.state.revoked {
            self.stage(&DeviceEvent::Revoked { gone }, vec![Effect::Revoked])?;
        }
        self.answer(reply, &DeviceReply::Ok);
        Ok(())
    }

    fn connect(&mut self, hello: Hello, reply: Reply) -> Result<(), Crash> {
        let refusal = match &self.state.device {
            None => Some(DeviceRefusal::NotFound),
            Some(_) if self.state.revoked => Some(DeviceRefusal::Revoked),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.refuse(reply, refusal);
            return Ok(());
        }
        let Hello { connection, node, build, found, has: there, links, begins } = hello;
        let old = self.link.as_ref().map(|link| link.connection);
        if old.is_some_and(|old| !connection.supersedes(&old)) {
            self.answer(reply, &DeviceReply::Stale);
            return Ok(());
        }
        if old.is_some_and(|old| old.session != connection.session) {
            self.push(ToDevice::Replaced);
            self.end_link();
        }
        let now = self.now();
        self.lease.heard(now);
        self.found = found;
        self.past.begin(links, self.context.clock.now());
        let mut link = Link::new(connection, node, build, now);
        if begins {
            link.unbegun = there.iter().copied().map(key).collect();
        }
        self.link = Some(link);
        for one in &there {
            match self.held(*one) {
                None => {
                    let reason = "the cluster has no use for it any more".to_owned();
                    self.push(ToDevice::Forget { has: *one, reason });
                }
                Some(held) if !held.taken => self.taken(*one)?,
                Some(_) => {}
            }
        }
        let all: Vec<(Key, bool)> = self
            .state
            .assignments
            .iter()
            .map(|(e, held)| ((*e, held.attempt), held.taken))
            .collect();
        for (of, taken) in all {
            if !there.contains(&has(of)) {
                if taken {
                    let gone = Gone::lost("the device has nothing of it any more");
                    self.ending.entry(of).or_insert((gone, false));
                } else {
                    self.defer(Effect::Give(of));
                }
            }
            self.check(of);
        }
        let running = self.state.assignments.iter().map(|(execution, held)| Running {
            has: Has { execution: *execution, attempt: held.attempt },
            task: held.task,
            token: held.token.clone(),
        });
        let running = running.collect();
        // What its owner said while it was away counts, either way.
        let on = self.state.settings.draining;
        if on != self.found.draining {
            self.found.draining = on;
            self.push(ToDevice::Drain { on });
        }
        self.answer(reply, &DeviceReply::Connected { running, begins });
        Ok(())
    }

    /// An assignment that is committed goes out, if the device is here.
    pub(super) fn give(&mut self, of: Key) {
        let Some(held) = self.held(has(of)).filter(|held| !held.taken).cloned() else { return };
        if self.ending.contains_key(&of) || self.link.as_ref().is_none_or(|l| l.was_given(has(of)))
        {
            return;
        }
        let secrets = self.open(&held);
        let Assigned { task, token, team, user, spec, .. } = held;
        let work = Work { has: has(of), task, token, team, user, spec, secrets };
        self.push(ToDevice::Assign(Box::new(work)));
    }

    /// The secrets of an attempt; one that does not open is left out, and the device says so.
    fn open(&self, held: &Assigned) -> std::collections::BTreeMap<String, String> {
        let open = |(name, sealed): (&String, &String)| {
            let secret = self.factory.secrets.reveal(sealed)?;
            Some((name.clone(), secret.expose().to_owned()))
        };
        held.secrets.iter().filter_map(open).collect()
    }

    fn offer(&mut self, offer: Offer, reply: Reply) -> Result<(), Crash> {
        let Offer { execution, attempt, task, owner, token, team, user, spec, secrets } = offer;
        let of = (execution, attempt);
        if let Some(held) = self.held(has(of)) {
            if held.taken {
                let token = held.token.clone();
                self.answer(reply, &DeviceReply::Offered { token });
            } else {
                self.offers.insert(of, Offered { reply, since: self.now() });
                self.give(of);
            }
            return Ok(());
        }
        if self.link.is_none() {
            self.decline(reply, "away", "the device is not connected");
            return Ok(());
        }
        if self.found.draining {
            self.decline(reply, "draining", "the device takes no new work");
            return Ok(());
        }
        if spec.len() > limits::ENTRY_BYTES_MAX - 32 * 1024 {
            self.decline(reply, "too_large", "the job is too large for a device");
            return Ok(());
        }
        let since = self.context.clock.now();
        let (taken, packages) = (false, packages(&spec));
        let assigned =
            Assigned { attempt, task, token, team, user, spec, packages, secrets, taken, since };
        match self.state.assign(owner, self.offered_slots(), execution, assigned) {
            Ok(Some(event)) => {
                self.line.leave(execution);
                self.offers.insert(of, Offered { reply, since: self.now() });
                self.stage(&event, vec![Effect::Give(of)])?;
            }
            Ok(None) => self.decline(reply, "busy", "the device is deciding"),
            Err(DeviceRefusal::NotFound) => self.refuse(reply, DeviceRefusal::NotFound),
            Err(refusal) => {
                let reason = match refusal {
                    DeviceRefusal::Busy { .. } => "busy",
                    DeviceRefusal::Draining => "draining",
                    DeviceRefusal::Revoked => "revoked",
                    _ => "other",
                };
                self.decline(reply, reason, &refusal.to_string());
            }
        }
        Ok(())
    }

    fn decline(&mut self, reply: Reply, reason: &str, message: &str) {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        self.answer(reply, &DeviceReply::Declined { reason, message });
    }

    const fn offered_slots(&self) -> u16 {
        if self.found.slots == 0 { SLOTS_DEFAULT } else { self.found.slots }
    }

    fn taken(&mut self, one: Has) -> Result<(), Crash> {
        let Some(held) = self.held(one) else { return Ok(()) };
        let answer = DeviceReply::Offered { token: held.token.clone() };
        if held.taken {
            self.defer(Effect::Offered(key(one), answer));
            return Ok(());
        }
        let Has { execution, attempt } = one;
        let event = DeviceEvent::Taken { execution, attempt };
        self.stage(&event, vec![Effect::Offered(key(one), answer)])
    }

    /// An assignment that never began ends; its Task hears it as the answer to its offer.
    fn withdraw(&mut self, of: Key, reason: &str, message: String) -> Result<(), Crash> {
        let Some(event) = self.state.end(of.0, of.1) else { return Ok(()) };
        if let Some(link) = &mut self.link {
            // Offered again it goes out again, behind the word to forget it.
            link.given.remove(&of);
        }
        let reason = reason.to_owned();
        let forget = Effect::Forget(of, message.clone());
        let answer = DeviceReply::Declined { reason, message };
        self.stage(&event, vec![forget, Effect::Offered(of, answer)])
    }

    fn settled(&mut self, settled: Settled, reply: Reply) -> Result<(), Crash> {
        match settled {
            Settled::Taken { has, begins } => {
                if self.held(has).is_none() {
                    let reason = "the cluster gave it up".to_owned();
                    self.push(ToDevice::Forget { has, reason });
                    if begins {
                        self.refuse(reply, DeviceRefusal::NotFound);
                        return Ok(());
                    }
                }
                self.taken(has)?;
            }
            Settled::Refused { has, reason, message } => {
                match self.held(has).map(|held| held.taken) {
                    Some(false) => self.withdraw(key(has), &reason, message)?,
                    Some(true) => {
                        self.ending.entry(key(has)).or_insert((Gone::lost(message), false));
                    }
                    None => {}
                }
            }
            Settled::Ended { has, message } => {
                if self.held(has).is_none() {
                    let reason = "it was settled before".to_owned();
                    self.push(ToDevice::Forget { has, reason });
                } else {
                    self.ending.entry(key(has)).or_insert((Gone::lost(message), false));
                }
            }
            Settled::Input { id } => {
                if self.settled.len() >= SETTLED_MAX {
                    // The device itself knows each of them.
                    self.settled.clear();
                }
                self.settled.insert(id);
            }
        }
        self.answer(reply, &DeviceReply::Ok);
        Ok(())
    }

    /// Tells Tasks of attempts that are over here; one try at a time.
    pub(super) fn tell_ends(&mut self) {
        let due: Vec<Key> =
            self.ending.iter().filter(|(_, (_, telling))| !telling).map(|(of, _)| *of).collect();
        for of in due {
            let Some(held) = self.held(has(of)).cloned() else {
                self.ending.remove(&of);
                continue;
            };
            let Some((gone, telling)) = self.ending.get_mut(&of) else { continue };
            *telling = true;
            let gone = gone.clone();
            let task = TaskAddress::new(self.context.router.clone(), held.task);
            let me = self.context.me.clone();
            spawn_task("device-end", async move {
                let told = task.device_ended(of.0, of.1, held.token, gone).await;
                if let Err(error) = &told {
                    tracing::debug!(%error, "a task was not told that its device is done");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                let told = told.is_ok();
                let _ = me.send(super::DeviceInternal::EndTold { has: has(of), told });
            });
        }
    }

    pub(super) fn end_told(&mut self, of: Has, told: bool) -> Result<(), Crash> {
        if !told {
            if let Some((_, telling)) = self.ending.get_mut(&key(of)) {
                *telling = false;
            }
            return Ok(());
        }
        self.ending.remove(&key(of));
        if let Some(event) = self.state.end(of.execution, of.attempt) {
            let forget = Effect::Forget(key(of), "it is settled".to_owned());
            let text = "it ended before it was taken".to_owned();
            let answer = DeviceReply::Declined { reason: "ended".to_owned(), message: text };
            self.stage(&event, vec![forget, Effect::Offered(key(of), answer)])?;
        }
        Ok(())
    }

    /// Asks the Task how an attempt stands.
    fn check(&mut self, of: Key) {
        let Some(held) = self.held(has(of)).filter(|held| held.taken).cloned() else { return };
        if !self.checking.insert(of) {
            return;
        }
        let task = TaskAddress::new(self.context.router.clone(), held.task);
        let me = self.context.me.clone();
        spawn_task("device-check", async move {
            let checked = task.device_check(of.0, of.1, held.token).await;
            if let Err(error) = &checked {
                tracing::debug!(%error, "a task was not asked how an attempt stands");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let checked = checked.ok();
            let _ = me.send(super::DeviceInternal::Checked { has: has(of), checked });
        });
    }

    pub(super) fn checked(&mut self, of: Has, checked: Option<DeviceChecked>) -> Result<(), Crash> {
        self.checking.remove(&key(of));
        let may_begin = self.link.as_ref().is_some_and(|link| link.unbegun.contains(&key(of)));
        let Some(checked) = checked.filter(|_| self.held(of).is_some()) else {
            if may_begin {
                self.check(key(of));
            }
            return Ok(());
        };
        if may_begin {
            self.begin(of, checked.live);
        }
        if !checked.live {
            let (id, kind) = (cancel_id(of), "cancel".to_owned());
            let (name, body) = (String::new(), String::new());
            self.push(ToDevice::Input { has: of, id, kind, name, body });
        }
        for input in checked.inputs {
            if !self.settled.contains(&input.id) {
                let (id, kind, name, body) = (input.id, input.kind, input.name, input.body);
                self.push(ToDevice::Input { has: of, id, kind, name, body });
            }
        }
        Ok(())
    }

    /// A device that came back has an attempt, and its Task said whether it wants it (still).
    fn begin(&mut self, of: Has, live: bool) {
        if let Some(link) = &mut self.link {
            link.unbegun.remove(&key(of));
        }
        if live && !self.ending.contains_key(&key(of)) {
            self.push(ToDevice::Begin { has: of });
        }
    }

    pub(super) fn tick(&mut self) -> Result<(), Crash> {
        let now = self.now();
        let over = |since| now.since(since) >= TAKE_MAX;
        let late: Vec<Key> =
            self.offers.iter().filter(|(_, o)| over(o.since)).map(|(of, _)| *of).collect();
        // One that was taken is answered by the commit of that, however long it takes.
        let untaken = |of: &Key| self.held(has(*of)).is_none_or(|held| !held.taken);
        let late: Vec<Key> = late.into_iter().filter(untaken).collect();
        for of in late {
            let text = "the device did not say in time that it takes it".to_owned();
            self.withdraw(of, "no_answer", text)?;
        }
        // One of an earlier activation, whose Task will ask again.
        let stale = self.state.assignments.iter().filter(|(execution, held)| {
            let of = (**execution, held.attempt);
            !held.taken && self.link.is_none() && !self.offers.contains_key(&of)
        });
        let stale: Vec<Key> = stale.map(|(e, held)| (*e, held.attempt)).collect();
        for of in stale {
            self.withdraw(of, "away", "the device is not connected".to_owned())?;
        }
        if let Some(link) = &mut self.link {
            if let Some(reply) = link.held_since(|since| now.since(since) >= HOLD_MAX) {
                reply.ok(encode(&DeviceReply::Next { commands: Vec::new() }));
            }
            if now.since(link.heard) >= SILENT_MAX {
                tracing::info!(device = %self.context.id, "a session is gone");
                self.end_link();
            }
        }
        let all: Vec<Key> =
            self.state.assignments.iter().map(|(e, held)| (*e, held.attempt)).collect();
        let lost = if self.state.revoked {
            let gone = self.state.gone.clone();
            Some(gone.unwrap_or_else(|| Gone::lost("the device was revoked")))
        } else if self.link.is_none() && self.lease.is_over(now) {
            let minutes = self.lease.away(now).as_secs() / 60;
            Some(Gone::lost(format!(
                "the device has been away for {minutes} min: retry it, there or elsewhere"
            )))
        } else {
            None
        };
        if let Some(gone) = lost {
            for of in &all {
                self.ending.entry(*of).or_insert((gone.clone(), false));
            }
        }
        if now.since(self.checked_at) >= CHECK_EVERY {
            self.checked_at = now;
            all.into_iter().for_each(|of| self.check(of));
        }
        Ok(())
    }

    fn probe(&self, has: Option<Has>) -> DeviceReply {
        let held = has.and_then(|has| self.held(has));
        DeviceReply::Probed {
            owner: self.state.device.as_ref().map(|device| device.owner),
            settings: self.state.settings.clone(),
            token: held.filter(|held| held.taken).map(|held| held.token.clone()),
            pending: held.is_some_and(|held| !held.taken),
            worked: self.state.worked,
            view: self.view().map(Box::new),
        }
    }

    fn view(&self) -> Option<DeviceView> {
        let device = self.state.device.as_ref()?;
        let work = self.state.assignments.iter().map(|(execution, held)| DeviceWork {
            task_id: held.task,
            execution: *execution,
            attempt: held.attempt,
            taken: held.taken,
            since: held.since,
        });
        let work: Vec<DeviceWork> = work.collect();
        let status = match (&self.link, self.state.revoked) {
            (_, true) => DevicePresence::Revoked,
            (Some(_), _) => DevicePresence::Online,
            (None, _) if work.is_empty() => DevicePresence::Offline,
            (None, _) => DevicePresence::Away,
        };
        let mut labels = self.found.labels.clone();
        labels.extend(self.state.settings.labels.clone());
        Some(DeviceView {
            id: device.id,
            name: device.name.clone(),
            alias: self.state.settings.alias.clone(),
            status,
            draining: self.state.settings.draining || self.found.draining,
            is_default: false,
            labels,
            slots: self.state.slots(self.offered_slots()),
            slots_used: u16::try_from(work.len()).unwrap_or(u16::MAX),
            queued: u32::try_from(self.line.len(self.now())).unwrap_or(u32::MAX),
            os: self.found.os.clone(),
            arch: self.found.arch.clone(),
            host: self.found.host.clone(),
            build: self.link.as_ref().map(|link| link.build.clone()).unwrap_or_default(),
            tools: self.found.tools.clone(),
            node: self.link.as_ref().map(|link| link.node.clone()),
            path: self.link.as_ref().and_then(|link| link.path.clone()),
            links: self.past.shown(self.context.clock.now()),
            enrolled_at: device.at,
            task_id: device.task,
            work,
        })
    }
}

/// The packages that a job brings. Its texts may hold any word, so it is read.
fn packages(spec: &str) -> Vec<String> {
    // Most have none, and need not be read.
    if !spec.contains("\"package\"") {
        return Vec::new();
    }
    let job: Result<Job, _> = serde_json::from_str(spec);
    let skills = job.map(|job| job.skill_texts).unwrap_or_default();
    skills.into_iter().filter_map(|skill| skill.package).collect()
}
