//! What this machine has: memory that can be had, disks, and how many files a process may have open.

use crate::device_report::device_report;
use latentd_models::Device;
use std::path::Path;
use sysinfo::{Disks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Bytes of host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostMemory {
    pub(crate) total: u64,
    /// What can be had without swapping.
    pub(crate) free: u64,
    /// Whether a control group allows less than the machine has.
    pub(crate) limited: bool,
}

/// The host's memory, as far as the system reports it.
pub(crate) fn host_memory() -> Option<HostMemory> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let (total, free) = (system.total_memory(), system.available_memory());
    let own = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, ProcessRefreshKind::nothing());
    let limits = system.process(own).and_then(|process| process.cgroup_limits());
    let limits = limits.filter(|limits| limits.total_memory > 0 && limits.total_memory < total);
    let memory = match limits {
        Some(limits) => {
            // The page cache counts as used there, and is given up when memory is needed.
            let usable = limits.total_memory.saturating_sub(limits.rss).max(limits.free_memory);
            HostMemory { total: limits.total_memory, free: usable.min(free), limited: true }
        }
        None => HostMemory { total, free, limited: false },
    };
    (memory.total > 0).then_some(memory)
}

/// Bytes that can be had on a device, if that can be found out. Never starts CUDA.
pub(crate) fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => host_memory().map(|memory| memory.free),
        Device::Cuda(_) => device_report(device).memory_free_bytes,
    }
}

/// The disk below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) file_system: String,
}

/// The disk of a path, or of the nearest folder above it that is there.
pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let path = path.ancestors().find_map(|path| path.canonicalize().ok())?;
    let disks = Disks::new_with_refreshed_list().ok()?;
    let below = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
    let disk = below.max_by_key(|disk| disk.mount_point().components().count())?;
    let file_system = disk.file_system().to_string_lossy().into_owned();
    Some(Disk { free: disk.available_space(), file_system })
}

/// How many files this process may have open, and to how many it may raise that.
pub(crate) fn open_files() -> Option<(u64, u64)> {
    rlimit::Resource::NOFILE.get().ok()
}

/// Raises the number of files that this process may have open as far as the system allows, and returns it.
pub(crate) fn raise_open_files() -> Option<u64> {
    rlimit::increase_nofile_limit(rlimit::INFINITY).ok()
}

/// Bytes for people.
pub(crate) fn gigabytes(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        small if small < 0.095 => format!("{:.0} MB", small * 1e3),
        whole => format!("{whole:.1} GB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_disk() {
        if cfg!(target_os = "linux") {
            let memory = host_memory().expect("memory");
            assert!(memory.free > 0 && memory.free <= memory.total, "{memory:?}");
            assert!(free_memory(Device::Cpu).is_some());
            let here = disk(Path::new("not/there/yet")).or_else(|| disk(Path::new("/"))).expect("a disk");
            assert!(here.free > 0);
        }
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([27_412_000_000, 94_000_000].map(gigabytes), ["27.4 GB", "94 MB"]);
    }
}
