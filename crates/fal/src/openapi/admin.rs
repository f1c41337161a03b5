//! The calls of an administrator.

use super::entry::Entry;
use super::parts::{json, segment, text};
use crate::calls::admin::Draining;
use crate::calls::admin::keys::{AdminKeys, Revoked};
use crate::calls::admin::requests::AdminRequests;
use crate::calls::admin::storage::AdminStorage;
use crate::calls::admin::workers::AdminWorkers;

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::of("adminRequests")
            .does("admin", "What waits, what runs, and what failed lately")
            .answers(200, json::<AdminRequests>("The queue."))
            .refuses(&[400, 401, 403, 500, 503]),
        Entry::of("adminWorkers")
            .does("admin", "The workers, and the devices of this server")
            .answers(200, json::<AdminWorkers>("Workers and devices."))
            .refuses(&[400, 401, 403, 500, 503]),
        Entry::of("adminKeys")
            .does("admin", "The keys, without their secrets")
            .answers(200, json::<AdminKeys>("Keys."))
            .refuses(&[400, 401, 403, 500, 503]),
        Entry::of("revokeKey")
            .does("admin", "Revoke a key")
            .about("It opens nothing any more, and its tokens neither. What it submitted goes on.")
            .takes([segment("key_id", "The key's public half.", text())])
            .answers(200, json::<Revoked>("It opens nothing any more."))
            .refuses(&[400, 401, 403, 404, 500, 503]),
        Entry::of("adminStorage")
            .does("admin", "What files take, and what is free")
            .answers(200, json::<AdminStorage>("Storage."))
            .refuses(&[400, 401, 403, 500, 503]),
        Entry::of("drain")
            .does("admin", "Stop the server when what runs is over")
            .about(
                "As SIGTERM does: nothing new is accepted, requests that run are finished or put back into the queue, those \
                 that wait stay there, and the process ends.",
            )
            .answers(200, json::<Draining>("It stops."))
            .refuses(&[400, 401, 403, 500, 503]),
    ]
}
