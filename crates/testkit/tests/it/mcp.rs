use reqwest::{Client, Response};
use serde_json::{Value, json};
use troupe_testkit::McpServer;

async fn post(server: &McpServer, session: Option<&str>, body: Value) -> Response {
    let mut call = Client::new()
        .post(server.url())
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    if let Some(session) = session {
        call = call.header("mcp-session-id", session);
    }
    call.body(body.to_string()).send().await.unwrap()
}

async fn open(server: &McpServer) -> String {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let answer = post(server, None, hello).await;
    let session = answer.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["result"]["protocolVersion"], "2025-06-18");
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(post(server, Some(&session), ready).await.status(), 202);
    session
}

async fn call(server: &McpServer, session: &str, tool: &str, args: Value, key: &str) -> Value {
    let params = json!({"name": tool, "arguments": args, "_meta": {"troupe/idempotencyKey": key}});
    let body = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
    let text = post(server, Some(session), body).await.text().await.unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
    serde_json::from_str(data).unwrap()
}

#[tokio::test]
async fn tools_work_and_effects_are_counted() {
    let server = McpServer::start().await.unwrap();
    let session = open(&server).await;
    let list = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"});
    let list: Value = post(&server, Some(&session), list).await.json().await.unwrap();
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 6);

    let sum = call(&server, &session, "add", json!({"a": 1, "b": 2.5}), "k1").await;
    assert_eq!(sum["result"]["content"][0]["text"], "3.5");
    for key in ["k2", "k3"] {
        call(&server, &session, "count", json!({}), key).await;
    }
    assert_eq!(server.count(), 2);
    let failed = call(&server, &session, "fail", json!({"text": "no"}), "k4").await;
    assert_eq!(failed["result"]["isError"], true);
    let big = call(&server, &session, "big", json!({"bytes": 70_000}), "k5").await;
    assert_eq!(big["result"]["content"][0]["text"].as_str().unwrap().len(), 70_000);
    assert_eq!(call(&server, &session, "none", json!({}), "k6").await["error"]["code"], -32_602);
    let keys: Vec<_> = server.calls().into_iter().filter_map(|c| c.idempotency_key).collect();
    assert_eq!(keys, ["k1", "k2", "k3", "k4", "k5", "k6"]);
}

#[tokio::test]
async fn sessions_and_tokens_are_wanted() {
    let server = McpServer::start().await.unwrap();
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(post(&server, None, ping.clone()).await.status(), 400);
    let session = open(&server).await;
    assert_eq!(post(&server, Some(&session), ping.clone()).await.status(), 200);
    server.forget_sessions();
    assert_eq!(post(&server, Some(&session), ping.clone()).await.status(), 404);
    server.require_token("t");
    assert_eq!(post(&server, None, ping).await.status(), 401);
}

/// The client that the house uses takes the server for a real one.
#[tokio::test]
async fn the_usual_client_library_gets_on_with_it() {
    use rmcp::{
        ServiceExt, model::CallToolRequestParams, transport::StreamableHttpClientTransport,
    };
    let server = McpServer::start().await.unwrap();
    let transport = StreamableHttpClientTransport::from_uri(server.url());
    let client = ().serve(transport).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 6);
    let Value::Object(args) = json!({"a": 2, "b": 3}) else { panic!() };
    let call = CallToolRequestParams::new("add").with_arguments(args);
    let result = serde_json::to_value(client.call_tool(call).await.unwrap()).unwrap();
    assert_eq!(result["content"][0]["text"], "5");
    assert_eq!(server.calls()[0].tool, "add");
    client.cancel().await.unwrap();
}
