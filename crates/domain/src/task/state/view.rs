//! What the state says outside: the Task, its outline, the position of a pipeline.

use troupe_api::task::{OutlineRow, TaskView};
use troupe_types::{StageFrame, StageStatus, StageView, Status, TaskId, Wait};

use super::TaskState;
use crate::task::{
    execution::{AttemptState, Execution},
    plan::{CollaborationModel, TeamPlan},
};

impl TaskState {
    /// The Task, whole but for its transcript; `None` if there is none.
    #[must_use]
    pub fn view(&self) -> Option<TaskView> {
        if !self.exists() {
            return None;
        }
        let (team_namespace, team_name) = self.team.clone()?;
        let model = self.plan().map_or(CollaborationModel::Solo, |p| p.model);
        Some(TaskView {
            id: self.id?,
            user_id: self.owner?,
            user_name: self.owner_name.clone(),
            title: self.title.clone(),
            labels: self.labels.clone(),
            status: self.status,
            wait: self.wait().cloned(),
            team_namespace,
            team_name,
            collaboration_model: model.as_str().to_owned(),
            stage: self.stage_frame(),
            queue: self.queue.to_vec(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            log: self.log?,
            head: self.head(),
        })
    }

    /// Why the Task waits: the wait of its first attempt that does, if all do.
    #[must_use]
    pub fn wait(&self) -> Option<&Wait> {
        let works = |e: &Execution| e.state.is_live() && e.wait.is_none();
        if !self.is_active() || self.executions.iter().any(works) {
            return None;
        }
        self.executions.iter().find_map(|e| e.wait.as_ref())
    }

    /// All turns, oldest first, a line each.
    #[must_use]
    pub fn outline(&self) -> Vec<OutlineRow> {
        self.turns
            .iter()
            .map(|t| OutlineRow {
                turn: t.turn,
                first_seq: t.first_frame,
                ordinal: t.ordinal,
                author: t.author.clone(),
                excerpt: t.excerpt.clone(),
                status: t.status,
            })
            .collect()
    }

    /// What each execution of the last turn that is not done does: a sentence each.
    #[must_use]
    pub fn describe_executions(&self) -> Vec<String> {
        let plan = self.plan();
        let name = |member| plan.map_or("", |p| p.name_of(member));
        self.executions
            .iter()
            .filter(|e| e.state != AttemptState::Done)
            .map(|e| {
                let doing = match (e.state, &e.wait) {
                    (_, Some(wait)) => format!("waits: {}", wait.code),
                    (AttemptState::Queued, None) => "is about to start".to_owned(),
                    (AttemptState::Failed, _) => "failed".to_owned(),
                    (AttemptState::Cancelled, _) => "was stopped".to_owned(),
                    (AttemptState::Lost, _) => "was lost too often".to_owned(),
                    _ => "works".to_owned(),
                };
                format!("{} (message {}, attempt {}) {doing}", name(e.member), e.ordinal, e.attempt)
            })
            .collect()
    }

    /// Position of a pipeline; `None` if the last turn was not run by one.
    #[must_use]
    pub fn stage_frame(&self) -> Option<StageFrame> {
        let plan = self.plan()?;
        if plan.model != CollaborationModel::Pipeline {
            return None;
        }
        let ended = self.run.as_ref()?.ended;
        let current = match ended {
            None => StageStatus::Running,
            Some(Status::PendingConfirmation) => StageStatus::PendingConfirmation,
            Some(Status::Completed) => StageStatus::Completed,
            Some(_) => StageStatus::Failed,
        };
        Some(StageFrame {
            current_stage: self.stage,
            total_stages: plan.size(),
            current_stage_name: plan.name_of(self.stage).to_owned(),
            is_pending_confirmation: ended == Some(Status::PendingConfirmation),
            stages: stages(plan, self.stage, current),
        })
    }

    /// The id of a Task that exists.
    pub(in crate::task) fn task_id(&self) -> TaskId {
        self.id.unwrap_or_else(|| TaskId::derived(&[]))
    }
}

/// What a client is told when a Task is no pipeline any more (as the contract answers).
pub(in crate::task) fn no_stages() -> StageFrame {
    StageFrame {
        current_stage: 0,
        total_stages: 1,
        current_stage_name: "default".to_owned(),
        is_pending_confirmation: false,
        stages: Vec::new(),
    }
}

fn stages(plan: &TeamPlan, at: u32, current: StageStatus) -> Vec<StageView> {
    (0u32..)
        .zip(&plan.members)
        .map(|(index, member)| StageView {
            index,
            name: member.name.clone(),
            require_confirmation: member.require_confirmation,
            status: match index.cmp(&at) {
                std::cmp::Ordering::Less => StageStatus::Completed,
                std::cmp::Ordering::Equal => current,
                std::cmp::Ordering::Greater => StageStatus::Pending,
            },
        })
        .collect()
}
