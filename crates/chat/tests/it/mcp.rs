//! Tools of real MCP servers.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_chat::{RunEnd, SecretOpener, SecretRef};
use troupe_llm::SecretText;
use troupe_testkit::{McpServer, wait_until};

use crate::world::{Answer, World, ask, lock, say, services};

#[derive(Debug)]
struct OneSecret;

impl SecretOpener for OneSecret {
    fn is_sealed(&self, value: &str) -> bool {
        value.starts_with("sealed:")
    }

    fn open(&self, secret: SecretRef<'_>) -> Option<SecretText> {
        let mine = secret.server == "tools" && secret.field == "headers.Authorization";
        (mine && secret.sealed == "sealed:x").then(|| SecretText::new("Bearer s3cret"))
    }
}

/// A world whose member has these servers.
fn with_servers(mut world: World, servers: &[(&str, Value)]) -> World {
    let mut plan = (*world.run.plan).clone();
    let entries = servers.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone()));
    plan.members[0].mcp_servers = entries.collect();
    world.run.plan = Arc::new(plan);
    let models = Arc::new(world.model.clone());
    world.services = services(models, world.counter.registry(), Arc::new(OneSecret));
    world
}

fn http(server: &McpServer) -> Value {
    json!({"type": "streamable-http", "url": server.url()})
}

fn world(answers: Vec<Answer>, servers: &[(&str, Value)]) -> World {
    with_servers(World::steps(answers), servers)
}

#[tokio::test]
async fn tools_of_a_server_are_called_with_a_key() {
    let server = McpServer::start().await.unwrap();
    let calls = ask("echo", json!({"text": "你好"})).and("tools__count", json!({}));
    let world = world(
        vec![calls.and("fail", json!({"text": "no"})), say("done")],
        &[("tools", http(&server))],
    );
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.statuses("warning").len()), (RunEnd::Done, 0));
    assert_eq!(log.result("call_0").unwrap().0, "你好");
    assert_eq!((log.result("call_1").unwrap().0.as_str(), server.count()), ("1", 1));
    let (text, is_error, _) = log.result("call_2").unwrap();
    assert!(is_error && text == "no");
    let names: Vec<String> = world.requests()[0].tools.iter().map(|t| t.name.clone()).collect();
    // `count` and `big` are tools of the node too.
    for name in ["echo", "add", "tools__count", "slow", "fail", "tools__big"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    let key = format!("{}:call_1", world.run.execution);
    assert_eq!(server.calls()[1].idempotency_key.as_deref(), Some(key.as_str()));
    let label = log.events().into_iter().find_map(|event| match event {
        troupe_domain::task::RunEvent::Block { block, .. } => {
            Some(json!(block)["server_label"].clone())
        }
        _ => None,
    });
    assert_eq!(label, Some(json!("tools")));
}

#[tokio::test]
async fn a_server_that_is_down_is_left_out() {
    let server = McpServer::start().await.unwrap();
    let gone = McpServer::start().await.unwrap();
    let url = gone.url();
    gone.stop().await;
    let servers = [
        ("down", json!({"url": format!("{url}?key=s3cret")})),
        ("shell", json!({"command": "x"})),
        ("old", json!({"type": "sse", "url": "http://127.0.0.1:1/sse"})),
        ("inner", json!({"url": "http://10.0.0.1/mcp"})),
        ("locked", json!({"url": server.url(), "headers": {"Authorization": "sealed:y"}})),
        ("tools", http(&server)),
    ];
    let world = world(vec![ask("echo", json!({"text": "x"})), say("done")], &servers);
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.result("call_0").unwrap().0.as_str()), (RunEnd::Done, "x"));
    let told: Vec<String> = log.statuses("warning").into_iter().filter_map(|s| s.text).collect();
    let about = |name: &str| told.iter().find(|t| t.contains(&format!("`{name}`"))).unwrap();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(about("down").contains("no connection"), "{told:?}");
    assert!(about("shell").contains("devices and in containers"));
    assert!(about("old").contains("legacy SSE"));
    assert!(about("inner").contains("10.0.0.1"));
    assert!(about("locked").contains("does not open here"));
    assert!(told.iter().all(|text| !text.contains("s3cret")), "{told:?}");
}

