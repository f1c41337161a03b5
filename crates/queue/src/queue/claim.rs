//! A worker's side: take the next request, report, and end it. Every write is fenced by attempt.

use super::finished::Finished;
use super::job::{Claim, Failure, FailureKind, Level, RequestId};
use super::service_time::Moment;
use super::store::{Query, Row, Sql, Store, Tx, query};
use super::{Observation, Queue, QueueError, counters, keys, read};
use serde_json::{Value, json};

/// May the worker go on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Continue {
        /// Somebody wants to see previews.
        watched: bool,
    },
    /// The client cancelled: stop and end it as cancelled.
    Cancelled,
    /// The request belongs to another attempt, or is over: stop and write nothing.
    Fenced,
}

impl Verdict {
    /// Of a row that says whether it is cancelled and whether it is watched.
    pub(super) fn of(row: &Row) -> Result<Self, QueueError> {
        let (cancelled, watched) = (row.try_get(0)?, row.try_get(1)?);
        Ok(if cancelled { Self::Cancelled } else { Self::Continue { watched } })
    }
}

/// What became of an attempt to end a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The end is recorded.
    Recorded,
    /// It was cancelled first and is recorded as cancelled.
    Cancelled,
    /// The request belongs to another attempt, or is over: nothing was written.
    Fenced,
}

/// A file that is durable in storage and belongs to the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Name in storage.
    pub key: String,
    /// MIME type.
    pub content_type: String,
    /// Size.
    pub bytes: u64,
    /// Digest in hex.
    pub sha256: String,
}

