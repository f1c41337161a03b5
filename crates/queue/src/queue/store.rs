//! The two engines behind the queue. Every operation has one body of Rust; each of its statements is dispatched here, by
//! [`Store`], to SQLite or to PostgreSQL.
//!
//! Both understand `$1`, `RETURNING` and `ON CONFLICT (…) DO UPDATE`, so most statements have one text. Where the dialects
//! differ, [`Sql`] holds two. What differs beyond text is what SQLite's single writer gives for nothing:
//! - a transaction of SQLite is alone; on PostgreSQL it locks what it decides by ([`for_update!`], [`Tx::lock`]);
//! - on SQLite time is that of this machine; on PostgreSQL it is the database's, the same for every host
//!   ([`super::service_time`]).

pub(super) mod notify;
pub(super) mod postgres;
pub(super) mod sqlite;
mod statement;

pub(super) use statement::{Query, Row, Sql, Target, for_update, query};

use super::QueueError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a queue is kept.
#[derive(Clone)]
pub enum Database {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres {
        /// As it was given, with the password.
        url: String,
        /// What the URL says.
        options: Box<PgConnectOptions>,
    },
}

impl PartialEq for Database {
    fn eq(&self, other: &Self) -> bool {
        self.url() == other.url()
    }
}

impl Eq for Database {}

impl Database {
    /// Is it there? A server is asked when the database is opened.
    pub fn exists(&self) -> bool {
        self.path().is_none_or(Path::exists)
    }

    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres { .. } => None,
        }
    }

    /// Asks a server whether the queue can be opened there, and changes nothing; its version. `None`: it is a file.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn look(&self) -> Result<Option<String>, QueueError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres { options, .. } => postgres::look(options).await.map(Some),
        }
    }

    /// Reads the id of the database, and changes nothing; `None`: it has none yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn look_identity(&self) -> Result<Option<String>, QueueError> {
        match self {
            Self::Sqlite(path) => sqlite::look_identity(path).await,
            Self::Postgres { options, .. } => postgres::look_identity(options).await,
        }
    }

    /// The same database for another process of ours. It holds the password, so it is not for command lines and logs.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres { url, .. } => url.clone(),
        }
    }
}

/// A URL that names no database of ours.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Neither engine.
    #[error("give `sqlite:PATH` or `postgres://USER@HOST/NAME`")]
    Unknown,
    /// PostgreSQL's, and not well formed.
    #[error("{0}")]
    Postgres(sqlx::Error),
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for Database {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&Database> for Database {
    fn from(database: &Database) -> Self {
        database.clone()
    }
}

impl FromStr for Database {
    type Err = DatabaseUrlError;

    fn from_str(url: &str) -> Result<Self, DatabaseUrlError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = url.parse().map_err(DatabaseUrlError::Postgres)?;
            return Ok(Self::Postgres { url: url.to_owned(), options: Box::new(options) });
        }
        let path = url.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match path.filter(|path| !path.is_empty() && !path.contains('?') && !path.starts_with(':')) {
            Some(path) => Ok(Self::Sqlite(path.into())),
            None => Err(DatabaseUrlError::Unknown),
        }
    }
}

/// As people know it; a password is not shown.
impl fmt::Display for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(out),
            Self::Postgres { options, .. } => {
                let name = options.get_database().unwrap_or(options.get_username());
                match options.get_socket() {
                    Some(socket) => write!(out, "{name} at {}", socket.display()),
                    None => write!(out, "{name} at {}:{}", options.get_host(), options.get_port()),
                }
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Connections to one engine; clones share them.
#[derive(Clone)]
pub(super) enum Store {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// What a transaction of PostgreSQL takes for itself; one of SQLite has the whole database.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lock<'a> {
    /// A name that clients give to a request.
    Idempotency(&'a str),
    /// The last places of a queue that is nearly full.
    LastPlaces,
    /// The shares of webhooks' receivers.
    Webhooks,
    /// The numbers of open uploads and of upload tokens.
    Uploads,
}

/// A transaction that writes. It is rolled back unless it is committed.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Store {
    pub(super) async fn begin(&self) -> Result<Tx, QueueError> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(statement::in_time(pool.begin()).await?),
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

const LOCK: &str = "SELECT pg_advisory_xact_lock($1::int, hashtext($2))";

impl Tx {
    /// Waits until no other transaction has it, and holds it to the end of this one.
    pub(super) async fn lock(&mut self, lock: Lock<'_>) -> Result<(), QueueError> {
        if matches!(self, Self::Sqlite(_)) {
            return Ok(());
        }
        let (class, name) = match lock {
            Lock::Idempotency(key) => (1, key),
            Lock::LastPlaces => (2, ""),
            Lock::Webhooks => (3, ""),
            Lock::Uploads => (4, ""),
        };
        query(LOCK).bind(i64::from(postgres::LOCKS + class)).bind(name).execute(self).await?;
        Ok(())
    }

    pub(super) async fn commit(self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => statement::in_time(tx.commit()).await?,
        }
        Ok(())
    }
}
