//! Whose requests and files are: the id of the key that they came with, `None` where that was none of the table.

use super::job::RequestId;
use super::store::query;
use super::{Queue, QueueError};

const OF_REQUEST: &str = "SELECT api_key FROM requests WHERE id = $1";

const OF_FILE: &str = "SELECT api_key FROM uploads WHERE key = $1
    UNION ALL SELECT requests.api_key FROM files JOIN requests ON requests.id = files.request WHERE files.key = $1";

impl Queue {
    /// Whose a request is; `None` when there is no such request.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn request_owner(&self, id: RequestId) -> Result<Option<Option<String>>, QueueError> {
        let row = query(OF_REQUEST).bind(id.to_string()).fetch_optional(&self.reader).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Whose the file of this public name is; `None` when there is no such file.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn file_owner(&self, key: &str) -> Result<Option<Option<String>>, QueueError> {
        let row = query(OF_FILE).bind(key).fetch_optional(&self.reader).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
