//! What one caller's references lead to, apply, delete, and faults with their places.

use serde_json::json;
use troupe_api::resource::ApplyAnswer;
use troupe_services::{ApplyOptions, Problem, Removal, Resources, tasks::TeamResolver};

use crate::host::{Node, admin, ann, bob, model, team};

fn prompt(plan: &troupe_domain::task::TeamPlan) -> &str {
    &plan.members[0].system_prompt
}

#[tokio::test]
async fn what_is_written_is_used_at_once_by_every_gateway() {
    let node = Node::start().await;
    let other = node.another_gateway();
    let resolve = async |who, name: &str| other.resolve(who, name, None).await;
    let (ann, bob) = (ann(), bob());
    assert_eq!(resolve(&ann, "mine").await.unwrap_err().status, 404);
    node.applied(&ann, &team("mine", "")).await;
    let first = resolve(&ann, "mine").await.unwrap();
    assert_eq!(prompt(&first), "You are mine.");
    assert_eq!(resolve(&bob, "mine").await.unwrap_err().status, 404, "it is Ann's alone");
    for n in 0..3 {
        let ghost = format!(
            "{{kind: Ghost, metadata: {{name: mine}}, spec: {{systemPrompt: number {n}}}}}"
        );
        node.applied(&ann, &ghost).await;
        let plan = resolve(&ann, "mine").await.unwrap();
        assert_eq!(prompt(&plan), format!("number {n}"));
        assert_ne!(plan.hash, first.hash);
        let again = resolve(&ann, "mine").await.unwrap();
        assert_eq!(again, plan, "nothing changed, so nothing changes");
    }
    node.resources.delete(&ann, "default", "team", "mine", Removal::default()).await.unwrap();
    assert_eq!(resolve(&ann, "mine").await.unwrap_err().status, 404);
    // A public Model becomes the way of everybody's Bots that name it.
    let text = model("public", "gpt", "https://a.example", "sk-1");
    node.applied(&admin(), &text).await;
    node.applied(&bob, &team("his", ", modelRef: {name: gpt}")).await;
    let url = async || {
        let plan = resolve(&bob, "his").await.unwrap();
        plan.members[0].model.as_ref().unwrap().base_url.clone().unwrap()
    };
    assert_eq!(url().await, "https://a.example");
    node.applied(&admin(), &model("public", "gpt", "https://b.example", "sk-1")).await;
    assert_eq!(url().await, "https://b.example");
    // His own one stands before it.
    node.applied(&bob, &model("default", "gpt", "https://his.example", "sk-2")).await;
    assert_eq!(url().await, "https://his.example");
}

#[tokio::test]
async fn references_lead_to_public_resources_that_were_applied() {
    let node = Node::start().await;
    node.applied(&admin(), &model("public", "gpt", "https://a.example", "sk-1")).await;
    for reference in ["{name: gpt}", "{name: gpt, namespace: public}"] {
        node.applied(&bob(), &team("t", &format!(", modelRef: {reference}"))).await;
        let plan = node.plan(&bob(), "t").await.unwrap();
        assert_eq!(plan.members[0].model.as_ref().unwrap().name, "gpt");
    }
    // Ann's resources are none that Bob could name.
    node.applied(&ann(), &model("default", "anns", "https://a.example", "sk-1")).await;
    for reference in
        ["{name: anns}", "{name: anns, namespace: public}", "{name: anns, namespace: ann}"]
    {
        let text = team("t", &format!(", modelRef: {reference}"));
        let refused = node.apply(&bob(), &text).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (404, "reference_not_found"));
        assert_eq!(refused.errors[0].path, "spec.modelRef", "{reference}");
    }
}

