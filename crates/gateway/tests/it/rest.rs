//! REST: login, users, Tasks, resources, headers, the console.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use troupe_gateway::{Asset, Assets, GatewayOptions, NoConsole};

use crate::{fake::VERSION, node::Node};

#[tokio::test]
async fn the_first_administrator_is_made_by_the_link_once() {
    let mut node = Node::start().await;
    let token = node.setup.take().unwrap();
    let needed = || async {
        let answer = node.http.get(node.at("/api/v1/setup")).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["needed"].as_bool().unwrap()
    };
    assert!(needed().await);
    let meta: Value =
        node.http.get(node.at("/api/v1/meta")).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (meta["name"].as_str(), meta["setup_needed"].as_bool()),
        (Some("troupe"), Some(true))
    );
    let setup = |token: &str, password: &str| {
        let body = json!({ "token": token, "password": password });
        node.http.post(node.at("/api/v1/setup")).json(&body).send()
    };
    assert_eq!(setup("wrong", "admin-password").await.unwrap().status(), 410);
    assert_eq!(setup(token.reveal(), "short").await.unwrap().status(), 422);
    assert_eq!(setup(token.reveal(), "admin-password").await.unwrap().status(), 200);
    assert_eq!(setup(token.reveal(), "admin-password").await.unwrap().status(), 410);
    assert!(!needed().await);
}