#[tokio::test]
async fn headers_are_opened_and_variables_replaced() {
    let server = McpServer::start().await.unwrap();
    server.require_token("s3cret");
    let url = server.url().replace("/mcp", "/${{env.path}}");
    let entry = json!({"url": url, "headers": {"Authorization": "sealed:x"}});
    let mut open = world(vec![ask("echo", json!({"text": "in"})), say("x")], &[("tools", entry)]);
    let vars = json!({"env": {"path": "mcp"}});
    open.run.options.variables = vars.as_object().cloned().unwrap_or_default();
    let (log, _) = open.go().await;
    assert_eq!(log.result("call_0").unwrap().0, "in");
    let shut = world(vec![say("x")], &[("tools", http(&server))]);
    let (log, _) = shut.go().await;
    let told = log.statuses("warning")[0].text.clone().unwrap();
    assert!(told.contains("401"), "{told}");
}

#[tokio::test]
async fn what_is_not_known_is_sent_as_it_stands_and_people_are_told() {
    let server = McpServer::start().await.unwrap();
    let headers = json!({"X-Title": "${{task.title}}", "X-Token": "${{task.token}}"});
    let entry = json!({"url": server.url(), "headers": headers});
    let mut world = world(vec![ask("echo", json!({"text": "in"})), say("x")], &[("tools", entry)]);
    let vars = json!({"task": {"title": "a\r\nX-Admin: yes"}});
    world.run.options.variables = vars.as_object().cloned().unwrap_or_default();
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.result("call_0").unwrap().0.as_str()), (RunEnd::Done, "in"));
    let told: Vec<String> = log.statuses("warning").into_iter().filter_map(|s| s.text).collect();
    assert_eq!(
        told,
        [
            "MCP server `tools` is sent ${{task.title}}, ${{task.token}} as it stands: not known here"
        ]
    );
}

#[tokio::test]
async fn a_slow_server_does_not_hold_a_run_up() {
    let server = McpServer::start().await.unwrap();
    let slow = ask("slow", json!({"ms": 60_000}));
    let mut world = world(vec![slow, say("done")], &[("tools", http(&server))]);
    world.run.options.mcp_call_timeout = Duration::from_millis(200);
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    assert_eq!(log.result("call_0").unwrap().0, "no answer within 0.2 s");

    // One that takes the connection and never says a word.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/mcp", silent.local_addr().unwrap());
    let mut world =
        with_servers(World::steps(vec![say("done")]), &[("silent", json!({"url": url}))]);
    world.run.options.mcp_connect_timeout = Duration::from_millis(200);
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    assert!(log.statuses("warning")[0].text.clone().unwrap().contains("did not answer"));
}

#[tokio::test]
async fn huge_results_are_cut_or_refused() {
    let server = McpServer::start().await.unwrap();
    let big = ask("tools__big", json!({"bytes": 1_000_000}));
    let big = big.and("tools__big", json!({"bytes": 20_000_000}));
    let world = world(vec![big, say("done")], &[("tools", http(&server))]);
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    let (text, is_error, _) = log.result("call_0").unwrap();
    assert!(!is_error && text.contains("left out") && text.len() < 61_000);
    let (text, is_error, _) = log.result("call_1").unwrap();
    assert!(is_error, "{}", text.len());
}

#[tokio::test]
async fn a_cancel_ends_a_call_and_leaves_the_server() {
    let server = McpServer::start().await.unwrap();
    let world = world(vec![ask("slow", json!({"ms": 60_000}))], &[("tools", http(&server))]);
    let cancel = world.cancel.clone();
    let watch = async {
        wait_until(Duration::from_secs(10), || std::future::ready(!server.calls().is_empty()))
            .await;
        cancel.cancel();
    };
    let ((log, ended), ()) = tokio::join!(world.go(), watch);
    assert_eq!(ended, RunEnd::Cancelled);
    assert!(log.failed().is_none() && log.steps().len() == 1);
    assert_eq!(lock(&world.model.requests).len(), 1);
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_unknown() {
    let server = McpServer::start().await.unwrap();
    let entry = http(&server);
    let server = Arc::new(std::sync::Mutex::new(Some(server)));
    let world = world(
        vec![ask("slow", json!({"ms": 60_000})).and("tools__count", json!({})), say("done")],
        &[("tools", entry)],
    );
    let stop = async {
        let called = || lock(&server).as_ref().is_some_and(|s| !s.calls().is_empty());
        wait_until(Duration::from_secs(10), || std::future::ready(called())).await;
        let server = lock(&server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    };
    let mut world = world;
    world.run.options.mcp_call_timeout = Duration::from_secs(3);
    let ((log, ended), ()) = tokio::join!(world.go(), stop);
    assert_eq!(ended, RunEnd::Done);
    // `slow` is read-only: an error. `count` is not, and nobody is there any more: it never ran.
    let (_, is_error, unknown) = log.result("call_0").unwrap();
    assert!(is_error && !unknown);
    let (text, is_error, unknown) = log.result("call_1").unwrap();
    assert!(is_error && !unknown, "{text}");
}