/// What is wrong in documents and what they lack is told in one go; what stands in a document that
/// is wrong itself is not said to be missing.
#[tokio::test]
async fn faults_of_every_kind_are_told_in_one_go() {
    let node = Node::start().await;
    let file = "kind: Ghost\nmetadata: {name: g}\nspec: {systemPromt: You are g.}\n---\n\
        kind: Shell\nmetadata: {name: s}\nspec: {shellType: Chat}\n---\n\
        kind: Bot\nmetadata: {name: b}\nspec:\n  ghostRef: {name: g}\n  shellRef: {name: s}\n  \
        modelRef: {name: nowhere}\n---\n\
        kind: Team\nmetadata: {name: t}\nspec:\n  collaborationModel: sole\n  members: []\n---\n\
        kind: Team\nmetadata: {name: u}\nspec:\n  collaborationModel: solo\n  members:\n  \
        - botRef: {name: c}\n";
    let refused = node.apply(&bob(), file).await.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (422, "invalid"));
    let told: Vec<_> = refused.errors.iter().map(|e| (e.line.unwrap(), e.path.as_str())).collect();
    assert!(told.is_sorted(), "{told:?}");
    for place in [
        (3, "spec.systemPromt"),
        (14, "spec.modelRef"),
        (19, "spec.collaborationModel"),
        (27, "spec.members[0].botRef"),
    ] {
        assert!(told.contains(&place), "{place:?}: {told:?}");
    }
    assert!(
        !told.iter().any(|(_, path)| path.contains("ghostRef")),
        "its Ghost is there: {told:?}"
    );
    assert!(refused.detail.contains(&format!("{} errors", told.len())), "{}", refused.detail);
    let list = node.resources.get(&bob(), "default", "shell", "s", None).await;
    assert_eq!(list.unwrap_err().status, 404, "nothing was changed");
    // A document that cannot be read at all could be any of those that are missing.
    let refused = node.apply(&bob(), &format!("{file}---\nkind: [\n")).await.unwrap_err();
    assert!(!refused.errors.iter().any(|e| e.path.contains("Ref")), "{:?}", refused.errors);
}

#[tokio::test]
async fn a_reference_that_broke_is_told_with_its_place() {
    let node = Node::start().await;
    let (admin, bob) = (admin(), bob());
    node.applied(&admin, &model("public", "gpt", "https://a.example", "sk-1")).await;
    node.applied(
        &admin,
        &team("shared", "").replace("{name: shared}", "{name: shared, namespace: public}"),
    )
    .await;
    let own = team("t", ", modelRef: {name: gpt}")
        .replace("members: [", "members: [{botRef: {name: shared}}, ");
    node.applied(&bob, &own.replace("solo", "pipeline")).await;
    node.plan(&bob, "t").await.unwrap();
    // References from elsewhere hold nothing back; they are broken from then on.
    let fault = |problem: Problem| {
        let error = problem.errors.into_iter().next().expect("a place");
        (problem.status, error.path, error.found.unwrap_or_default(), error.message)
    };
    node.resources.delete(&admin, "public", "model", "gpt", Removal::default()).await.unwrap();
    let (status, path, found, message) = fault(node.plan(&bob, "t").await.unwrap_err());
    assert_eq!(
        (status, path.as_str(), found.as_str()),
        (404, "spec.modelRef.name", "Model default/gpt")
    );
    assert!(message.contains("Bot default/t"), "{message}");
    for kind in ["team", "bot"] {
        node.resources.delete(&admin, "public", kind, "shared", Removal::default()).await.unwrap();
    }
    let (status, path, found, _) = fault(node.plan(&bob, "t").await.unwrap_err());
    assert_eq!((status, path.as_str()), (404, "spec.members[0].botRef.name"));
    assert_eq!(found, "Bot default/shared");
    // What is there and does not fit is told with its place too.
    let embedding = "{kind: Model, metadata: {name: e}, spec: {modelType: embedding, \
        modelConfig: {env: {model: openai, model_id: e}}}}\n---\n";
    node.applied(&bob, &format!("{embedding}{}", team("t", ", modelRef: {name: e}"))).await;
    let (status, path, _, _) = fault(node.plan(&bob, "t").await.unwrap_err());
    assert_eq!((status, path.as_str()), (422, "spec.modelRef.name"));
    let chosen = node.resources.resolve(&bob, "t", Some("nothing")).await.unwrap_err();
    assert_eq!(chosen.errors[0].path, "force_override_bot_model");
    let chosen = node.resources.resolve(&bob, "assistant", Some("e")).await.unwrap_err();
    assert_eq!((chosen.status, chosen.errors[0].path.as_str()), (422, "force_override_bot_model"));
}

