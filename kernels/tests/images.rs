//! The GPU's ops over pictures and latents, and its attention, against the formulas in f64 and against the CPU's ops.
//! Needs a GPU, and fails without one.
#![cfg(feature = "cuda")]
#![expect(clippy::unwrap_used, reason = "a test")]

#[expect(dead_code, reason = "the ops' own tests use the rest")]
#[path = "../src/testing.rs"]
mod testing;

use candle_core::{DType, Device, Result, Tensor};
use latentd_kernels::cuda::latents::{add_positions, guided_step, patchify};
use latentd_kernels::cuda::{self, Graph, attention as gpu_attention, elementwise};
use latentd_kernels::{Activation, attention, group_norm};
use testing::{f64s, max_abs, max_error, normal};

const TYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Half a step of f32 and of bf16, relative to the number rounded.
const F32: f64 = 1.0 / (1u64 << 24) as f64;
const BF16: f64 = 1.0 / 256.0;

fn gpu() -> Device {
    cuda::open(0).expect("these tests need a GPU")
}

/// Half a step of what is stored.
fn rounding(dtype: DType) -> f64 {
    if dtype == DType::F32 { F32 } else { BF16 }
}

fn down(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)
}

fn bits(x: &Tensor) -> Result<Vec<u64>> {
    Ok(f64s(&down(x)?)?.iter().map(|v| v.to_bits()).collect())
}

fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))
}

/// Every difference within `bound` of its position.
fn check(what: &str, ours: &Tensor, exact: &[f64], bound: impl Fn(usize) -> f64) -> Result<()> {
    let ours = f64s(&down(ours)?)?;
    assert_eq!(ours.len(), exact.len(), "{what}");
    for (i, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        let same = ours == exact || ours.is_nan() && exact.is_nan();
        assert!(
            same || (ours - exact).abs() <= bound(i),
            "{what}: {ours} for {exact} at {i}, allowed {:e}",
            bound(i)
        );
    }
    Ok(())
}

mod latents {
    use super::*;

    /// (pictures, patch): the model's cut down, ragged sizes, tokens that 16 bytes do not divide, one pixel.
    const CASES: [([usize; 4], usize); 7] = [
        ([1, 16, 16, 24], 2),
        ([2, 4, 6, 10], 2),
        ([1, 3, 9, 6], 3),
        ([3, 16, 8, 8], 2),
        ([1, 2, 8, 12], 4),
        ([2, 5, 4, 2], 1),
        ([1, 1, 1, 1], 1),
    ];

    /// Tokens `[N, h*w, C*p*p]` of pictures, in the order channel, row, column.
    fn tokens(x: &Tensor, patch: usize) -> Result<Tensor> {
        let (count, channels, height, width) = x.dims4()?;
        let (rows, columns) = (height / patch, width / patch);
        x.reshape(&[count, channels, rows, patch, columns, patch][..])?
            .permute([0, 2, 4, 1, 3, 5])?
            .reshape((count, rows * columns, channels * patch * patch))
    }

    /// Pictures of tokens in the order row, column, channel.
    fn pictures(x: &Tensor, [_, channels, height, width]: [usize; 4], patch: usize) -> Result<Tensor> {
        let count = x.dim(0)?;
        x.reshape(&[count, height / patch, width / patch, patch, patch, channels][..])?
            .permute([0, 5, 1, 3, 2, 4])?
            .reshape((count, channels, height, width))
    }

    /// Only a rounding to the type, the same on both sides.
    #[test]
    fn patches_are_the_permutation_of_the_cpu() -> Result<()> {
        let gpu = gpu();
        for (dims, patch) in CASES {
            for dtype in TYPES {
                for copies in [1, 2, 3] {
                    let x = normal(&dims, 1);
                    let ours = patchify(&x.to_device(&gpu)?, patch, copies, dtype)?;
                    let exact = tokens(&x, patch)?.to_dtype(dtype)?;
                    let exact = Tensor::cat(&vec![&exact; copies], 0)?;
                    assert_eq!((ours.dims(), ours.dtype()), (exact.dims(), dtype));
                    assert_eq!(bits(&ours)?, bits(&exact)?, "{dims:?} {patch} {copies} {dtype:?}");
                }
            }
        }
        Ok(())
    }

