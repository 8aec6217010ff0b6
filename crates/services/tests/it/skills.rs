//! Skills and MCP servers, from what was applied to what a turn uses.

use troupe_domain::task::SkillPlan;
use troupe_services::Tasks as _;
use troupe_testkit::{McpServer, wait_until};

use crate::host::{Node, PATIENCE, admin, ann, is_over, send, team};

/// A team `t` whose Ghost has these fields, and what is beside it.
fn with_ghost(ghost: &str, more: &str) -> String {
    let rules = "systemPrompt: You are t.";
    team("t", "").replace(rules, &format!("systemPrompt: You are t., {ghost}")) + more
}

fn skill(name: &str, shells: &str, servers: &str) -> String {
    format!(
        "---\n{{kind: Skill, metadata: {{name: {name}}}, spec: {{description: about {name}, prompt: \
         'Do {name}.', bindShells: [{shells}], mcpServers: {{{servers}}}}}}}\n"
    )
}

#[tokio::test]
async fn a_plan_has_the_skills_of_its_shell_and_their_servers() {
    let node = Node::start().await;
    let secret = "headers: {Authorization: 'Bearer topsecret-bearer-000', X-Team: core}";
    let same = "local: {url: 'https://one.example/'}";
    let other = "local: {url: 'https://two.example/'}";
    let ghost =
        format!("skills: [tone, sql, away], preload_skills: [tone], mcpServers: {{{same}}}");
    let skills = [
        skill("tone", "Chat, Codex", &format!("issues: {{url: 'https://mcp.example/', {secret}}}")),
        skill("sql", "Chat", other),
        skill("away", "ClaudeCode", "gone: {url: 'https://gone.example/'}"),
    ];
    node.applied(&ann(), &with_ghost(&ghost, &skills.concat())).await;
    let plan = node.plan(&ann(), "t").await.unwrap();
    let member = &plan.members[0];
    let told = |skill: &SkillPlan| (skill.name.clone(), skill.text.clone(), skill.preload);
    assert_eq!(
        member.skill_texts.iter().map(told).collect::<Vec<_>>(),
        [("tone".into(), "Do tone.".into(), true), ("sql".into(), "Do sql.".into(), false)]
    );
    let servers: Vec<(&str, &str)> = member
        .mcp_servers
        .iter()
        .map(|(name, server)| (name.as_str(), server["url"].as_str().unwrap()))
        .collect();
    assert_eq!(
        servers,
        [
            ("issues", "https://mcp.example/"),
            ("local", "https://one.example/"),
            ("sql_local", "https://two.example/")
        ]
    );
    let headers = &member.mcp_servers["issues"]["headers"];
    assert_eq!(headers["X-Team"], "core");
    let (sealed, path) = headers["Authorization"].as_str().unwrap().split_once('@').unwrap();
    let opened = node.sealer.open(path, sealed).unwrap();
    assert_eq!(opened.expose(), "Bearer topsecret-bearer-000");
}

#[tokio::test]
async fn a_turn_reaches_the_server_of_a_skill_as_the_person_it_works_for() {
    let (node, server) = (Node::start().await, McpServer::start().await.unwrap());
    server.require_token("admin");
    let headers = "headers: {Authorization: 'Bearer ${{user.name}}'}";
    let servers = format!("tools: {{url: '{}', {headers}}}", server.url());
    let skills = skill("sum", "Chat", &servers);
    node.applied(&admin(), &with_ghost("skills: [sum]", &skills)).await;
    let mut ask = send(None, r#"[[demo tool=echo args={"text":"hi"}]]"#, None);
    ask.team_id = Some("t".to_owned());
    let task = node.tasks.send(&admin(), ask).await.unwrap().task_id;
    wait_until(PATIENCE, async || !server.calls().is_empty()).await;
    node.until(&admin(), task, is_over).await;
    assert_eq!(server.calls()[0].tool, "echo");
}
