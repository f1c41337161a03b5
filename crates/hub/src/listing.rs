//! The files of a repository at a revision, as the hub lists them.

use crate::cache::{is_commit, stays_inside};
use crate::checksum::Checksum;
use crate::client::Client;
use crate::error::{Failure, HubError};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Bytes of the largest list that is read: a file takes some 200.
const MAX_LIST: usize = 64 << 20;

/// Attempts of one request for a list.
const ATTEMPTS: u32 = 4;

/// A repository at a commit.
pub(crate) struct Listing {
    pub(crate) commit: String,
    /// By path.
    pub(crate) files: BTreeMap<String, Entry>,
}

/// A file there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Sibling {
    /// Its path and what its content must be, unless the cache cannot hold it.
    fn entry(self) -> Option<(String, Entry)> {
        let (name, size) = match self.lfs {
            Some(lfs) => (lfs.sha256, lfs.size),
            None => (self.blob_id?, self.size?),
        };
        let checksum = Checksum::from_name(&name)?;
        stays_inside(&self.rfilename).then_some((self.rfilename, Entry { size, checksum }))
    }
}

/// Asks the hub for the list.
pub(crate) async fn list(client: &Client) -> Result<Listing, HubError> {
    let repository = client.repository.split('/');
    let path = ["api", "models"].into_iter().chain(repository).chain(["revision", &client.revision]);
    let mut url = client.url(path);
    url.set_query(Some("blobs=true"));
    client
        .retry(ATTEMPTS, async || {
            let bytes = client.read(&url, MAX_LIST).await?;
            let wrong = |why: String| Failure::Final(client.bad_answer(&url, &why));
            let info: Info = serde_json::from_slice(&bytes)
                .map_err(|error| wrong(format!("no list of files ({error})")))?;
            if !is_commit(&info.sha) {
                return Err(wrong(format!("the commit {:?}", info.sha)));
            }
            Ok(Listing {
                commit: info.sha,
                files: info.siblings.into_iter().filter_map(Sibling::entry).collect(),
            })
        })
        .await
}
