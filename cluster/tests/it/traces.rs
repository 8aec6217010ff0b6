//! Traces as the OpenTelemetry Collector, which is not ours, receives them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use troupe_testkit::{FakeModel, McpServer, try_until, wait_until};

use crate::{
    machines::members::{ALIKE, Three, servers},
    node::{Home, Node, NodeOptions, PATIENCE, Person},
    scene::{self, ANTHROPIC, Pace, TOOLSMITH, team},
    stream::Socket,
};

/// What the client calls its trace and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// The trace of somebody who shows no token.
const STRANGER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// What the person writes.
const PROMPT: &str = "Nobody but the model may read pumpernickel.";
const PACE: Pace = Pace { words: 12, gap: Duration::ZERO };

/// A collector of its own for one test; it writes to a file.
struct Collector {
    _child: Child,
    url: String,
    file: PathBuf,
}

/// A span as the collector wrote it down.
#[derive(Debug)]
struct Span {
    /// Whose it is: `service.instance.id`.
    node: String,
    name: String,
    parent: String,
    attributes: BTreeMap<String, Value>,
}

impl Collector {
    /// `None`: there is no collector on this machine.
    async fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = std::env::var_os("TROUPE_OTEL_COLLECTOR") else {
            if std::env::var_os("CI").is_some() {
                bail!("CI has a collector");
            }
            println!("skipped: `cargo xtask test` builds a collector");
            return Ok(None);
        };
        let at = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let file = dir.join("traces.jsonl");
        let config = json!({
            "receivers": { "otlp": { "protocols": { "http": { "endpoint": at.to_string() } } } },
            "exporters": { "file": { "path": file, "flush_interval": "100ms" } },
            "service": {
                "telemetry": { "metrics": { "level": "none" }, "logs": { "level": "warn" } },
                "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["file"] } },
            },
        });
        let path = dir.join("collector.yaml");
        std::fs::write(&path, config.to_string())?;
        let log = std::fs::File::create(dir.join("collector.log"))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(path).stdin(Stdio::null()).kill_on_drop(true);
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let listens = async || TcpStream::connect(at).await.is_ok();
        if !try_until(PATIENCE, listens).await {
            bail!("{}", std::fs::read_to_string(dir.join("collector.log"))?);
        }
        Ok(Some(Self { _child: child, url: format!("http://{at}"), file }))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// What came so far of a trace, by span id.
    fn spans(&self, trace: &str) -> BTreeMap<String, Span> {
        let text = self.text();
        // The last line may be on its way.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
        let attributes = |of: &Value| -> BTreeMap<String, Value> {
            let pairs = list(of, "attributes").into_iter();
            let pair = |pair: Value| {
                (pair["key"].as_str().unwrap_or_default().into(), pair["value"].clone())
            };
            pairs.map(pair).collect()
        };
        let mut spans = BTreeMap::new();
        for resource in lines.flat_map(|line| list(&line, "resourceSpans")) {
            let of = attributes(&resource["resource"]);
            let node = of.get("service.instance.id").map(|id| &id["stringValue"]);
            let node = node.and_then(Value::as_str).unwrap_or_default();
            let all = list(&resource, "scopeSpans").into_iter();
            for span in all.flat_map(|scope| list(&scope, "spans")) {
                if span["traceId"] != trace {
                    continue;
                }
                let of = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
                let (name, parent, attributes) =
                    (of("name"), of("parentSpanId"), attributes(&span));
                spans
                    .insert(of("spanId"), Span { node: node.to_owned(), name, parent, attributes });
            }
        }
        spans
    }
}

/// Spans from one up to the client's.
fn way_up<'a>(spans: &'a BTreeMap<String, Span>, from: &'a Span) -> Result<Vec<&'a Span>> {
    let (mut way, mut span) = (vec![from], from);
    while span.parent != SPAN {
        span = spans.get(&span.parent).with_context(|| format!("no parent above {way:?}"))?;
        way.push(span);
        if way.len() > spans.len() {
            bail!("a circle: {way:?}");
        }
    }
    Ok(way)
}

