//! How much room disks have, before something new is taken that needs some.

use rustix::fs::{StatVfsMountFlags, statvfs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The disks that a server writes to, and what is kept free on each; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Disks {
    places: Arc<[PathBuf]>,
    min_free: u64,
}

/// A disk that nothing more should be written to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Too little is free.
    #[error("{place} has {free} bytes free, less than --min-free-disk {min_free}")]
    Full {
        /// A directory on it.
        place: String,
        /// Bytes.
        free: u64,
        /// Bytes that are to stay free.
        min_free: u64,
    },
    /// It is mounted so.
    #[error("{0} is on a disk that is mounted read-only")]
    ReadOnly(String),
}

/// Bytes that this user may still write on the disk of a path, which need not exist yet.
pub fn free(path: &Path) -> Option<u64> {
    let disk = statvfs(path.ancestors().find(|path| path.exists())?).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A directory that the server writes to, and its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub path: PathBuf,
    /// Bytes that are free there; `None` where the disk cannot be asked.
    pub free: Option<u64>,
    /// Bytes that are to stay free.
    pub min_free: u64,
}

impl Disks {
    /// The disks of these directories.
    pub fn new(places: impl IntoIterator<Item = PathBuf>, min_free: u64) -> Self {
        Self { places: places.into_iter().collect(), min_free }
    }

    /// The directories, each with what is free on its disk.
    pub fn places(&self) -> Vec<Place> {
        let place = |path: &PathBuf| Place { path: path.clone(), free: free(path), min_free: self.min_free };
        self.places.iter().map(place).collect()
    }

    /// Passes while each disk has room for `bytes` more. What cannot be asked is taken to have.
    ///
    /// # Errors
    /// Which has none.
    pub fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        let asked = self.places.iter().filter_map(|path| Some((path, statvfs(path.as_path()).ok()?)));
        for (path, disk) in asked {
            let place = path.display().to_string();
            if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return Err(NoRoom::ReadOnly(place));
            }
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < self.min_free.saturating_add(bytes) {
                return Err(NoRoom::Full { place, free, min_free: self.min_free });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_for_so_much() {
        let here = || [std::env::temp_dir(), PathBuf::from("/no/such/place")];
        assert_eq!(Disks::default().check(u64::MAX), Ok(()));
        assert_eq!(Disks::new(here(), 1).check(0), Ok(()));
        let [place, _] = Disks::new(here(), 1).places().try_into().expect("two directories");
        assert!(place.path == std::env::temp_dir() && place.free > Some(0) && place.min_free == 1);
        assert!(matches!(Disks::new(here(), 1 << 60).check(0), Err(NoRoom::Full { .. })));
        assert!(matches!(Disks::new(here(), 0).check(u64::MAX), Err(NoRoom::Full { .. })));
    }
}
