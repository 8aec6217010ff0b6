//! Folds the pieces of a provider's stream into events and, at the end, into one message.

use std::collections::VecDeque;

use crate::{
    error::ModelError,
    message::{Completion, Message, Part, Role, StopReason, Usage, parse_args},
    provider::ModelEvent,
};

/// Most parts of one answer.
const PARTS_MAX: usize = 2_048;

/// A part that still grows, known by the provider's block number.
#[derive(Debug)]
struct Growing {
    block: u64,
    kind: Kind,
    text: String,
    ended: bool,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thinking { signature: String },
    Redacted,
    Tool { id: String, name: String, index: usize },
}

/// The answer so far, and the events that are not delivered yet.
#[derive(Debug)]
pub(crate) struct Assembler {
    parts: Vec<Growing>,
    tools: usize,
    bytes: usize,
    bytes_max: usize,
    events: VecDeque<ModelEvent>,
    /// Tokens so far.
    pub usage: Usage,
    /// Why it stopped, once known.
    pub stop: Option<StopReason>,
    /// The model as the provider names it.
    pub model: String,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
}

impl Assembler {
    /// An empty answer of at most `bytes_max` bytes.
    pub(crate) fn new(model: &str, bytes_max: usize) -> Self {
        Self {
            parts: Vec::new(),
            tools: 0,
            bytes: 0,
            bytes_max,
            events: VecDeque::new(),
            usage: Usage::default(),
            stop: None,
            model: model.to_owned(),
            response_id: None,
        }
    }

    /// The next event to deliver.
    pub(crate) fn pop(&mut self) -> Option<ModelEvent> {
        self.events.pop_front()
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(ModelError::TooLarge { what: "an answer", limit: self.bytes_max });
        }
        Ok(())
    }

    fn open(&mut self, block: u64, kind: Kind) -> Result<&mut Growing, ModelError> {
        if self.parts.len() >= PARTS_MAX {
            let detail = format!("an answer of more than {PARTS_MAX} parts");
            return Err(ModelError::Protocol { detail });
        }
        let at = self.parts.len();
        self.parts.push(Growing { block, kind, text: String::new(), ended: false });
        Ok(&mut self.parts[at])
    }

    /// The newest part of a block.
    fn part(&mut self, block: u64) -> Option<&mut Growing> {
        self.parts.iter_mut().rev().find(|part| part.block == block)
    }

    /// A piece of text.
    pub(crate) fn text(&mut self, block: u64, piece: &str) -> Result<(), ModelError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.part(block) {
            Some(part) if matches!(part.kind, Kind::Text) => part.text.push_str(piece),
            _ => self.open(block, Kind::Text)?.text.push_str(piece),
        }
        self.events.push_back(ModelEvent::Text(piece.to_owned()));
        Ok(())
    }

    /// A block of thinking begins; it is kept even if all of its text stays hidden.
    pub(crate) fn thinking_start(&mut self, block: u64) -> Result<(), ModelError> {
        self.open(block, Kind::Thinking { signature: String::new() }).map(|_| ())
    }

    /// A piece of thinking.
    pub(crate) fn thinking(&mut self, block: u64, piece: &str) -> Result<(), ModelError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.part(block) {
            Some(part) if matches!(part.kind, Kind::Thinking { .. }) => part.text.push_str(piece),
            _ => {
                let kind = Kind::Thinking { signature: String::new() };
                self.open(block, kind)?.text.push_str(piece);
            }
        }
        self.events.push_back(ModelEvent::Thinking(piece.to_owned()));
        Ok(())
    }

    /// A piece of the signature of a thinking block.
    pub(crate) fn signature(&mut self, block: u64, piece: &str) -> Result<(), ModelError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.part(block).map(|part| &mut part.kind) {
            Some(Kind::Thinking { signature }) => signature.push_str(piece),
            _ => {
                let detail = "a signature without its thinking".to_owned();
                return Err(ModelError::Protocol { detail });
            }
        }
        self.events.push_back(ModelEvent::ThinkingSignature(piece.to_owned()));
        Ok(())
    }

    /// A block of thinking that only the provider can read.
    pub(crate) fn redacted(&mut self, block: u64, data: &str) -> Result<(), ModelError> {
        self.grow(data.len())?;
        self.open(block, Kind::Redacted)?.text.push_str(data);
        Ok(())
    }

    /// A tool call begins. A missing id is made up, a repeated one made unique: results are
    /// matched by it.
    pub(crate) fn tool_start(
        &mut self,
        block: u64,
        id: &str,
        name: &str,
    ) -> Result<(), ModelError> {
        if name.is_empty() {
            let detail = "a tool call without a name".to_owned();
            return Err(ModelError::Protocol { detail });
        }
        self.grow(id.len() + name.len())?;
        let index = self.tools;
        self.tools += 1;
        let taken =
            self.parts.iter().any(|p| matches!(&p.kind, Kind::Tool { id: i, .. } if i == id));
        let id = match (id.is_empty(), taken) {
            (true, _) => format!("call_{index}"),
            (_, true) => format!("{id}_{index}"),
            _ => id.to_owned(),
        };
        let name = name.to_owned();
        self.open(block, Kind::Tool { id: id.clone(), name: name.clone(), index })?;
        self.events.push_back(ModelEvent::ToolCallStart { id, name, index });
        Ok(())
    }

    /// A piece of a tool call's arguments; pieces of unknown blocks are a protocol error.
    pub(crate) fn tool_args(&mut self, block: u64, piece: &str) -> Result<(), ModelError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        let Some(Growing { kind: Kind::Tool { index, .. }, text, ended: false, .. }) =
            self.part(block)
        else {
            let detail = "arguments without their tool call".to_owned();
            return Err(ModelError::Protocol { detail });
        };
        text.push_str(piece);
        let event = ModelEvent::ToolCallArgs { index: *index, delta: piece.to_owned() };
        self.events.push_back(event);
        Ok(())
    }

    /// The block is complete. Only tool calls tell so.
    pub(crate) fn end(&mut self, block: u64) {
        if let Some(at) = self.parts.iter().rposition(|part| part.block == block) {
            self.end_at(at);
        }
    }

    fn end_at(&mut self, at: usize) {
        let Some(part) = self.parts.get_mut(at) else { return };
        let first = !std::mem::replace(&mut part.ended, true);
        if let (true, Kind::Tool { id, name, index }) = (first, &part.kind) {
            let event = ModelEvent::ToolCallEnd {
                index: *index,
                id: id.clone(),
                name: name.clone(),
                args: parse_args(&part.text),
            };
            self.events.push_back(event);
        }
    }

    /// Tells the tokens so far.
    pub(crate) fn tell_usage(&mut self) {
        self.events.push_back(ModelEvent::Usage(self.usage));
    }

    /// Whether a tool was called.
    pub(crate) const fn has_tools(&self) -> bool {
        self.tools > 0
    }

    /// The answer is complete: ends what is open, tells why it stopped and the whole.
    pub(crate) fn complete(&mut self) {
        for at in 0..self.parts.len() {
            self.end_at(at);
        }
        let stop = self.stop.clone().unwrap_or(StopReason::EndTurn);
        self.events.push_back(ModelEvent::Stop { reason: stop.clone() });
        let parts = self.parts.drain(..).filter_map(finished).collect();
        let completion = Completion {
            message: Message { role: Role::Assistant, parts },
            usage: self.usage,
            stop,
            model: self.model.clone(),
            response_id: self.response_id.clone(),
        };
        self.events.push_back(ModelEvent::Completed(Box::new(completion)));
    }
}