    struct Step {
        latents: Tensor,
        prediction: Tensor,
        settings: Tensor,
        first_bad: Tensor,
    }

    impl Step {
        fn new(gpu: &Device, latents: &Tensor, prediction: &Tensor, settings: [f32; 4]) -> Result<Self> {
            Ok(Self {
                latents: latents.to_device(gpu)?,
                prediction: prediction.to_device(gpu)?,
                settings: Tensor::new(&settings, gpu)?,
                first_bad: Tensor::new(&[u32::MAX], gpu)?,
            })
        }

        fn run(&self, patch: usize) -> Result<()> {
            guided_step(&self.latents, &self.prediction, patch, &self.settings, &self.first_bad)
        }

        fn first_bad(&self) -> Result<u32> {
            self.first_bad.to_vec1().map(|bad: Vec<u32>| bad[0])
        }
    }

    /// v = u + g (c - u) and x + delta v in f32: two roundings of delta g (c - u), two of delta v, one of the result. The
    /// prediction is taken as it is stored, so the type changes nothing.
    #[test]
    fn a_step_agrees_with_the_formula() -> Result<()> {
        let gpu = gpu();
        let (guidance, delta) = (4.5f32, -0.037f32);
        for (dims, patch) in CASES {
            for (dtype, branches) in TYPES.into_iter().flat_map(|dtype| [(dtype, 1), (dtype, 2)]) {
                let length = dims[2] * dims[3] / patch / patch;
                let rows = [branches * dims[0], length, patch * patch * dims[1]];
                let (x, tokens) = (normal(&dims, 1), normal(&rows, 2).to_dtype(dtype)?);
                let step = Step::new(&gpu, &x, &tokens, [guidance, delta, 7.0, 0.0])?;
                step.run(patch)?;
                let seen =
                    pictures(&tokens.to_dtype(DType::F64)?, [rows[0], dims[1], dims[2], dims[3]], patch)?;
                let seen = f64s(&seen)?;
                let (u, c) = seen.split_at(seen.len() / branches);
                let (g, d) = (f64::from(guidance), f64::from(delta));
                let (mut exact, mut bounds) = (Vec::new(), Vec::new());
                for (i, x) in f64s(&x)?.iter().enumerate() {
                    let gap = c.get(i).map_or(0.0, |c| c - u[i]);
                    let v = u[i] + g * gap;
                    exact.push(x + d * v);
                    bounds.push(F32 * (2.0 * (d * g * gap).abs() + 2.0 * (d * v).abs() + (x + d * v).abs()));
                }
                check(&format!("{dims:?} {dtype:?} {branches}"), &step.latents, &exact, |i| bounds[i])?;
                assert_eq!(step.first_bad()?, u32::MAX);
            }
        }
        Ok(())
    }

    #[test]
    fn the_first_step_with_a_bad_latent_is_kept() -> Result<()> {
        let gpu = gpu();
        let dims = [1, 16, 4, 4];
        let mut tokens = vec![0.5f32; 256];
        tokens[100] = f32::NAN;
        let tokens = Tensor::from_vec(tokens, (1, 4, 64), &Device::Cpu)?;
        let step = Step::new(&gpu, &normal(&dims, 1), &tokens, [1.0, 0.1, 5.0, 0.0])?;
        step.run(2)?;
        assert_eq!(step.first_bad()?, 5);
        let nans = f64s(&down(&step.latents)?)?.iter().filter(|v| v.is_nan()).count();
        assert_eq!(nans, 1);
        step.settings.slice_set(&Tensor::new(&[1f32, 0.1, 6.0, 0.0], &gpu)?, 0, 0)?;
        step.run(2)?;
        assert_eq!(step.first_bad()?, 5, "a later step does not replace it");
        let infinite = Step::new(
            &gpu,
            &normal(&dims, 1),
            &Tensor::full(3e38f32, (1, 4, 64), &Device::Cpu)?,
            [1.0, 4.0, 2.0, 0.0],
        )?;
        infinite.run(2)?;
        assert_eq!(infinite.first_bad()?, 2);
        Ok(())
    }

