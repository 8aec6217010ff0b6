//! No read gives a secret back, and nobody has somebody else's key sent to a place of their own.

use serde_json::Value;
use troupe_domain::{
    namespace::{Apply, Change, Key, Precondition},
    task::{ModelPlan, TeamPlan},
};
use troupe_entities::namespace::NamespaceAddress;
use troupe_resources::{Kind, resource::Owner};
use troupe_services::{
    ApplyOptions, Caller, Removal, Resources, resources::namespace_id, tasks::TeamResolver,
};

use crate::host::{Node, admin, ann, bob, model, team};

const KEY: &str = "sk-public-0123456789-WXYZ";
const URL: &str = "https://models.example/v1";
const SECRETS: [&str; 4] =
    ["sk-public-0123456789", "header-sk-public", "topsecret-bearer", "hush-hush-env"];

fn ghost(namespace: &str) -> String {
    format!(
        "{{kind: Ghost, metadata: {{name: g, namespace: {namespace}}}, spec: {{systemPrompt: x, \
         mcpServers: {{issues: {{url: 'https://mcp.example/', headers: {{Authorization: \
         'Bearer topsecret-bearer-000', X-Team: core}}}}, local: {{command: run, env: \
         {{DB_PASSWORD: hush-hush-env-0000, PATH: /bin}}}}}}}}}}\n"
    )
}

fn documents(namespace: &str) -> String {
    format!("{}---\n{}", model(namespace, "gpt", URL, KEY), ghost(namespace))
}

#[track_caller]
fn holds_none(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} holds {secret}: {text}");
    }
    assert!(!text.contains("sealed:"), "{what} holds what is sealed: {text}");
}

#[tokio::test]
async fn no_answer_holds_a_secret() {
    let node = Node::start().await;
    let resources = &node.resources;
    for (owner, reader, namespace) in
        [(ann(), ann(), "default"), (admin(), bob(), "public"), (admin(), admin(), "public")]
    {
        let text = documents(namespace);
        for dry_run in [true, false] {
            let options = ApplyOptions { dry_run, ..ApplyOptions::default() };
            let answer = resources.apply(&owner, text.as_bytes(), options).await.unwrap();
            holds_none("apply", &serde_json::to_string(&answer).unwrap());
        }
        for (kind, name) in [("model", "gpt"), ("ghost", "g")] {
            let got = resources.get(&reader, namespace, kind, name, None).await.unwrap();
            holds_none("get", &got.to_string());
            assert!(got.to_string().contains("***"), "the mask shows that there is one: {got}");
            for namespace in [None, Some(namespace)] {
                let all = resources.list(&reader, namespace, kind, None, None).await.unwrap();
                holds_none("list", &all.to_string());
            }
        }
        let seen = resources.watch(&reader, namespace, "0", None).await.unwrap();
        assert!(seen.len() >= 2);
        holds_none("watch", &serde_json::to_string(&seen).unwrap());
    }
    let single = model("default", "one", URL, KEY);
    let made = resources.create(&ann(), "default", "model", single.as_bytes()).await.unwrap();
    holds_none("create", &made.to_string());
    let other = single.replace("model_id: m", "model_id: n");
    let new = resources.replace(&ann(), "default", "model", "one", other.as_bytes()).await.unwrap();
    holds_none("replace", &new.to_string());
}

#[tokio::test]
async fn no_error_holds_a_secret() {
    let node = Node::start().await;
    node.applied(&ann(), &documents("default")).await;
    let text = documents("default");
    let broken = [
        text.replace("model: openai", "model: nonsense"),
        text.replace("api_key:", "apikey:"),
        text.replace(&format!("'{KEY}'"), &format!("[{KEY}]")),
        text.replace(&format!("'{KEY}'"), &format!("{{a: {KEY}}}")),
        text.replace(&format!("'{KEY}'"), &format!("'{KEY}\u{7}'")),
        text.replace("base_url: 'https://", &format!("base_url: 'https://u:{KEY}@")),
        text.replace("env: {model", &format!("env: [{KEY}, {{model")),
        text.replace("custom_headers: {", &format!("custom_headers: [{KEY}], x: {{")),
        text.replace("X-Team: core}}}}", &format!("'a b': {KEY}}}}}}}}}")),
        text.replace("kind: Model", &format!("kind: Model, api_key: {KEY}")),
        text.replace("Authorization: ", "Authorization: [] # "),
        text.replace("PATH: /bin", "DB_PASSWORD: hush-hush-env-0000"),
        format!("{text}---\n{text}"),
        format!("{text}\t: {KEY}: {KEY}"),
        text.replace("metadata: {name: gpt,", "metadata: {name: gpt, resourceVersion: 99,"),
    ];
    for text in broken {
        for ignore_unknown in [false, true] {
            let options = ApplyOptions { ignore_unknown, ..ApplyOptions::default() };
            match node.resources.apply(&ann(), text.as_bytes(), options).await {
                Ok(answer) => {
                    assert!(ignore_unknown, "{text}");
                    holds_none("apply", &serde_json::to_string(&answer).unwrap());
                }
                Err(problem) => holds_none("error", &serde_json::to_string(&problem).unwrap()),
            }
            let stored = node.get(&ann(), "model", "gpt").await.unwrap();
            holds_none("what is stored", &stored.to_string());
        }
    }
}

