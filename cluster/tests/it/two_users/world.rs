//! A node with a person on it who has one of everything.

use std::{collections::BTreeMap, fs, ops::Index};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use troupe_testkit::{Answer, FakeModel, Gate, Rule, Script, try_until};
use troupe_types::{ApiKeyId, Clock as _, MessageId, SystemClock, TaskId, TurnId, UserId, Uuid};

use crate::{
    machines::kit::{self, Machine},
    node::{Home, Node, PATIENCE, Person},
    scene::{bot, team},
};

/// What she said first.
pub(super) const FIRST: &str = "The very first words of ulla.";
/// What is begun and never ended.
const HELD_ON: &str = "ulla holds on, and on, and on, until somebody lets go of her.";
/// In everything that she names or says.
pub(super) const MARK: &str = "ulla";

/// The ids of one of everything, by what it is.
#[derive(Clone, Debug)]
pub(super) struct Ids(BTreeMap<&'static str, String>);

impl Index<&str> for Ids {
    type Output = String;

    fn index(&self, what: &str) -> &String {
        self.0.get(what).unwrap_or_else(|| panic!("there is no id of a `{what}`"))
    }
}

impl Ids {
    /// What two of them have in common is named by what it is.
    pub(super) fn anonymous(&self, text: &str) -> String {
        // Longer ones first: one may be a part of another.
        let mut all: Vec<_> = self.0.iter().filter(|(what, _)| **what != "mine").collect();
        all.sort_by_key(|(_, id)| std::cmp::Reverse(id.len()));
        all.iter().fold(text.to_owned(), |text, (what, id)| match id.len() {
            // Too short to be told from other words.
            0..4 => text,
            _ => text.replace(id.as_str(), &format!("<{what}>")),
        })
    }

    /// The first of them that a text holds and a request did not.
    pub(super) fn within(&self, text: &str, asked: &str) -> Option<&'static str> {
        const EVERYBODYS: [&str; 5] = ["mine", "node", "shard", "letter", "block"];
        let mut own = self.0.iter().filter(|(what, _)| !EVERYBODYS.contains(what));
        let tells = |id: &str| text.contains(id) && !asked.contains(id);
        own.find(|(_, id)| tells(id)).map(|(what, _)| *what)
    }

    /// With the caller's own Task.
    pub(super) fn for_owner_of(&self, task: &str) -> Self {
        let mut ids = self.clone();
        ids.0.insert("mine", task.to_owned());
        ids
    }

    /// Of the same kinds, and nobody's.
    fn of_nothing(&self) -> Self {
        let now = SystemClock::new().now();
        let row = || MessageId::new(now).to_string();
        let task = || TaskId::new(now).to_string();
        let make = |what: &'static str| match what {
            "task" | "gated" | "running" | "asking" => task(),
            "row" | "answer" | "queued" | "running_row" => row(),
            "turn" => TurnId::new(now).to_string(),
            "key" => ApiKeyId::new(now).to_string(),
            "user" => UserId::new(now).to_string(),
            "client_message_id" | "letter" | "skill" => Uuid::new_v4().to_string(),
            "invitation" => "A".repeat(self[what].len()),
            "device" => troupe_types::DeviceId::new(now).to_string(),
            "block" => "77.1.1".to_owned(),
            "shard" => "4000".to_owned(),
            "host" | "put_host" => format!("{}.nobody.example", what.replace('_', "-")),
            _ => format!("nobodys-{}", what.replace('_', "-")),
        };
        Self(self.0.keys().map(|what| (*what, make(what))).collect())
    }
}

/// The node, and the one who has everything.
pub(super) struct World {
    pub(super) node: Node,
    pub(super) admin: Person,
    pub(super) ulla: Person,
    pub(super) hers: Ids,
    pub(super) nobodys: Ids,
    _home: Home,
    _machine: Machine,
    _fake: FakeModel,
}

fn yaml(fake: &FakeModel) -> String {
    let model = format!(
        "kind: Model\nmetadata: {{name: ullas-model}}\nspec:\n  modelConfig:\n    env: {{model: \
         claude, model_id: fake-1, api_key: sk-test-0123456789, base_url: \"{}\"}}\n---\n",
        fake.url()
    );
    let agent = bot("ullas-agent", "ullas-model", None).replace("{name: Chat}", "{name: ullas-sh}");
    let shell = "kind: Shell\nmetadata: {name: ullas-sh}\nspec: {shellType: ClaudeCode}\n---\n";
    let ghost = "kind: Ghost\nmetadata: {name: ullas-ghost}\nspec: {systemPrompt: ulla's}\n---\n";
    let template = "kind: Template\nmetadata: {name: ullas-template}\nspec: {ghosts: {hers: \
                    {systemPrompt: ulla's}}}\n---\n";
    [
        &model,
        shell,
        ghost,
        template,
        &bot("ullas-bot", "ullas-model", None),
        &agent,
        &team("ullas-team", "solo", &["ullas-bot"]),
        &team("ullas-spare", "solo", &["ullas-bot"]),
        &team("ullas-line", "pipeline", &["ullas-bot!", "ullas-bot"]),
        &team("ullas-devs", "solo", &["ullas-agent"]),
    ]
    .concat()
}

fn script(gate: &Gate) -> Script {
    let bash = Answer::tool("Bash", json!({"command": "touch a.txt", "description": "d"}));
    Script::rules(vec![
        Rule::any().human("the job").then(bash).then(Answer::text("I wait for ulla.")),
        Rule::any().human("hold on").then(Answer::text(HELD_ON).held_by(gate, 6)),
        Rule::any().then(Answer::text("All right, ulla.")),
    ])
}

