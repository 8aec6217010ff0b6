//! `[[demo key=value ...]]`: what a prompt tells the demo model to do.

use std::time::Duration;

use serde_json::Value;

use crate::error::ErrorType;

/// Most pieces that `chunks` may ask for.
const CHUNKS_MAX: u32 = 1_000_000;
/// Largest `size`, in characters.
const SIZE_MAX: u32 = 4_096;

/// What a prompt tells the demo model to do. Unknown keys and bad values are passed over.
#[derive(Clone, Debug, PartialEq)]
pub struct Directive {
    /// `chunks=N`: answer with N pieces of filler instead of prose (at most a million).
    pub chunks: Option<u32>,
    /// `size=N`: characters of each such piece (12; at most 4,096).
    pub size: u32,
    /// `pace=N`: pieces per second; 0 waits for nothing.
    pub pace: Option<u32>,
    /// `think=N`: pieces of thinking; 0: none.
    pub think: Option<u32>,
    /// `tool=NAME`: call this tool, if it is on offer.
    pub tool: Option<String>,
    /// `args={..}`: with these arguments. Must be the last key.
    pub args: Option<Value>,
    /// `calls=N`: call it N times at once (1; at most 8).
    pub calls: u32,
    /// `rounds=N`: call it again N times in a row, one model step each (1).
    pub rounds: u32,
    /// `fail=TYPE`: fail with this error type.
    pub fail: Option<ErrorType>,
    /// `fail_after=N`: after N pieces (0).
    pub fail_after: u32,
    /// `fail_attempts=N`: only in attempts up to N (all).
    pub fail_attempts: u32,
    /// `fail_tries=N`: only in the first N tries of a call (all).
    pub fail_tries: u32,
    /// `retry_after=SECONDS`: what the failure asks to wait.
    pub retry_after: Option<Duration>,
    /// `hang=1`: never finish.
    pub hang: bool,
}

impl Default for Directive {
    fn default() -> Self {
        Self {
            chunks: None,
            size: 12,
            pace: None,
            think: None,
            tool: None,
            args: None,
            calls: 1,
            rounds: 1,
            fail: None,
            fail_after: 0,
            fail_attempts: u32::MAX,
            fail_tries: u32::MAX,
            retry_after: None,
            hang: false,
        }
    }
}

impl Directive {
    /// Takes the directives out of a text: the rest, and what they say together.
    #[must_use]
    pub fn take(text: &str) -> (String, Self) {
        let mut directive = Self::default();
        let mut rest = String::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once("[[demo") {
            let Some((inside, behind)) = after.split_once("]]") else { break };
            rest.push_str(before);
            directive.read(inside);
            left = behind;
        }
        rest.push_str(left);
        (rest.trim().to_owned(), directive)
    }

    fn read(&mut self, inside: &str) {
        let (keys, args) = match inside.split_once("args=") {
            Some((keys, args)) => (keys, serde_json::from_str(args.trim()).ok()),
            None => (inside, None),
        };
        self.args = args.or(self.args.take());
        for pair in keys.split_whitespace() {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let number = value.parse::<u32>().ok();
            let or = |old: u32| number.unwrap_or(old);
            match key {
                "chunks" => self.chunks = number.map(|n| n.min(CHUNKS_MAX)),
                "size" => self.size = or(self.size).clamp(1, SIZE_MAX),
                "pace" => self.pace = number,
                "think" => self.think = number.map(|n| n.min(CHUNKS_MAX)),
                "tool" => self.tool = Some(value.to_owned()),
                "calls" => self.calls = or(self.calls).clamp(1, 8),
                "rounds" => self.rounds = or(self.rounds),
                "fail" => self.fail = value.parse().ok(),
                "fail_after" => self.fail_after = or(self.fail_after),
                "fail_attempts" => self.fail_attempts = or(self.fail_attempts),
                "fail_tries" => self.fail_tries = or(self.fail_tries),
                "retry_after" => self.retry_after = number.map(|n| Duration::from_secs(n.into())),
                "hang" => self.hang = number == Some(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_taken_out_and_read() {
        let (rest, directive) = Directive::take(
            "Hello [[demo chunks=5 size=99999 pace=0 what=ever]] you [[demo tool=add args={\"a\": [1]}]]",
        );
        assert_eq!(rest, "Hello  you");
        let args = Some(serde_json::json!({"a": [1]}));
        let tool = Some("add".to_owned());
        let want = Directive {
            chunks: Some(5),
            size: 4_096,
            pace: Some(0),
            tool,
            args,
            ..Directive::default()
        };
        assert_eq!(directive, want);
        let (rest, directive) = Directive::take("[[demo chunks=5");
        assert_eq!((rest.as_str(), directive), ("[[demo chunks=5", Directive::default()));
        let (_, directive) =
            Directive::take("[[demo fail=rate_limit fail=nonsense size=0 chunks=-1]]");
        assert_eq!((directive.fail, directive.size, directive.chunks), (None, 1, None));
    }
}
