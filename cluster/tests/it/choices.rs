//! What a person chooses for a Task: its Model, and where it works. It holds for all its turns.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use troupe_testkit::{Answer, FakeModel, Script};
use troupe_types::Uuid;

use crate::node::{Home, Node, Person};

/// A Team of one whose Bot has the Model `own`, and the Model `other`.
fn cast(own: &FakeModel, other: &FakeModel) -> String {
    let model = |name: &str, fake: &FakeModel| {
        format!(
            "kind: Model\nmetadata: {{name: {name}}}\nspec:\n  modelConfig:\n    env: {{model: \
             claude, model_id: fake-model, api_key: k, base_url: \"{}\"}}\n---\n",
            fake.url()
        )
    };
    format!(
        "{}{}kind: Ghost\nmetadata: {{name: tim}}\nspec: {{systemPrompt: You are Tim.}}\n---\n\
         kind: Bot\nmetadata: {{name: tim}}\nspec:\n  ghostRef: {{name: tim}}\n  shellRef: {{name: \
         Chat}}\n  modelRef: {{name: own}}\n---\n\
         kind: Team\nmetadata: {{name: tims}}\nspec:\n  collaborationModel: solo\n  members:\n  - \
         {{botRef: {{name: tim}}}}\n",
        model("own", own),
        model("other", other)
    )
}

struct Stage {
    _home: Home,
    node: Node,
    who: Person,
    own: FakeModel,
    other: FakeModel,
}

impl Stage {
    async fn new() -> Result<Self> {
        let own = FakeModel::start(Script::always(Answer::text("Mine."))).await?;
        let other = FakeModel::start(Script::always(Answer::text("The other's."))).await?;
        let home = Home::new()?;
        let node = Node::start(&home).await?;
        let who = node.setup().await?;
        node.apply(&who, &cast(&own, &other)).await?;
        Ok(Self { _home: home, node, who, own, other })
    }

    async fn begin(&self, mut body: Value) -> Result<String> {
        body["team_id"] = "tims".into();
        body["message"] = "Begin.".into();
        let ack = self.node.post("/api/v1/tasks", Some(&self.who), &body).await?;
        let task = ack["task_id"].as_str().context("no task")?.to_owned();
        self.node.settled(&self.who, &task, "COMPLETED").await?;
        Ok(task)
    }

    /// Says more; answers whom the turn asked.
    async fn more(&self, task: &str, mut body: Value) -> Result<(u64, u64)> {
        let before = (self.own.request_count(), self.other.request_count());
        body["message"] = "More.".into();
        body["client_message_id"] = json!(Uuid::new_v4());
        let path = format!("/api/v1/tasks/{task}/messages");
        self.node.post(&path, Some(&self.who), &body).await?;
        self.node.settled(&self.who, task, "COMPLETED").await?;
        let (own, other) = (self.own.request_count(), self.other.request_count());
        Ok((own - before.0, other - before.1))
    }

    async fn labels(&self, task: &str) -> Result<Value> {
        Ok(self.node.task(&self.who, task).await?["labels"].clone())
    }

    async fn patch(&self, task: &str, labels: Value) -> Result<u16> {
        let (path, body) = (format!("/api/v1/tasks/{task}"), json!({"labels": labels}));
        Ok(self.node.call("PATCH", &path, Some(&self.who), Some(&body)).await?.status)
    }
}

#[tokio::test]
async fn a_model_that_was_chosen_is_the_tasks_from_then_on() -> Result<()> {
    let stage = Stage::new().await?;
    let task = stage.begin(json!({"force_override_bot_model": "other"})).await?;
    assert_eq!((stage.own.request_count(), stage.other.request_count()), (0, 1));
    assert_eq!(stage.more(&task, json!({})).await?, (0, 1), "a follow-up");
    // Also of a message that is edited.
    let (_, turns) = stage.node.turns(&stage.who, &task).await?;
    let last = json!(turns).as_array().and_then(|turns| turns.last().cloned());
    let row = last.context("no turn")?["messages"][0]["subtask_id"].clone();
    let edit = json!({"task_id": task, "subtask_id": row, "message": "Otherwise.",
        "client_message_id": Uuid::new_v4()});
    let path = format!("/api/v1/tasks/{task}/edit");
    stage.node.post(&path, Some(&stage.who), &edit).await?;
    stage.node.settled(&stage.who, &task, "COMPLETED").await?;
    assert_eq!((stage.own.request_count(), stage.other.request_count()), (0, 3));
    // Until another choice is made, which then holds.
    assert_eq!(stage.more(&task, json!({"force_override_bot_model": ""})).await?, (1, 0));
    assert_eq!(stage.more(&task, json!({})).await?, (1, 0));
    let other = json!({"force_override_bot_model": "other"});
    assert_eq!(stage.more(&task, other).await?, (0, 1));
    assert_eq!(stage.more(&task, json!({})).await?, (0, 1));
    Ok(())
}

#[tokio::test]
async fn labels_of_a_person_leave_the_workspace_alone() -> Result<()> {
    let stage = Stage::new().await?;
    let place = json!({"git_url": "https://git.example.org/x.git", "branch_name": "main"});
    let task = stage.begin(place.clone()).await?;
    let kept = stage.labels(&task).await?;
    assert_eq!(kept["troupe.repo"], "https://git.example.org/x.git");
    assert_eq!(stage.patch(&task, json!({"sprint": "12"})).await?, 200);
    let labels = stage.labels(&task).await?;
    assert_eq!((&labels["sprint"], &labels["troupe.repo"]), (&json!("12"), &kept["troupe.repo"]));
    for stolen in ["https://me:token@git.example.org/x.git", ""] {
        assert_eq!(stage.patch(&task, json!({"troupe.repo": stolen})).await?, 422);
    }
    assert_eq!(stage.labels(&task).await?, labels, "nothing changed");
    // What the Task began with may be said again, and nothing else.
    stage.more(&task, place).await?;
    let path = format!("/api/v1/tasks/{task}/messages");
    for (field, value) in [
        ("git_url", "https://git.example.org/y.git"),
        ("branch_name", "next"),
        ("device_id", "dev_box"),
    ] {
        let mut body = json!({"message": "More.", "git_url": "https://git.example.org/x.git"});
        body[field] = value.into();
        let answer = stage.node.call("POST", &path, Some(&stage.who), Some(&body)).await?;
        assert_eq!(answer.status, 422, "{field}");
        assert!(answer.text.contains(field), "{field}: {}", answer.text);
    }
    Ok(())
}
