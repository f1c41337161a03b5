//! The GPUs that CUDA shows to this program: those of `CUDA_VISIBLE_DEVICES`, or all of the machine.

use crate::args::{is_empty, variable};
use std::fs;
use std::path::Path;

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

const ORDER: &str = "CUDA_DEVICE_ORDER";

/// Where the NVIDIA driver lists its GPUs. Looking there does not start CUDA, which `serve` must never do.
const GPUS: &str = "/proc/driver/nvidia/gpus";

/// The number of GPUs whose device files are here: a container may have some of those that the driver lists.
pub(super) fn installed_gpus() -> usize {
    count(Path::new(GPUS), Path::new("/dev"))
}

fn count(gpus: &Path, devices: &Path) -> usize {
    let is_here = |gpu: &fs::DirEntry| {
        let Ok(text) = fs::read_to_string(gpu.path().join("information")) else { return true };
        let minor = text.lines().find_map(|line| line.strip_prefix("Device Minor:")).map(str::trim);
        minor.is_none_or(|minor| devices.join(format!("nvidia{minor}")).exists())
    };
    fs::read_dir(gpus).map_or(0, |gpus| gpus.flatten().filter(is_here).count())
}

/// How `nvidia-smi` names the GPUs that are `cuda:0`, `cuda:1` and so on; `None`: by these numbers.
pub(crate) fn visible_gpus() -> Option<Vec<String>> {
    if is_empty(VISIBLE.as_ref()) {
        return Some(Vec::new());
    }
    variable(VISIBLE).map(|list| parse(&list))
}

/// The variable by which CUDA counts the GPUs of a worker as `nvidia-smi` does, by their bus, and not the fastest first.
pub(crate) fn gpu_order() -> (&'static str, String) {
    (ORDER, variable(ORDER).unwrap_or_else(|| "PCI_BUS_ID".into()))
}

/// What is no GPU's number or UUID ends the list (CUDA C++ Programming Guide, "CUDA Environment Variables"). CUDA shows a
/// process one instance of MIG at most, and none beside whole GPUs.
fn parse(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    let is_gpu =
        |name: &&str| name.starts_with("GPU-") || name.starts_with("MIG-") || name.parse::<u32>().is_ok();
    let mut gpus: Vec<_> = names.take_while(is_gpu).map(str::to_owned).collect();
    if let Some(first) = gpus.iter().position(|name| name.starts_with("MIG-")) {
        gpus.truncate(first.max(1));
    }
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_ends_where_it_names_no_gpu() {
        assert_eq!(parse("3"), ["3"]);
        assert_eq!(parse("2, GPU-8932f937,1"), ["2", "GPU-8932f937", "1"]);
        assert_eq!(parse("0,-1,1"), ["0"]);
        assert!(parse("NoDevFiles").is_empty());
        assert_eq!(parse("MIG-a,MIG-b"), ["MIG-a"]);
        assert_eq!(parse("0,1,MIG-a,2"), ["0", "1"]);
    }

    #[test]
    fn a_gpu_of_the_host_whose_device_file_is_not_here_does_not_count() {
        let (gpus, devices) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for minor in 0..3 {
            let gpu = gpus.path().join(format!("0000:0{minor}:00.0"));
            fs::create_dir(&gpu).expect("a folder");
            fs::write(gpu.join("information"), format!("Model: \t NVIDIA\nDevice Minor: \t {minor}\n"))
                .expect("a file");
        }
        fs::write(devices.path().join("nvidia1"), "").expect("a file");
        assert_eq!(count(gpus.path(), devices.path()), 1);
        // An older driver does not say the number.
        fs::write(gpus.path().join("0000:02:00.0/information"), "Model: NVIDIA\n").expect("a file");
        assert_eq!(count(gpus.path(), devices.path()), 2);
        assert_eq!(count(&gpus.path().join("none"), devices.path()), 0);
    }
}
