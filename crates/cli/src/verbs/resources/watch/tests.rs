use serde_json::json;
use troupe_types::UserId;

use super::*;
use crate::{
    args::{Format, GlobalArgs},
    context::{Context, Contexts},
    testing::{FakeNode, PATIENCE},
};

const LIST: &str = "/api/v1/namespaces/default/teams";

fn lines(since: u64) -> String {
    format!("/api/v1/namespaces/default/watch?since={since}")
}

fn put(name: &str, version: u64) -> String {
    let resource = json!({"kind": "Team", "metadata": {"name": name}});
    format!("{}\n", json!({"type": "PUT", "resource": resource, "resourceVersion": version}))
}

fn fault(status: u16, code: &str) -> Value {
    json!({"status": status, "code": code, "detail": "Not now."})
}

fn error_line(status: u16, code: &str) -> String {
    format!("{}\n", json!({"type": "ERROR", "resource": fault(status, code)}))
}

/// A client whose token can be renewed.
fn logged_in(url: &str, directory: &std::path::Path) -> Client {
    let file = directory.join("contexts.toml");
    let mut contexts = Contexts { current: "here".to_owned(), ..Contexts::default() };
    let context = Context {
        url: url.to_owned(),
        ca_file: None,
        user_name: "ada".to_owned(),
        access_token: "old".to_owned(),
        refresh_token: "refresh".to_owned(),
    };
    contexts.contexts.insert("here".to_owned(), context);
    contexts.save(&file).unwrap();
    let args = GlobalArgs {
        url: None,
        ca_file: None,
        token: None,
        context: None,
        contexts_file: Some(file),
        output: Format::Table,
    };
    Client::new(&args).unwrap()
}

/// Watches after version 5 while the node says what it says; what was told, and the end.
async fn with(
    client: &Client,
    silence_max: Duration,
    says: impl Future<Output = ()>,
) -> (Vec<String>, CliError) {
    let mut told = Vec::new();
    let tell = |seen: Seen<'_>| {
        told.push(match seen {
            Seen::Listed(listed) => format!("listed {}", listed["metadata"]["resourceVersion"]),
            Seen::Changed(event) => {
                event["resource"]["metadata"]["name"].as_str().unwrap_or_default().to_owned()
            }
            Seen::Lost(_) => "lost".to_owned(),
        });
    };
    let mut watch = Watch::new(client, "default", LIST.to_owned(), None, Some(5));
    watch.silence_max = silence_max;
    let both = async { tokio::join!(watch.run(tell), says) };
    let (ended, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    (told, ended.unwrap_err())
}

#[tokio::test]
async fn it_goes_on_through_a_token_that_is_over_and_a_log_that_is_cut() {
    let node = FakeNode::start().await;
    let directory = tempfile::tempdir().unwrap();
    let client = logged_in(&node.url(), directory.path());
    let says = async {
        let both = format!("{}{}", put("a", 6), put("b", 6));
        node.asked(&lines(5)).await.begin(200, &both).await.end().await;
        let expired = fault(401, "token_expired");
        node.asked(&lines(6)).await.answer(401, &expired).await;
        let user = json!({"id": UserId::derived(&["ada"]), "user_name": "ada", "role": "user",
            "auth_source": "password", "is_active": true, "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z"});
        let fresh = json!({"access_token": "new", "token_type": "bearer", "expires_in": 900,
            "refresh_token": "next", "user": user});
        node.asked("/api/v1/auth/refresh").await.answer(200, &fresh).await;
        let asked = node.asked(&lines(6)).await;
        assert!(asked.head.to_ascii_lowercase().contains("authorization: bearer new"));
        let cut = format!("{}{}", put("c", 7), error_line(410, "gone"));
        asked.begin(200, &cut).await.end().await;
        let listed = json!({"metadata": {"resourceVersion": 40}, "items": []});
        node.asked(LIST).await.answer(200, &listed).await;
        let refused = error_line(403, "forbidden");
        node.asked(&lines(40)).await.begin(200, &refused).await.end().await;
    };
    let (told, error) = with(&client, PATIENCE, says).await;
    assert_eq!(told, ["a", "b", "c", "listed 40"]);
    let CliError::Problem(problem) = error else { panic!("{error:?}") };
    assert_eq!((problem.status, problem.code.as_str()), (403, "forbidden"));
}

/// What follows in the same version may be missing: it is asked for once more, and told once.
#[tokio::test]
async fn a_silent_node_is_asked_again() {
    let node = FakeNode::start().await;
    let says = async {
        let bookmark = json!({"type": "BOOKMARK", "resource": null, "resourceVersion": 8});
        let some = format!("{bookmark}\n{}", put("a", 9));
        let silent = node.asked(&lines(5)).await.begin(200, &some).await;
        let again = format!("{}{}", put("a", 9), put("b", 9));
        node.asked(&lines(8)).await.begin(200, &again).await.end().await;
        drop(silent);
        node.asked(&lines(9)).await.answer(404, &fault(404, "not_found")).await;
    };
    let (told, error) = with(&node.client(), Duration::from_millis(300), says).await;
    assert_eq!(told, ["a", "lost", "b"]);
    assert!(matches!(error, CliError::Problem(p) if p.status == 404));
}

#[tokio::test]
async fn a_selector_is_the_nodes_to_apply() {
    let node = FakeNode::start().await;
    let client = node.client();
    let selector = Some("tier=fast,team!=core");
    let watch = Watch::new(&client, "default", LIST.to_owned(), selector, Some(5));
    let says = async {
        let chosen = "labelSelector=tier%3Dfast%2Cteam%21%3Dcore&since=5";
        let path = format!("/api/v1/namespaces/default/watch?{chosen}");
        node.asked(&path).await.answer(404, &fault(404, "not_found")).await;
    };
    let both = async { tokio::join!(watch.run(|_| {}), says) };
    let (ended, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(matches!(ended.unwrap_err(), CliError::Problem(p) if p.status == 404));
}
