//! LayerNorm and RMSNorm with weights.

use super::*;

#[test]
fn norms_with_weights() -> Result<()> {
    let shapes: [&[usize]; 9] = [
        &[77, 768],
        &[2, 9, 1280],
        &[1, 5, 4096],
        &[3, 2432],
        &[5, 1],
        &[2, 3, 4, 50],
        &[64],
        &[2, 20488],
        &[4, 24],
    ];
    for (dims, dtype) in shapes.into_iter().flat_map(|dims| TYPES.map(|dtype| (dims, dtype))) {
        for amplitude in [1.0, 1e4] {
            let width = dims[dims.len() - 1];
            let x = (normal(dims, 1, DType::F64) * amplitude)?.to_dtype(dtype)?;
            let (w, b) = (normal(&[width], 2, dtype), normal(&[width], 3, dtype));
            let rms = |x: &Tensor, w: &Tensor| plain_rms(x)?.broadcast_mul(w);
            let layer =
                |x: &Tensor, w: &Tensor, b: &Tensor| plain_norm(x)?.broadcast_mul(w)?.broadcast_add(b);
            let results = Results {
                gpu: ours::rms_norm(&up(&x)?, &up(&w)?, EPS)?,
                cpu: ours::rms_norm(&x, &w, EPS)?,
                plain: rms(&x, &w)?,
                exact: rms(&wide(&x)?, &wide(&w)?)?,
            };
            results.judge(&format!("rms_norm {dims:?} {dtype:?} * {amplitude}"), NORM_BOUND)?;
            let results = Results {
                gpu: ours::layer_norm(&up(&x)?, &up(&w)?, &up(&b)?, EPS)?,
                cpu: ours::layer_norm(&x, &w, &b, EPS)?,
                plain: layer(&x, &w, &b)?,
                exact: layer(&wide(&x)?, &wide(&w)?, &wide(&b)?)?,
            };
            results.judge(&format!("layer_norm {dims:?} {dtype:?} * {amplitude}"), NORM_BOUND)?;
        }
    }
    Ok(())
}
