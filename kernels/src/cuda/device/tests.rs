//! Devices come and go. Needs a GPU, real or emulated, whose driver counts streams, modules and handles as well.

use super::*;
use crate::cuda::{MemoryUse, elementwise};
use candle_core::Tensor;

fn used(of: &Device) -> u64 {
    MemoryUse::of(of).expect("the driver answers").now
}

fn work(device: &Device) -> Tensor {
    let x = Tensor::ones((64, 64), DType::BF16, device).expect("a tensor");
    crate::linear(&x, &x, None, crate::Activation::None).expect("a product")
}

/// Kernels, both streams and their workspaces, cuBLAS' and cuRAND's handles: all go with the handle.
#[test]
fn twenty_devices_leave_nothing_behind() {
    let watching = crate::cuda::open(0, None).expect("a GPU");
    let before = used(&watching);
    for round in 0..20 {
        let handle = DeviceHandle::open(0, None).expect("a GPU");
        let clone = handle.clone();
        drop(handle);
        work(clone.device());
        let Device::Cuda(device) = clone.device() else { panic!("a CUDA device") };
        Gpu::of(device).and_then(|gpu| gpu.side_stream().map(drop)).expect("a second stream");
        assert!(used(&watching) > before);
        drop(clone);
        assert_eq!(used(&watching), before, "round {round}");
    }
}

/// A tensor that outlives its handle keeps the device, which goes with the next handle that is opened or dropped.
#[test]
fn a_device_waits_for_its_last_tensor() {
    let watching = crate::cuda::open(0, None).expect("a GPU");
    let before = used(&watching);
    let handle = DeviceHandle::open(0, None).expect("a GPU");
    let tensor = work(handle.device());
    drop(handle);
    assert!(used(&watching) > before);
    let device = tensor.device().clone();
    let error = elementwise::add(&tensor, &tensor).expect_err("it is closed").to_string();
    assert!(error.contains("was closed"), "{error}");
    assert_eq!(
        tensor.to_dtype(DType::F32).and_then(|x| x.flatten_all()?.to_vec1::<f32>()).expect("values")[0],
        64.0
    );
    drop((tensor, device));
    drop(DeviceHandle::open(0, None).expect("a GPU"));
    assert_eq!(used(&watching), before);
}