impl World {
    /// `None`: there are no agent programs, so nothing can ask her.
    pub(super) async fn new() -> Result<Option<Self>> {
        let Some(runtimes) = kit::runtimes() else { return Ok(None) };
        let fake = FakeModel::start(script(&Gate::closed())).await?;
        let home = Home::new()?;
        let node = Node::start_with(&home, &kit::options()).await?;
        let admin = node.setup().await?;
        let ulla = node.user(&admin, MARK).await?;
        node.apply(&ulla, &yaml(&fake)).await?;
        let mut machine = Machine::new(Some(&runtimes))?;
        let name = json!({"name": "ullas-laptop"});
        let device = machine.join_at(&node, &ulla, &name).await?;
        let mut ids = things(&node, &ulla, &device).await?;
        ids.extend(tasks(&node, &ulla).await?);
        let nodes = node.get("/api/v1/admin/nodes", &admin).await?;
        ids.push(("node", text(&nodes["items"][0]["name"])?));
        let hers = Ids(ids.into_iter().collect());
        let nobodys = hers.of_nothing();
        Ok(Some(Self {
            node,
            admin,
            ulla,
            hers,
            nobodys,
            _home: home,
            _machine: machine,
            _fake: fake,
        }))
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("no text: {value}"))?.to_owned())
}

type Named = Vec<(&'static str, String)>;

/// A Skill that anybody might bring.
pub(super) fn package() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let skill = dir.path().join("any");
    fs::create_dir(&skill).expect("a folder");
    fs::write(skill.join("SKILL.md"), "---\ndescription: x\n---\n").expect("a file");
    troupe_packages::pack(&skill).expect("a package")
}

/// What is no Task.
async fn things(node: &Node, who: &Person, device: &Value) -> Result<Named> {
    let key = node.post("/api/v1/api-keys", Some(who), &json!({"name": "ullas-key"})).await?;
    let invite = json!({"name": "ullas-next"});
    let invited = node.post("/api/v1/devices/invitations", Some(who), &invite).await?;
    let me = node.get("/api/v1/users/me", who).await?;
    for host in ["git", "put"] {
        let path = format!("/api/v1/users/me/git/{host}.ulla.example");
        let token = json!({"token": "token-of-ulla-012345"});
        let put = node.call("PUT", &path, Some(who), Some(&token)).await?;
        ensure!(put.status == 200, "{}", put.text);
    }
    let upload = "/api/v1/kinds/skills/upload?name=ullas-skill";
    let zip = Some(("application/zip", package()));
    let skill = node.raw("POST", upload, Some(who), zip).await?;
    ensure!(skill.status == 201, "{}", skill.text);
    let mut named = vec![
        ("skill", text(&skill.body["metadata"]["uid"])?),
        ("key", text(&key["id"])?),
        ("invitation", text(&invited["id"])?),
        ("device", text(&device["id"])?),
        ("device_name", text(&device["name"])?),
        ("user", text(&me["id"])?),
        ("user_name", text(&me["user_name"])?),
        ("letter", Uuid::new_v4().to_string()),
    ];
    let words = [
        ("host", "git.ulla.example"),
        ("put_host", "put.ulla.example"),
        ("team", "ullas-team"),
        ("spare", "ullas-spare"),
        ("model", "ullas-model"),
        ("bot", "ullas-bot"),
        ("ghost", "ullas-ghost"),
        ("skill_name", "ullas-skill"),
        ("template", "ullas-template"),
        ("shard", "7"),
    ];
    named.extend(words.map(|(what, word)| (what, word.to_owned())));
    Ok(named)
}

/// One that is done, one at a gate, one that runs, one whose agent asks.
async fn tasks(node: &Node, who: &Person) -> Result<Named> {
    let key = Uuid::new_v4();
    let body = json!({"team_id": "ullas-team", "message": FIRST, "client_message_id": key});
    let ack = node.post("/api/v1/tasks", Some(who), &body).await?;
    let (task, row) = (text(&ack["task_id"])?, text(&ack["subtask_id"])?);
    node.settled(who, &task, "COMPLETED").await?;
    let (_, turns) = node.turns(who, &task).await?;
    let last = turns.last().context("no turn")?;
    let answer = text(&last["messages"][1]["subtask_id"])?;
    let turn = text(&last["turn_id"])?;

    let gated = node.run(who, "ullas-line", "Two stages for ulla.").await?;
    node.settled(who, &gated, "PENDING_CONFIRMATION").await?;

    let running = node.run(who, "ullas-team", "ulla says: hold on").await?;
    let mut running_row = Value::Null;
    let runs = try_until(PATIENCE, async || {
        let Ok((_, turns)) = node.turns(who, &running).await else { return false };
        let row = &turns[0]["messages"][1];
        running_row = row["subtask_id"].clone();
        row["content"].as_str().is_some_and(|text| !text.is_empty())
    });
    ensure!(runs.await, "nothing is said: {running_row}");
    let more = json!({"message": "One more thing, says ulla."});
    let path = format!("/api/v1/tasks/{running}/messages");
    let queued = node.post(&path, Some(who), &more).await?;
    ensure!(queued["queued"] == true, "{queued}");

    let asking = node.run(who, "ullas-devs", "the job of ulla").await?;
    let block = kit::asked(node, who, &asking).await?;
    Ok(vec![
        ("task", task),
        ("row", row),
        ("answer", answer),
        ("turn", turn),
        ("client_message_id", key.to_string()),
        ("gated", gated),
        ("running", running),
        ("running_row", text(&running_row)?),
        ("queued", text(&queued["subtask_id"])?),
        ("asking", asking),
        ("block", text(&block["id"])?),
    ])
}
