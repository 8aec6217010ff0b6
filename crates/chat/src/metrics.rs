//! Metrics of model and tool calls. Models are told by their provider: their names are not ours.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use troupe_llm::Usage;

const MODEL_CALLS: &str = "troupe_chat_model_calls_total";
const MODEL_CALL_SECONDS: &str = "troupe_chat_model_call_seconds";
const MODEL_RETRIES: &str = "troupe_chat_model_retries_total";
const FIRST_TOKEN_SECONDS: &str = "troupe_chat_first_token_seconds";
const TOKENS: &str = "troupe_chat_tokens_total";
const CACHE_HITS: &str = "troupe_chat_prompt_cache_hits_total";
const TOOL_CALLS: &str = "troupe_chat_tool_calls_total";
const TOOL_CALL_SECONDS: &str = "troupe_chat_tool_call_seconds";

/// Registers the descriptions; once, after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(MODEL_CALLS, "model calls that ended, by provider and outcome");
    describe_histogram!(
        MODEL_CALL_SECONDS,
        Unit::Seconds,
        "time of a model call, retries included"
    );
    describe_counter!(MODEL_RETRIES, "tries of model calls that were repeated");
    describe_histogram!(
        FIRST_TOKEN_SECONDS,
        Unit::Seconds,
        "from a model call to the first piece of its answer"
    );
    describe_counter!(TOKENS, "tokens of model calls, by provider and sort");
    describe_counter!(
        CACHE_HITS,
        "model calls whose prompt came from the provider's cache in part"
    );
    describe_counter!(TOOL_CALLS, "tool calls that ended, by outcome");
    describe_histogram!(TOOL_CALL_SECONDS, Unit::Seconds, "time of a tool call");
}

pub(crate) fn model_called(provider: &'static str, outcome: &'static str, time: Duration) {
    counter!(MODEL_CALLS, "provider" => provider, "outcome" => outcome).increment(1);
    histogram!(MODEL_CALL_SECONDS, "provider" => provider).record(time.as_secs_f64());
}

pub(crate) fn retried(provider: &'static str) {
    counter!(MODEL_RETRIES, "provider" => provider).increment(1);
}

pub(crate) fn first_token(provider: &'static str, after: Duration) {
    histogram!(FIRST_TOKEN_SECONDS, "provider" => provider).record(after.as_secs_f64());
}

pub(crate) fn used(provider: &'static str, usage: &Usage) {
    let sorts = [
        ("input", usage.input),
        ("output", usage.output),
        ("cached_read", usage.cached_read),
        ("cache_write", usage.cache_write),
    ];
    for (sort, tokens) in sorts {
        counter!(TOKENS, "provider" => provider, "sort" => sort).increment(tokens);
    }
    let hits = counter!(CACHE_HITS, "provider" => provider);
    hits.increment(u64::from(usage.cached_read > 0));
}

pub(crate) fn tool_called(outcome: &'static str, time: Duration) {
    counter!(TOOL_CALLS, "outcome" => outcome).increment(1);
    histogram!(TOOL_CALL_SECONDS).record(time.as_secs_f64());
}
