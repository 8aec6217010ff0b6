use troupe_executor::CommandSpec;
use troupe_types::{Attempt, ExecutionId, TaskId, Timestamp, TurnId};

use super::*;

fn job(extra: &serde_json::Value) -> Job {
    let now = Timestamp::from_millis(1_795_000_000_000);
    let mut value = serde_json::json!({
        "task": TaskId::new(now), "turn": TurnId::new(now), "execution": ExecutionId::new(now),
        "attempt": Attempt(1), "bot": "dev", "runtime": "ClaudeCode", "prompt": {"text": "hi"},
    });
    for (key, field) in extra.as_object().unwrap() {
        value[key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn refused(policy: &str, job: Job) -> &'static str {
    let policy = Policy::parse(policy).unwrap();
    policy.check("acme/dev-team", "ada", job).unwrap_err().field
}

#[test]
fn every_field_refuses_by_its_name() {
    let plain = || job(&serde_json::json!({}));
    assert_eq!(refused("teams = ['acme/ops-*', 'other/*']", plain()), "teams");
    assert_eq!(refused("users = ['bob']", plain()), "users");
    assert_eq!(refused("runtimes = ['Codex']", plain()), "runtimes");
    let clone = serde_json::json!({"workspace": {"source": {"from": "clone", "url": "https://evil.example/x"}}});
    assert_eq!(refused("clone-hosts = ['*.good.example']", job(&clone)), "clone-hosts");
    let files =
        serde_json::json!({"workspace": {"source": {"from": "clone", "url": "file:///etc"}}});
    assert_eq!(refused("", job(&files)), "clone-hosts");
    let mcp = serde_json::json!({"mcp_servers": {"x": {"type": "stdio", "command": "sh"}}});
    assert_eq!(refused("", job(&mcp)), "mcp-programs");
    let of_a_member = serde_json::json!({"members": [{"name": "hand",
        "mcp_servers": {"x": {"type": "stdio", "command": "sh"}}}]});
    assert_eq!(refused("", job(&of_a_member)), "mcp-programs");
    let mut command = job(&serde_json::json!({"runtime": "Command"}));
    command.command =
        Some(CommandSpec { program: "rm".to_owned(), args: Vec::new(), stdin: String::new() });
    assert_eq!(refused("", command.clone()), "runtimes");
    assert_eq!(refused("runtimes = ['Command']\ncommands = ['cargo']", command), "commands");
}

#[test]
fn directories_are_inside_of_a_root_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("src"), dir.path().join("secret"));
    fs::create_dir_all(root.join("app")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    let policy = Policy { workspace_roots: vec![root.clone()], ..Policy::default() };
    let at = |path: PathBuf| {
        let source = serde_json::json!({"from": "existing", "path": path});
        policy.check("a/b", "ada", job(&serde_json::json!({"workspace": {"source": source}})))
    };
    assert!(at(root.join("app")).is_ok());
    assert!(at(root.clone()).is_ok());
    for bad in [outside.clone(), root.join("../secret"), root.join("missing")] {
        assert_eq!(at(bad).unwrap_err().field, "workspace-roots");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        assert_eq!(at(root.join("link")).unwrap_err().field, "workspace-roots");
    }
}

#[test]
fn a_job_never_gets_more_permissions_than_the_policy_allows() {
    let bold = || job(&serde_json::json!({"permissions": "bypass", "grants": [{"tool": "Bash"}]}));
    let ask = Policy::parse("permissions-max = 'ask'\ngrants = false").unwrap();
    let checked = ask.check("a/b", "ada", bold()).unwrap();
    assert_eq!((checked.permissions, checked.grants.len()), (Permissions::Ask, 0));
    let free = Policy::parse("permissions-max = 'bypass'").unwrap();
    let checked = free.check("a/b", "ada", bold()).unwrap();
    assert_eq!((checked.permissions, checked.grants.len()), (Permissions::Bypass, 1));
}

#[test]
fn a_file_that_does_not_read_is_no_policy() {
    for bad in ["team = ['x']", "teams = 'x'", "permissions-max = 'all'", "workspace-roots = ['a']"]
    {
        assert!(Policy::parse(bad).is_err(), "{bad}");
    }
    let missing = Policy::read(Path::new("/nonexistent/policy.toml")).unwrap();
    assert_eq!(missing, None);
}

#[test]
fn patterns() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a/*", "a/b", true),
        ("a/*", "b/a/", false),
        ("*b*d", "abcd", true),
        ("*b*d", "abcde", false),
        ("ab*ba", "aba", false),
        ("ab", "ab", true),
        ("ab", "abc", false),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn a_host_is_compared_as_git_reads_it() {
    let clones = |policy: &str, url: &str| {
        let clone = serde_json::json!({"workspace": {"source": {"from": "clone", "url": url}}});
        Policy::parse(policy).unwrap().check("a/b", "ada", job(&clone))
    };
    for good in [
        "https://git.good.example/x",
        "https://GIT.Good.example.:8443/x",
        "ssh://git@git.good.example/x",
        "git@git.good.example:x/y",
        "https://git.good.example/x?from=evil.com",
    ] {
        assert!(clones("clone-hosts = ['*.Good.example']", good).is_ok(), "{good}");
    }
    for bad in [
        "https://evil.com?.good.example/x",
        "https://evil.com#.good.example/x",
        "https://evil.com\\.good.example/x",
        "https://git.good.example@evil.com/x",
        "https://evil.com%2f.good.example/x",
        "ssh://git@evil.com@git.good.example/x",
        "git@evil.com:.good.example/x",
        "git@evil.com#.good.example:x",
        "https://git.good.example.evil.com/x",
    ] {
        let refused = clones("clone-hosts = ['*.good.example']", bad).unwrap_err();
        assert_eq!(refused.field, "clone-hosts", "{bad}");
    }
    // Nor where all hosts are allowed: a word in front of @ may be a token, and is not repeated.
    let refused = clones("", "https://sk-token@evil.com?x/y").unwrap_err();
    assert!(!refused.to_string().contains("sk-token"), "{refused}");
    assert!(clones("clone-hosts = ['fd00::*']", "ssh://git@[FD00::1]:22/x").is_ok());
}

#[test]
fn variables_are_refused_unless_the_policy_names_them() {
    let sets = |name: &str| job(&serde_json::json!({"env": {name: "x"}}));
    assert_eq!(refused("", sets("GREETING")), "env");
    assert_eq!(refused("env = ['OTHER*']", sets("GREETING")), "env");
    let policy = Policy::parse("env = ['GREET*', 'A']").unwrap();
    assert!(policy.check("a/b", "ada", sets("GREETING")).is_ok());
    assert!(policy.check("a/b", "ada", sets("A")).is_ok());
    for never in ["GIT_CONFIG_COUNT", "BASH_ENV", "LD_PRELOAD", "PATH", "RUSTC_WRAPPER", ""] {
        let policy = Policy { env: vec![never.to_owned()], ..Policy::default() };
        let error = policy.check("a/b", "ada", sets(never)).unwrap_err();
        assert!(error.to_string().contains("no policy can allow"), "{error}");
        assert_eq!(error.field, "env", "{never}");
        assert!(error.to_string().contains("`env` in its policy file"), "{error}");
    }
    for all in ["*", "**", "*_URL"] {
        let error = Policy::parse(&format!("env = ['A', '{all}']")).unwrap_err();
        assert!(error.starts_with("env: ") && error.contains("name them"), "{error}");
    }
}
