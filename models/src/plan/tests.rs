//! Plans of the built-in model, whose weights can be counted.

use super::weights::LoadedFormat;
use super::{Plan, Streamed, Work};
use crate::weight_file::{StoredType, TensorHeader};
use crate::{DType, Device, LoadOptions, MemoryMode, ModelSource};
use safetensors::Dtype;

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

/// A scaled fp8 matrix is in f32 before and after its scale multiplies it: while it is loaded, or for each product.
#[test]
fn scales_multiply_in_f32() {
    let tensor = |dtype| TensorHeader {
        name: "transformer_blocks.0.ff.net.2.weight".into(),
        dtype: StoredType::Plain(dtype),
        shape: vec![10, 40],
        bytes: 400,
    };
    let (fp8, bf16) = (tensor(Dtype::F8_E4M3), tensor(Dtype::BF16));
    let resident = LoadedFormat::new(DType::Bf16, Device::Cpu);
    let stream = resident.streaming(Streamed::Everything);
    assert_eq!((resident.loading(&fp8), resident.loading(&bf16)), (8 * 400, 0));
    assert_eq!((resident.product(&fp8), stream.loading(&fp8)), (0, 0));
    assert_eq!(stream.product(&fp8), stream.product(&bf16) + 8 * 400);
}

/// What stays in files takes nothing while it is not read, and is not read at once.
#[test]
fn memory_modes_leave_out_what_they_read() {
    let [resident, offload, stream] = MemoryMode::ALL.map(|memory| {
        let options = LoadOptions { memory, ..LoadOptions::new(Device::Cpu, DType::F32) };
        Plan::of(&ModelSource::Builtin, &options, &Work::default()).expect("a plan")
    });
    let bytes =
        |plan: &Plan, name: &str| plan.parts.iter().find(|part| part.name == name).expect("the part").bytes;
    // A block has 36 squares of its width, of which adaLN has 12.
    let transformer = [&resident, &offload, &stream].map(|plan| bytes(plan, "transformer") as f64);
    assert!((0.6..0.75).contains(&(transformer[1] / transformer[0])), "{transformer:?}");
    assert!(transformer[2] < 0.2 * transformer[0], "{transformer:?}");
    for encoder in ["text_encoder", "text_encoder_2", "text_encoder_3"] {
        let encoders = [&resident, &offload, &stream].map(|plan| bytes(plan, encoder));
        assert!(20 * encoders[1] < encoders[0] && encoders[1] == encoders[2], "{encoder}: {encoders:?}");
    }
    assert_eq!(bytes(&resident, "vae"), bytes(&stream, "vae"));
    assert!(stream.activations.denoise > resident.activations.denoise, "a matrix that is read");
}

/// A tile is at most a quarter of the image, and takes the same memory for every larger one.
#[test]
fn decoding_in_tiles_takes_less() {
    let options = LoadOptions::new(Device::Cuda(0), DType::Bf16);
    let of = |side: usize| {
        let work = Work { width: side, height: side, ..Work::default() };
        Plan::of(&ModelSource::Builtin, &options, &work).expect("a plan").activations
    };
    for side in [512, 1024] {
        let stages = of(side);
        let share = stages.decode as f64 / stages.decode_in_tiles as f64;
        assert!((3.9..4.1).contains(&share), "{side}: {stages:?}");
    }
    assert_eq!(of(1024).decode_in_tiles, of(2048).decode_in_tiles);
    let plan = Plan::of(&ModelSource::Builtin, &options, &Work::default()).expect("a plan");
    assert!(plan.in_tiles().peak() < plan.peak(), "{plan:?}");
}

/// What the emulated driver counts against what was planned.
#[cfg(feature = "cuda")]
mod gpu {
    use super::*;
    use crate::{Component, Control, Conversion, ConvertTo, GenerateRequest, Pipeline, Step};
    use latentd_kernels::cuda::{DeviceHandle, MemoryUse};
    use std::path::Path;