/// The key of a member's Model, as the node opens it, and where it goes.
fn opened(node: &Node, plan: &TeamPlan) -> Vec<(String, String)> {
    let model = plan.members[0].model.as_ref().unwrap();
    let open = |text: &str| {
        let (sealed, path) = text.split_once('@').unwrap();
        node.sealer.open(path, sealed).unwrap().expose().to_owned()
    };
    let sealed = model.sealed_key.iter().chain(model.headers.values());
    let sealed = sealed.filter(|text| text.starts_with("sealed:"));
    sealed.map(|text| (open(text), url(model).to_owned())).collect()
}

fn url(model: &ModelPlan) -> &str {
    model.base_url.as_deref().unwrap_or_default()
}

/// Whatever Bob makes and however he names it, the public key goes to its own address alone.
#[tokio::test]
async fn a_public_key_goes_to_its_own_address_alone() {
    let node = Node::start().await;
    let (bob, admin) = (bob(), admin());
    node.applied(&admin, &model("public", "gpt", URL, KEY)).await;
    let shell = "{kind: Shell, metadata: {name: Chat}, spec: {shellType: Chat}}\n---\n";
    node.applied(&bob, shell).await;
    node.applied(&bob, &model("default", "theft", "https://bob.example", "sk-bobs")).await;
    let mut uses = 0;
    for own_model_of_that_name in [false, true] {
        if own_model_of_that_name {
            node.applied(&bob, &model("default", "gpt", "https://bob.example", "sk-bobs")).await;
        }
        for reference in
            ["", ", modelRef: {name: gpt}", ", modelRef: {name: gpt, namespace: public}"]
        {
            node.applied(&bob, &team("t", reference)).await;
            for choice in [None, Some("gpt"), Some("public/gpt"), Some("public#gpt"), Some("theft")]
            {
                for name in ["t", "assistant", "public/assistant"] {
                    let plan = node.resources.resolve(&bob, name, choice).await.unwrap();
                    for (secret, url) in opened(&node, &plan) {
                        let is_public = secret.contains(KEY);
                        assert_eq!(is_public, url == URL, "{reference} {choice:?} {name}: {url}");
                        uses += usize::from(is_public);
                    }
                }
            }
        }
    }
    assert!(uses > 10, "the public Model was used {uses} times");
}

/// What a mask stands for goes nowhere else, and is nobody else's.
#[tokio::test]
async fn a_mask_keeps_a_secret_where_it_is() {
    let node = Node::start().await;
    let (ann, bob, admin) = (ann(), bob(), admin());
    node.applied(&admin, &model("public", "gpt", URL, KEY)).await;
    let masked = |text: &str| {
        text.replace(&format!("'header-{KEY}'"), "'***WXYZ'")
            .replace(&format!("'{KEY}'"), "'***WXYZ'")
    };
    let refused = node.apply(&bob, &masked(&model("default", "gpt", URL, KEY))).await.unwrap_err();
    assert_eq!(refused.status, 422, "Bob has no such key: {refused:?}");

    let text = model("default", "mine", URL, KEY);
    node.applied(&ann, &text).await;
    node.applied(&ann, &team("t", ", modelRef: {name: mine}")).await;
    let before = opened(&node, &node.plan(&ann, "t").await.unwrap());
    node.applied(&ann, &masked(&text).replace("model_id: m", "model_id: n")).await;
    let kept = opened(&node, &node.plan(&ann, "t").await.unwrap());
    assert_eq!((kept.len(), &kept), (2, &before), "another model id keeps the key");
    for (from, to) in [
        (URL, "https://other.example"),
        ("base_url: 'https://models.example/v1', ", ""),
        ("model: openai", "model: claude"),
        ("X-Api-Key", "X-Other-Key"),
    ] {
        let moved = masked(&text).replace(from, to);
        assert_ne!(moved, masked(&text));
        let refused = node.apply(&ann, &moved).await.unwrap_err();
        assert_eq!(refused.status, 422, "{from} -> {to}");
        assert!(refused.errors[0].message.contains("write the secret itself"), "{refused:?}");
        assert_eq!(opened(&node, &node.plan(&ann, "t").await.unwrap()), before);
    }
    // Deleting it first does not help either.
    node.resources.delete(&ann, "default", "team", "t", Removal::default()).await.unwrap();
    node.resources.delete(&ann, "default", "bot", "t", Removal::default()).await.unwrap();
    node.resources.delete(&ann, "default", "model", "mine", Removal::default()).await.unwrap();
    assert_eq!(node.apply(&ann, &masked(&text)).await.unwrap_err().status, 422);

    // To restore them does: the Team last, as it names the Bot.
    let restore = async |kind, name| node.resources.restore(&ann, "default", kind, name).await;
    let refused = restore("team", "t").await.unwrap_err();
    assert_eq!((refused.status, &*refused.code), (404, "reference_not_found"));
    for (kind, name) in [("model", "mine"), ("bot", "t"), ("team", "t")] {
        restore(kind, name).await.unwrap();
    }
    assert_eq!(opened(&node, &node.plan(&ann, "t").await.unwrap()), before);
    assert_eq!(restore("team", "t").await.unwrap_err().status, 409);
    // For good means the key, too.
    let purge = Removal { purge: true, ..Removal::default() };
    node.resources.delete(&ann, "default", "team", "t", purge).await.unwrap();
    assert_eq!(restore("team", "t").await.unwrap_err().status, 404);
}

