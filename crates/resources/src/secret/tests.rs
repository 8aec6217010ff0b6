use super::*;
use crate::parse::{ParseOptions, parse_bytes};

fn one(text: &str) -> Resource {
    let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
    assert_eq!(parsed.problems, []);
    parsed.documents[0].resource.clone()
}

fn model(key: &str) -> Resource {
    one(&format!(
        "{{kind: Model, metadata: {{name: m}}, spec: {{modelConfig: {{env: {{model: claude, \
         model_id: x, api_key: '{key}', custom_headers: {{X-Api-Key: abcdef, X-Team: core}}}}}}}}}}"
    ))
}

const LONG: &str = "sk-ant-0123456789abcdef4f2a";

#[test]
fn taken_masked_and_put_back() {
    let original = model(LONG);
    let mut stored = original.clone();
    let taken = take_secrets(&mut stored);
    assert_eq!(stored.spec["modelConfig"]["env"]["api_key"], "***4f2a");
    assert_eq!(stored.spec["modelConfig"]["env"]["custom_headers"]["X-Api-Key"], "***");
    assert_eq!(stored.spec["modelConfig"]["env"]["custom_headers"]["X-Team"], "core");
    assert_eq!(mask(&original), stored);
    assert_eq!(mask(&stored), stored);
    assert!(!format!("{taken:?} {original:?}").contains("0123456789"));
    let mut back = stored;
    let left = put_secrets(&mut back, taken.secrets.iter().map(|(p, s)| (p.as_str(), s)));
    assert_eq!((back, left), (original, vec![]));
}

#[test]
fn writing_a_mask_back_changes_nothing() {
    let old = mask(&model(LONG));
    let mut new = model("***4f2a");
    let taken = take_secrets(&mut new);
    assert_eq!(taken.unchanged, ["spec.modelConfig.env.api_key"]);
    assert_eq!(carry_over(&taken.unchanged, &new, Some(&old)), Ok(()));
    assert!(carry_over(&taken.unchanged, &new, None).is_err());
    assert!(carry_over(&taken.unchanged, &model("***beef"), Some(&old)).is_err());
}

#[test]
fn a_mask_does_not_travel() {
    let ghost = |url: &str, server: &str| {
        one(&format!(
            "{{kind: Ghost, metadata: {{name: g}}, spec: {{systemPrompt: x, mcpServers: {{{server}: {{url: '{url}', \
             headers: {{Authorization: '***4f2a'}}}}}}}}}}"
        ))
    };
    let old = ghost("https://ours.example", "a");
    let kept = |new: &Resource| {
        let taken = take_secrets(&mut new.clone());
        assert_eq!(taken.unchanged.len(), 1);
        carry_over(&taken.unchanged, new, Some(&old)).is_ok()
    };
    assert!(kept(&old));
    assert!(!kept(&ghost("https://theirs.example", "a")));
    assert!(!kept(&ghost("https://ours.example", "b")));
    let mut other_prompt = old.clone();
    other_prompt.spec["systemPrompt"] = "y".into();
    assert!(kept(&other_prompt));
}

#[test]
fn names_that_hold_credentials() {
    for name in [
        "Authorization",
        "X-API-Key",
        "api_key",
        "GITHUB_TOKEN",
        "Cookie",
        "DB_PASSWORD",
        "X-Auth",
        "SSH_PRIVATE_KEY",
        "client-secret",
        "KEY",
    ] {
        assert!(is_secret_key(name), "{name}");
    }
    for name in ["X-Team", "Accept", "X-Author", "PATH", "KEYBOARD", "monkey"] {
        assert!(!is_secret_key(name), "{name}");
    }
}

#[test]
fn templates_are_no_secrets() {
    assert!(is_template("Bearer ${{task.token}}") && is_template("${{user.name}}"));
    assert!(!is_template("Bearer abc${{x}}") && !is_template("${{a}}b}}") && !is_template("abc"));
}

#[test]
fn keys_with_dots_have_their_own_path() {
    let mut ghost = one(
        "{kind: Ghost, metadata: {name: g}, spec: {systemPrompt: x, mcpServers: {a.b: {url: 'https://a', \
         headers: {Authorization: 'Bearer 0123456789abcdef'}}}}}",
    );
    let taken = take_secrets(&mut ghost);
    assert_eq!(taken.secrets[0].0, "spec.mcpServers[\"a.b\"].headers.Authorization");
    assert_eq!(ghost.spec["mcpServers"]["a.b"]["headers"]["Authorization"], "***cdef");
}
