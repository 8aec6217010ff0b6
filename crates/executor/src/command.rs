//! A command without an agent: its output is the answer, its exit code decides.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use async_trait::async_trait;
use troupe_types::ErrorType;

use crate::{
    drive::{self, Activity, Dialect, Effects, end_of, refused_forks},
    event::{Exit, RuntimeEvent, TurnEnd},
    job::{CommandSpec, RuntimeKind},
    lines::{Framing, Line},
    machine::{Environment, Machine, make_private},
    process::{Program, is_program},
    runtime::{
        Abilities, CommandError, Found, Launch, ProbeError, RunCommand, Runtime, StartError,
        Started,
    },
    text,
};

/// Output that is shown as it comes, in bytes; of more only the end follows.
///
/// The answer travels whole at the end of the turn, in one frame of at most 256 KiB.
pub const COMMAND_OUTPUT_BYTES_MAX: usize = 160 * 1024;
/// The end of a longer output.
const END_BYTES: usize = 16 * 1024;

/// Runs commands of an allow-list.
#[derive(Clone, Debug)]
pub struct Commands {
    machine: Machine,
    allowed: BTreeMap<String, PathBuf>,
}

impl Commands {
    /// `allowed`: absolute paths by the names that jobs call them.
    #[must_use]
    pub const fn new(machine: Machine, allowed: BTreeMap<String, PathBuf>) -> Self {
        Self { machine, allowed }
    }

    fn program(&self, spec: &CommandSpec) -> Result<PathBuf, StartError> {
        let wanted = PathBuf::from(&spec.program);
        let found = self.allowed.get(&spec.program);
        let found = found.or_else(|| self.allowed.values().find(|path| **path == wanted));
        let Some(found) = found else {
            let known: Vec<&str> = self.allowed.keys().map(String::as_str).collect();
            let message = format!(
                "{} is not on this device's list of commands ({}): its user can add it there",
                spec.program,
                if known.is_empty() { "which is empty".to_owned() } else { known.join(", ") }
            );
            return Err(StartError::job("command.program", message));
        };
        if !found.is_absolute() || !is_program(found) {
            return Err(StartError::Probe(ProbeError::Missing {
                program: found.display().to_string(),
                way_out: "correct its path in the device's list of commands".to_owned(),
            }));
        }
        Ok(found.clone())
    }
}

#[async_trait]
impl Runtime for Commands {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Command
    }

    fn abilities(&self) -> Abilities {
        Abilities { streams: true, interrupt: true, ..Abilities::default() }
    }

    async fn probe(&self) -> Result<Found, ProbeError> {
        let Some(program) = self.allowed.values().next().cloned() else {
            return Err(ProbeError::Missing {
                program: "any allowed command".to_owned(),
                way_out: "add one to the device's list of commands".to_owned(),
            });
        };
        let names: Vec<&str> = self.allowed.keys().map(String::as_str).collect();
        let note = Some(names.join(", "));
        Ok(Found { kind: RuntimeKind::Command, program, version: String::new(), note })
    }

    async fn start(&self, launch: Launch) -> Result<Started, StartError> {
        let Some(spec) = launch.job.command.clone() else {
            return Err(StartError::job("command", "a job for Command needs one"));
        };
        let program = self.program(&spec)?;
        make_private(&launch.state_dir)?;
        let env = Environment::new(&self.machine, &launch, &launch.state_dir)?;
        let program = Program {
            program,
            args: spec.args.iter().map(Into::into).collect(),
            cwd: launch.cwd.clone(),
            env: env.into_vec(),
            pids_max: launch.job.limits.pids_max,
            memory_bytes_max: launch.job.limits.memory_bytes_max,
            one_output: true,
        };
        let limits = launch.job.limits;
        let dialect = CommandDialect { spec, ..CommandDialect::default() };
        drive::start(&self.machine.containment, &program, Box::new(dialect), launch.secrets, limits)
    }
}

#[derive(Debug, Default)]
struct CommandDialect {
    spec: CommandSpec,
    ended: bool,
    interrupted: bool,
    /// Bytes of a character that is not whole yet.
    part: Vec<u8>,
    shown: usize,
    left_out: usize,
    end: VecDeque<u8>,
}

impl CommandDialect {
    /// Shows what can be shown, keeps the end of what is too much.
    fn output(&mut self, bytes: &[u8], out: &mut Effects) {
        let room = COMMAND_OUTPUT_BYTES_MAX.saturating_sub(self.shown);
        let (now, later) = bytes.split_at(bytes.len().min(room));
        self.shown += now.len();
        self.part.extend_from_slice(now);
        let whole = whole_chars(&self.part);
        let rest = self.part.split_off(whole);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.part, rest)).into_owned();
        let text = text.replace("\r\n", "\n");
        out.events
            .extend(text::pieces(&text).map(|text| RuntimeEvent::Text { text, parent: None }));
        self.end.extend(later);
        let over = self.end.len().saturating_sub(END_BYTES);
        self.end.drain(..over);
        self.left_out += over;
    }

    fn flush(&mut self, out: &mut Effects) {
        let mut text = String::from_utf8_lossy(&std::mem::take(&mut self.part)).into_owned();
        if self.left_out > 0 {
            text.push_str(&format!("\n[.. {} bytes left out ..]\n", self.left_out));
        }
        let end: Vec<u8> = std::mem::take(&mut self.end).into();
        text.push_str(&String::from_utf8_lossy(&end));
        out.events
            .extend(text::pieces(&text).map(|text| RuntimeEvent::Text { text, parent: None }));
    }

    fn turn_end(&mut self, end: TurnEnd, out: &mut Effects) {
        if !std::mem::replace(&mut self.ended, true) {
            self.flush(out);
            out.event(RuntimeEvent::TurnEnded(end));
        }
    }
}

