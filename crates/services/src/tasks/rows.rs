//! Rows of a person's list of Tasks, and the cursor between its pages.

use troupe_api::{Problem, task::TaskLite};
use troupe_soft_state::TaskNote;
use troupe_store::{TaskCursor, TaskRow};
use troupe_types::{Status, Timestamp};

/// A row, with what the cache knows beyond it.
pub(super) fn lite(row: TaskRow, note: Option<TaskNote>) -> TaskLite {
    let seq = row.seq;
    let mut lite = of_row(row);
    if let Some(note) = note {
        if note.seq > seq {
            (lite.status, lite.updated_at) = (note.status, note.updated_at);
        }
        if note.seq >= seq {
            lite.last_line = note.last_line.or(lite.last_line);
        }
    }
    lite
}

fn of_row(row: TaskRow) -> TaskLite {
    let body: serde_json::Value = serde_json::from_slice(&row.body).unwrap_or_default();
    let status = serde_json::from_value(row.status.into()).unwrap_or(Status::Pending);
    TaskLite {
        id: row.task,
        user_id: row.owner,
        title: row.title,
        status,
        team_name: row.team,
        team_namespace: row.team_namespace,
        created_at: row.created_at,
        updated_at: row.updated_at,
        completed_at: serde_json::from_value(body["completed_at"].clone()).unwrap_or(None),
        last_line: body["last_line"].as_str().map(str::to_owned),
        asks: row.asks,
    }
}

pub(super) fn word(status: Status) -> String {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

pub(super) fn print_cursor(cursor: &TaskCursor) -> String {
    format!("{}.{}", cursor.updated_at.as_millis(), cursor.task)
}

pub(super) fn parse_cursor(text: &str) -> Result<TaskCursor, Problem> {
    let parsed = text.split_once('.').and_then(|(at, task)| {
        let updated_at = Timestamp::from_millis(at.parse().ok()?);
        Some(TaskCursor { updated_at, task: task.parse().ok()? })
    });
    parsed.ok_or_else(|| Problem::invalid("cursor", "give the `next` of an earlier page"))
}

#[cfg(test)]
mod tests {
    use troupe_types::{Seq, TaskId, UserId, Uuid};

    use super::*;

    #[test]
    fn a_note_counts_where_the_row_is_behind() {
        let row = TaskRow {
            task: TaskId::from_uuid(Uuid::nil()),
            owner: UserId::from_uuid(Uuid::nil()),
            seq: Seq(7),
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
            status: "RUNNING".into(),
            title: "t".into(),
            team: "assistant".into(),
            team_namespace: "default".into(),
            archived: false,
            deleted: false,
            asks: 0,
            body: bytes::Bytes::from_static(br#"{"last_line":"as written"}"#),
        };
        let note = |seq| TaskNote {
            seq: Seq(seq),
            status: Status::Completed,
            updated_at: Timestamp::from_millis(9),
            last_line: Some("done".into()),
        };
        let shown = |note| {
            let lite = lite(row.clone(), note);
            (lite.status, lite.updated_at.as_millis(), lite.last_line.unwrap())
        };
        let written = (Status::Running, 2, "as written".to_owned());
        assert_eq!(shown(None), written);
        assert_eq!(shown(Some(note(6))), written, "the row is newer");
        assert_eq!(shown(Some(note(7))), (Status::Running, 2, "done".into()), "it is as new");
        assert_eq!(shown(Some(note(8))), (Status::Completed, 9, "done".into()));
        let silent = TaskNote { last_line: None, ..note(8) };
        assert_eq!(shown(Some(silent)), (Status::Completed, 9, "as written".into()));
    }
}