fn finished(part: Growing) -> Option<Part> {
    Some(match part.kind {
        Kind::Text => Part::Text { text: part.text },
        Kind::Thinking { signature } if signature.is_empty() && part.text.is_empty() => {
            return None;
        }
        Kind::Thinking { signature } => Part::Thinking {
            text: part.text,
            signature: (!signature.is_empty()).then_some(signature),
        },
        Kind::Redacted => Part::RedactedThinking { data: part.text },
        Kind::Tool { id, name, .. } => Part::ToolCall { id, name, args: parse_args(&part.text) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_the_order_in_which_they_began() {
        let mut answer = Assembler::new("m", 1_000);
        answer.thinking_start(0).unwrap();
        answer.thinking(0, "hm").unwrap();
        answer.signature(0, "a").unwrap();
        answer.signature(0, "b").unwrap();
        answer.text(1, "one").unwrap();
        answer.tool_start(2, "t", "clock").unwrap();
        answer.tool_start(3, "t", "clock").unwrap();
        answer.tool_args(3, "{\"z\"").unwrap();
        answer.tool_args(2, "{}").unwrap();
        answer.tool_args(3, ":1}").unwrap();
        answer.end(2);
        answer.complete();
        let mut last = None;
        while let Some(event) = answer.pop() {
            last = Some(event);
        }
        let Some(ModelEvent::Completed(completion)) = last else { panic!("{last:?}") };
        assert_eq!(
            completion.message.parts,
            [
                Part::Thinking { text: "hm".into(), signature: Some("ab".into()) },
                Part::Text { text: "one".into() },
                Part::ToolCall {
                    id: "t".into(),
                    name: "clock".into(),
                    args: serde_json::json!({})
                },
                Part::ToolCall {
                    id: "t_1".into(),
                    name: "clock".into(),
                    args: serde_json::json!({"z": 1})
                },
            ]
        );
    }

    #[test]
    fn the_answer_is_bounded() {
        let mut answer = Assembler::new("m", 10);
        answer.text(0, "0123456789").unwrap();
        assert!(matches!(answer.thinking(1, "x"), Err(ModelError::TooLarge { limit: 10, .. })));
    }
}