async fn delete(node: &Node, text: impl AsRef<str>, dry_run: bool) -> Result<ApplyAnswer, Problem> {
    let options = ApplyOptions { dry_run, ..ApplyOptions::default() };
    node.resources.delete_many(&ann(), text.as_ref().as_bytes(), options).await
}

fn named(kind: &str, name: &str) -> String {
    json!({ "kind": kind, "metadata": { "name": name } }).to_string()
}

#[tokio::test]
async fn kind_and_name_are_enough_to_delete_all_or_nothing() {
    let node = Node::start().await;
    let ann = ann();
    node.applied(&ann, &team("a", "")).await;
    node.applied(&ann, &team("b", "")).await;
    let all = |name| ["Team", "Bot", "Ghost"].map(|kind| named(kind, name)).join("\n---\n");
    let there = async |name| node.get(&ann, "team", name).await.is_ok();

    let refused = delete(&node, format!("{}\n---\n{}", all("a"), named("Team", "none")), false);
    let refused = refused.await.unwrap_err();
    assert_eq!((refused.status, refused.errors.len()), (404, 1), "{refused:?}");
    assert!(there("a").await, "all or nothing");

    let used = delete(&node, format!("{}\n---\n{}", named("Bot", "a"), named("Ghost", "a")), false);
    let used = used.await.unwrap_err();
    assert_eq!((used.status, used.code.as_str()), (409, "in_use"));
    assert_eq!(used.errors[0].allowed, ["Team a"], "{used:?}");

    let dry = delete(&node, &all("a"), true).await.unwrap();
    assert!(dry.dry_run && dry.results.iter().all(|r| r.operation == "deleted"));
    assert!(there("a").await, "nothing was written");

    // The whole document does as well, and what else it says does not matter.
    let whole = format!("{}\n---\n{}", all("a"), team("b", "").replace("solo", "nonsense"));
    let done = delete(&node, &whole, false).await.unwrap();
    assert_eq!(done.results.len(), 6);
    assert!(done.namespaces[0].resource_version > 0);
    assert!(!there("a").await && !there("b").await);
    assert_eq!(delete(&node, &all("a"), false).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn a_delete_reaches_no_namespace_of_somebody_else() {
    let node = Node::start().await;
    let (ann, admin) = (ann(), admin());
    node.applied(&ann, &team("a", "")).await;
    node.applied(&admin, &model("public", "gpt", "https://a.example", "sk-1")).await;
    let public = r#"{"kind": "Model", "metadata": {"name": "gpt", "namespace": "public"}}"#;
    let mixed = format!("{}\n---\n{public}", named("Team", "a"));
    let refused = delete(&node, &mixed, false).await.unwrap_err();
    assert_eq!(refused.status, 403);
    assert!(node.get(&ann, "team", "a").await.is_ok(), "the first namespace is not written");
    assert!(node.get(&ann, "model", "gpt").await.is_ok());
    let unknown = r#"{"kind": "Model", "metadata": {"name": "gpt", "namespace": "bob"}}"#;
    assert_eq!(delete(&node, unknown, false).await.unwrap_err().status, 404);
    for text in
        ["", "kind: Team", "{kind: Nonsense, metadata: {name: a}}", "{kind: Team, metadata: {}}"]
    {
        assert_eq!(delete(&node, text, false).await.unwrap_err().status, 422, "{text:?}");
    }
}

#[tokio::test]
async fn a_watch_with_a_selector_tells_what_it_chooses_and_what_it_does_not_as_gone() {
    let node = Node::start().await;
    let ann = ann();
    let labelled = |name: &str, tier: &str| {
        format!(
            "{{kind: Ghost, metadata: {{name: {name}, labels: {{tier: {tier}}}}}, \
             spec: {{systemPrompt: hi}}}}"
        )
    };
    for (name, tier) in [("a", "fast"), ("b", "slow"), ("a", "slow"), ("b", "fast")] {
        node.applied(&ann, &labelled(name, tier)).await;
    }
    let watch = async |selector| {
        let seen = node.resources.watch(&ann, "default", "0", selector).await?;
        let told = seen.into_iter().map(|item| {
            let name = item.resource["metadata"]["name"].as_str().unwrap().to_owned();
            (item.kind, name)
        });
        Ok::<_, Problem>(told.collect::<Vec<_>>())
    };
    let told = |pairs: [(&str, &str); 4]| pairs.map(|(k, n)| (k.to_owned(), n.to_owned()));
    let puts = told([("PUT", "a"), ("PUT", "b"), ("PUT", "a"), ("PUT", "b")]);
    assert_eq!(watch(None).await.unwrap(), puts);
    let fast = told([("PUT", "a"), ("DELETE", "b"), ("DELETE", "a"), ("PUT", "b")]);
    assert_eq!(watch(Some("tier=fast")).await.unwrap(), fast);
    let wrong = watch(Some("=fast")).await.unwrap_err();
    assert_eq!((wrong.status, wrong.errors[0].path.as_str()), (422, "labelSelector"));
}

#[tokio::test]
async fn who_uses_a_resource_is_told_as_far_as_one_sees_them() {
    let node = Node::start().await;
    let (ann, bob, admin) = (ann(), bob(), admin());
    node.applied(&admin, &model("public", "gpt", "https://a.example", "sk-1")).await;
    node.applied(&ann, &team("mine", ", modelRef: {name: gpt}")).await;
    node.applied(&bob, &team("his", ", modelRef: {name: gpt, namespace: public}")).await;
    let used = async |who, namespace: &str, kind: &str, name: &str| {
        let used = node.resources.used_by(who, namespace, kind, name).await?;
        let line = |user: &troupe_api::resource::ResourceUser| {
            format!("{} {}/{} {}", user.kind, user.namespace, user.name, user.paths.join(" "))
        };
        Ok::<_, Problem>(used.used_by.iter().map(line).collect::<Vec<_>>())
    };
    let bot = ["Bot default/mine spec.modelRef"];
    for namespace in ["default", "public"] {
        assert_eq!(used(&ann, namespace, "model", "gpt").await.unwrap(), bot);
        let his = ["Bot default/his spec.modelRef"];
        assert_eq!(used(&bob, namespace, "model", "gpt").await.unwrap(), his);
        assert!(used(&admin, namespace, "model", "gpt").await.unwrap().is_empty());
    }
    let member = ["Team default/mine spec.members[0].botRef"];
    assert_eq!(used(&ann, "default", "bot", "mine").await.unwrap(), member);
    assert!(used(&ann, "default", "team", "mine").await.unwrap().is_empty());
    assert_eq!(used(&ann, "default", "bot", "his").await.unwrap_err().status, 404, "a foreign one");
    // Her own one of that name is meant from now on, and the public one no more.
    node.applied(&ann, &model("default", "gpt", "https://b.example", "sk-2")).await;
    assert_eq!(used(&ann, "default", "model", "gpt").await.unwrap(), bot);
    assert!(used(&ann, "public", "model", "gpt").await.unwrap().is_empty());
    // What every node brings along counts too.
    let shipped = used(&bob, "public", "shell", "Chat").await.unwrap();
    assert!(shipped.iter().any(|line| line.starts_with("Bot public/")), "{shipped:?}");
    assert!(shipped.contains(&"Bot default/his spec.shellRef".to_owned()), "{shipped:?}");
}
