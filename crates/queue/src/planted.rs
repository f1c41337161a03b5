//! Bugs that a debug build has on demand, each of which breaks one promise: they show that the tests which should fail when
//! it is broken do fail. `scripts/crash --planted` plants each and runs its test.
//!
//! `LATENTD_PLANTED_BUG=NAME` plants one. A build without debug assertions has none of them and does not read the variable:
//! [`has`] is the constant `false` there. No other code depends on how the program was built.

use std::sync::OnceLock;
use std::time::Duration;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A worker's writes are not fenced by attempt: one that was given up still ends the request.
    UnfencedWrites,
    /// A submit is answered before it is committed.
    AnswerBeforeCommit,
    /// The claims of a dead worker stay with it.
    NoReclaim,
    /// A state is stored while half of it is not there yet.
    TornState,
    /// An idempotency key finds nothing.
    KeyForgotten,
    /// A file counts as stored before it is written.
    FileNotAwaited,
    /// A webhook that was not delivered is not tried again.
    WebhookNotRetried,
    /// Nothing is synced to the disk.
    NoSync,
    /// A statement whose answer never comes is waited for without a limit.
    NoStatementLimit,
    /// Whose a request or file is makes no difference.
    OwnerIgnored,
    /// A result is removed before its time.
    ResultsRemovedEarly,
    /// An input is kept after its time.
    InputsKept,
    /// What was deleted stays in SQLite's write-ahead log.
    WalKept,
}

/// How much later than it should something planted happens: long enough for a kill at a random time to come first.
const DELAY: Duration = Duration::from_secs(1);

const VARIABLE: &str = "LATENTD_PLANTED_BUG";

const NAMES: [(&str, Bug); 13] = [
    ("unfenced-writes", Bug::UnfencedWrites),
    ("answer-before-commit", Bug::AnswerBeforeCommit),
    ("no-reclaim", Bug::NoReclaim),
    ("torn-state", Bug::TornState),
    ("key-forgotten", Bug::KeyForgotten),
    ("file-not-awaited", Bug::FileNotAwaited),
    ("webhook-not-retried", Bug::WebhookNotRetried),
    ("no-sync", Bug::NoSync),
    ("no-statement-limit", Bug::NoStatementLimit),
    ("owner-ignored", Bug::OwnerIgnored),
    ("results-removed-early", Bug::ResultsRemovedEarly),
    ("inputs-kept", Bug::InputsKept),
    ("wal-kept", Bug::WalKept),
];

static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();

/// Whether this bug is planted in this process.
pub fn has(bug: Bug) -> bool {
    cfg!(debug_assertions) && *PLANTED.get_or_init(planted) == Some(bug)
}

/// The bug that the environment names. An unknown name must not pass for a test that found nothing.
fn planted() -> Option<Bug> {
    let name = std::env::var(VARIABLE).ok()?;
    let bug = named(&name).unwrap_or_else(|| panic!("{VARIABLE}={name}: there is no such bug"));
    tracing::error!(?bug, "{VARIABLE} is set: this process has a planted bug");
    Some(bug)
}

fn named(name: &str) -> Option<Bug> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
}

/// Does the work a second later, and nobody waits for it.
pub(crate) fn later<T>(work: impl Future<Output = T> + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(DELAY).await;
        work.await;
    });
}

/// A statement without its fence.
pub(crate) fn unfenced(sql: &'static str) -> &'static str {
    const FENCE: &str = "AND attempt = $2 AND state = 'running'";
    match sql.contains(FENCE) {
        true => sql.replace(FENCE, "AND $2 > 0").leak(),
        false => sql,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_planted_by_its_name_alone() {
        assert_eq!(named("no-reclaim"), Some(Bug::NoReclaim));
        assert_eq!(named("no_reclaim"), None);
        assert!(NAMES.iter().all(|(_, bug)| !has(*bug)), "the tests themselves have none");
    }

    #[test]
    fn a_fence_is_removed_and_nothing_else() {
        let fenced = "UPDATE requests SET charged = TRUE WHERE id = $1 AND attempt = $2 AND state = 'running' RETURNING 1";
        assert_eq!(
            unfenced(fenced),
            "UPDATE requests SET charged = TRUE WHERE id = $1 AND $2 > 0 RETURNING 1"
        );
        assert_eq!(unfenced("SELECT 1"), "SELECT 1");
    }
}
