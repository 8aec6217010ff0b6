//! What a person says to an approval or a question.

use troupe_api::{
    Problem,
    device::{AnswerBlock, AnswerWord},
};
use troupe_domain::task::{Answer, Command};

use super::{live::LiveTasks, problems::task_problem};
use crate::caller::Caller;

impl LiveTasks {
    pub(super) async fn answer_block(
        &self,
        caller: &Caller,
        answer: AnswerBlock,
    ) -> Result<(), Problem> {
        let address = self.authorize(caller, answer.task_id).await?;
        let key = answer.client_message_id.unwrap_or_else(|| self.fresh_key());
        let said = match answer.answer {
            AnswerWord::Allow => Answer::Allow,
            AnswerWord::AllowAlways => Answer::AllowAlways,
            AnswerWord::Deny => Answer::Deny { message: answer.message.unwrap_or_default() },
            AnswerWord::Reply => {
                let none = || Problem::invalid("answers", "A reply needs its answers.");
                Answer::Reply { answers: answer.answers.ok_or_else(none)? }
            }
        };
        let command = Command::Answer { key, block_id: answer.block_id, answer: said };
        address.command(command).await.map(|_| ()).map_err(|e| task_problem(&e))
    }
}
