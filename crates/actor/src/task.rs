//! Spawned tasks with a name, whose panics are logged.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use futures::FutureExt;
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::supervise::panic_text;

/// Why a task gave no result.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TaskError {
    /// It panicked; the log says how.
    #[error("the task `{name}` panicked")]
    Panicked {
        /// Its name.
        name: &'static str,
    },
    /// It was aborted, or its runtime ended.
    #[error("the task `{name}` was aborted")]
    Aborted {
        /// Its name.
        name: &'static str,
    },
}

/// A spawned task. Dropping it lets the task run on, unless [`abort_on_drop`] was said.
///
/// [`abort_on_drop`]: TaskHandle::abort_on_drop
#[derive(Debug)]
pub struct TaskHandle<T = ()> {
    name: &'static str,
    inner: JoinHandle<T>,
    abort_on_drop: bool,
}

impl<T> TaskHandle<T> {
    /// The name it was spawned with.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// From now on dropping the handle aborts the task at its next await.
    #[must_use]
    pub const fn abort_on_drop(mut self) -> Self {
        self.abort_on_drop = true;
        self
    }

    /// Aborts the task at its next await.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Whether it ended, in whatever way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
}

/// Resolves with the task's result; put a timeout around it if the task may hang.
impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Pin::new(&mut self.inner).poll(cx).map_err(|error| {
            if error.is_panic() {
                TaskError::Panicked { name }
            } else {
                TaskError::Aborted { name }
            }
        })
    }
}

impl<T> Drop for TaskHandle<T> {
    fn drop(&mut self) {
        if self.abort_on_drop {
            self.inner.abort();
        }
    }
}

/// Spawns a task on the current runtime, inside the current span. A panic in it is logged as
/// an ERROR with `name` and comes out of the handle.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn_task<F>(name: &'static str, future: F) -> TaskHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let guarded = async move {
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => output,
            Err(panic) => {
                tracing::error!(job = name, panic = %panic_text(&*panic), "task panicked");
                std::panic::resume_unwind(panic)
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns, with a name")]
    let inner = tokio::spawn(guarded.in_current_span());
    TaskHandle { name, inner, abort_on_drop: false }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_result_comes_back() {
        assert_eq!(spawn_task("adder", async { 1 + 1 }).await, Ok(2));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_the_name() {
        let task = spawn_task("doomed", async { panic!("on purpose") });
        assert_eq!(task.await, Err::<(), _>(TaskError::Panicked { name: "doomed" }));
    }

    #[tokio::test]
    async fn dropping_aborts_only_on_demand() {
        let (go, gone) = oneshot::channel::<()>();
        let (told, tell) = oneshot::channel::<()>();
        drop(spawn_task("free", async move {
            let _ = gone.await;
            let _ = told.send(());
        }));
        go.send(()).unwrap();
        tell.await.unwrap();

        let (held, hold) = oneshot::channel::<()>();
        let bound = spawn_task("bound", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(bound.abort_on_drop());
        assert!(hold.await.is_err(), "the task's own things are dropped with it");
    }
}
