//! The images of the golden files, computed here again from integers alone.

use crate::{Image, golden};

/// The list of `export_safety.py`.
pub(super) fn golden_images() -> Vec<Image> {
    let specs = golden::json("safety/pictures.json");
    let side = |value: &serde_json::Value| value.as_u64().expect("a side");
    let specs = specs.as_array().expect("a list");
    let image = |spec: &serde_json::Value| {
        test_image(spec[0].as_str().expect("a kind"), side(&spec[1]), side(&spec[2]))
    };
    specs.iter().map(image).collect()
}

/// `picture` of `export_safety.py`.
pub(super) fn test_image(kind: &str, width: u64, height: u64) -> Image {
    let byte = |x: u64, y: u64, c: u64| -> u64 {
        match kind {
            "smooth" => x * (c + 1) * 100 / width + y * (3 - c) * 50 / height,
            "noise" => scatter((y * width + x) * 3 + c),
            "lines" if (x + y / 4) % (5 + c) < 1 => 255,
            "lines" => 20 * c,
            "checks" if (x / 3 + y / (2 + c)).is_multiple_of(2) => 255,
            "checks" => 0,
            "disc" => {
                let (dx, dy) = ((2 * x).abs_diff(width), (2 * y).abs_diff(height));
                let radius = width.min(height) * 4 / 5;
                if dx * dx + dy * dy < radius * radius { 250 - 60 * c } else { 5 + 100 * c }
            }
            "clouds" => (0..4).map(|octave| clouds(x, y, c, octave)).sum(),
            "flat" => 30 + 90 * c,
            _ => panic!("no kind {kind}"),
        }
    };
    let rows = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (x, y, c))));
    let rgb = rows.map(|(x, y, c)| (byte(x, y, c) % 256) as u8).collect();
    Image { width: width as usize, height: height as usize, rgb }
}

/// A byte that looks random.
fn scatter(x: u64) -> u64 {
    let bits = (x + 1) * 2_654_435_761 % (1 << 32);
    let bits = (bits ^ (bits >> 15)) * 2_246_822_519 % (1 << 32);
    ((bits ^ (bits >> 13)) >> 16) & 255
}

/// Random bytes on a grid, in between a mixture of the four around, halved with every octave.
fn clouds(x: u64, y: u64, c: u64, octave: u64) -> u64 {
    let cell = 32 >> octave;
    let (column, fx, row, fy) = (x / cell, x % cell, y / cell, y % cell);
    let at = |dx, dy| scatter(((row + dy) * 1009 + column + dx) * 3 + c + octave * 7919);
    let between = |dy| at(0, dy) * (cell - fx) + at(1, dy) * fx;
    ((between(0) * (cell - fy) + between(1) * fy) / (cell * cell)) >> (octave + 1)
}