/// A message to the Team, in a new Task or this one.
async fn send(url: &str, who: &Person, task: Option<&str>) -> Result<String> {
    let mut socket = Socket::open(url, &who.token).await?;
    let mut payload = json!({
        "team_id": "alone", "message": PROMPT,
        "traceparent": format!("00-{TRACE}-{SPAN}-01"),
    });
    if let Some(task) = task {
        payload["task_id"] = task.into();
    }
    let ack = socket.call("chat:send", payload).await?;
    Ok(ack["task_id"].as_str().with_context(|| format!("no task: {ack}"))?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_client_to_the_model_and_says_no_word_of_it() -> Result<()> {
    let home = Home::new()?;
    let Some(collector) = Collector::start(home.path()).await? else { return Ok(()) };
    let fake = FakeModel::start(scene::load_script(PACE)).await?;
    let mcp = McpServer::start().await?;
    // Nothing that begins in the node is collected: the client decides for its own.
    let options = NodeOptions::default()
        .env("TROUPE__TRACES__ENDPOINT", &collector.url)
        .env("TROUPE__TRACES__SAMPLE_RATIO", "0.0")
        .env("TROUPE__TRACES__SEND_TO_MODELS", "true");
    let node = Node::start_with(&home, &options).await?;
    let who = node.setup().await?;
    let cast = scene::cast(&fake, Some(&mcp.url()));
    node.apply(&who, &format!("{cast}{}", team("alone", "solo", &[TOOLSMITH]))).await?;

    let task = send(&node.url, &who, None).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let stranger = format!("00-{STRANGER}-{SPAN}-01");
    let http = reqwest::Client::new();
    let asking = http.get(format!("{}/api/v1/tasks", node.url)).header("traceparent", stranger);
    assert_eq!(asking.send().await?.status(), 401);

    let wanted: BTreeSet<&str> = [
        "chat:send",
        "router ask",
        "entity handle",
        "append",
        "attempt",
        "chat run",
        "model call",
        "tool call",
    ]
    .into();
    let came = try_until(PATIENCE, async || {
        let spans = collector.spans(TRACE);
        let names: BTreeSet<&str> = spans.values().map(|span| span.name.as_str()).collect();
        let calls = spans.values().filter(|span| span.name == "model call").count();
        // What lies below may come before what is above.
        let is_whole = spans.values().all(|span| way_up(&spans, span).is_ok());
        wanted.is_subset(&names) && calls == 2 && is_whole
    })
    .await;
    let spans = collector.spans(TRACE);
    assert!(came, "only {spans:#?}");
    let call = spans.values().find(|span| span.name == "model call").context("no model call")?;
    let way: Vec<&str> = way_up(&spans, call)?.iter().map(|span| span.name.as_str()).collect();
    let order = ["model call", "chat run", "attempt", "entity handle", "router ask", "chat:send"];
    assert_eq!(way, order);
    for name in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
        assert!(call.attributes[name]["intValue"].is_string(), "{name}: {call:?}");
    }
    assert!(call.attributes.contains_key("troupe.first_token_ms"), "{call:?}");
    assert_eq!(call.attributes["gen_ai.request.model"]["stringValue"], "fake-1");

    let requests = fake.requests();
    let heads: Vec<_> = requests.iter().filter_map(|r| r.headers.get("traceparent")).collect();
    assert_eq!(heads.len(), 2, "each model call says where it stands: {heads:?}");
    assert!(heads.iter().all(|head| head.contains(TRACE)), "{heads:?}");

    assert_eq!(node.terminate().await?, Some(0));
    let text = collector.text();
    assert!(collector.spans(STRANGER).is_empty(), "a stranger decides nothing");
    for secret in ["pumpernickel", "漢字", "I think", "sk-test", &who.token, &who.refresh] {
        assert!(!text.contains(secret), "`{secret}` is in a trace");
    }
    let traces: BTreeSet<&str> =
        text.split("\"traceId\":\"").skip(1).filter_map(|rest| rest.get(..32)).collect();
    assert_eq!(traces, [TRACE].into(), "the share of the node's own traces is 0");
    Ok(())
}

/// The owner of a Task, once its shard rests.
async fn settled_owner(three: &Three, who: &Person, task: &str) -> Result<usize> {
    let first = three.rest(0)?;
    let why = first.get(&format!("/api/v1/admin/tasks/{task}/why"), who).await?;
    let shard = format!("/api/v1/admin/shards/{}", why["shard"]);
    let mut seen = Value::Null;
    let rests = try_until(PATIENCE, async || {
        seen = first.get(&shard, who).await.unwrap_or_default();
        seen["state"] == "owned"
    });
    ensure!(rests.await, "it does not rest: {seen}");
    Three::number(&seen["owner"])
}

/// The same on a cluster, through a node that does not own the Task: one trace, and each span is of
/// the node that did it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_through_both_nodes_of_a_message() -> Result<()> {
    let home = Home::new()?;
    let Some(servers) = servers() else { return Ok(()) };
    let Some(collector) = Collector::start(home.path()).await? else { return Ok(()) };
    let fake = FakeModel::start(scene::load_script(PACE)).await?;
    let env = [
        ("TROUPE__TRACES__ENDPOINT", collector.url.as_str()),
        ("TROUPE__TRACES__SAMPLE_RATIO", "0.0"),
    ];
    let three = Three::start_with(servers, ALIKE, &env).await?;
    let (who, first) = (three.setup().await?, three.rest(0)?);
    let cast = scene::cast(&fake, None);
    first.apply(&who, &format!("{cast}{}", team("alone", "solo", &[ANTHROPIC]))).await?;
    // Nothing moves between the question who owns it and the message to it.
    let pause = json!({"action": "pause"});
    first.post("/api/v1/admin/rebalance", Some(&who), &pause).await?;
    let task = first.run(&who, "alone", "First of all.").await?;
    first.settled(&who, &task, "COMPLETED").await?;
    let owner = settled_owner(&three, &who, &task).await?;
    let gateway = (owner + 1) % three.members.len();
    let calls = fake.requests().len();
    send(&three.rest(gateway)?.url, &who, Some(&task)).await?;
    wait_until(PATIENCE, async || fake.requests().len() > calls).await;
    first.settled(&who, &task, "COMPLETED").await?;

    let is_call = |span: &&Span| span.name == "model call";
    let came = try_until(PATIENCE, async || {
        let spans = collector.spans(TRACE);
        let is_whole = spans.values().all(|span| way_up(&spans, span).is_ok());
        let answered = spans.values().any(|span| span.name == "chat:send");
        is_whole && answered && spans.values().any(|span| is_call(&span))
    });
    let came = came.await;
    let spans = collector.spans(TRACE);
    assert!(came, "only {spans:#?}");
    let call = spans.values().find(is_call).context("no model call")?;
    let way = way_up(&spans, call)?;
    let way: Vec<_> = way.iter().map(|span| (span.name.as_str(), span.node.as_str())).collect();
    let (there, here) = (format!("n{owner}"), format!("n{gateway}"));
    let (there, here) = (there.as_str(), here.as_str());
    let expected = [
        ("model call", there),
        ("chat run", there),
        ("attempt", there),
        ("entity handle", there),
        ("ask of a peer", there),
        ("router ask", here),
        ("chat:send", here),
    ];
    assert_eq!(way, expected);
    let appends = spans.values().filter(|span| span.name == "append");
    assert!(appends.clone().count() > 1 && appends.clone().all(|span| span.node == there));
    assert!(!collector.text().contains("pumpernickel"), "nobody but the model reads it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_slows_nothing_and_lost_spans_are_counted() -> Result<()> {
    let home = Home::new()?;
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let options = NodeOptions::default()
        .env("TROUPE__TRACES__ENDPOINT", format!("http://{}", silent.local_addr()?))
        .env("TROUPE__MODELS__DEMO_PACE", 0);
    let node = Node::start_with(&home, &options).await?;
    let who = node.setup().await?;
    for _ in 0..3 {
        node.assert_well(&who).await?;
    }
    wait_until(PATIENCE, async || {
        let Ok(answer) = node.call("GET", "/metrics", Some(&who), None).await else { return false };
        let line = "troupe_telemetry_spans_dropped_total{why=\"failed\"} ";
        let count = answer.text.lines().find_map(|text| text.strip_prefix(line));
        count.is_some_and(|count| count != "0")
    })
    .await;
    node.assert_well(&who).await?;
    assert!(home.log().contains("the collector of traces does not take spans"));
    assert_eq!(node.terminate().await?, Some(0));
    Ok(())
}

/// What the dashboards and alerts of `deploy/observability` lean on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_counted_and_measured() -> Result<()> {
    let home = Home::new()?;
    let fake = FakeModel::start(scene::load_script(PACE)).await?;
    let mcp = McpServer::start().await?;
    let node = Node::start(&home).await?;
    let who = node.setup().await?;
    let cast = scene::cast(&fake, Some(&mcp.url()));
    node.apply(&who, &format!("{cast}{}", team("alone", "solo", &[TOOLSMITH]))).await?;
    let task = node.run(&who, "alone", PROMPT).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let text = node.call("GET", "/metrics", Some(&who), None).await?.text;
    let value = |line: &str| {
        text.lines().find_map(|text| text.strip_prefix(line)?.trim().parse::<f64>().ok())
    };
    for (line, least) in [
        ("troupe_entities_turns_total{outcome=\"completed\"}", 1.0),
        ("troupe_entities_attempts_total{outcome=\"done\",error=\"none\"}", 1.0),
        ("troupe_entities_turn_seconds_count{outcome=\"completed\"}", 1.0),
        ("troupe_entities_attempt_seconds_count{outcome=\"done\"}", 1.0),
        ("troupe_entities_first_text_seconds_count", 1.0),
        ("troupe_entities_appends_total{outcome=\"committed\"}", 3.0),
        ("troupe_entities_append_seconds_count", 3.0),
        ("troupe_chat_model_calls_total{provider=\"claude\",outcome=\"completed\"}", 2.0),
        ("troupe_chat_model_call_seconds_count{provider=\"claude\"}", 2.0),
        ("troupe_chat_first_token_seconds_count{provider=\"claude\"}", 2.0),
        ("troupe_chat_tokens_total{provider=\"claude\",sort=\"input\"}", 1.0),
        ("troupe_chat_tool_calls_total{outcome=\"done\"}", 1.0),
        ("troupe_gateway_requests_total{status=\"2xx\"}", 3.0),
    ] {
        let found = value(line).with_context(|| format!("{line} is not in\n{text}"))?;
        assert!(found >= least, "{line} is {found}");
    }
    assert!(!text.contains("pumpernickel") && !text.contains(&task), "labels are closed words");
    Ok(())
}
