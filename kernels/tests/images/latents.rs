//! Patches, the guided step, positions, and a step captured in a graph.

use super::*;

/// (images, patch): the model's cut down, ragged sizes, tokens that are not multiples of 16 bytes, one pixel.
const CASES: [([usize; 4], usize); 7] = [
    ([1, 16, 16, 24], 2),
    ([2, 4, 6, 10], 2),
    ([1, 3, 9, 6], 3),
    ([3, 16, 8, 8], 2),
    ([1, 2, 8, 12], 4),
    ([2, 5, 4, 2], 1),
    ([1, 1, 1, 1], 1),
];

/// Tokens `[N, h*w, C*p*p]` of images, in the order channel, row, column.
fn tokens(x: &Tensor, patch: usize) -> Result<Tensor> {
    let (count, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / patch, width / patch);
    x.reshape(&[count, channels, rows, patch, columns, patch][..])?.permute([0, 2, 4, 1, 3, 5])?.reshape((
        count,
        rows * columns,
        channels * patch * patch,
    ))
}

/// Images of tokens in the order row, column, channel.
fn images(x: &Tensor, [_, channels, height, width]: [usize; 4], patch: usize) -> Result<Tensor> {
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
            let seen = images(&tokens.to_dtype(DType::F64)?, [rows[0], dims[1], dims[2], dims[3]], patch)?;
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
    let error = step.run(2).expect_err("three rows for one image").to_string();
    assert!(error.contains("[3, 4, 64]"), "{error}");
    assert!(patchify(&step.latents, 3, 1, DType::F32).is_err(), "patches of 3 do not tile 4 x 4");
    Ok(())
}

/// One f32 sum and one rounding on both sides. x lies in the middle of other rows and columns, which must not change.
#[test]
fn positions_are_added_to_every_image_in_place() -> Result<()> {
    let gpu = gpu();
    for ([batch, length, width], row, column) in [
        ([2, 24, 64], 0, 0),
        ([1, 7, 24], 0, 0),
        ([3, 5, 13], 0, 0),
        ([2, 6, 32], 1, 8),
        ([3, 6, 64], 2, 0),
        ([2, 6, 33], 0, 1),
        ([1, 1, 1], 0, 0),
    ] {
        for dtype in TYPES {
            let whole = normal(&[batch, length + 2 * row, width + column], 1).to_dtype(dtype)?;
            let positions = normal(&[length, width], 2).to_dtype(dtype)?;
            let cut = |x: &Tensor| x.narrow(1, row, length)?.narrow(2, column, width);
            let ours = whole.to_device(&gpu)?;
            add_positions(&cut(&ours)?, &positions.to_device(&gpu)?)?;
            let sum = cut(&whole)?.to_dtype(DType::F32)?.broadcast_add(&positions.to_dtype(DType::F32)?)?;
            let inside = [0..batch, row..row + length, column..column + width];
            let exact = whole.slice_assign(&inside, &sum.to_dtype(dtype)?)?;
            assert_eq!(bits(&ours)?, bits(&exact)?, "{batch} {length} {width} {row} {column} {dtype:?}");
        }
    }
    Ok(())
}

/// Patches, a network's stand-in, and the step, whose settings change between the replays.
#[test]
fn a_captured_step_replays_bit_for_bit() -> Result<()> {
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
    let layout = warm_up(&gpu, work)?;
    let graph = Graph::capture(&gpu, &Arena::new(&gpu, &layout)?, &layout, work)?;
    assert_eq!(run(&|| graph.launch())?, eager);
    assert_ne!(eager[0], eager[1]);
    assert_eq!(step.first_bad()?, u32::MAX);
    Ok(())
}
