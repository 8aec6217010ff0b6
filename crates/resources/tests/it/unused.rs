//! What is kept and used by nothing is said when it is applied.

use troupe_resources::{Code, Kind, ParseOptions, Problem, explain, parse_bytes, to_yaml};

fn problems(text: &str) -> Vec<Problem> {
    parse_bytes(text.as_bytes(), &ParseOptions::default()).problems
}

/// Paths of the warnings; nothing else may be wrong.
#[track_caller]
fn warned(text: &str) -> Vec<String> {
    let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
    for problem in &parsed.problems {
        assert!(problem.code == Code::NoEffect && !problem.is_error(), "{problem}");
    }
    // As it is printed, it says no more and no less.
    let printed: String = parsed.documents.iter().map(|found| to_yaml(&found.resource)).collect();
    let paths = |problems: &[Problem]| -> Vec<String> {
        let mut paths: Vec<_> = problems.iter().map(|problem| problem.path.clone()).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&problems(&printed)), paths(&parsed.problems), "{printed}");
    paths(&parsed.problems)
}

fn model(env: &str, spec: &str) -> String {
    format!(
        "{{kind: Model, metadata: {{name: m}}, spec: {{modelConfig: {{env: {{{env}}}}}{spec}}}}}"
    )
}

#[test]
fn kinds_that_nothing_uses() {
    let texts = [
        "{kind: Workspace, metadata: {name: w}, spec: {}}",
        "{kind: Task, metadata: {name: t}, spec: {title: a, prompt: b, teamRef: {name: t}, workspaceRef: {name: w}}}",
        "{kind: Device, metadata: {name: d}, spec: {deviceId: d}}",
        "{kind: KnowledgeBase, metadata: {name: k}, spec: {name: k}}",
        "{kind: Retriever, metadata: {name: r}, spec: {storageConfig: {type: embedded}}}",
        "{kind: Subscription, metadata: {name: s}, spec: {displayName: s, teamRef: {name: t}, promptTemplate: x, trigger: {type: interval, interval: {value: 1, unit: days}}}}",
    ];
    for text in texts {
        assert_eq!(warned(text), ["kind"], "{text}");
    }
    let task = problems(texts[1]).remove(0);
    assert_eq!((task.at.line, task.at.column), (1, 2));
    assert!(task.message.ends_with("begin a Task with `troupe run`, or in the console"), "{task}");
    // A delete needs no such word.
    let options = ParseOptions { names_only: true, ..ParseOptions::default() };
    assert_eq!(parse_bytes(texts[1].as_bytes(), &options).problems, []);
    let told = explain("task").unwrap();
    assert!(told.to_string().contains("nothing uses this yet: begin a Task"), "{told}");
    for kind in [
        Kind::Ghost,
        Kind::Model,
        Kind::Shell,
        Kind::Bot,
        Kind::Team,
        Kind::Skill,
        Kind::Template,
        Kind::SkillBinding,
    ] {
        assert_eq!(explain(kind.singular()).unwrap().unused, None);
    }
}

#[test]
fn fields_that_nothing_uses() {
    let team = "{kind: Team, metadata: {name: t}, spec: {collaborationModel: solo, members: [{botRef: {name: b}}],
        bind_mode: [chat], icon: cat, capability: {a: b}, inputPlaceholder: {en: a, zh: b, mobile: {en: c}, desktop: {en: d}}}}";
    assert_eq!(
        warned(team),
        ["bind_mode", "capability", "icon", "inputPlaceholder.desktop", "inputPlaceholder.mobile"]
            .map(|field| format!("spec.{field}"))
    );
    let ghost = "{kind: Ghost, metadata: {name: g}, spec: {systemPrompt: x, defaultKnowledgeBaseRefs: [{name: k}]}}";
    assert_eq!(warned(ghost), ["spec.defaultKnowledgeBaseRefs"]);
    let bot = "{kind: Bot, metadata: {name: b}, spec: {ghostRef: {name: g}, shellRef: {name: Chat}, secondaryModelRef: {name: m}}}";
    assert_eq!(warned(bot), ["spec.secondaryModelRef"]);
    let shown = ", isAdvanced: true, costIndex: 2, modelGroup: a, modelSubGroup: b, modelCapabilities: {supportsImage: true}";
    assert_eq!(
        warned(&model("model: demo", shown)),
        [
            "costIndex",
            "isAdvanced",
            "modelCapabilities.supportsImage",
            "modelGroup",
            "modelSubGroup"
        ]
        .map(|field| format!("spec.{field}"))
    );
    // What is the default says nothing.
    let defaults = ", isAdvanced: false, modelCapabilities: {supportsImage: false}";
    assert_eq!(warned(&model("model: demo", defaults)), Vec::<String>::new());
    let told = explain("team.spec.bind_mode").unwrap().to_string();
    assert!(told.contains("nothing uses this yet: a Team is offered everywhere"), "{told}");
}