#[tokio::test]
async fn a_browser_keeps_its_refresh_token_in_a_cookie_with_a_proof() {
    let options = GatewayOptions { https: true, ..GatewayOptions::default() };
    let mut node = Node::with(options, Arc::new(NoConsole)).await;
    node.people().await;
    let login = json!({ "user_name": "ann", "password": "ann-password", "transport": "cookie" });
    let answer = node.http.post(node.at("/api/v1/auth/login")).json(&login).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    for part in ["Path=/api/v1/auth", "HttpOnly", "SameSite=Strict", "Secure", "Max-Age=2592000"] {
        assert!(cookie.contains(part), "{cookie} has no {part}");
    }
    assert!(cookie.starts_with(&node.auth.cookie_name()), "its name tells clusters apart");
    let body: Value = answer.json().await.unwrap();
    assert!(body.get("refresh_token").is_none());
    let pair = cookie.split(';').next().unwrap().to_owned();
    let proof = body["proof"].as_str().unwrap().to_owned();
    let send = |path: &str, proof: Option<&str>| {
        let mut request = node.http.post(node.at(path)).header("cookie", &pair);
        if let Some(proof) = proof {
            request = request.header("x-troupe-proof", proof);
        }
        request.send()
    };
    for wrong in [None, Some("guess")] {
        assert_eq!(send("/api/v1/auth/refresh", wrong).await.unwrap().status(), 401);
        assert_eq!(send("/api/v1/auth/logout", wrong).await.unwrap().status(), 401);
    }
    let answer = send("/api/v1/auth/refresh", Some(&proof)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("set-cookie"));
    let token = answer.json::<Value>().await.unwrap()["access_token"].clone();
    let me = || node.http.get(node.at("/api/v1/users/me")).bearer_auth(token.as_str().unwrap());
    assert_eq!(me().send().await.unwrap().status(), 200);
    let out = send("/api/v1/auth/logout", Some(&proof)).await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(me().send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn users_are_made_by_administrators_and_change_themselves() {
    let mut node = Node::start().await;
    let (admin, ann, _) = node.people().await;
    let (status, me) = node.get(&ann, "/api/v1/users/me").await;
    assert_eq!((status, me["user_name"].as_str()), (200, Some("ann")));
    let patch = json!({ "preferences": { "send_key": "enter" }, "email": "ann@example.org" });
    let (status, me) = node.ask(&ann, "PATCH", "/api/v1/users/me", Some(patch)).await;
    assert_eq!((status, me["preferences"]["send_key"].as_str()), (200, Some("enter")));
    let (status, users) = node.get(&admin, "/api/v1/users?limit=2").await;
    assert_eq!((status, users["total"].as_u64()), (200, Some(3)));
    let next = users["next"].as_str().unwrap();
    let (_, rest) = node.get(&admin, &format!("/api/v1/users?cursor={next}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/users/{}", ann.id);
    let (status, _) = node.ask(&admin, "DELETE", &path, None).await;
    assert_eq!(status, 204);
    assert_eq!(node.get(&ann, "/api/v1/users/me").await.0, 401, "ended at once");
    let own = format!("/api/v1/users/{}", admin.id);
    assert_eq!(node.ask(&admin, "DELETE", &own, None).await.0, 409);
    assert_eq!(node.get(&admin, "/api/v1/users/usr_nothing").await.0, 404);
}

#[tokio::test]
async fn an_api_key_is_as_good_as_a_login_until_it_is_deleted() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let (status, made) = node.post(&ann, "/api/v1/api-keys", json!({ "name": "ci" })).await;
    assert_eq!(status, 201);
    let key = made["key"].as_str().unwrap();
    for (name, value) in [("authorization", format!("Bearer {key}")), ("x-api-key", key.into())] {
        let request = node.http.get(node.at("/api/v1/tasks")).header(name, value);
        assert_eq!(request.send().await.unwrap().status(), 200, "{name}");
    }
    let (_, keys) = node.get(&ann, "/api/v1/api-keys").await;
    assert!(keys["items"][0].get("key").is_none(), "the secret is shown once");
    let path = format!("/api/v1/api-keys/{}", made["id"].as_str().unwrap());
    assert_eq!(node.ask(&ann, "DELETE", &path, None).await.0, 204);
    let request = node.http.get(node.at("/api/v1/tasks")).bearer_auth(key);
    assert_eq!(request.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn git_tokens_are_set_by_host_and_never_shown() {
    const PATH: &str = "/api/v1/users/me/git";
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let at = |host: &str| format!("{PATH}/{host}");
    let token = "glpat-0123456789abcdef";
    let set = json!({ "token": token, "user": "oauth2" });
    let (status, view) = node.ask(&ann, "PUT", &at("Git.Example.org:8443"), Some(set)).await;
    assert_eq!((status, &view["host"]), (200, &json!("git.example.org:8443")), "{view}");
    let again = json!({ "token": "short" });
    assert_eq!(node.ask(&ann, "PUT", &at("b.example.org"), Some(again)).await.0, 200);
    let (_, list) = node.get(&ann, PATH).await;
    let shown = |n: usize| (list["items"][n]["host"].clone(), list["items"][n]["token"].clone());
    assert_eq!(shown(0), (json!("b.example.org"), json!("****")), "nothing of a short one");
    assert_eq!(shown(1), (json!("git.example.org:8443"), json!("****cdef")));
    assert!(!list.to_string().contains(token));
    assert_eq!(node.get(&bob, PATH).await.1["items"], json!([]), "each person's own");
    for (host, body, field) in [
        ("b.example.org", json!({ "token": "a b" }), "token"),
        ("b.example.org", json!({ "token": "" }), "token"),
        ("b.example.org", json!({ "token": "t", "user": "a\nb" }), "user"),
        ("https:%2F%2Fb.example.org", json!({ "token": "t" }), "host"),
    ] {
        let (status, problem) = node.ask(&ann, "PUT", &at(host), Some(body)).await;
        assert_eq!((status, &problem["errors"][0]["path"]), (422, &json!(field)), "{problem}");
    }
    assert_eq!(node.ask(&ann, "DELETE", &at("b.example.org"), None).await.0, 204);
    assert_eq!(node.ask(&ann, "DELETE", &at("b.example.org"), None).await.0, 404);
    assert_eq!(node.get(&ann, PATH).await.1["total"], json!(1));
}

#[tokio::test]
async fn tasks_are_begun_listed_read_and_steered() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let key = "0198c0de-0000-7000-8000-000000000001";
    let send = json!({ "message": "hello", "client_message_id": key, "title": "Mine" });
    let (status, ack) = node.post(&ann, "/api/v1/tasks", send.clone()).await;
    assert_eq!(status, 201);
    assert_eq!(node.post(&ann, "/api/v1/tasks", send).await.1, ack, "the same send, once");
    let task = ack["task_id"].as_str().unwrap();
    let at = |rest: &str| format!("/api/v1/tasks/{task}{rest}");
    assert_eq!(node.get(&ann, "/api/v1/tasks?text=Mine").await.1["total"], 1);
    assert_eq!(node.get(&ann, "/api/v1/tasks?asks=true").await.1["total"], 0);
    node.post(&ann, "/api/v1/tasks", json!({ "message": "rm -r", "title": "May I?" })).await;
    let (_, asking) = node.get(&ann, "/api/v1/tasks?asks=true").await;
    assert_eq!((asking["total"].as_u64(), asking["items"][0]["asks"].as_u64()), (Some(1), Some(1)));
    assert_eq!(node.get(&ann, "/api/v1/tasks?asks=maybe").await.0, 422);
    assert_eq!(node.get(&ann, "/api/v1/asks").await.1, json!({ "asks": [], "more": true }));
    assert_eq!(node.get(&ann, &at("")).await.1["title"], "Mine");
    let (status, view) = node.ask(&ann, "PATCH", &at(""), Some(json!({ "title": "New" }))).await;
    assert_eq!((status, view["title"].as_str()), (200, Some("New")));
    assert_eq!(node.get(&ann, &at("/join?turns=5")).await.1["head"], 2);
    let (_, turns) = node.get(&ann, &at("/turns?limit=1")).await;
    assert_eq!(turns["turns"][0]["messages"][0]["content"], "hello");
    let (_, frames) = node.get(&ann, &at("/frames?after=1")).await;
    assert_eq!(frames["frames"][0]["data"]["seq"], 2);
    assert_eq!(node.get(&ann, &at("/frames?limit=2001")).await.0, 422);
    assert_eq!(node.get(&ann, &at("/turns?before=nothing")).await.0, 422);
    assert_eq!(node.get(&ann, &at("/why")).await.1["summary"], "It runs.");
    assert_eq!(node.get(&ann, &at("/pipeline-stage-info")).await.0, 404);
    let row = troupe_types::MessageId::derived(&["row"]);
    for (path, body, expected) in [
        ("/messages", json!({ "message": "more" }), 201),
        ("/cancel", json!({}), 204),
        ("/retry", json!({ "subtask_id": row }), 204),
        ("/edit", json!({ "subtask_id": row, "message": "better" }), 200),
        ("/confirm", json!({}), 200),
        ("/queue", json!({ "op": "resume" }), 204),
        ("/queue", json!({ "op": "nothing" }), 422),
        ("/retry", json!({}), 422),
    ] {
        let (status, answer) = node.post(&ann, &at(path), body).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    let cancel = node.http.post(node.at(&at("/cancel"))).bearer_auth(&ann.token);
    assert_eq!(cancel.send().await.unwrap().status(), 204, "without a body too");
    assert_eq!(node.ask(&ann, "DELETE", &at(""), None).await.0, 204);
    assert_eq!(node.get(&ann, &at("")).await.0, 404);
}

#[tokio::test]
async fn kinds_are_written_read_and_watched() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let team = json!({ "kind": "Team", "metadata": { "name": "mine" } });
    let (status, _) = node.post(&ann, "/api/v1/namespaces/default/teams", team).await;
    assert_eq!(status, 201);
    let (status, one) = node.get(&ann, "/api/v1/namespaces/default/teams/mine").await;
    assert_eq!((status, one["kind"].as_str()), (200, Some("Team")));
    let path = "/api/v1/namespaces/default/teams/mine/used-by";
    let (status, used) = node.get(&ann, path).await;
    assert_eq!((status, used["usedBy"][0]["name"].as_str()), (200, Some("t")));
    let all = node.get(&ann, "/api/v1/teams").await.1;
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    for (version, status) in [("7", 200), ("8", 503), ("x", 422)] {
        for path in ["namespaces/default/teams", "namespaces/default/teams/mine", "teams"] {
            let path = format!("/api/v1/{path}?min_version={version}");
            let (found, answer) = node.get(&ann, &path).await;
            assert_eq!(found, status, "{path}: {answer}");
            let code = answer["code"].as_str();
            assert!(found != 503 || code == Some("version_not_reached"), "{answer}");
        }
    }
    assert_eq!(node.get(&ann, "/api/v1/namespaces/group%2Fsub/teams").await.0, 404);
    let apply = node.http.post(node.at("/api/v1/namespaces/default/apply?dry-run=true"));
    let apply = apply.bearer_auth(&ann.token).header("content-type", "application/yaml");
    let answer: Value = apply.body("kind: Team").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["dryRun"], true);
    assert_eq!(node.get(&ann, "/api/v1/explain/team?path=spec").await.1["path"], "spec");
    assert_eq!(node.get(&ann, "/api/v1/schema/team").await.1["title"], "team");
    let watch = |since: &str| {
        let path = format!("/api/v1/namespaces/default/watch?since={since}");
        node.http.get(node.at(&path)).bearer_auth(&ann.token).send()
    };
    assert_eq!(watch("trimmed").await.unwrap().status(), 410);
    let answer = watch("0").await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let mut lines = answer.bytes_stream();
    let mut text = String::new();
    while text.lines().count() < 3 {
        let chunk = tokio::time::timeout(Duration::from_secs(5), lines.next()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    let last: Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (last["type"].as_str(), last["resourceVersion"].as_u64()),
        (Some("BOOKMARK"), Some(3))
    );
    let delete = node.http.delete(node.at("/api/v1/namespaces/default/teams/mine"));
    let deleted = delete.bearer_auth(&ann.token).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(deleted.headers()["x-resource-version"], VERSION.to_string());
}

#[tokio::test]
async fn every_answer_has_its_id_and_headers_and_hosts_are_checked() {
    let options = GatewayOptions {
        public_hosts: vec!["troupe.example.org".into()],
        ..GatewayOptions::default()
    };
    let mut node = Node::with(options, Arc::new(NoConsole)).await;
    let (_, ann, _) = node.people().await;
    let send = |path: &str, name: &'static str, value: &str| {
        node.http.get(node.at(path)).bearer_auth(&ann.token).header(name, value).send()
    };
    let answer = send("/api/v1/tasks", "x-request-id", "my-id.1").await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "my-id.1");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert!(!answer.headers().contains_key("access-control-allow-origin"), "no CORS");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'"));
    let answer = send("/api/v1/tasks", "x-request-id", "no id\u{7f}").await;
    assert!(answer.is_err() || answer.unwrap().headers()["x-request-id"] != "no id");
    for host in ["localhost", "127.0.0.1:9", "[::1]:80", "troupe.example.org", "a.localhost"] {
        let status = send("/api/v1/tasks", "host", host).await.unwrap().status();
        assert_eq!(status, 200, "{host}");
    }
    for host in ["evil.example.org", "10.0.0.1", "localhost.evil.org", "", "127.0.0.1.evil.org"] {
        let answer = send("/api/v1/tasks", "host", host).await.unwrap();
        assert_eq!(answer.status(), 421, "{host}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "misdirected");
    }
    let probe = send("/health", "host", "10.1.2.3:8080").await.unwrap();
    assert_eq!(probe.status(), 200, "probes come by address");
    assert_eq!(node.get(&ann, "/api/v1/no/such/path").await.0, 404);
    for (method, path) in [("PUT", "/api/v1/tasks"), ("POST", "/api/v1/stream"), ("DELETE", "/")] {
        let (status, problem) = node.ask(&ann, method, path, Some(json!({}))).await;
        let told = (status, problem["code"].as_str());
        assert_eq!(told, (405, Some("method_not_allowed")), "{method} {path}");
    }
}

#[tokio::test]
async fn a_node_without_the_role_answers_probes_only() {
    let scrape_token = Some("scrape".to_owned());
    let options = GatewayOptions { serves_people: false, scrape_token, ..Default::default() };
    let node = Node::with(options, Arc::new(NoConsole)).await;
    for path in ["/health", "/ready", "/startup", "/metrics"] {
        let answer = node.http.get(node.at(path)).bearer_auth("scrape").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let elsewhere = ["/", "/api/v1/meta", "/api/v1/tasks", "/api/v1/stream", "/socket.io/"];
    for path in elsewhere {
        let answer = node.http.get(node.at(path)).send().await.unwrap();
        assert_eq!(answer.status(), 421, "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "not_a_gateway", "{path}");
    }
}

#[tokio::test]
async fn metrics_are_for_administrators_and_the_scrape_token() {
    let options = GatewayOptions { scrape_token: Some("scrape".into()), ..Default::default() };
    let mut node = Node::with(options, Arc::new(NoConsole)).await;
    let (admin, ann, _) = node.people().await;
    let get = |token: String| node.http.get(node.at("/metrics")).bearer_auth(token).send();
    assert_eq!(get(admin.token).await.unwrap().status(), 200);
    assert_eq!(get("scrape".into()).await.unwrap().status(), 200);
    assert_eq!(get(ann.token).await.unwrap().status(), 403);
    assert_eq!(get("guess".into()).await.unwrap().status(), 401);
    assert_eq!(node.http.get(node.at("/metrics")).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn serving_ends_when_told_and_idle_connections_do_not_hold_it() {
    use tokio::{io::AsyncWriteExt as _, net, sync::oneshot};
    let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(troupe_gateway::serve(listener, None, router, async {
        let _ = stopped.await;
    }));
    let http = reqwest::Client::new();
    let get = || http.get(format!("http://{address}/")).send();
    assert_eq!(get().await.unwrap().text().await.unwrap(), "here");
    let mut half = net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: x").await.unwrap();
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(crate::node::DEADLINE, serving.join_next()).await;
    ended.expect("kept-alive and half-told connections are closed").unwrap().unwrap().unwrap();
    assert!(get().await.is_err(), "nobody listens any more");
}

#[derive(Debug)]
struct Files;

impl Assets for Files {
    fn get(&self, path: &str) -> Option<Asset> {
        let asset = |text: &'static str, kind: &'static str, immutable: bool| Asset {
            bytes: Bytes::from_static(text.as_bytes()),
            brotli: immutable.then(|| Bytes::from_static(b"small")),
            content_type: kind.into(),
            etag: format!("{}-tag", text.len()),
            immutable,
        };
        match path {
            "index.html" => Some(asset("<html>", "text/html", false)),
            "assets/app-1a2b.js" => Some(asset("script", "text/javascript", true)),
            _ => None,
        }
    }

    fn script_hashes(&self) -> Vec<String> {
        vec!["sha256-abc=".into(), "x'; script-src *".into()]
    }
}

#[tokio::test]
async fn the_console_is_served_with_its_policy() {
    let node = Node::with(GatewayOptions::default(), Arc::new(Files)).await;
    let get = |path: &str, name: &'static str, value: &'static str| {
        node.http.get(node.at(path)).header(name, value).send()
    };
    for path in ["/", "/tasks/tsk_1", "/ops/overview"] {
        let answer = get(path, "accept", "text/html").await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("script-src 'self' 'sha256-abc=';"), "{policy}");
        assert!(!policy.contains("eval"));
        assert_eq!(answer.text().await.unwrap(), "<html>", "{path}");
    }
    let script = get("/assets/app-1a2b.js", "accept-encoding", "gzip, br").await.unwrap();
    assert!(script.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(script.headers()["content-encoding"], "br");
    let known = get("/assets/app-1a2b.js", "if-none-match", "\"6-tag\"").await.unwrap();
    assert_eq!(known.status(), 304);
    assert_eq!(get("/assets/gone.js", "accept", "*/*").await.unwrap().status(), 404);
    let none = Node::start().await;
    let page = none.http.get(none.at("/")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("cargo xtask up"), "says how to build it");
}