/// Who has read the store (a backup, a disk) has no way to have a key opened.
#[tokio::test]
async fn a_sealed_text_in_a_document_is_not_opened() {
    let node = Node::start().await;
    let (bob, admin) = (bob(), admin());
    node.applied(&admin, &model("public", "gpt", URL, KEY)).await;
    node.applied(&bob, &team("t", ", modelRef: {name: gpt}")).await;
    let plan = node.plan(&bob, "t").await.unwrap();
    let sealed = plan.members[0].model.as_ref().unwrap().sealed_key.clone().unwrap();
    assert!(sealed.starts_with("sealed:"));

    let theft = model("default", "theft", "https://bob.example", "sk-bobs");
    let theft = theft.replace("X-Team: core", &format!("X-Team: '{sealed}'"));
    let refused = node.apply(&bob, &theft).await.unwrap_err();
    assert_eq!(refused.status, 422);
    assert_eq!(refused.errors[0].path, "spec.modelConfig.env.custom_headers.X-Team");
    for field in ["X-Team: core", "PATH: /bin"] {
        let name = field.split(':').next().unwrap();
        let text = ghost("default").replace(field, &format!("{name}: '{sealed}'"));
        let refused = node.apply(&bob, &text).await.unwrap_err();
        assert!(refused.errors[0].path.ends_with(name), "{refused:?}");
    }
    let as_key = model("default", "theft", "https://bob.example", "sk-bobs");
    let refused = node.apply(&bob, &as_key.replace("'sk-bobs'", &format!("'{sealed}'"))).await;
    assert_eq!(refused.unwrap_err().errors[0].path, "spec.modelConfig.env.api_key");

    // A row that was stored before this was looked at.
    node.applied(&bob, &as_key).await;
    node.applied(&bob, &team("t", ", modelRef: {name: theft}")).await;
    store_unchecked(&node, &bob, &sealed).await;
    let plan = node.plan(&bob, "t").await.unwrap();
    let headers = &plan.members[0].model.as_ref().unwrap().headers;
    assert_eq!(headers.get("X-Old").map(String::as_str), Some("plain"));
    assert_eq!(headers.get("X-Team"), None, "{headers:?}");
}

async fn store_unchecked(node: &Node, who: &Caller, sealed: &str) {
    let document = node.get(who, "model", "theft").await.unwrap();
    let mut document: Value = document;
    let env = &mut document["spec"]["modelConfig"]["env"];
    env["custom_headers"] = serde_json::json!({ "X-Team": sealed, "X-Old": "plain" });
    env["api_key"].take();
    document["status"].take();
    let metadata = document["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace"));
    let change = Change::Put {
        key: Key::new(Kind::Model, "theft"),
        document,
        secrets: Default::default(),
        unchanged: Vec::new(),
        references: Vec::new(),
        only_if: Precondition::Any,
    };
    let id = namespace_id(&Owner::User(who.user));
    let address = NamespaceAddress::new(node.router.clone(), id);
    address.apply(Apply { changes: vec![change], ..Apply::default() }).await.unwrap();
}
