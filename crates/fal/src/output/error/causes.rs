//! The API's error for each failure of queue and storage.

use super::ApiError;
use latentd_queue::queue::QueueError;
use latentd_queue::storage::StorageError;
use latentd_queue::storage_limit::StorageLimitError;
use latentd_queue::sweep::SweepError;

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        Self::of(&error)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::of(&error)
    }
}

impl From<StorageLimitError> for ApiError {
    fn from(error: StorageLimitError) -> Self {
        match error {
            StorageLimitError::Queue(error) => error.into(),
            reached => Self::StorageFull(reached.to_string()),
        }
    }
}

impl From<SweepError> for ApiError {
    fn from(error: SweepError) -> Self {
        Self::of(&error)
    }
}
