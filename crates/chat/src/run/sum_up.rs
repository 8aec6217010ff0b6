//! A conversation that does not fit its model goes on with a summary of its oldest part.

use tracing::info;
use troupe_domain::task::RunEvent;
use troupe_llm::{Completion, Message, Request, StopReason, ToolChoice};
use troupe_types::{ErrorType, StatusFrame};

use super::{Calling, Runner};
use crate::{
    call::{ask_model, usage},
    caps,
    prompt::{self, Summary, Told},
    record,
    voice::Stop,
};

/// How often a run asks for a summary; each further time with half as much to sum up.
pub(super) const TRIES_MAX: u32 = 2;
/// What a summary may take of the output besides its text: some models think before they write.
const OUTPUT_TOKENS_MIN: u64 = 4_096;
const ASK: &str = "[task] Sum up the messages above.";

impl Runner<'_> {
    /// The history as the next call tells it: whole if it fits, else with a summary of what
    /// would be left out. Without one, if none comes of it: then messages are left out.
    pub(super) async fn told(&mut self, calling: &Calling, own: &[Message]) -> Result<Told, Stop> {
        let (history, fixed, window) = (&calling.history, calling.fixed, calling.window);
        let whole = Told::new(history, None);
        if prompt::fits(history, own, fixed, window) {
            return Ok(whole);
        }
        let told = self.summary.as_ref().map_or(whole, |s| Told::new(history, Some(s)));
        if self.sum_ups_left == 0 || prompt::fits(&told.messages, own, fixed, window) {
            return Ok(told);
        }
        let Some(covers) = told.to_sum_up() else { return Ok(told) };
        let Some((text, answer)) = self.sum_up(calling, &told).await? else { return Ok(told) };
        let summary = Summary::new(history, covers, text);
        let told = Told::new(history, Some(&summary));
        let record = record::of_summary(&summary);
        self.summary = Some(summary);
        self.voice.step(record, Some(usage(&answer))).await?;
        Ok(told)
    }

    /// Asks the model. `None`: it gave none, and is not asked again in this run.
    async fn sum_up(
        &mut self,
        calling: &Calling,
        told: &Told,
    ) -> Result<Option<(String, Completion)>, Stop> {
        let status = StatusFrame {
            phase: "compacting".to_owned(),
            text: Some("Summing up the earlier conversation.".to_owned()),
            ..StatusFrame::default()
        };
        self.voice.event(RunEvent::Status(status)).await?;
        let most = calling.window.summary_max();
        let mut room = calling.window.target.saturating_sub(most);
        while self.sum_ups_left > 0 {
            self.sum_ups_left -= 1;
            let request = self.summary_request(calling, told, room);
            match ask_model(&self.voice, calling.provider.as_ref(), request).await {
                Ok(answer) => {
                    if let Some(text) = text_of(&answer, most) {
                        return Ok(Some((text, answer)));
                    }
                    info!(stop = ?answer.stop, "an empty summary is not used");
                }
                // The estimate of its tokens was wrong: with less of it, it may go well.
                Err(Stop::Failed { error: ErrorType::ContextLengthExceeded, .. }) => {
                    info!("what is to be summed up does not fit the model");
                }
                Err(Stop::Failed { error, .. }) => {
                    info!(kind = error.as_str(), "the conversation is not summed up");
                    self.sum_ups_left = 0;
                }
                Err(stop) => return Err(stop),
            }
            room /= 2;
        }
        Ok(None)
    }

    fn summary_request(&self, calling: &Calling, told: &Told, room: u64) -> Request {
        let most = calling.window.summary_max();
        let instructions = prompt::instructions(most);
        let room = room.saturating_sub(caps::tokens(&instructions) + caps::tokens(ASK));
        let voices = prompt::has_voices(self.run.member, &self.run.conversation.items);
        let text = told.text_to_sum_up(voices, room);
        let output = most.max(OUTPUT_TOKENS_MIN.min(calling.window.target));
        let output = u32::try_from(output).unwrap_or(u32::MAX);
        Request {
            system: Some(instructions),
            messages: vec![Message::user(format!("{text}\n\n{ASK}"))],
            tool_choice: ToolChoice::None,
            max_output_tokens: Some(calling.max_output_tokens.map_or(output, |m| m.min(output))),
            attempt: self.run.attempt.0,
            ..Request::default()
        }
    }
}

/// The summary in an answer, if there is one.
fn text_of(answer: &Completion, tokens_max: u64) -> Option<String> {
    let refused = answer.stop == StopReason::Refusal || answer.tool_calls().next().is_some();
    let text = caps::readable(answer.text().trim());
    (!refused && !text.is_empty()).then(|| caps::cap_tokens(&text, tokens_max))
}
