//! Adaptive LayerNorm and the gated residual, apart and in one.

use super::e4m3::check_rowwise;
use super::*;

#[test]
fn layer_norm_modulate() -> Result<()> {
    for (rows, dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        for (amplitude, offset) in [(1.0, 0.0), (1e4, 3e4)] {
            let block = Block::new(rows, dtype, amplitude, offset)?;
            let ([x, _, mods], [gx, _, gm], [wx, _, wm]) = (&block.cpu, &block.gpu, &block.wide()?);
            let results = Results {
                gpu: ours::layer_norm_modulate(gx, gm, 3, 4, EPS)?,
                cpu: ours::layer_norm_modulate(x, mods, 3, 4, EPS)?,
                plain: plain_modulate(x, mods, 3, 4)?,
                exact: plain_modulate(wx, wm, 3, 4)?,
            };
            let bound = NORM_BOUND * (1.0 + offset / amplitude);
            results.judge(&format!("layer_norm_modulate {rows:?} {dtype:?} * {amplitude}"), bound)?;
        }
    }
    Ok(())
}

#[test]
fn gated_add_and_the_norm_that_follows() -> Result<()> {
    for (rows, dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        let block = Block::new(rows, dtype, 3.0, 0.0)?;
        let ([x, y, mods], [gx, gy, gm], [wx, wy, wm]) = (&block.cpu, &block.gpu, &block.wide()?);
        let sum = ours::gated_add(gx, gy, gm, 2)?;
        let results = Results {
            gpu: sum.clone(),
            cpu: ours::gated_add(x, y, mods, 2)?,
            plain: plain_add(x, y, mods, 2)?,
            exact: plain_add(wx, wy, wm, 2)?,
        };
        // One fused step, rounded once.
        results.judge(&format!("gated_add {rows:?} {dtype:?}"), 0.51 * f64::from(f32::EPSILON))?;

        let (again, normed) = ours::gated_add_modulate(gx, gy, gm, 2, (0, 5), EPS)?;
        assert_eq!(bits(&again)?, bits(&sum)?, "the sum of gated_add_modulate {rows:?} {dtype:?}");
        let alone = ours::layer_norm_modulate(&sum, gm, 0, 5, EPS)?;
        assert_eq!(bits(&normed)?, bits(&alone)?, "the norm of gated_add_modulate {rows:?} {dtype:?}");
        let (again, rowwise) = ours::gated_add_modulate_rowwise(gx, gy, gm, 2, (0, 5), EPS)?;
        assert_eq!(bits(&again)?, bits(&sum)?, "the sum of gated_add_modulate_rowwise {rows:?} {dtype:?}");
        let alone = ours::layer_norm_modulate_rowwise(&sum, gm, 0, 5, EPS)?;
        assert_eq!(bits(&rowwise.values)?, bits(&alone.values)?, "{rows:?} {dtype:?}");
        assert_eq!(bits(&rowwise.scales)?, bits(&alone.scales)?, "{rows:?} {dtype:?}");
        check_rowwise(&rowwise, &plain_modulate(&wide(&sum)?, wm, 0, 5)?, NORM_BOUND)?;
    }
    Ok(())
}
