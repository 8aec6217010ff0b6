//! Variables of MCP entries: `${{path.to.value}}` is replaced by what is known of the Task. Pure.
//!
//! What is not known stays as it stands, and whoever fills a text is told so. So does a value
//! that would be more than a text where it goes: people choose their names and titles freely.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use troupe_domain::task::TeamPlan;
use troupe_types::{TaskId, UserId};

/// What a value may not be as it is in a URL: all but what RFC 3986 reserves for nothing.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address: values are escaped.
    Url,
    /// A header, or a variable of a process: any line.
    Line,
    /// An argument of a process: letters, digits and `-_.@+`, and no option.
    Argument,
}

/// A text whose variables are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// What stayed, as it stands in the text.
    pub left: Vec<String>,
}

/// What entries may refer to: `user.id`, `user.name`, `task.id`, `task.title`, `team.name` and
/// `team.namespace`; also as `user_id` and so on, the names of a request to an executor.
#[must_use]
pub fn known(
    plan: &TeamPlan,
    (task, title): (TaskId, &str),
    (user, name): (UserId, &str),
) -> Map<String, Value> {
    let groups = json!({
        "user": {"id": user, "name": name},
        "task": {"id": task, "title": title},
        "team": {"name": plan.name, "namespace": plan.namespace},
    });
    let mut all = Map::new();
    for (group, values) in groups.as_object().into_iter().flatten() {
        for (key, value) in values.as_object().into_iter().flatten() {
            all.insert(format!("{group}_{key}"), value.clone());
        }
        all.insert(group.clone(), values.clone());
    }
    all
}

/// The text with each `${{path.to.value}}` replaced.
#[must_use]
pub fn fill(text: &str, variables: &Map<String, Value>, place: Place) -> Filled {
    let mut filled = Filled::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let Some((path, behind)) = after.split_once("}}") else { break };
        filled.text.push_str(before);
        let value = lookup(path.trim(), variables);
        match value.and_then(|value| fitting(value, place, filled.text.is_empty())) {
            Some(value) => filled.text.push_str(&value),
            None => {
                let left = format!("${{{{{path}}}}}");
                filled.text.push_str(&left);
                filled.left.push(left);
            }
        }
        rest = behind;
    }
    filled.text.push_str(rest);
    filled
}

fn lookup(path: &str, variables: &Map<String, Value>) -> Option<String> {
    let mut keys = path.split('.');
    let mut value = variables.get(keys.next()?)?;
    for key in keys {
        value = value.get(key)?;
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The value as it goes there. A line break would begin another header, and `${` is replaced
/// again by runtimes and by the device's secrets.
fn fitting(value: String, place: Place, first: bool) -> Option<String> {
    if value.contains(char::is_control) || value.contains("${") {
        return None;
    }
    let is_word = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    match place {
        Place::Line => Some(value),
        Place::Argument => {
            (value.chars().all(is_word) && !(first && value.starts_with('-'))).then_some(value)
        }
        // A part of a path that is dots alone means another path.
        Place::Url if !value.is_empty() && value.chars().all(|c| c == '.') => None,
        Place::Url => Some(utf8_percent_encode(&value, ESCAPED).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Map<String, Value> {
        let variables = json!({"user": {"id": 7, "name": "Eve"}, "on": true,
            "task": {"title": "a/b?c d\u{e9}", "twice": "x\r\nX-Admin: yes", "up": "..",
            "secret": "${secret:model_key}", "option": "-rf", "shell": "a; rm"}});
        variables.as_object().cloned().unwrap_or_default()
    }

    fn filled(text: &str, place: Place) -> (String, usize) {
        let Filled { text, left } = fill(text, &variables(), place);
        (text, left.len())
    }

    #[test]
    fn variables_are_replaced_and_unknown_ones_stay() {
        let replaced = |text: &str| filled(text, Place::Line);
        assert_eq!(replaced("a ${{user.name}}/${{ user.id }} ${{on}}"), ("a Eve/7 true".into(), 0));
        let stays = "${{user}} ${{user.x}} ${{}} $ {{";
        assert_eq!(replaced(stays), (stays.into(), 3));
        assert_eq!(replaced("x ${{user.name"), ("x ${{user.name".into(), 0));
        assert_eq!(fill("a${{ b.c }}", &variables(), Place::Url).left, ["${{ b.c }}"]);
    }

    #[test]
    fn a_value_is_never_more_than_a_text_where_it_goes() {
        for place in [Place::Line, Place::Url, Place::Argument] {
            for bad in ["${{task.twice}}", "${{task.secret}}"] {
                assert_eq!(filled(bad, place), (bad.into(), 1), "{place:?}");
            }
            assert_eq!(filled("n-${{user.name}}", place), ("n-Eve".into(), 0), "{place:?}");
        }
        assert_eq!(filled("${{task.title}}", Place::Line).0, "a/b?c d\u{e9}");
        assert_eq!(
            filled("https://x/${{task.title}}", Place::Url).0,
            "https://x/a%2Fb%3Fc%20d%C3%A9"
        );
        assert_eq!(filled("https://x/${{task.up}}/y", Place::Url).1, 1);
        assert_eq!(filled("${{task.option}}", Place::Argument).1, 1);
        assert_eq!(filled("--name=${{task.option}}", Place::Argument).0, "--name=-rf");
        assert_eq!(filled("echo ${{task.shell}}", Place::Argument).1, 1);
    }
}
