//! What a server does beside answering. Such a task never ends by itself; one that does has panicked, and a server that
//! goes on without it would sweep or collect no more, and nobody would know.

use std::collections::HashMap;
use std::convert::Infallible;

use tokio::task::{Id, JoinError, JoinSet};

use crate::failure::Failure;

/// Tasks that end with their server, and by nothing else. They end when this is dropped.
#[derive(Default)]
pub(crate) struct Background {
    tasks: JoinSet<Infallible>,
    names: HashMap<Id, &'static str>,
}

impl Background {
    /// Starts a task. Its name says what it does.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Infallible> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until a task has ended although its server goes on, and tells which.
    pub(crate) async fn failed(&mut self) -> Failure {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(never)) => match never {},
            Some(Err(error)) => {
                let name = self.names.get(&error.id()).copied().unwrap_or("some task");
                let failure = Failure::new(format!("{name}: this has ended, and must not"))
                    .because(why(error));
                tracing::error!(error = %failure.chain(), "the server ends: a part of it failed");
                failure
            }
        }
    }
}

fn why(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_beside_those_that_go_on() {
        let mut background = Background::default();
        background.start("waiting", std::future::pending());
        background.start("collecting garbage", async { panic!("row {} has no name", 7) });
        let failure = background.failed().await;
        assert_eq!(
            failure.chain(),
            "collecting garbage: this has ended, and must not: it panicked: row 7 has no name"
        );
    }

    #[tokio::test]
    async fn nothing_fails_while_they_go_on() {
        let mut background = Background::default();
        assert!(background.failed().now_or_never().is_none());
        background.start("waiting", std::future::pending());
        tokio::task::yield_now().await;
        assert!(background.failed().now_or_never().is_none());
    }
}