#[test]
fn models_that_are_not_called_as_they_say() {
    let (openai, claude) = ("model: openai, model_id: m", "model: claude, model_id: m");
    let none: &[&str] = &[];
    for (env, spec, wanted) in [
        (openai, ", protocol: openai, apiFormat: chat/completions", none),
        (openai, ", apiFormat: responses", &["spec.apiFormat"]),
        (openai, ", protocol: openai-responses, apiFormat: responses", &["spec.protocol"]),
        (openai, ", protocol: claude", &["spec.protocol"]),
        (claude, ", protocol: claude", none),
        (claude, ", apiFormat: responses", &["spec.apiFormat"]),
        (claude, ", modelType: tts", &["spec.modelType"]),
        ("model: gemini, model_id: m", ", protocol: gemini", &["spec.modelConfig.env.model"]),
        ("DIFY_API_KEY: app-0123456789abcdef", "", &["spec.modelConfig.env.DIFY_API_KEY"]),
        (&format!("{claude}, ANTHROPIC_DEFAULT_HAIKU_MODEL: h"), "", none),
        (&format!("{claude}, ANTHROPIC_DEFAULT_OPUS_MODEL: m"), "", none),
        (
            &format!("{claude}, ANTHROPIC_DEFAULT_SONNET_MODEL: s"),
            "",
            &["spec.modelConfig.env.ANTHROPIC_DEFAULT_SONNET_MODEL"],
        ),
    ] {
        assert_eq!(warned(&model(env, spec)), wanted, "{env}{spec}");
    }
}

#[test]
fn thinking_has_to_fit_the_answer() {
    let config = |more: &str| {
        format!(
            "{{kind: Model, metadata: {{name: m}}, spec: {{modelConfig: {{env: {{model: claude, \
             model_id: m}}, {more}}}}}}}"
        )
    };
    for good in [
        "thinking: low",
        "thinking_tokens: 1024",
        "thinking: high, max_output_tokens: 2048",
        "thinking_tokens: 4000, max_output_tokens: 4001",
    ] {
        assert_eq!(warned(&config(good)), Vec::<String>::new(), "{good}");
    }
    for (bad, path, code) in [
        ("thinking: off", "thinking", Code::NotAllowed),
        ("thinking_tokens: 1023", "thinking_tokens", Code::OutOfRange),
        ("thinking_tokens: 4000, max_output_tokens: 4000", "thinking_tokens", Code::Conflict),
        ("thinking_tokens: 4000, thinking: low", "thinking_tokens", Code::Conflict),
        ("thinking: low, max_output_tokens: 2047", "thinking", Code::Conflict),
    ] {
        let told = problems(&config(bad));
        let [problem] = told.as_slice() else { panic!("{bad}: {told:?}") };
        let path = format!("spec.modelConfig.{path}");
        assert_eq!((&problem.path, problem.code, problem.is_error()), (&path, code, true), "{bad}");
        assert!(problem.at.column > 60, "it stands where the field is: {problem}");
    }
}

#[test]
fn how_a_key_is_sent_may_be_said() {
    let token = "ANTHROPIC_MODEL: m, ANTHROPIC_AUTH_TOKEN: a-long-secret-token";
    for (env, wanted) in [
        (token.to_owned(), Some("bearer")),
        (format!("{token}, auth: key"), Some("key")),
        (format!("{token}, ANTHROPIC_API_KEY: a-long-secret-token"), None),
        ("model: claude, model_id: m, api_key: a-long-secret-token".to_owned(), None),
        (
            "model: claude, model_id: m, api_key: a-long-secret-token, auth: bearer".to_owned(),
            Some("bearer"),
        ),
    ] {
        let text = model(&env, "");
        assert_eq!(warned(&text), Vec::<String>::new());
        let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
        let env = &parsed.documents[0].resource.spec["modelConfig"]["env"];
        assert_eq!(env["auth"].as_str(), wanted, "{text}");
    }
}
