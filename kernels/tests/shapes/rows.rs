//! The memory-bound ops: joint_qkv, norms, gated residuals and e4m3 rows.

use super::*;
use formulas::{EPS, plain_add, plain_modulate, plain_qkv, plain_rms};
use latentd_kernels as ours;
use ours::Rowwise;

/// Every result is rounded once.
fn rounded_once(what: &str, ours: &Tensor, exact: &Tensor) -> Result<()> {
    let width = exact.dim(D::Minus1)?;
    Off::new(ours, exact, width)?.judge(what, MEAN * BF16 + F32, BF16 + F32);
    Ok(())
}

/// e4m3 keeps three bits behind the first: half a step is at most 1/16 of a number. Scales are f32's own.
fn e4m3(what: &str, ours: &Rowwise, exact: &Tensor) -> Result<()> {
    let width = exact.dim(D::Minus1)?;
    Off::new(&numbers(ours)?, exact, width)?.judge(what, MEAN / 16.0, 1.0 / 16.0);
    let scales = (exact.abs()?.max(D::Minus1)? / 448.0)?;
    Off::new(&ours.scales, &scales, 1)?.judge(&format!("{what}, scales"), F32, F32);
    Ok(())
}

/// The numbers that a [`Rowwise`] stands for.
pub(crate) fn numbers(rows: &Rowwise) -> Result<Tensor> {
    let number = |byte: u32| {
        let (exponent, mantissa) = ((byte >> 3 & 15) as i32, (byte & 7) as f32);
        let magnitude = match (exponent, byte & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa / 512.0,
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
        };
        if byte & 128 == 0 { magnitude } else { -magnitude }
    };
    let table = Tensor::from_iter((0..256).map(number), rows.values.device())?;
    let values = table.index_select(&rows.values.flatten_all()?, 0)?.reshape(rows.values.shape())?;
    values.broadcast_mul(&rows.scales.unsqueeze(D::Minus1)?)
}

#[test]
fn joint_qkv() -> Result<()> {
    let device = gpu();
    for of in sizes() {
        let width = 3 * of.width();
        let image = normal(&device, &[BATCH, of.image, width], 2.0)?;
        let text = normal(&device, &[BATCH, of.text, width], 2.0)?;
        let norms = normal(&device, &[4, HEAD], 1.0)?;
        for text in [Some(&text), None] {
            let joined = cuda::poisoned(|| ours::joint_qkv(&image, text, Some(&norms), of.heads, EPS))?;
            let text_wide = text.map(wide).transpose()?;
            let exact = plain_qkv(&wide(&image)?, text_wide.as_ref(), Some(&wide(&norms)?), of.heads)?;
            rounded_once(&format!("joint_qkv {of:?} text {}", text.is_some()), &joined, &exact)?;
        }
    }
    Ok(())
}

/// A block's rows as the transformer has them: of all modulations some, of the joint attention's tokens the image's or
/// the text's.
#[test]
fn norms_and_residuals() -> Result<()> {
    let device = gpu();
    for of in sizes() {
        let joint = normal(&device, &[BATCH, of.length(), of.width()], 2.0)?;
        let all_mods = normal(&device, &[BATCH, 60, of.width()], 1.0)?;
        for (first, tokens) in [(0, of.image), (of.image, of.text)] {
            let what = |op: &str| format!("{op} [{BATCH}, {tokens}, {}]", of.width());
            // A mean that is not zero, as in residual streams.
            let x = (normal(&device, &[BATCH, tokens, of.width()], 3.0)? + 0.5)?;
            let (y, mods) = (joint.narrow(1, first, tokens)?, all_mods.narrow(1, 24, 9)?);
            let (x_wide, mods_wide) = (wide(&x)?, wide(&mods)?);

            let normed = cuda::poisoned(|| ours::layer_norm_modulate(&x, &mods, 0, 1, EPS))?;
            let exact = plain_modulate(&x_wide, &mods_wide, 0, 1)?;
            rounded_once(&what("layer_norm_modulate"), &normed, &exact)?;
            let rowwise = cuda::poisoned(|| ours::layer_norm_modulate_rowwise(&x, &mods, 0, 1, EPS))?;
            e4m3(&what("layer_norm_modulate_rowwise"), &rowwise, &exact)?;

            let sum = cuda::poisoned(|| ours::gated_add(&x, &y, &mods, 2))?;
            rounded_once(&what("gated_add"), &sum, &plain_add(&x_wide, &wide(&y)?, &mods_wide, 2)?)?;
            // The norm is that of the sum as it was rounded.
            let exact = plain_modulate(&wide(&sum)?, &mods_wide, 3, 4)?;
            let (again, normed) = cuda::poisoned(|| ours::gated_add_modulate(&x, &y, &mods, 2, (3, 4), EPS))?;
            assert_eq!(Off::new(&again, &wide(&sum)?, of.width())?.whole, 0.0);
            rounded_once(&what("gated_add_modulate"), &normed, &exact)?;
            let (again, rowwise) =
                cuda::poisoned(|| ours::gated_add_modulate_rowwise(&x, &y, &mods, 2, (3, 4), EPS))?;
            assert_eq!(Off::new(&again, &wide(&sum)?, of.width())?.whole, 0.0);
            e4m3(&what("gated_add_modulate_rowwise"), &rowwise, &exact)?;
        }
    }
    Ok(())
}

#[test]
fn e4m3_rows_of_hidden_layers() -> Result<()> {
    let device = gpu();
    for of in sizes() {
        for tokens in [of.image, of.text] {
            let x = normal(&device, &[BATCH, tokens, 4 * of.width()], 2.0)?;
            let what = format!("[{BATCH}, {tokens}, {}]", 4 * of.width());
            let rows = cuda::poisoned(|| ours::quantize_rowwise(&x, false))?;
            e4m3(&format!("quantize_rowwise {what}"), &rows, &wide(&x)?)?;
            let rows = cuda::poisoned(|| ours::quantize_rowwise(&x, true))?;
            e4m3(&format!("quantize_rowwise, GELU {what}"), &rows, &wide(&x)?.gelu()?)?;
        }
    }
    Ok(())
}

/// T5's rows, and CLIP's.
#[test]
fn norms_of_text_encoders() -> Result<()> {
    let device = gpu();
    let shapes: &[[usize; 2]] =
        if small() { &[[9, 4096], [77, 768]] } else { &[[1024, 4096], [154, 768], [154, 1280]] };
    for &[rows, width] in shapes {
        let x = normal(&device, &[rows, width], 30.0)?;
        let (w, b) = (normal(&device, &[width], 1.0)?, normal(&device, &[width], 1.0)?);
        let (x_wide, w_wide, b_wide) = (wide(&x)?, wide(&w)?, wide(&b)?);
        let normed = cuda::poisoned(|| ours::rms_norm(&x, &w, EPS))?;
        let exact = plain_rms(&x_wide)?.broadcast_mul(&w_wide)?;
        rounded_once(&format!("rms_norm [{rows}, {width}]"), &normed, &exact)?;
        let normed = cuda::poisoned(|| ours::layer_norm(&x, &w, &b, EPS))?;
        let exact = formulas::plain_norm(&x_wide)?.broadcast_mul(&w_wide)?.broadcast_add(&b_wide)?;
        rounded_once(&format!("layer_norm [{rows}, {width}]"), &normed, &exact)?;
    }
    Ok(())
}
