//! How texts have to look.

use crate::{schema::Form, selector::Selector};

/// Says what is wrong with the text, if it has not that form.
pub(super) fn check(text: &str, form: Form) -> Result<(), String> {
    if let Some(c) = text.chars().find(|c| is_bad_control(*c, form)) {
        return Err(format!("it holds the control character U+{:04X}", u32::from(c)));
    }
    match form {
        Form::Free | Form::Line => Ok(()),
        Form::Name => check_name(text),
        Form::Namespace => text.split('/').try_for_each(check_name),
        Form::Url => check_url(text),
        Form::GitUrl => check_credentials(text),
        Form::Selector => Selector::parse(text).map(drop).map_err(|error| error.to_string()),
        Form::Cron => check_cron(text),
        Form::TimeZone => check_zone(text),
        Form::Sha256 => check_sha256(text),
    }
}

fn is_bad_control(c: char, form: Form) -> bool {
    c.is_control() && !(form == Form::Free && matches!(c, '\n' | '\r' | '\t'))
}

/// Safe in a URL's path, in a file's name and on a command line.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        Err("a part of the name is empty".to_owned())
    } else if let Some(c) = name.chars().find(|c| !fits(*c)) {
        Err(format!("`{c}` is not allowed; use letters, digits, `-`, `_` and `.`"))
    } else if !name.starts_with(char::is_alphanumeric) {
        Err("a name begins with a letter or a digit".to_owned())
    } else {
        Ok(())
    }
}

/// Keys of free mappings: labels, headers, variables, names of servers.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        Err("the key is empty".to_owned())
    } else if key.chars().nth(200).is_some() {
        Err("the key is longer than 200 characters".to_owned())
    } else if key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err("a key holds no spaces and no control characters".to_owned())
    } else {
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err("a URL that begins with `http://` or `https://` is wanted".to_owned());
    };
    if url.contains(char::is_whitespace) {
        return Err("a URL holds no spaces".to_owned());
    }
    check_credentials(url)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return Err("the URL has no host".to_owned());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(_)) => Ok(()),
        Some(Err(_)) => Err("the URL's port is not a number up to 65535".to_owned()),
    }
}

/// A password in a URL ends up in lists, logs and errors.
fn check_credentials(url: &str) -> Result<(), String> {
    let authority = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(""));
    match authority.and_then(|authority| authority.rsplit_once('@')) {
        Some((user, _)) if user.contains(':') || url.starts_with("http") => {
            Err("no credentials in a URL".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_cron(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!(
            "five fields are wanted (minute hour day month weekday), these are {}",
            fields.len()
        ));
    }
    let bounds =
        [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7)];
    fields.iter().zip(bounds).try_for_each(|(field, (name, min, max))| {
        field.split(',').try_for_each(|part| check_cron_part(part, name, min, max))
    })
}

fn check_cron_part(part: &str, name: &str, min: u32, max: u32) -> Result<(), String> {
    const WORDS: &[&str] = &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "sun",
        "mon", "tue", "wed", "thu", "fri", "sat",
    ];
    let bad = |what: &str| Err(format!("`{what}` is no {name}"));
    let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
    if step.is_some_and(|step| !step.parse::<u32>().is_ok_and(|n| (1..=max.max(1)).contains(&n))) {
        return bad(part);
    }
    if matches!(range, "*" | "?") {
        return Ok(());
    }
    let value = |text: &str| -> Option<u32> {
        let wordy = matches!(name, "month" | "weekday");
        if wordy && WORDS.contains(&text.to_ascii_lowercase().as_str()) {
            return Some(min);
        }
        text.parse::<u32>().ok().filter(|n| (min..=max).contains(n))
    };
    match range.split_once('-') {
        Some((from, to)) if value(from).is_some() && value(to).is_some() => Ok(()),
        None if value(range).is_some() => Ok(()),
        _ => bad(part),
    }
}

fn check_zone(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/');
    if text.chars().all(fits) && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        Ok(())
    } else {
        Err("a time zone like `Europe/Berlin` or `UTC` is wanted".to_owned())
    }
}

fn check_sha256(text: &str) -> Result<(), String> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(())
    } else {
        Err("64 lower-case hexadecimal digits are wanted".to_owned())
    }
}

/// Whether it is a time as RFC 3339 writes it.
pub(super) fn is_time(text: &str) -> bool {
    text.len() <= 64 && serde_json::from_value::<troupe_types::Timestamp>(text.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn table(form: Form, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text, form), Ok(()), "{text:?}");
        }
        for text in bad {
            assert!(check(text, form).is_err(), "{text:?} is taken for {form:?}");
        }
    }

    #[test]
    fn names() {
        let bad =
            ["", ".", "..", "-a", "a/b", "a b", "a\u{202e}b", "a%2f", "a\n", "a\0", "ä/ö", "_x"];
        table(Form::Name, &["a", "A.b_c-9", "团队", "überblick", "9x"], &bad);
        let bad = ["", "/", "a/", "/a", "a//b", "a/../b", "a/./b"];
        table(Form::Namespace, &["default", "parent/child", "团队/子"], &bad);
    }

    #[test]
    fn urls() {
        let good = ["http://a", "https://a.b:8080/c?d#e", "http://[::1]:80/x", "http://[::1]"];
        let bad = [
            "",
            "a.b",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a b",
            "http://u:p@a",
            "http://u@a",
            "https://a:99999",
            "https://a:x",
            "https://:80",
        ];
        table(Form::Url, &good, &bad);
        let good = ["git@host:a/b.git", "ssh://git@host/a.git", "https://host/a.git", "/srv/a.git"];
        table(Form::GitUrl, &good, &["https://tok@host/a.git", "ssh://u:p@host/a.git"]);
    }

    #[test]
    fn cron() {
        let good = ["30 2 * * *", "*/15 0-6,12 1 jan-mar MON", "0 0 ? * 7"];
        let bad = [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "a * * * *",
            "*/0 * * * *",
            "1-x * * * *",
            "* * 0 * *",
        ];
        table(Form::Cron, &good, &bad);
    }

    #[test]
    fn others() {
        table(
            Form::TimeZone,
            &["UTC", "Europe/Berlin", "Etc/GMT+3"],
            &["", "../etc", "+02:00", "a b"],
        );
        table(Form::Line, &["a b", ""], &["a\nb", "a\tb", "\u{0}"]);
        table(Form::Free, &["a\nb\tc\r\n"], &["a\u{0}", "\u{1b}[2J", "\u{85}"]);
        assert!(is_time("2030-01-31T08:00:00Z") && is_time("2030-01-31T08:00:00.5+02:00"));
        assert!(!is_time("2030-01-31") && !is_time("tomorrow") && !is_time(&"9".repeat(10_000)));
    }
}