    #[test]
    fn a_step_that_does_not_fit_is_refused() -> Result<()> {
        let gpu = gpu();
        let step = Step::new(&gpu, &normal(&[1, 16, 4, 4], 1), &normal(&[3, 4, 64], 2), [1.0; 4])?;
        let error = step.run(2).expect_err("three rows for one picture").to_string();
        assert!(error.contains("[3, 4, 64]"), "{error}");
        assert!(patchify(&step.latents, 3, 1, DType::F32).is_err(), "patches of 3 do not tile 4 x 4");
        Ok(())
    }

    /// One f32 sum and one rounding on both sides.
    #[test]
    fn positions_are_added_to_every_picture_in_place() -> Result<()> {
        let gpu = gpu();
        for ([batch, length, width], cut) in [
            ([2, 24, 64], 0),
            ([1, 7, 24], 0),
            ([3, 5, 13], 0),
            ([2, 6, 32], 8),
            ([2, 6, 33], 1),
            ([1, 1, 1], 0),
        ] {
            for dtype in TYPES {
                let whole = normal(&[batch, length, width + cut], 1).to_dtype(dtype)?;
                let positions = normal(&[length, width], 2).to_dtype(dtype)?;
                let ours = whole.to_device(&gpu)?;
                add_positions(&ours.narrow(2, cut, width)?, &positions.to_device(&gpu)?)?;
                let sum = whole.narrow(2, cut, width)?.to_dtype(DType::F32)?;
                let sum = sum.broadcast_add(&positions.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
                let exact = Tensor::cat(&[&whole.narrow(2, 0, cut)?, &sum], 2)?;
                assert_eq!(bits(&ours)?, bits(&exact)?, "{batch} {length} {width} {cut} {dtype:?}");
            }
        }
        Ok(())
    }

    /// Patches, a network's stand-in, and the step, whose settings change between the replays.
    #[test]
    fn a_recorded_step_replays_bit_for_bit() -> Result<()> {
        let gpu = gpu();
        let dims = [1, 16, 8, 12];
        let (start, bias) = (normal(&dims, 1).to_device(&gpu)?, normal(&[2, 24, 64], 2));
        let bias = bias.to_dtype(DType::BF16)?.to_device(&gpu)?;
        let step = Step::new(&gpu, &normal(&dims, 1), &bias, [0.0; 4])?;
        let work = || {
            let tokens = patchify(&step.latents, 2, 2, DType::BF16)?;
            let prediction = elementwise::add(&tokens, &bias)?;
            guided_step(&step.latents, &prediction, 2, &step.settings, &step.first_bad)
        };
        let all = [[4.5f32, -0.1, 0.0, 0.0], [1.5, -0.3, 1.0, 0.0], [7.0, -0.05, 2.0, 0.0]];
        let run = |launch: &dyn Fn() -> Result<()>| -> Result<Vec<Vec<u64>>> {
            step.latents.slice_set(&start, 0, 0)?;
            all.iter()
                .map(|settings| {
                    step.settings.slice_set(&Tensor::new(settings, &gpu)?, 0, 0)?;
                    launch()?;
                    bits(&step.latents)
                })
                .collect()
        };
        let eager = run(&work)?;
        let graph = Graph::record(&gpu, work)?;
        assert_eq!(run(&|| graph.launch())?, eager);
        assert_ne!(eager[0], eager[1]);
        assert_eq!(step.first_bad()?, u32::MAX);
        Ok(())
    }
}

mod maps {
    use super::*;

