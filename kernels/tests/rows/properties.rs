//! Properties of all ops: results do not depend on the batch or the layout, NaN propagates, and invalid arguments are errors.

use super::e4m3::e4m3;
use super::*;

/// Neither a batch element's neighbours nor the rows' layout in memory changes a bit.
#[test]
fn bits_depend_on_the_row_alone() -> Result<()> {
    for ((b, l, d), dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        // One element more in each row, so that rows begin anywhere: the same numbers off their 16-byte places.
        let off = |x: &Tensor| Tensor::cat(&[&x.narrow(2, 0, 1)?, x], 2)?.contiguous()?.narrow(2, 1, d);
        let block = Block::new((b, l, d), dtype, 2.0, 1.0)?;
        let [x, y, mods] = &block.gpu;
        let last = |x: &Tensor| x.narrow(0, b - 1, 1);
        let all = |x: &Tensor, y: &Tensor, mods: &Tensor| -> Result<Vec<Tensor>> {
            let (sum, normed) = ours::gated_add_modulate(x, y, mods, 0, (1, 2), EPS)?;
            let rowwise = ours::layer_norm_modulate_rowwise(x, mods, 4, 5, EPS)?;
            let activated = ours::quantize_rowwise(y, true)?;
            let weight = mods.get(0)?.get(3)?;
            let normed_by_weight = ours::rms_norm(x, &weight, EPS)?;
            Ok(vec![
                sum,
                normed,
                rowwise.values,
                rowwise.scales,
                activated.values,
                activated.scales,
                normed_by_weight,
            ])
        };
        let whole = all(x, y, mods)?;
        for (i, (a, b)) in whole.iter().zip(all(&off(x)?, &off(y)?, &off(mods)?)?).enumerate() {
            assert_eq!(bits(a)?, bits(&b)?, "result {i} of {:?} {dtype:?} off 16 bytes", (l, d));
        }
        let alone = all(&last(x)?, &last(y)?, &last(mods)?)?;
        for (i, (a, b)) in whole.iter().zip(alone).enumerate().take(6) {
            assert_eq!(bits(&last(a)?)?, bits(&b)?, "result {i} of {:?} {dtype:?} alone", (l, d));
        }
    }
    Ok(())
}

#[test]
fn nan_stays_in_its_row() -> Result<()> {
    for (width, dtype) in [(96, DType::F32), (96, DType::BF16), (50, DType::F32), (50, DType::BF16)] {
        let mut rows = f64s(&normal(&[1, 6, width], 1, DType::F64))?;
        rows[2 * width + 5] = f64::NAN;
        let x = up(&Tensor::from_vec(rows, (1, 6, width), &Device::Cpu)?.to_dtype(dtype)?)?;
        let mods = up(&normal(&[1, 3, width], 2, dtype))?;
        let weight = mods.get(0)?.get(0)?;
        let (sum, normed) = ours::gated_add_modulate(&x, &x, &mods, 0, (1, 2), EPS)?;
        let rows = [
            ours::layer_norm_modulate(&x, &mods, 0, 1, EPS)?,
            normed,
            ours::rms_norm(&x, &weight, EPS)?,
            ours::layer_norm(&x, &weight, &weight, EPS)?,
        ];
        for y in rows {
            assert!(f64s(&y)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i / width == 2)));
        }
        assert!(f64s(&sum)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i == 2 * width + 5)));
        let rowwise = ours::layer_norm_modulate_rowwise(&x, &mods, 0, 1, EPS)?;
        let values: Vec<u8> = rowwise.values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        assert!(values.iter().enumerate().all(|(i, v)| e4m3(*v).is_nan() == (i / width == 2)));
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let x = normal(&[2, 3, 8], 1, DType::F32);
    let (mods, on_gpu) = (normal(&[2, 6, 8], 2, DType::F32), up(&x)?);
    let mods_gpu = up(&mods)?;
    let refused = |result: Result<Tensor>, word: &str| {
        let error = result.expect_err(word).to_string();
        assert!(error.contains(word), "{error} does not say {word}");
    };
    refused(ours::layer_norm_modulate(&on_gpu, &mods, 0, 1, EPS), "Cpu");
    refused(ours::layer_norm_modulate(&on_gpu, &mods_gpu.to_dtype(DType::BF16)?, 0, 1, EPS), "BF16");
    refused(ours::layer_norm_modulate(&on_gpu, &mods_gpu, 0, 6, EPS), "scale 6");
    refused(
        ours::layer_norm_modulate(
            &on_gpu.transpose(1, 2)?,
            &up(&normal(&[2, 6, 3], 1, DType::F32))?,
            0,
            1,
            EPS,
        ),
        "strides",
    );
    refused(ours::gated_add(&on_gpu, &x, &mods_gpu, 0), "Cpu");
    refused(
        ours::rms_norm(&on_gpu.to_dtype(DType::F16)?, &on_gpu.get(0)?.get(0)?.to_dtype(DType::F16)?, EPS),
        "F16",
    );
    Ok(())
}
