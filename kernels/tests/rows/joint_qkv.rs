//! q, k and v of two streams, concatenated.

use super::*;

#[test]
fn joint_qkv() -> Result<()> {
    // (B, Li, Lt, H, Dh): the models' heads, odd ones, the VAE's, and heads beyond a lane's one word.
    let cases = [
        (2, 9, 5, 38, 64),
        (2, 5, 3, 24, 64),
        (1, 4, 0, 2, 8),
        (2, 3, 2, 3, 5),
        (1, 2, 1, 1, 1),
        (1, 3, 0, 1, 512),
        (2, 3, 1, 2, 80),
        (1, 2, 2, 40, 160),
    ];
    for (case, dtype) in cases.into_iter().flat_map(|case| TYPES.map(|dtype| (case, dtype))) {
        let (b, li, lt, h, dh) = case;
        let (image, image_gpu) = view(&normal(&[b, li + 2, 3 * h * dh], 1, dtype), |x| x.narrow(1, 1, li))?;
        let text = (lt > 0).then(|| normal(&[b, lt, 3 * h * dh], 2, dtype));
        let text_gpu = text.as_ref().map(up).transpose()?;
        let text_wide = text.as_ref().map(wide).transpose()?;
        for norms in [None, Some(normal(&[4, dh], 3, dtype))] {
            let norms_gpu = norms.as_ref().map(up).transpose()?;
            let norms_wide = norms.as_ref().map(wide).transpose()?;
            let results = Results {
                gpu: ours::joint_qkv(&image_gpu, text_gpu.as_ref(), norms_gpu.as_ref(), h, EPS)?,
                cpu: ours::joint_qkv(&image, text.as_ref(), norms.as_ref(), h, EPS)?,
                plain: plain_qkv(&image, text.as_ref(), norms.as_ref(), h)?,
                exact: plain_qkv(&wide(&image)?, text_wide.as_ref(), norms_wide.as_ref(), h)?,
            };
            results.judge(&format!("joint_qkv {case:?} {dtype:?} norms {}", norms.is_some()), NORM_BOUND)?;
            if norms.is_none() {
                assert_eq!(bits(&results.gpu)?, bits(&results.cpu)?, "a copy {case:?} {dtype:?}");
            }
        }
    }
    Ok(())
}
