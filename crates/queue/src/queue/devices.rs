//! The devices on which this process keeps workers running: those in use, and those that are set aside.

use super::Queue;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of each device by name: why it is set aside, if it is.
#[derive(Clone, Default)]
pub(super) struct Devices(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Queue {
    /// Says that this process runs workers on a device, or why it does not any more.
    pub fn set_device(&self, device: &str, set_aside: Option<String>) {
        let mut devices = self.devices.0.lock().unwrap_or_else(PoisonError::into_inner);
        devices.insert(device.to_owned(), set_aside);
    }

    /// The devices of this process's workers, in order of their names, and why each is set aside, if it is. Workers of other
    /// processes that share the database may have more.
    pub fn devices(&self) -> BTreeMap<String, Option<String>> {
        self.devices.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