    fn formula(act: Activation, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match act {
            Activation::None => x,
            Activation::GeluTanh => {
                x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x))
            }
            Activation::GeluErf => x * normal_distribution(x),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Silu => x * sigmoid(x),
            Activation::Relu => x.max(0.0),
        }
    }

    /// By Simpson's rule from 0; 1e-12 for |x| below 8.
    fn normal_distribution(x: f64) -> f64 {
        let (n, density) = (4000, |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt());
        let h = x / f64::from(n);
        let weight = |i| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        0.5 + (0..=n).map(|i| weight(i) * density(f64::from(i) * h)).sum::<f64>() * h / 3.0
    }

    /// In f32 within 8 roundings of x, which never exceeds the result's slope: exp, tanh and erf are good to two steps,
    /// and there are four operations. In bf16 one rounding more.
    #[test]
    fn activations_agree_with_the_formulas() -> Result<()> {
        use Activation::{GeluErf, GeluTanh, None, QuickGelu, Relu, Silu};
        let gpu = gpu();
        for act in [None, GeluTanh, GeluErf, QuickGelu, Silu, Relu] {
            for dtype in TYPES {
                for (count, offset) in [(1, 0), (7, 0), (8, 0), (2049, 0), (515, 1), (64, 8)] {
                    let whole = (normal(&[count + offset], 1) * 2.0)?.to_dtype(dtype)?;
                    let ours = whole.to_device(&gpu)?;
                    elementwise::activate(&ours.narrow(0, offset, count)?, act)?;
                    let (x, rounding) = (f64s(&whole)?, rounding(dtype));
                    let exact: Vec<f64> = x
                        .iter()
                        .enumerate()
                        .map(|(i, &x)| if i < offset { x } else { formula(act, x) })
                        .collect();
                    let bound = |i: usize| 8.0 * F32 * x[i].abs() + rounding * exact[i].abs();
                    check(&format!("{act:?} {dtype:?} {count} {offset}"), &ours, &exact, bound)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn activations_keep_nan_and_take_any_dense_layout() -> Result<()> {
        let gpu = gpu();
        let x = Tensor::new(&[f32::NAN, -1e30, 1e30, 0.0, f32::INFINITY], &gpu)?;
        for act in [Activation::GeluTanh, Activation::QuickGelu, Activation::Silu, Activation::Relu] {
            let y = x.copy()?;
            elementwise::activate(&y, act)?;
            let y: Vec<f32> = y.to_vec1()?;
            assert!(y[0].is_nan() && y[2..] == [1e30, 0.0, f32::INFINITY], "{act:?}: {y:?}");
            assert!(y[1] == 0.0, "{act:?}: {y:?}");
        }
        let whole = normal(&[2, 3, 4, 5], 1).to_device(&gpu)?;
        let picture = channels_last(&whole)?;
        elementwise::activate(&picture, Activation::Relu)?;
        assert_eq!(bits(&picture)?, bits(&whole.relu()?)?);
        assert!(elementwise::activate(&whole.narrow(3, 0, 2)?, Activation::Relu).is_err(), "gaps");
        Ok(())
    }

    /// One f32 sum and one rounding on both sides.
    #[test]
    fn sums_keep_the_layout() -> Result<()> {
        let gpu = gpu();
        for dims in [[1, 8, 16, 16], [2, 3, 5, 7], [1, 1, 1, 1], [1, 128, 9, 1]] {
            for dtype in TYPES {
                for last in [false, true] {
                    let (a, b) = (normal(&dims, 1).to_dtype(dtype)?, normal(&dims, 2).to_dtype(dtype)?);
                    let exact = (a.to_dtype(DType::F32)? + b.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
                    let lay = |x: &Tensor| if last { channels_last(x) } else { Ok(x.clone()) };
                    let (a, b) = (lay(&a.to_device(&gpu)?)?, lay(&b.to_device(&gpu)?)?);
                    let ours = elementwise::add(&a, &b)?;
                    assert_eq!(bits(&ours)?, bits(&exact)?, "{dims:?} {dtype:?} {last}");
                    let (ours, a) = (ours.permute((0, 2, 3, 1))?, a.permute((0, 2, 3, 1))?);
                    assert_eq!(ours.is_contiguous(), a.is_contiguous(), "{dims:?} {last}");
                }
            }
        }
        let a = normal(&[2, 3, 4, 5], 1).to_device(&gpu)?;
        assert!(elementwise::add(&a, &channels_last(&a)?).is_err(), "different layouts");
        Ok(())
    }

    #[test]
    fn upsampling_repeats_every_pixel() -> Result<()> {
        let gpu = gpu();
        for [batch, height, width, channels] in [[1, 5, 7, 16], [2, 3, 4, 3], [1, 1, 1, 1], [2, 9, 33, 40]] {
            for dtype in TYPES {
                let x = normal(&[batch, height, width, channels], 1).to_dtype(dtype)?;
                let exact = x
                    .reshape(&[batch, height, 1, width, 1, channels][..])?
                    .broadcast_as(&[batch, height, 2, width, 2, channels][..])?
                    .reshape((batch, 2 * height, 2 * width, channels))?;
                let ours = elementwise::upsample_nearest2x(&x.to_device(&gpu)?)?;
                assert_eq!(ours.dims(), exact.dims());
                assert_eq!(bits(&ours)?, bits(&exact)?, "{batch} {height} {width} {channels} {dtype:?}");
            }
        }
        Ok(())
    }
}

mod group_norms {
    use super::*;

    /// The definition, in f64.
    fn formula(x: &Tensor, w: &Tensor, b: &Tensor, groups: usize, silu: bool) -> Result<Vec<f64>> {
        let (_, channels, height, width) = x.dims4()?;
        let (x, w, b) = (f64s(x)?, f64s(w)?, f64s(b)?);
        let (per_group, area) = (channels / groups, height * width);
        let mut out = Vec::new();
        for (group, x) in x.chunks(per_group * area).enumerate() {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            for (i, v) in x.iter().enumerate() {
                let channel = group % groups * per_group + i / area;
                let y = (v - mean) / (variance + 1e-6).sqrt() * w[channel] + b[channel];
                out.push(if silu { y / (1.0 + (-y).exp()) } else { y });
            }
        }
        Ok(out)
    }

    /// (x, groups): the VAE's layers cut down to one and to several chunks of pixels, ragged areas, groups of 1 to 4000
    /// channels around the block's 384 vectors, widths that 16 bytes do not divide.
    const CASES: [([usize; 4], usize); 12] = [
        ([1, 8, 16, 16], 2),
        ([2, 32, 7, 13], 32),
        ([1, 6, 65, 130], 2),
        ([2, 4, 1, 1], 2),
        ([1, 64, 64, 64], 32),
        ([3, 12, 333, 1], 3),
        ([2, 128, 41, 43], 32),
        ([1, 512, 17, 19], 32),
        ([1, 320, 9, 31], 32),
        ([1, 8000, 3, 5], 2),
        ([1, 4096, 3, 2], 4),
        ([1, 1023, 3, 5], 3),
    ];

    /// Outputs are of order 5 * 3 = 15: four operations and the statistics, good to two roundings each, are 2^-24 * 8 * 15
    /// = 7e-6, and the fast SiLU adds two roundings and 1e-6 of x.
    const BOUND: f64 = 3e-5;

    #[test]
    fn both_types_and_layouts_agree_with_the_definition() -> Result<()> {
        let gpu = gpu();
        for (dims, groups) in CASES {
            for dtype in TYPES {
                let bias = normal(&[dims[1]], 3).to_dtype(dtype)?;
                let (x, w) = (normal(&dims, 1).to_dtype(dtype)?, normal(&[dims[1]], 2).to_dtype(dtype)?);
                let (gx, gw, gb) = (x.to_device(&gpu)?, w.to_device(&gpu)?, bias.to_device(&gpu)?);
                for (act, silu) in [(Activation::None, false), (Activation::Silu, true)] {
                    let what = format!("{dims:?} {groups} {dtype:?} {act:?}");
                    let exact = formula(&x, &w, &bias, groups, silu)?;
                    let ours = group_norm(&channels_last(&gx)?, &gw, &gb, groups, 1e-6, act)?;
                    let rounded = if dtype == DType::BF16 { BF16 } else { 0.0 };
                    check(&what, &ours, &exact, |i| BOUND + rounded * exact[i].abs())?;
                    assert!(ours.permute((0, 2, 3, 1))?.is_contiguous(), "{what}: channels last");
                    let other = group_norm(&gx, &gw, &gb, groups, 1e-6, act)?;
                    assert_eq!(bits(&ours)?, bits(&other)?, "{what}: the layout changes nothing");
                    let cpu = f64s(&group_norm(&x, &w, &bias, groups, 1e-6, act)?)?;
                    let apart = max_error(&f64s(&down(&ours)?)?, &cpu);
                    // Both are within half a step of bf16.
                    assert!(apart <= BOUND + 2.0 * rounded * max_abs(&cpu), "{what}: {apart:e} from the CPU");
                }
            }
        }
        Ok(())
    }

    /// Mean 1000, deviation 1: the f32 mean may be off by two steps of 6e-5, times a weight of at most 4; a sum of squares
    /// in f32 would be off by whole deviations.
    #[test]
    fn a_group_far_from_zero() -> Result<()> {
        let gpu = gpu();
        let x = (normal(&[1, 4, 300, 301], 4) + 1000.0)?;
        let (w, b) = (normal(&[4], 2), normal(&[4], 3));
        let ours = group_norm(
            &x.to_device(&gpu)?,
            &w.to_device(&gpu)?,
            &b.to_device(&gpu)?,
            2,
            1e-6,
            Activation::None,
        )?;
        check("mean 1000", &ours, &formula(&x, &w, &b, 2, false)?, |_| 5e-4)
    }

    /// Every difference is exactly zero, so what is left is b.
    #[test]
    fn a_constant_group_gives_the_bias() -> Result<()> {
        let gpu = gpu();
        let (x, b) = (Tensor::full(5.3f32, (1, 8, 30, 50), &Device::Cpu)?, normal(&[8], 3));
        let (w, gb) = (normal(&[8], 2).to_device(&gpu)?, b.to_device(&gpu)?);
        let ours = group_norm(&x.to_device(&gpu)?, &w, &gb, 2, 1e-6, Activation::None)?;
        assert_eq!(bits(&ours)?, bits(&b.reshape((1, 8, 1, 1))?.broadcast_as(x.shape())?.contiguous()?)?);
        Ok(())
    }

    #[test]
    fn nan_stays_in_its_group_and_bits_in_their_picture() -> Result<()> {
        let gpu = gpu();
        let (w, b) = (normal(&[8], 2).to_device(&gpu)?, normal(&[8], 3).to_device(&gpu)?);
        let norm = |x: &Tensor| group_norm(x, &w, &b, 2, 1e-6, Activation::Silu);
        let mut values: Vec<f32> = (0..8 * 900).map(|i| (i % 77) as f32).collect();
        values[3 * 900 + 5] = f32::NAN;
        let y = norm(&Tensor::from_vec(values, (1, 8, 30, 30), &gpu)?)?;
        assert!(f64s(&down(&y)?)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i < 4 * 900)));
        let x = normal(&[3, 8, 90, 90], 1).to_device(&gpu)?;
        let all = norm(&x)?;
        for i in 0..3 {
            assert_eq!(bits(&all.narrow(0, i, 1)?)?, bits(&norm(&x.narrow(0, i, 1)?)?)?, "picture {i}");
        }
        Ok(())
    }
}

mod attentions {
    use super::*;

    /// [B, L, H, Dh]: the transformer's and the VAE's heads with short rows, around the block of 64 and the chunks of 64,
    /// head sizes that 16 bytes do not divide, one token.
    const CASES: [[usize; 4]; 11] = [
        [1, 1, 1, 1],
        [2, 7, 3, 5],
        [1, 64, 2, 64],
        [1, 65, 1, 64],
        [2, 130, 2, 64],
        [1, 100, 1, 96],
        [1, 70, 2, 128],
        [1, 33, 1, 200],
        [1, 67, 1, 512],
        [1, 20, 1, 509],
        [1, 129, 5, 12],
    ];

    /// The definition, in f64; `step` rounds what a chain of ops would store: scores, probabilities.
    fn formula(qkv: &Tensor, step: impl Fn(Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (batch, length, _, heads, dim) = qkv.dims5()?;
        let part = |i: usize| qkv.to_dtype(DType::F64)?.get_on_dim(2, i)?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = step((q.matmul(&k.t()?.contiguous()?)? / (dim as f64).sqrt())?)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(3)?)?.exp()?;
        let weights = step(weights.broadcast_div(&weights.sum_keepdim(3)?)?)?;
        step(weights.matmul(&v)?)?.transpose(1, 2)?.reshape((batch, length, heads * dim))
    }

    fn exactly(qkv: &Tensor) -> Result<Vec<f64>> {
        f64s(&formula(qkv, Ok)?)
    }

    /// f32 sums of Dh and of L terms err by the root of their number, like a random walk, relative to scores and values of
    /// order 1: four deviations of that.
    fn f32_bound(qkv: &Tensor) -> Result<f64> {
        let (_, length, _, _, dim) = qkv.dims5()?;
        Ok(4.0 * F32 * ((dim as f64).sqrt() + (length as f64).sqrt()) * max_abs(&f64s(qkv)?))
    }

    /// In bf16 the arithmetic is the same, so a result is rounded once.
    #[test]
    fn the_portable_kernel_agrees_with_the_definition() -> Result<()> {
        let gpu = gpu();
        for [batch, length, heads, dim] in CASES {
            for dtype in TYPES {
                let qkv = normal(&[batch, length, 3, heads, dim], 1).to_dtype(dtype)?;
                let (exact, bound) = (exactly(&qkv)?, f32_bound(&qkv)?);
                let ours = gpu_attention::portable(&qkv.to_device(&gpu)?)?;
                assert_eq!(ours.dims(), [batch, length, heads * dim]);
                let what = format!("[{batch}, {length}, 3, {heads}, {dim}] {dtype:?}");
                check(&what, &ours, &exact, |i| bound + rounding(dtype) * exact[i].abs())?;
                let cpu = f64s(&attention(&qkv)?)?;
                let apart = max_error(&f64s(&down(&ours)?)?, &cpu);
                assert!(
                    apart <= 2.0 * (bound + rounding(dtype) * max_abs(&cpu)),
                    "{what}: {apart:e} from the CPU"
                );
            }
        }
        Ok(())
    }

    /// Whatever kernel is chosen: f32 as the portable one, bf16 at most twice the error of a chain of bf16 ops, and half a
    /// step of the largest result.
    #[test]
    fn the_chosen_kernel_agrees_with_the_definition() -> Result<()> {
        let gpu = gpu();
        for [batch, length, heads, dim] in CASES.into_iter().chain([[2, 333, 4, 64], [1, 256, 1, 512]]) {
            for dtype in TYPES {
                let qkv = normal(&[batch, length, 3, heads, dim], 1).to_dtype(dtype)?;
                let exact = exactly(&qkv)?;
                let bound = if dtype == DType::F32 {
                    f32_bound(&qkv)? + F32 * max_abs(&exact)
                } else {
                    let plain = formula(&qkv, |x| x.to_dtype(DType::BF16)?.to_dtype(DType::F64))?;
                    2.0 * max_error(&f64s(&plain)?, &exact) + BF16 * max_abs(&exact)
                };
                let ours = attention(&qkv.to_device(&gpu)?)?;
                check(&format!("[{batch}, {length}, 3, {heads}, {dim}] {dtype:?}"), &ours, &exact, |_| {
                    bound
                })?;
            }
        }
        Ok(())
    }

    /// NaN in one value spoils that column of every query; in one key, everything of that head.
    #[test]
    fn nan_goes_where_the_definition_sends_it() -> Result<()> {
        let gpu = gpu();
        for part in 0..3 {
            let mut values: Vec<f32> =
                f64s(&normal(&[1, 80, 3, 2, 20], 1))?.iter().map(|&v| v as f32).collect();
            values[((70 * 3 + part) * 2 + 1) * 20 + 4] = f32::NAN;
            let qkv = Tensor::from_vec(values, (1, 80, 3, 2, 20), &Device::Cpu)?;
            // The formula's maximum ignores NaN or not; the difference to it does not.
            let exact: Vec<bool> = exactly(&qkv)?.iter().map(|v| v.is_nan()).collect();
            let ours = f64s(&down(&gpu_attention::portable(&qkv.to_device(&gpu)?)?)?)?;
            assert!(ours.iter().map(|v| v.is_nan()).eq(exact), "part {part}");
        }
        Ok(())
    }

    /// Scores of thousands: the exponent's argument has an error of that size, and nothing overflows.
    #[test]
    fn large_scores_do_not_overflow() -> Result<()> {
        let gpu = gpu();
        let qkv = (normal(&[1, 90, 3, 2, 40], 1) * 30.0)?;
        let ours = gpu_attention::portable(&qkv.to_device(&gpu)?)?;
        let bound = f32_bound(&qkv)? * 4000.0;
        check("large scores", &ours, &exactly(&qkv)?, |_| bound)
    }

    #[test]
    fn bits_do_not_depend_on_the_batch() -> Result<()> {
        let gpu = gpu();
        let qkv = normal(&[2, 75, 3, 2, 24], 1).to_device(&gpu)?;
        let both = gpu_attention::portable(&qkv)?;
        let second = gpu_attention::portable(&qkv.narrow(0, 1, 1)?)?;
        assert_eq!(bits(&both.narrow(0, 1, 1)?)?, bits(&second)?);
        assert!(
            gpu_attention::portable(&normal(&[1, 2, 3, 1, 513], 1).to_device(&gpu)?).is_err(),
            "too wide"
        );
        Ok(())
    }
}
