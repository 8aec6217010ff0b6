//! What one node asks another on behalf of an operator, and how it answers.
//!
//! JSON both ways over [`NodeLink::question`]: fields and questions are only ever added, and a
//! question that a node does not know is refused by name.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use troupe_api::admin::{NodeLoad, RebalanceAction};
use troupe_sharding::{AnswerError, Answerer, NodeLink, NodeName, QuestionError};
use troupe_types::{EntityId, ShardId};

use super::{LocalOperator, Operator, OperatorError};

/// The topic of these questions on the node link.
pub const TOPIC: u16 = 1;
/// For the answer of another node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A question or wish to one node, about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum NodeQuestion {
    /// How much it carries, and what only it knows of itself: an [`Introduction`].
    Introduce,
    /// Its supervision tree.
    Actors,
    /// Its queues.
    Queues,
    /// Entities in its memory by shard: pairs of numbers.
    Entities,
    /// These entities as it sees them.
    Places {
        /// Which.
        entities: Vec<EntityId>,
    },
    /// Begin one of its entities anew.
    Restart {
        /// Which.
        entity: EntityId,
    },
    /// Unload one of its entities.
    Passivate {
        /// Which.
        entity: EntityId,
    },
    /// Wake one of its entities.
    Wake {
        /// Which.
        entity: EntityId,
    },
    /// Hand over all of its shards.
    Drain,
    /// A shard as it sees it, whoever owns it.
    Shard {
        /// Which.
        shard: ShardId,
    },
    /// Hand over one of its shards.
    MoveShard {
        /// Which.
        shard: ShardId,
        /// To whom.
        to: String,
    },
    /// Its shards that are not where placement would have them.
    Rebalance {
        /// What to do.
        action: RebalanceAction,
    },
}

/// What only a node itself knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Introduction {
    /// What it carries.
    pub load: NodeLoad,
    /// Where its HTTP listens.
    pub http: Option<String>,
    /// Ids of its keys.
    pub key_ids: Vec<String>,
    /// Whether its shards move by themselves; absent: an older build, or it is alone.
    pub rebalance: Option<String>,
}

/// An answer on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NodeAnswer {
    Done(Value),
    Refused { code: String, detail: String },
}

/// Asks other nodes.
#[async_trait]
pub trait Peers: fmt::Debug + Send + Sync + 'static {
    /// The answer, as JSON.
    async fn ask(&self, node: &str, question: &NodeQuestion) -> Result<Value, OperatorError>;
}

/// Asks a node and reads its answer as what the question is answered with.
pub(super) async fn ask<T: DeserializeOwned>(
    peers: &dyn Peers,
    node: &str,
    question: &NodeQuestion,
) -> Result<T, OperatorError> {
    let answer = peers.ask(node, question).await?;
    serde_json::from_value(answer).map_err(|error| OperatorError::Unreachable {
        node: node.to_owned(),
        why: format!("its answer made no sense: {error}"),
    })
}

/// Peers over the node link.
#[derive(Debug)]
pub struct LinkPeers(pub Arc<NodeLink>);

#[async_trait]
impl Peers for LinkPeers {
    async fn ask(&self, node: &str, question: &NodeQuestion) -> Result<Value, OperatorError> {
        let unreachable = |why: String| OperatorError::Unreachable { node: node.to_owned(), why };
        let body = serde_json::to_vec(question).map_err(|error| unreachable(error.to_string()))?;
        let to = NodeName(node.into());
        let answer = self.0.question(&to, TOPIC, body.into(), ANSWER_TIMEOUT).await;
        let answer = answer.map_err(|error| match error {
            QuestionError::Unsupported => unreachable("it runs another version".to_owned()),
            other => unreachable(other.to_string()),
        })?;
        decode(node, &answer)
    }
}

/// An answer as it travels.
pub(super) fn decode(node: &str, answer: &[u8]) -> Result<Value, OperatorError> {
    match serde_json::from_slice(answer) {
        Ok(NodeAnswer::Done(value)) => Ok(value),
        Ok(NodeAnswer::Refused { code, detail }) => {
            Err(OperatorError::Refused { code: code.into(), detail })
        }
        Err(error) => {
            let why = format!("its answer made no sense: {error}");
            Err(OperatorError::Unreachable { node: node.to_owned(), why })
        }
    }
}

/// Answers what other nodes ask about this one.
#[derive(Debug)]
pub struct OwnAnswers(pub Arc<LocalOperator>);

#[async_trait]
impl Answerer for OwnAnswers {
    async fn answer(
        &self,
        from: &NodeName,
        topic: u16,
        question: Bytes,
    ) -> Result<Bytes, AnswerError> {
        if topic != TOPIC {
            return Err(AnswerError::UnknownTopic);
        }
        let question: NodeQuestion = serde_json::from_slice(&question)
            .map_err(|error| AnswerError::Refused(format!("the question is not known: {error}")))?;
        tracing::debug!(peer = %from, ?question, "asked by a node");
        let answer = match self.answer_own(question).await {
            Ok(value) => NodeAnswer::Done(value),
            Err(OperatorError::Refused { code, detail }) => {
                NodeAnswer::Refused { code: code.into_owned(), detail }
            }
            Err(other) => {
                NodeAnswer::Refused { code: "failed".to_owned(), detail: other.to_string() }
            }
        };
        let body = serde_json::to_vec(&answer);
        body.map(Bytes::from).map_err(|error| AnswerError::Refused(error.to_string()))
    }
}

impl OwnAnswers {
    async fn answer_own(&self, question: NodeQuestion) -> Result<Value, OperatorError> {
        let own = &self.0;
        let json = |value: &dyn erased::Json| value.json();
        Ok(match question {
            NodeQuestion::Introduce => json(&own.introduction()),
            NodeQuestion::Actors => json(&own.tree()),
            NodeQuestion::Queues => json(&own.own_queues()),
            NodeQuestion::Entities => json(&own.entities_by_shard()),
            NodeQuestion::Places { entities } => {
                let places: Vec<_> = entities.iter().map(|entity| own.place(*entity)).collect();
                json(&places)
            }
            NodeQuestion::Restart { entity } => json(&own.restart(entity)),
            NodeQuestion::Passivate { entity } => json(&own.passivate(entity).await),
            NodeQuestion::Wake { entity } => {
                own.wake_entity(entity).await?;
                Value::Null
            }
            NodeQuestion::Shard { shard } => json(&own.shard_view(shard)),
            NodeQuestion::Drain => json(&own.control()?.drain().await?),
            NodeQuestion::MoveShard { shard, to } => {
                json(&own.control()?.move_shard(shard, &to).await?)
            }
            NodeQuestion::Rebalance { action } => json(&own.rebalance_own(action).await?),
        })
    }
}

/// Any answer as JSON.
mod erased {
    use serde::Serialize;
    use serde_json::Value;

    pub(super) trait Json {
        fn json(&self) -> Value;
    }

    impl<T: Serialize> Json for T {
        fn json(&self) -> Value {
            serde_json::to_value(self).unwrap_or_default()
        }
    }
}
