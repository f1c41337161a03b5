//! Plans of the built-in model, whose weights can be counted.

use super::{Plan, Work};
use crate::{DType, Device, LoadOptions, ModelSource};

fn plan(dtype: DType, device: Device) -> Plan {
    Plan::of(&ModelSource::Builtin, &LoadOptions::new(device, dtype), &Work::default()).expect("a plan")
}

/// The files of the built-in model hold f32 or f16; their headers' parameters are what `Pipeline::load` claims, or it
/// would refuse them.
#[test]
fn weights_take_their_elements_in_the_target_precision() {
    let (f32, bf16) = (plan(DType::F32, Device::Cpu), plan(DType::Bf16, Device::Cpu));
    assert_eq!(f32.parts.len(), 5);
    for (wide, narrow) in f32.parts.iter().zip(&bf16.parts) {
        assert_eq!((wide.bytes, narrow.bytes), (4 * wide.parameters, 2 * wide.parameters), "{}", wide.name);
    }
    assert!(f32.fits(f32.peak()) && !f32.fits(f32.weights()));
}

/// Products of the blocks are halved, and nothing else is: modulations, embeddings and other parts stay bf16.
#[test]
fn fp8_halves_the_products_of_the_blocks() {
    let (bf16, fp8) = (plan(DType::Bf16, Device::Cuda(0)), plan(DType::Fp8, Device::Cuda(0)));
    for (wide, narrow) in bf16.parts.iter().zip(&fp8.parts) {
        match wide.name {
            "transformer" => assert!(narrow.bytes < wide.bytes && 2 * narrow.bytes > wide.bytes),
            other => assert_eq!(wide.bytes, narrow.bytes, "{other}"),
        }
    }
}
