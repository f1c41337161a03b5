//! `latentd keys`: makes, lists and revokes keys, also while the server runs.

use crate::args::{CreateKeyArgs, KeyStoreArgs, KeysCommand};
use crate::config::{ConfigError, StoreConfig};
use crate::data_dir;
use crate::keys::KeyHash;
use crate::printable::printable;
use crate::queue::{ApiKey, Database, NewKey, Queue, Revocation, Scope};
use jiff::Timestamp;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// Carries out a command.
pub(crate) async fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => create(args).await,
        KeysCommand::List { json, store } => {
            let queue = existing(store).await?;
            print(&queue.keys().await?, json);
            queue.close().await;
            Ok(())
        }
        KeysCommand::Revoke { id, store } => revoke(&id, store).await,
    }
}

/// The key alone goes to standard output, for scripts; it is shown this once.
async fn create(args: CreateKeyArgs) -> anyhow::Result<()> {
    let database = database(args.store)?;
    if let Some(directory) = database.path().and_then(Path::parent) {
        data_dir::make(directory)
            .map_err(|error| anyhow::anyhow!("data directory {}: {error}", directory.display()))?;
    }
    let queue = open(&database).await?;
    let id = Uuid::new_v4().to_string();
    let key = format!("{id}:{:032x}", rand::random::<u128>());
    let new = NewKey {
        id,
        sha256: KeyHash::of(&key).0,
        name: args.name,
        scope: if args.scope == "admin" { Scope::Admin } else { Scope::Api },
        concurrency: args.concurrency,
    };
    queue.add_key(&new).await?;
    queue.close().await;
    println!("{key}");
    eprintln!("This is the only time that the key is shown. Clients send it as their FAL_KEY.");
    Ok(())
}

async fn revoke(id: &str, store: KeyStoreArgs) -> anyhow::Result<()> {
    let queue = existing(store).await?;
    let done = queue.revoke_key(id).await?;
    queue.close().await;
    match done {
        Revocation::Revoked => eprintln!("revoked {id}: a running server refuses it within a second"),
        Revocation::AlreadyRevoked => eprintln!("{id} was revoked before"),
        Revocation::Unknown => {
            anyhow::bail!("there is no key {id:?}: give an id as `latentd keys list` shows it")
        }
    }
    Ok(())
}

/// A missing database means a wrong directory, not an empty list.
async fn existing(store: KeyStoreArgs) -> anyhow::Result<Queue> {
    let database = database(store)?;
    if !database.exists() {
        anyhow::bail!("there is no database {database}: give the --data-dir or --database-url of the server");
    }
    open(&database).await
}

async fn open(database: &Database) -> anyhow::Result<Queue> {
    Ok(Queue::open(database, Arc::new(Timestamp::now)).await?)
}

fn database(store: KeyStoreArgs) -> Result<Database, ConfigError> {
    Ok(StoreConfig::resolve(store.into())?.database)
}

fn print(keys: &[ApiKey], json: bool) {
    if json {
        println!("{:#}", serde_json::Value::from_iter(keys.iter().map(as_json)));
        return;
    }
    if keys.is_empty() {
        println!("There are no keys. Make one: latentd keys create");
        return;
    }
    println!(
        "{:<36}  {:<5}  {:>11}  {:<20}  {:<20}  {:<7}  NAME",
        "ID", "SCOPE", "CONCURRENCY", "CREATED", "LAST USED", "STATE"
    );
    for key in keys {
        let state = if key.revoked_at.is_some() { "revoked" } else { "live" };
        let limit = key.concurrency.map_or_else(|| "-".into(), |limit| limit.to_string());
        println!(
            "{:<36}  {:<5}  {limit:>11}  {:<20}  {:<20}  {state:<7}  {}",
            printable(&key.id),
            key.scope.word(),
            second(key.created_at),
            key.last_used_at.map_or_else(|| "never".into(), second),
            printable(&key.name),
        );
    }
}

fn as_json(key: &ApiKey) -> serde_json::Value {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    json!({
        "id": key.id,
        "name": key.name,
        "scope": key.scope.word(),
        "concurrency": key.concurrency,
        "created_at": key.created_at.to_string(),
        "last_used_at": time(key.last_used_at),
        "revoked_at": time(key.revoked_at),
    })
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
