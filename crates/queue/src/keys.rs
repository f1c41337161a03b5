//! The keys that open the API, in memory: calls are checked without asking the database, which
//! is looked at once a second for keys that came or went.

use crate::queue::{Queue, QueueError, Scope};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};

/// How often the table is looked at: a revoked key works no longer than this.
const LOOK: Duration = Duration::from_secs(1);

/// Looks between two times that the last uses are written down.
const LOOKS_PER_WRITE: u32 = 60;

/// SHA-256 of an API key; the key itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Digest of a key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KeyHash(…)")
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Id of the key in the table; `None` with a key of the command line, or without keys.
    pub key: Option<String>,
    /// What the caller may do.
    pub scope: Scope,
}

impl Caller {
    /// Whoever needs no key, or has one of the command line: the operator.
    pub fn operator() -> Self {
        Self { key: None, scope: Scope::Admin }
    }

    /// Somebody who uses models, by a key of the table if its id is there.
    pub fn user(key: Option<String>) -> Self {
        Self { key, scope: Scope::Api }
    }
}

/// All keys; clones share them.
#[derive(Clone, Default)]
pub struct KeyRing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Of the command line.
    fixed: Vec<KeyHash>,
    table: RwLock<Table>,
    /// Last uses that are not written down.
    uses: Mutex<HashMap<String, Timestamp>>,
}

/// What the database said last.
#[derive(Default)]
struct Table {
    /// It has keys, if only revoked ones.
    has_rows: bool,
    /// Digests and scopes of the keys that open the API, by id.
    live: HashMap<String, ([u8; 32], Scope)>,
}

impl KeyRing {
    /// The keys of the command line, and none of the table before [`Self::refresh`].
    pub fn new(fixed: Vec<KeyHash>) -> Self {
        Self(Arc::new(Inner { fixed, ..Inner::default() }))
    }

    /// `true` while there never was a key: then nobody needs one. Revoking the last key does not
    /// open what it closed.
    pub fn is_open(&self) -> bool {
        self.0.fixed.is_empty() && !self.table().has_rows
    }

    /// Who holds this key; `None` when it opens nothing.
    pub fn holder(&self, key: &str, now: Timestamp) -> Option<Caller> {
        let sent = KeyHash::of(key);
        if let Some((id, _)) = key.split_once(':')
            && let Some((known, scope)) = self.table().live.get(id)
            && bool::from(known.ct_eq(&sent.0))
        {
            self.note_use(id, now);
            return Some(Caller { key: Some(id.to_owned()), scope: *scope });
        }
        // All are compared, each in constant time, so that the time taken reveals nothing.
        let fixed = &self.0.fixed;
        let found = fixed.iter().fold(Choice::from(0), |found, known| found | known.0.ct_eq(&sent.0));
        bool::from(found).then(Caller::operator)
    }

    /// What a token of this caller is bound to: it changes when the key behind it goes.
    /// `None` when there is no such key any more.
    pub fn seal(&self, caller: &Caller) -> Option<[u8; 32]> {
        if let Some(id) = &caller.key {
            return self.table().live.get(id).map(|(digest, _)| *digest);
        }
        let nameless_may_call = !self.0.fixed.is_empty() || self.is_open();
        let all = self.0.fixed.iter().fold(Sha256::new(), |all, key| all.chain_update(key.0));
        nameless_may_call.then(|| all.finalize().into())
    }

    /// Reads the table.
    ///
    /// # Errors
    /// When the database refuses; the keys stay as they were then.
    pub async fn refresh(&self, queue: &Queue) -> Result<(), QueueError> {
        let keys = queue.keys().await?;
        let has_rows = !keys.is_empty();
        let live = keys.into_iter().filter(|key| key.revoked_at.is_none());
        let live = live.map(|key| (key.id, (key.sha256, key.scope))).collect();
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = Table { has_rows, live };
        Ok(())
    }

    /// Writes down when keys were last used.
    ///
    /// # Errors
    /// When the database refuses; the next call tries again.
    pub async fn write_uses(&self, queue: &Queue) -> Result<(), QueueError> {
        let uses: Vec<_> = self.uses().iter().map(|(id, at)| (id.clone(), *at)).collect();
        if uses.is_empty() {
            return Ok(());
        }
        queue.keys_used(&uses).await?;
        let mut left = self.uses();
        for (id, at) in uses {
            if left.get(&id) == Some(&at) {
                left.remove(&id);
            }
        }
        Ok(())
    }

    /// Keeps up with the table for as long as it is polled.
    pub async fn follow(self, queue: Queue) {
        let mut clock = tokio::time::interval(LOOK);
        for look in (1..=LOOKS_PER_WRITE).cycle() {
            clock.tick().await;
            if let Err(error) = self.refresh(&queue).await {
                tracing::warn!(%error, "keys not read again");
            }
            if look == LOOKS_PER_WRITE
                && let Err(error) = self.write_uses(&queue).await
            {
                tracing::warn!(%error, "last uses of keys not written down");
            }
        }
    }

    fn note_use(&self, id: &str, now: Timestamp) {
        let mut uses = self.uses();
        match uses.get_mut(id) {
            Some(at) => *at = now,
            None => drop(uses.insert(id.to_owned(), now)),
        }
    }

    fn table(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.0.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
