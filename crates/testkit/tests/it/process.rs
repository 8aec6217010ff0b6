use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use troupe_testkit::wait_until;

#[tokio::test]
async fn the_binary_serves_and_says_where() {
    let dir = std::env::temp_dir().join(format!("troupe-fake-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let ready = dir.join("ready.json");
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_troupe-fake-model"))
        .args(["--mcp", "--script", "default", "--ready-file"])
        .arg(&ready)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait_until(Duration::from_secs(30), || async { ready.exists() }).await;
    let told: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let url = format!("{}/chat/completions", told["openai"].as_str().unwrap());
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    let answer = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("request 1") && text.contains("hello"), "{text}");
    assert!(told["mcp"].as_str().unwrap().ends_with("/mcp"));
    child.kill().await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
