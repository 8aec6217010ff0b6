//! `exec`: one program on a device, as a Task of a Team that runs commands.

use serde_json::{Value, json};
use troupe_api::chat::ChatSendAck;
use troupe_types::{FrameSeq, Status};

use super::{fresh_key, tasks::print_ack};
use crate::{
    args::{ExecArgs, Format},
    client::Client,
    error::CliError,
    follow::{FollowOptions, Until, follow, verdict},
};

/// Before the exit code in what the Task says of a program that failed.
const ENDED_WITH: &str = " ended with exit code ";
/// Bytes of a title.
const TITLE_CHARS: usize = 60;

pub(super) async fn run(client: &Client, format: Format, args: ExecArgs) -> Result<(), CliError> {
    let line = shlex::try_join(args.command.iter().map(String::as_str))
        .map_err(|_| CliError::Usage("an argument holds a NUL character".to_owned()))?;
    let title: String = format!("exec: {line}").chars().take(TITLE_CHARS).collect();
    let body = json!({
        "team_id": args.team,
        "message": line,
        "device_id": args.device,
        "title": title,
        "client_message_id": fresh_key(),
    });
    let ack: ChatSendAck = client.post("/api/v1/tasks", &body).await?;
    if args.detach {
        print_ack(format, &ack);
        return Ok(());
    }
    let task = ack.task_id;
    let (after, past, until) = (FrameSeq::ZERO, FrameSeq::ZERO, Until::TurnEnds);
    let options = FollowOptions { after, past, until, format };
    let status = follow(client, task, options).await?;
    if status == Status::Failed {
        let page: Value = client.get(&format!("/api/v1/tasks/{task}/turns?limit=1")).await?;
        if let Some((message, code)) = exit_code(&page["turns"][0]) {
            return Err(CliError::TaskEnded { message, code });
        }
    }
    verdict(task, status)
}

/// What the program ended with, if it ran to its end.
fn exit_code(turn: &Value) -> Option<(String, u8)> {
    let row = turn["messages"].as_array()?.last()?;
    let text = row["attempts"].as_array()?.last()?["error"]["error"].as_str()?;
    let (_, code) = text.rsplit_once(ENDED_WITH)?;
    Some((text.to_owned(), code.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_programs() {
        let turn = |text: &str| {
            let attempt = json!({"attempt": 1, "error": {"error": text, "type": "generic_error"}});
            json!({"messages": [{"attempts": []}, {"attempts": [attempt]}]})
        };
        let code = |text: &str| exit_code(&turn(text)).map(|(_, code)| code);
        assert_eq!(code("sh ended with exit code 3"), Some(3));
        assert_eq!(code("the device refused it"), None, "it never ran");
        assert_eq!(code("sh ended with exit code 70000"), None);
        assert_eq!(exit_code(&Value::Null), None);
    }
}
