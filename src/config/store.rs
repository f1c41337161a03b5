//! Where requests and files are kept: the data directory, the database and the folder of files.

use super::{ConfigError, files, refuse, secret};
use crate::args::{StoreArgs, default_data_dir, variable};
use crate::queue::Database;
use crate::storage::Location;
use std::path::{Path, PathBuf};

/// Where requests and files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Everything below is inside unless a flag moved it.
    pub data_dir: PathBuf,
    /// The queue's database.
    pub database: Database,
    /// Directory or bucket of the files.
    pub files: Location,
}

impl StoreConfig {
    /// The file of SQLite that `command` works on.
    ///
    /// # Errors
    /// When the database is PostgreSQL's.
    pub fn database_file(&self, command: &str) -> Result<&Path, ConfigError> {
        self.database.path().ok_or_else(|| {
            ConfigError(format!(
                "`latentd {command}` keeps copies of SQLite only: copy {} with pg_dump, and {} as it is",
                self.database, self.files
            ))
        })
    }

    /// Checks the flags that say where things are kept.
    ///
    /// # Errors
    /// A line that says what to change.
    pub fn resolve(args: StoreArgs) -> Result<Self, ConfigError> {
        let StoreArgs { data_dir, database_url, database_url_file, storage } = args;
        let data_dir = data_dir.unwrap_or_else(default_data_dir);
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|error| ConfigError(format!("--data-dir {}: {error}", data_dir.display())))?;
        let names = ["--database-url", "--database-url-file"];
        let database = match secret::either(names, database_url, database_url_file)? {
            None => Database::Sqlite(data_dir.join("latentd.sqlite")),
            Some(url) => database(&url)?,
        };
        let files = files::parse(storage.as_deref(), &data_dir, variable)?;
        Ok(Self { data_dir, database, files })
    }
}

fn database(url: &str) -> Result<Database, ConfigError> {
    match url.parse() {
        Ok(Database::Sqlite(path)) => std::path::absolute(path)
            .map(Database::Sqlite)
            .map_err(|error| ConfigError(format!("--database-url {url}: {error}"))),
        Ok(server) => Ok(server),
        // It may hold a password.
        Err(error) => refuse(format!("--database-url: {error}")),
    }
}