// A key at its limit holds back its own requests only. The inner selects are run once, not once a row.
macro_rules! next {
    ($names:literal, $more:literal, $end:literal) => {
        concat!(
            "(SELECT seq FROM requests WHERE state = 'waiting'
            AND (model IS NULL OR model IN (SELECT value FROM ",
            $names,
            "))
            AND (start_before IS NULL OR start_before > $1)
            AND (rests_until IS NULL OR rests_until <= $1)
            AND (api_key IS NULL OR api_key NOT IN (SELECT id FROM api_keys WHERE concurrency <=
                (SELECT count(*) FROM requests AS r WHERE r.state = 'running' AND r.api_key = api_keys.id)))",
            $more,
            " ORDER BY priority, turn, seq LIMIT 1",
            $end,
            ")"
        )
    };
}

macro_rules! claim {
    ($next:expr) => {
        concat!(
            "UPDATE requests SET state = 'running', attempt = attempt + 1, worker = $3, lease_until = $4,
                charged = FALSE, started_at = $5
            WHERE seq = ",
            $next,
            " RETURNING id, attempt, endpoint, body, traceparent, api_key"
        )
    };
}

// Claims of PostgreSQL run at once: each takes a row that no other has locked. `$6` are keys that turned out to be at
// their limits.
const CLAIM: Sql = Sql {
    sqlite: claim!(next!("json_each($2)", "", "")),
    postgres: claim!(next!(
        "json_array_elements_text($2::json)",
        " AND (api_key IS NULL OR api_key NOT IN (SELECT value FROM json_array_elements_text($6::json)))",
        " FOR UPDATE SKIP LOCKED"
    )),
};

const PEEK: Sql = Sql {
    sqlite: concat!("SELECT body FROM requests WHERE seq = ", next!("json_each($2)", "", "")),
    postgres: concat!(
        "SELECT body FROM requests WHERE seq = ",
        next!("json_array_elements_text($2::json)", "", "")
    ),
};

macro_rules! outranked {
    ($names:literal) => {
        concat!(
            "SELECT 1 FROM requests WHERE seq = ",
            next!($names, " AND priority < (SELECT priority FROM requests WHERE id = $3)", "")
        )
    };
}

const OUTRANKED: Sql =
    Sql { sqlite: outranked!("json_each($2)"), postgres: outranked!("json_array_elements_text($2::json)") };

const RENEW: &str = "UPDATE requests SET lease_until = $3
    WHERE id = $1 AND attempt = $2 AND state = 'running'
    RETURNING cancel_requested, EXISTS
        (SELECT 1 FROM previews WHERE request = requests.id AND watched_until > $4)";

const LOG: &str = "INSERT INTO request_logs (request, at, level, message, written_at)
    VALUES ($1, $2, $3, $4, $5)";

const VERDICT: &str = "SELECT cancel_requested, EXISTS
        (SELECT 1 FROM previews WHERE request = requests.id AND watched_until > $3)
    FROM requests WHERE id = $1 AND attempt = $2 AND state = 'running'";

const FINISH: &str =
    "UPDATE requests SET state = 'done', finished_at = $3, ended_at = $5, lease_until = NULL,
        output = $4
    WHERE id = $1 AND attempt = $2 AND state = 'running' AND NOT cancel_requested";

const IS_RECORDED: &str =
    "SELECT 1 FROM requests WHERE id = $1 AND attempt = $2 AND state = 'done' AND output = $3";

const FAIL: &str = "UPDATE requests SET state = 'done', finished_at = $3, ended_at = $7, lease_until = NULL,
        failure = $4, failure_message = $5, failure_detail = $6
    WHERE id = $1 AND attempt = $2 AND state = 'running'";

const ADD_FILE: &str = "INSERT INTO files (key, request, content_type, bytes, sha256, created_at, expires_at)
    SELECT $1, id, $3, $4, $5, $6, $7 + result_life FROM requests WHERE id = $2";

impl Queue {
    /// Takes the next request for `worker` that is for one of these models, in one statement.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim(&self, worker: &str, models: &[String]) -> Result<Option<Claim>, QueueError> {
        let Some(row) = self.claim_row(worker, &json!(models).to_string()).await? else { return Ok(None) };
        self.events.wake_waiters();
        Ok(Some(Claim {
            id: RequestId::of_row(&row)?,
            attempt: row.try_get("attempt")?,
            endpoint: row.try_get("endpoint")?,
            body: read::json(row.try_get("body")?)?,
            traceparent: row.try_get("traceparent")?,
        }))
    }

    /// One statement on SQLite, which has one writer.
    async fn claim_row(&self, worker: &str, models: &str) -> Result<Option<Row>, QueueError> {
        if let Store::Sqlite(_) = &self.writer {
            let claim = Self::claim_query(self.moment(&self.writer).await?, worker, models);
            return claim.fetch_optional(&self.writer).await;
        }
        let mut at_limit = Vec::new();
        loop {
            let mut tx = self.writer.begin().await?;
            let claim = Self::claim_query(self.moment(&mut tx).await?, worker, models);
            let claim = claim.bind(json!(at_limit).to_string());
            let Some(row) = claim.fetch_optional(&mut tx).await? else { return Ok(None) };
            match row.try_get::<Option<String>, _>("api_key")? {
                // Others of the key were claimed at the same time.
                Some(key) if keys::is_above_limit(&mut tx, &key).await? => at_limit.push(key),
                _ => {
                    tx.commit().await?;
                    return Ok(Some(row));
                }
            }
        }
    }

    fn claim_query(now: Moment, worker: &str, models: &str) -> Query {
        query(CLAIM).bind(now.service).bind(models).bind(worker).bind(now.lease_end).bind(now.date)
    }

    /// The body of the request that a claim for these models would take now. Promises nothing and changes nothing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn peek(&self, models: &[String]) -> Result<Option<Value>, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let query = query(PEEK).bind(now).bind(json!(models).to_string());
        let row = query.fetch_optional(&self.reader).await?;
        row.map(|row| read::json(row.try_get("body")?)).transpose()
    }

    /// Whether a request of a higher priority waits that a claim for these models would take now.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn must_give_way(&self, claim: &Claim, models: &[String]) -> Result<bool, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let query = query(OUTRANKED).bind(now).bind(json!(models).to_string()).bind(claim.id.to_string());
        Ok(query.fetch_optional(&self.reader).await?.is_some())
    }

    /// Adds a log line and renews the lease.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn progress(&self, claim: &Claim, level: Level, message: &str) -> Result<Verdict, QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let row = query(RENEW)
            .bind(claim.id.to_string())
            .bind(claim.attempt)
            .bind(now.lease_end)
            .bind(now.service)
            .fetch_optional(&mut tx)
            .await?;
        let Some(row) = row else { return Ok(Verdict::Fenced) };
        let verdict = Verdict::of(&row)?;
        add_log(&mut tx, claim.id, now, level, message).await?;
        tx.commit().await?;
        self.events.wake_waiters();
        Ok(verdict)
    }

    /// May the worker go on? Only looks.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn verdict(&self, claim: &Claim) -> Result<Verdict, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let row = query(VERDICT)
            .bind(claim.id.to_string())
            .bind(claim.attempt)
            .bind(now)
            .fetch_optional(&self.reader)
            .await?;
        row.map_or(Ok(Verdict::Fenced), |row| Verdict::of(&row))
    }

    /// Records the output, its files and what was seen meanwhile, in one transaction. May be called again with the same
    /// output when it is not known whether the first call succeeded.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish(
        &self,
        claim: &Claim,
        output: &Value,
        files: &[StoredFile],
        seen: &[Observation],
    ) -> Result<Finish, QueueError> {
        let output = output.to_string();
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let done = query(FINISH)
            .bind(claim.id.to_string())
            .bind(claim.attempt)
            .bind(now.date)
            .bind(&output)
            .bind(now.service)
            .execute(&mut tx)
            .await?;
        let (answer, finished) = if done == 1 {
            for file in files {
                add_file(&mut tx, claim.id, file, now).await?;
            }
            counters::count_all(&mut tx, seen).await?;
            (Finish::Recorded, Some(Finished::read(&mut tx, claim.id).await?))
        } else if is_recorded(&mut tx, claim, &output).await? {
            (Finish::Recorded, None)
        } else {
            end_cancelled(&mut tx, claim, now).await?
        };
        tx.commit().await?;
        if answer == Finish::Recorded {
            self.events.note_finished();
        }
        finished.iter().for_each(Finished::log);
        self.events.wake_waiters();
        Ok(answer)
    }

    /// Records that there will be no output.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn fail(&self, claim: &Claim, failure: &Failure) -> Result<Finish, QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let finished = end_failed(&mut tx, claim, failure, now).await?;
        tx.commit().await?;
        finished.iter().for_each(Finished::log);
        self.events.wake_waiters();
        Ok(if finished.is_some() { Finish::Recorded } else { Finish::Fenced })
    }
}