/// Length of the beginning that ends between characters.
fn whole_chars(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // Only an unfinished character at the very end waits; garbage is shown as such.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => {
            let tail = bytes.len().saturating_sub(3);
            let unfinished = (tail..bytes.len()).rev().find(|at| bytes[*at] >= 0xC0);
            unfinished
                .filter(|at| {
                    std::str::from_utf8(&bytes[*at..]).is_err_and(|e| e.error_len().is_none())
                })
                .unwrap_or(bytes.len())
        }
    }
}

impl Dialect for CommandDialect {
    fn begin(&mut self) -> Effects {
        let mut out = Effects::default();
        out.event(RuntimeEvent::TurnStarted);
        if !self.spec.stdin.is_empty() {
            out.writes.push(std::mem::take(&mut self.spec.stdin).into_bytes());
        }
        out.close_input = true;
        out
    }

    fn line(&mut self, line: Line) -> Effects {
        let mut out = Effects::default();
        let (Line::Whole(bytes) | Line::TooLong { head: bytes, .. }) = line;
        if !self.ended {
            self.output(&bytes, &mut out);
        }
        out
    }

    fn command(&mut self, command: RunCommand) -> Result<Effects, CommandError> {
        let what = match command {
            RunCommand::Interrupt => {
                self.interrupted = true;
                return Ok(Effects { end: true, ..Effects::default() });
            }
            RunCommand::Finish => return Ok(Effects::default()),
            RunCommand::Input { .. } => "a further prompt",
            RunCommand::Steer { .. } => "further words in a turn",
            RunCommand::Approve { .. } | RunCommand::Answer { .. } | RunCommand::Kept { .. } => {
                return Err(CommandError::NotOpen);
            }
        };
        Err(CommandError::Unsupported { runtime: "Command".to_owned(), what: what.to_owned() })
    }

    fn refuse(&mut self, _id: &str, _why: &str) -> Effects {
        // A command asks nobody.
        Effects::default()
    }

    fn activity(&self) -> Activity {
        if self.ended { Activity::Idle } else { Activity::Working }
    }

    fn exited(&mut self, exit: &Exit) -> Effects {
        let mut out = Effects::default();
        let end = match exit.code {
            Some(0) if !exit.stopped => TurnEnd::Completed { stop: Some("exit 0".to_owned()) },
            Some(code) if !exit.stopped && !exit.out_of_memory => TurnEnd::Failed {
                error: ErrorType::GenericError,
                text: format!(
                    "{} ended with exit code {code}{}",
                    self.spec.program,
                    refused_forks(exit)
                ),
            },
            _ => end_of(exit, self.interrupted, &self.spec.program),
        };
        self.turn_end(end, &mut out);
        out
    }

    fn fail(&mut self, error: ErrorType, text: String) -> Effects {
        let mut out = Effects::default();
        self.turn_end(TurnEnd::Failed { error, text }, &mut out);
        out
    }

    fn framing(&self) -> Framing {
        Framing::Pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pieces: &[&[u8]]) -> String {
        let mut dialect = CommandDialect::default();
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(dialect.line(Line::Whole(piece.to_vec())).events);
        }
        let exit = Exit { code: Some(0), ..Exit::default() };
        events.extend(dialect.exited(&exit).events);
        let text = |event: RuntimeEvent| match event {
            RuntimeEvent::Text { text, .. } => Some(text),
            _ => None,
        };
        events.into_iter().filter_map(text).collect()
    }

    #[test]
    fn characters_that_are_cut_come_whole() {
        let bytes = "a你b".as_bytes();
        assert_eq!(said(&[&bytes[..2], &bytes[2..3], &bytes[3..]]), "a你b");
        assert_eq!(said(&[b"\xff\xfea"]), "\u{fffd}\u{fffd}a");
        assert_eq!(said(&[b"\xffa\xe4\xbd", b"\xa0"]), "\u{fffd}a你");
    }

    #[test]
    fn a_long_output_keeps_beginning_and_end() {
        let mut long = vec![b'x'; 3 * COMMAND_OUTPUT_BYTES_MAX];
        long.extend_from_slice(b"the end");
        let said = said(&[&long]);
        assert!(said.len() < COMMAND_OUTPUT_BYTES_MAX + END_BYTES + 100);
        assert!(said.ends_with("the end") && said.contains("bytes left out"));
    }
}
