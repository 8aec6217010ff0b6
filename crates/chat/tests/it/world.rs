//! Everything that a run needs, put together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;
use troupe_chat::{
    ChatOptions, ChatRun, ChatServices, Conversation, HistoryItem, ModelFactory, NoSecrets, RunEnd,
    SecretOpener, ToolRegistry,
};
use troupe_domain::task::{
    CollaborationModel, ContextPassing, MemberPlan, ModelPlan, TeamPlan, Work,
};
use troupe_llm::{Egress, EgressPolicy, ModelError, Request};
use troupe_types::{Attempt, ExecutionId, ManualClock, TaskId, Timestamp, Uuid};

pub(crate) use crate::{
    counter::Counter,
    log::{Log, Said},
    scripted::{Answer, Scripted, ask, say},
};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that a run needs.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) model: Scripted,
    pub(crate) counter: Counter,
    pub(crate) services: ChatServices,
    pub(crate) run: ChatRun,
    pub(crate) cancel: CancellationToken,
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_795_000_000_000)))
}

pub(crate) fn services(
    models: Arc<dyn ModelFactory>,
    tools: ToolRegistry,
    secrets: Arc<dyn SecretOpener>,
) -> ChatServices {
    let egress = Egress::new(EgressPolicy { allow_loopback: true, ..EgressPolicy::default() });
    ChatServices::new(models, tools, secrets, egress, clock())
}

impl World {
    pub(crate) fn new(
        script: impl Fn(&Request, usize) -> Result<Answer, ModelError> + Send + Sync + 'static,
    ) -> Self {
        let model = Scripted {
            script: Arc::new(script),
            requests: Arc::default(),
            dropped: Arc::default(),
        };
        let counter = Counter::default();
        let models = Arc::new(model.clone());
        let services = services(models, counter.registry(), Arc::new(NoSecrets));
        Self { model, counter, services, run: chat_run(), cancel: CancellationToken::new() }
    }

    /// A model that gives these answers, one a step.
    pub(crate) fn steps(answers: Vec<Answer>) -> Self {
        Self::new(move |_, step| Ok(answers.get(step).cloned().unwrap_or_else(|| say("end"))))
    }

    pub(crate) fn working(mut self, work: Work, names: &[&str]) -> Self {
        self.run.plan = Arc::new(team(names));
        self.run.work = work;
        self
    }

    pub(crate) async fn go(&self) -> (Arc<Log>, RunEnd) {
        self.go_until(usize::MAX).await
    }

    pub(crate) async fn go_until(&self, room: usize) -> (Arc<Log>, RunEnd) {
        let log = Log::new(room);
        *lock(&self.counter.log) = Some(Arc::clone(&log));
        let cancel = self.cancel.clone();
        let ended = troupe_chat::run(self.run.clone(), &self.services, &*log, cancel).await;
        (log, ended)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.model.requests).clone()
    }
}

pub(crate) fn chat_run() -> ChatRun {
    let item = HistoryItem::Person { name: "Eve".into(), text: "do it".into() };
    ChatRun {
        task: TaskId::from_uuid(Uuid::from_u128(1)),
        execution: ExecutionId::from_uuid(Uuid::from_u128(2)),
        attempt: Attempt::FIRST,
        plan: Arc::new(team(&["ann"])),
        member: 0,
        work: Work::Answer,
        conversation: Conversation { items: vec![item], ..Conversation::default() },
        not_before: None,
        wait_code: None,
        options: ChatOptions::default(),
    }
}

/// A team whose first member leads.
pub(crate) fn team(names: &[&str]) -> TeamPlan {
    let model = ModelPlan {
        name: "m".into(),
        provider: "scripted".into(),
        model_id: "m".into(),
        base_url: None,
        headers: BTreeMap::new(),
        sealed_key: None,
        bearer: false,
        small_model: None,
        context_window: 200_000,
        max_output_tokens: None,
        thinking: None,
        trusted: false,
    };
    let member = |name: &&str| MemberPlan {
        name: (*name).to_owned(),
        shell_type: "Chat".into(),
        system_prompt: format!("I am {name}."),
        prompt: String::new(),
        require_confirmation: false,
        context_passing: ContextPassing::None,
        on: None,
        base_image: None,
        model: Some(model.clone()),
        mcp_servers: BTreeMap::new(),
        skills: Vec::new(),
        skill_texts: Vec::new(),
    };
    TeamPlan {
        hash: "h".into(),
        name: "team".into(),
        namespace: "default".into(),
        display_name: "Team".into(),
        model: CollaborationModel::Solo,
        max_rounds: 4,
        max_concurrent_tasks: 10,
        members: names.iter().map(member).collect(),
        leader: 0,
        deep_thinking: false,
    }
}