/// Whether an earlier call recorded this output.
async fn is_recorded(tx: &mut Tx, claim: &Claim, output: &str) -> Result<bool, QueueError> {
    let query = query(IS_RECORDED).bind(claim.id.to_string()).bind(claim.attempt).bind(output);
    Ok(query.fetch_optional(&mut *tx).await?.is_some())
}

/// Ends a claim whose client cancelled it; [`Finish::Fenced`] when it is not ours any more.
pub(super) async fn end_cancelled(
    tx: &mut Tx,
    claim: &Claim,
    now: Moment,
) -> Result<(Finish, Option<Finished>), QueueError> {
    let finished = end_failed(tx, claim, &Failure::of(FailureKind::Cancelled), now).await?;
    Ok((if finished.is_some() { Finish::Cancelled } else { Finish::Fenced }, finished))
}

/// Ends a claim without an output; `None` when it is not ours any more.
pub(super) async fn end_failed(
    tx: &mut Tx,
    claim: &Claim,
    failure: &Failure,
    now: Moment,
) -> Result<Option<Finished>, QueueError> {
    let done = query(FAIL)
        .bind(claim.id.to_string())
        .bind(claim.attempt)
        .bind(now.date)
        .bind(failure.kind.word())
        .bind(&failure.message)
        .bind(failure.detail.as_ref().map(ToString::to_string))
        .bind(now.service)
        .execute(&mut *tx)
        .await?;
    if done != 1 {
        return Ok(None);
    }
    let level = if failure.kind == FailureKind::Cancelled { Level::Info } else { Level::Error };
    add_log(tx, claim.id, now, level, &failure.message).await?;
    Finished::read(tx, claim.id).await.map(Some)
}

pub(super) async fn add_log(
    tx: &mut Tx,
    id: RequestId,
    now: Moment,
    level: Level,
    message: &str,
) -> Result<(), QueueError> {
    query(LOG)
        .bind(id.to_string())
        .bind(now.date)
        .bind(level.word())
        .bind(message)
        .bind(now.service)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn add_file(tx: &mut Tx, id: RequestId, file: &StoredFile, now: Moment) -> Result<(), QueueError> {
    query(ADD_FILE)
        .bind(&file.key)
        .bind(id.to_string())
        .bind(&file.content_type)
        .bind(i64::try_from(file.bytes).unwrap_or(i64::MAX))
        .bind(&file.sha256)
        .bind(now.date)
        .bind(now.service)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
