//! The arithmetic of previews; `models/tests/preview.rs` checks the images.

use super::*;
use candle_core::Device;

/// On a straight path from noise to an image every step predicts the image.
#[test]
fn the_prediction_is_where_a_straight_path_ends() {
    let tensor = |seed| Tensor::new(&[seed, -2.0 * seed, 0.5f32], &Device::Cpu).expect("a tensor");
    let (noise, clean) = (tensor(3.0), tensor(0.25));
    let at = |sigma: f32| (&noise * f64::from(sigma))? + (&clean * f64::from(1.0 - sigma))?;
    for sigmas in [[1.0, 0.9], [0.5, 0.1], [0.01, 0.0]] {
        let [before, after] = sigmas.map(|sigma| at(sigma).expect("a mix"));
        let found = predicted(&before, &after, sigmas).expect("a prediction");
        let off =
            (found - &clean).and_then(|off| off.abs()?.max_all()?.to_scalar::<f32>()).expect("a number");
        assert!(off < 1e-5, "{sigmas:?}: {off}");
    }
}

#[test]
fn squares_are_averaged_and_the_edges_cut_off() {
    let values: Vec<f32> = (0..2 * 5 * 4).map(|value| value as f32).collect();
    let latents = Tensor::from_vec(values, (1, 2, 5, 4), &Device::Cpu).expect("latents");
    let means = averaged(&latents, 2).and_then(|means| Ok(means.flatten_all()?.to_vec1::<f32>()?));
    assert_eq!(means.expect("means"), [2.5, 4.5, 10.5, 12.5, 22.5, 24.5, 30.5, 32.5]);
}

#[test]
fn the_pace_ends_with_the_last_step_and_keeps_to_its_share() {
    let long_ago = Instant::now().checked_sub(std::time::Duration::from_secs(100)).expect("a time");
    let allowed =
        |pace: &PreviewPacing, steps| (0..steps).filter(|index| pace.allows(*index)).collect::<Vec<_>>();
    for (steps, expected) in [
        (1, vec![0]),
        (5, vec![0, 1, 2, 3, 4]),
        (28, vec![3, 7, 11, 15, 19, 23, 27]),
        (30, vec![1, 5, 9, 13, 17, 21, 25, 29]),
    ] {
        let pace = PreviewPacing { started: long_ago, ..PreviewPacing::new(steps) };
        assert_eq!(allowed(&pace, steps), expected);
    }
    let mut pace = PreviewPacing { started: long_ago, ..PreviewPacing::new(1) };
    pace.took(2.0);
    assert!(pace.allows(0), "4 of 100 seconds");
    pace.took(1.5);
    assert!(pace.allows(0), "5 of 100 seconds");
    pace.took(1.0);
    assert!(!pace.allows(0), "5.5 of 100 seconds");

    let mut pace = PreviewPacing::new(3);
    pace.took(0.09);
    assert_eq!(allowed(&pace, 3), [1, 2], "0.18 of 0.2 seconds when two thirds are over");
}
