//! A statement with its values, sent to either engine, and the rows that come back.

use super::{QueueError, Store, Tx};
use crate::planted::{self, Bug};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Type};
use std::future::Future;
use std::time::Duration;

/// How long a statement may take. A server that is cut off does not refuse, it says nothing.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// What a statement says, in both dialects.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Sql {
    pub(in super::super) sqlite: &'static str,
    pub(in super::super) postgres: &'static str,
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self { sqlite: both, postgres: both }
    }
}

/// A select whose rows the transaction then decides by. PostgreSQL locks them until it ends.
macro_rules! for_update {
    ($sql:expr) => {
        $crate::queue::store::Sql { sqlite: $sql, postgres: concat!($sql, " FOR UPDATE") }
    };
}
pub(in super::super) use for_update;

/// What is bound. Its type is known where it is NULL, too: PostgreSQL wants to know.
#[derive(Debug, Clone)]
pub(in super::super) enum Value {
    Int(Option<i64>),
    Real(f64),
    Bool(bool),
    Text(Option<String>),
    Blob(Vec<u8>),
}

macro_rules! values {
    ($($from:ty, $value:ident => $to:expr;)+) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self { $to }
        })+
    };
}

values! {
    i64, value => Self::Int(Some(value));
    u32, value => Self::Int(Some(value.into()));
    Option<i64>, value => Self::Int(value);
    Option<u32>, value => Self::Int(value.map(i64::from));
    f64, value => Self::Real(value);
    bool, value => Self::Bool(value);
    String, value => Self::Text(Some(value));
    &String, value => Self::Text(Some(value.clone()));
    &str, value => Self::Text(Some(value.to_owned()));
    Option<String>, value => Self::Text(value);
    &Option<String>, value => Self::Text(value.clone());
    Option<&String>, value => Self::Text(value.cloned());
    Option<&str>, value => Self::Text(value.map(str::to_owned));
    &[u8], value => Self::Blob(value.to_vec());
    Vec<u8>, value => Self::Blob(value);
}

/// A statement and its values.
#[derive(Debug)]
pub(in super::super) struct Query {
    sql: Sql,
    values: Vec<Value>,
}

pub(in super::super) fn query(sql: impl Into<Sql>) -> Query {
    let mut sql = sql.into();
    if planted::has(Bug::UnfencedWrites) {
        sql = Sql { sqlite: planted::unfenced(sql.sqlite), postgres: planted::unfenced(sql.postgres) };
    }
    Query { sql, values: Vec::new() }
}

/// Where a statement runs.
pub(in super::super) enum Target<'a> {
    SqlitePool(&'a SqlitePool),
    SqliteConnection(&'a mut SqliteConnection),
    PgPool(&'a PgPool),
    PgConnection(&'a mut PgConnection),
}

impl<'a> From<&'a Store> for Target<'a> {
    fn from(store: &'a Store) -> Self {
        match store {
            Store::Sqlite(pool) => Self::SqlitePool(pool),
            Store::Postgres(pool) => Self::PgPool(pool),
        }
    }
}

impl<'a> From<&'a mut Tx> for Target<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        match tx {
            Tx::Sqlite(tx) => Self::SqliteConnection(tx),
            Tx::Postgres(tx) => Self::PgConnection(tx),
        }
    }
}

impl Target<'_> {
    pub(in super::super) fn is_sqlite(&self) -> bool {
        matches!(self, Self::SqlitePool(_) | Self::SqliteConnection(_))
    }
}

/// A statement of one engine, with its values bound in order.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Real(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Blob(value) => query.bind(value),
            };
        }
        query
    }};
}

/// Runs a statement where it belongs; what the engine answers is wrapped by `$sqlite` or `$postgres`.
macro_rules! run {
    ($query:expr, $target:expr, $method:ident, $sqlite:expr, $postgres:expr) => {{
        let Query { sql, values } = $query;
        match $target.into() {
            Target::SqlitePool(pool) => bound!(sql.sqlite, values).$method(pool).await.map($sqlite)?,
            Target::SqliteConnection(on) => bound!(sql.sqlite, values).$method(on).await.map($sqlite)?,
            Target::PgPool(pool) => {
                in_time(bound!(sql.postgres, values).$method(pool)).await.map($postgres)?
            }
            Target::PgConnection(on) => {
                in_time(bound!(sql.postgres, values).$method(on)).await.map($postgres)?
            }
        }
    }};
}

impl Query {
    pub(in super::super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Returns how many rows were changed.
    pub(in super::super) async fn execute(self, target: impl Into<Target<'_>>) -> Result<u64, QueueError> {
        Ok(run!(self, target, execute, |done| done.rows_affected(), |done| done.rows_affected()))
    }

    pub(in super::super) async fn fetch_all(
        self,
        target: impl Into<Target<'_>>,
    ) -> Result<Vec<Row>, QueueError> {
        let sqlite = |rows: Vec<_>| rows.into_iter().map(Row::Sqlite).collect();
        let postgres = |rows: Vec<_>| rows.into_iter().map(Row::Postgres).collect();
        Ok(run!(self, target, fetch_all, sqlite, postgres))
    }

    pub(in super::super) async fn fetch_optional(
        self,
        target: impl Into<Target<'_>>,
    ) -> Result<Option<Row>, QueueError> {
        Ok(run!(self, target, fetch_optional, |row| row.map(Row::Sqlite), |row| row.map(Row::Postgres)))
    }

    pub(in super::super) async fn fetch_one(self, target: impl Into<Target<'_>>) -> Result<Row, QueueError> {
        Ok(run!(self, target, fetch_one, Row::Sqlite, Row::Postgres))
    }
}

/// What a server answers, if it does in time.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    if planted::has(Bug::NoStatementLimit) {
        return answer.await;
    }
    match tokio::time::timeout(STATEMENT_LIMIT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database server does not answer",
        ))),
    }
}

/// A row of either engine.
pub(in super::super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(in super::super) fn try_get<'r, T, I>(&'r self, column: I) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Self::Sqlite(row) => sqlx::Row::try_get(row, column),
            Self::Postgres(row) => sqlx::Row::try_get(row, column),
        }
    }
}
