//! Loopback is for what an administrator applied; private addresses are for nobody.

use troupe_chat::ModelFactory as _;
use troupe_llm::{Egress, EgressPolicy};
use troupe_services::{ApplyOptions, Caller, Resources};

use crate::host::{Node, admin, ann, bob, factory, model, team};

/// Whether the node would call the Model of this person's Team `t`.
async fn is_called(node: &Node, who: &Caller) -> bool {
    let plan = node.plan(who, "t").await.unwrap();
    let egress = Egress::new(EgressPolicy::default());
    let provider = factory(&egress, &node.sealer).provider(plan.members[0].model.as_ref().unwrap());
    if let Err(error) = &provider {
        let text = error.text();
        assert!(text.contains("egress.allow"), "{text}");
        assert!(!text.contains("sk-"), "{text}");
    }
    provider.is_ok()
}

#[tokio::test]
async fn loopback_is_for_what_an_administrator_applied() {
    let node = Node::start().await;
    let url = "http://127.0.0.1:11434/v1";
    for (who, called) in [(ann(), false), (admin(), true)] {
        node.applied(&who, &model("default", "local", url, "sk-1")).await;
        node.applied(&who, &team("t", ", modelRef: {name: local}")).await;
        assert_eq!(is_called(&node, &who).await, called, "{}'s own", who.name);
    }
    // The administrator's public one serves everybody.
    node.applied(&admin(), &model("public", "shared", url, "sk-1")).await;
    node.applied(&bob(), &team("t", ", modelRef: {name: shared}")).await;
    assert!(is_called(&node, &bob()).await);
    // Bob's own of that name does not inherit the trust.
    node.applied(&bob(), &model("default", "shared", url, "sk-1")).await;
    assert!(!is_called(&node, &bob()).await);
}

#[tokio::test]
async fn private_addresses_are_for_nobody() {
    let node = Node::start().await;
    for host in [
        "10.0.0.1",
        "192.168.1.1:8000",
        "172.16.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a00:1]",
        "0x0a000001",
        "167772161",
    ] {
        let url = format!("http://{host}/v1");
        for who in [bob(), admin()] {
            node.applied(&who, &model("default", "m", &url, "sk-1")).await;
            node.applied(&who, &team("t", ", modelRef: {name: m}")).await;
            assert!(!is_called(&node, &who).await, "{host} for {}", who.name);
        }
    }
    node.applied(&bob(), &model("default", "m", "https://93.184.215.14/v1", "sk-1")).await;
    assert!(is_called(&node, &bob()).await);
}

#[tokio::test]
async fn servers_of_tools_are_trusted_like_models() {
    let node = Node::start().await;
    let ghost = |namespace: &str| {
        format!(
            "{{kind: Ghost, metadata: {{name: t, namespace: {namespace}}}, spec: {{systemPrompt: x, \
             mcpServers: {{a: {{url: 'http://127.0.0.1:9/'}}}}}}}}"
        )
    };
    let trusted = async |who: &Caller, name: &str| {
        let plan = node.plan(who, name).await.unwrap();
        plan.members[0].mcp_servers["a"]["trusted"].as_bool().unwrap()
    };
    for (who, expected) in [(bob(), false), (admin(), true)] {
        node.applied(&who, &team("t", "")).await;
        node.applied(&who, &ghost("default")).await;
        assert_eq!(trusted(&who, "t").await, expected, "{}'s own", who.name);
    }
    // Nobody can say so of themselves.
    let says = ghost("default").replace("url:", "trusted: true, url:");
    assert_eq!(node.apply(&bob(), &says).await.unwrap_err().status, 422);
    let options = ApplyOptions { ignore_unknown: true, ..ApplyOptions::default() };
    node.resources.apply(&bob(), says.as_bytes(), options).await.unwrap();
    assert!(!trusted(&bob(), "t").await);
    let public = team("shared", "").replace("{name: shared}", "{name: shared, namespace: public}");
    node.applied(&admin(), &public).await;
    node.applied(&admin(), &ghost("public").replace("name: t,", "name: shared,")).await;
    assert!(trusted(&bob(), "shared").await);
}
