//! What stands for the exporter in a build without the feature `otlp`: it cannot be started.

use crate::ExportSettings;

/// An exporter that there is not.
#[derive(Debug)]
pub enum Exporter {}

impl Exporter {
    /// Starts it.
    ///
    /// # Errors
    /// Always: see [`crate::CAN_EXPORT`].
    pub fn start(_: &ExportSettings) -> Result<Self, String> {
        Err("this program was built without the feature `otlp`".into())
    }

    /// Stops it.
    pub async fn stop(self) {
        match self {}
    }
}
