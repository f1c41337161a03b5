//! The GPUs that CUDA shows to this program: those of `CUDA_VISIBLE_DEVICES`, or all of the machine.

use crate::args::{is_empty, variable};

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

const ORDER: &str = "CUDA_DEVICE_ORDER";

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

/// What is no GPU's number or UUID ends the list (CUDA C++ Programming Guide, "CUDA Environment Variables").
fn parse(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    let is_gpu =
        |name: &&str| name.starts_with("GPU-") || name.starts_with("MIG-") || name.parse::<u32>().is_ok();
    names.take_while(is_gpu).map(str::to_owned).collect()
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
    }
}
