//! Supervision: what became of a child, told in one closed enum.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;
use ractor::{ActorId, ActorProcessingErr, SupervisionEvent};
use thiserror::Error;

/// How a child ended.
#[derive(Debug)]
pub enum ChildEnd {
    /// It was stopped, or killed.
    Stopped {
        /// Which.
        id: ActorId,
        /// The reason given, if any.
        reason: Option<String>,
    },
    /// It returned an error or panicked.
    Crashed {
        /// Which.
        id: ActorId,
        /// What it returned, or the panic's text.
        error: ActorProcessingErr,
    },
}

/// Sorts a supervision event: `None` is no end of a child.
///
/// By ractor's default the end of any child stops its parent. House actors override
/// `handle_supervisor_evt`, call this, and decide.
#[must_use]
pub fn child_end(event: SupervisionEvent) -> Option<ChildEnd> {
    match event {
        SupervisionEvent::ActorTerminated(cell, _, reason) => {
            Some(ChildEnd::Stopped { id: cell.get_id(), reason })
        }
        SupervisionEvent::ActorFailed(cell, error) => {
            Some(ChildEnd::Crashed { id: cell.get_id(), error })
        }
        _ => None,
    }
}

/// A panic that was caught.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("panicked: {text}")]
pub struct Panicked {
    /// What the panic said.
    pub text: String,
}

/// Runs a future to its end; a panic becomes an error instead of unwinding further.
///
/// What the future had borrowed may be in any state afterwards: throw it away.
///
/// # Errors
/// [`Panicked`].
pub async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Panicked> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| Panicked { text: panic_text(&*panic) })
}

/// The text of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no text)".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ractor::{Actor, ActorRef};
    use ractor_cluster_derive::RactorMessage;
    use tokio::sync::mpsc;

    use super::*;

    #[derive(Debug, RactorMessage)]
    enum ParentMsg {
        Spawn,
    }

    #[derive(Debug, RactorMessage)]
    enum ChildMsg {
        Crash,
    }

    struct Child;

    impl Actor for Child {
        type Msg = ChildMsg;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<ChildMsg>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: ActorRef<ChildMsg>,
            ChildMsg::Crash: ChildMsg,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            Err("on purpose".into())
        }
    }

    struct Parent(mpsc::Sender<ChildEnd>);

    impl Actor for Parent {
        type Msg = ParentMsg;
        type State = ();
        type Arguments = ();

        async fn pre_start(
            &self,
            _: ActorRef<ParentMsg>,
            (): (),
        ) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            me: ActorRef<ParentMsg>,
            ParentMsg::Spawn: ParentMsg,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            let (child, _) = Actor::spawn_linked(None, Child, (), me.get_cell()).await?;
            child.send_message(ChildMsg::Crash)?;
            Ok(())
        }

        async fn handle_supervisor_evt(
            &self,
            _: ActorRef<ParentMsg>,
            event: SupervisionEvent,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            if let Some(end) = child_end(event) {
                self.0.send(end).await?;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_crashed_child_leaves_its_parent_alive() {
        let (tell, mut told) = mpsc::channel(4);
        let (parent, _) = Actor::spawn(None, Parent(tell), ()).await.unwrap();
        for _ in 0..2 {
            parent.send_message(ParentMsg::Spawn).unwrap();
            let end = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.unwrap();
            let Some(ChildEnd::Crashed { error, .. }) = end else { panic!("{end:?}") };
            assert_eq!(error.to_string(), "on purpose");
        }
        assert_eq!(
            crate::stop_within(&parent, Duration::from_secs(10)).await,
            crate::StopOutcome::Stopped
        );
    }

    #[tokio::test]
    async fn panics_have_a_text() {
        let n = 7;
        let caught = catch_panic(async { panic!("number {n}") }).await;
        assert_eq!(caught, Err::<(), _>(Panicked { text: "number 7".to_owned() }));
        assert_eq!(catch_panic(async { n }).await, Ok(7));
    }
}