    const WORK: Work = Work {
        width: 256,
        height: 192,
        images: 1,
        t5_tokens: 64,
        guided: true,
        steps: 2,
        init_image: false,
        adapters: false,
        skip_layers: false,
        controlnet: 0,
        ip_adapter: 0,
    };

    fn generate(pipeline: &mut Pipeline, width: usize, height: usize) {
        let request = GenerateRequest {
            prompt: "a red house".into(),
            negative_prompt: String::new(),
            width,
            height,
            steps: WORK.steps,
            guidance: 3.5,
            seed: 1,
            num_images: WORK.images,
            skipped_images: 0,
            t5_tokens: WORK.t5_tokens,
            check_safety: false,
            init_image: None,
            loras: Vec::new(),
            skip_layers: None,
            controlnet: None,
            ip_adapter: None,
        };
        pipeline.generate(&request, &mut |_: Step| Control::Continue).expect("an image");
    }

    /// The worst is a size that is warmed up beside another one's arena. Not far below it either, or a card that is large
    /// enough would be refused. In f32, since the convolutions on tensor cores are not emulated.
    #[test]
    fn memory_peaks_below_the_plan_and_not_far() {
        peaks_as_planned(&ModelSource::Builtin);
    }

    /// Weights in blocks, which products dequantize.
    #[test]
    fn memory_peaks_below_the_plan_of_a_gguf_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mini-Q8_0.gguf");
        let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("mini");
        let to = ConvertTo::named("q8_0").expect("a type");
        let conversion = Conversion::new(&mini, Component::Transformer, to).expect("the built-in model");
        let mut out = std::fs::File::create(&file).expect("a file");
        conversion.write(&mut out, &mut |_| Ok(())).expect("a GGUF file");
        let quantized = ModelSource::Checkpoint { file, text_encoders: Some(mini) };
        peaks_as_planned(&quantized);

        let options = LoadOptions::new(Device::Cuda(0), DType::F32);
        let planned = |source| Plan::of(source, &options, &WORK).expect("a plan").weights();
        let watching = DeviceHandle::open(0, None).expect("a GPU");
        let used = || MemoryUse::of(watching.device()).expect("the driver answers").now;
        let loaded = |source| {
            let before = used();
            let _pipeline = Pipeline::load(source, &options).expect("a model");
            used() - before
        };
        let [less, planned_less] = [
            loaded(&ModelSource::Builtin) - loaded(&quantized),
            planned(&ModelSource::Builtin) - planned(&quantized),
        ];
        assert!(less.abs_diff(planned_less) < planned_less / 20, "{less} bytes less, {planned_less} planned");
    }

    fn peaks_as_planned(source: &ModelSource) {
        let watching = DeviceHandle::open(0, None).expect("a GPU");
        let used = || MemoryUse::of(watching.device()).expect("the driver answers");
        let options = LoadOptions::new(Device::Cuda(0), DType::F32);
        let plan = Plan::of(source, &options, &WORK).expect("a plan");
        let before = used().now;
        let mut pipeline = Pipeline::load(source, &options).expect("a model");
        let loaded = used().now;
        assert!(loaded - before >= plan.weights(), "{} loaded, {plan:?}", loaded - before);
        assert!(loaded - before <= plan.weights() + plan.process, "{} loaded, {plan:?}", loaded - before);
        // The smallest makes what every size needs: a second stream and its workspace.
        generate(&mut pipeline, 64, 64);
        let base = used().now;
        MemoryUse::reset_peak(watching.device()).expect("the driver answers");
        generate(&mut pipeline, WORK.width, WORK.height);
        generate(&mut pipeline, WORK.height, WORK.width);
        let peak = used().peak - base;
        let stages = plan.activations;
        assert!(peak <= plan.generating(), "{peak} at most, {stages:?} planned");
        assert!(2 * peak > stages.denoise.max(stages.decode), "{peak} at most, {stages:?} planned");
    }
}
