//! Files of `tests/images/avif`, decoded as Pillow decodes them, and what hostile ones do.

use super::super::{DecodeError, decode};
use super::container::Container;
use super::frame::Coded;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type File = (&'static str, &'static [u8], &'static [u8]);

/// A file, and the pixels that Pillow makes of it.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_bytes!(concat!("../../../../tests/images/avif/", $name, ".avif")),
            include_bytes!(concat!("../../../../tests/images/avif/", $name, ".png")),
        )),*]
    };
}

const FILES: [File; 27] = files![
    "8-bit-400",
    "8-bit-420",
    "8-bit-422",
    "8-bit-444",
    "10-bit-400",
    "10-bit-420",
    "10-bit-422",
    "10-bit-444",
    "12-bit-420",
    "12-bit-444-limited",
    "limited",
    "bt709",
    "bt709-limited",
    "bt2020",
    "identity",
    "grid",
    "grain",
    "alpha",
    "animation",
    "orientation-1",
    "orientation-2",
    "orientation-3",
    "orientation-4",
    "orientation-5",
    "orientation-6",
    "orientation-7",
    "orientation-8",
];

fn file(name: &str) -> &'static [u8] {
    FILES.iter().find(|(found, _, _)| *found == name).expect("a file").1
}

/// libavif converts with coefficients of 6 bits after the point, and adds the roundings of three products. In them
/// blue of BT.709 in limited range has 2.0 instead of 2.112 for its chroma, which is up to 13 levels.
#[test]
fn every_kind_of_avif_is_decoded_to_the_pixels_of_pillow() {
    for (name, avif, png) in FILES {
        let decoded = decode(avif).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = decode(png).expect("a PNG");
        assert_eq!((decoded.width, decoded.height), (expected.width, expected.height), "{name}");
        for channel in 0..3 {
            let differences = || {
                let pairs = decoded.rgb.iter().zip(&expected.rgb).skip(channel).step_by(3);
                pairs.map(|(a, b)| a.abs_diff(*b))
            };
            let most = differences().max().expect("pixels");
            let mean = differences().map(f64::from).sum::<f64>() / differences().count() as f64;
            let allowed = if name == "bt709-limited" && channel == 2 { (13, 6.0) } else { (4, 1.0) };
            println!("{name}, channel {channel}: {most} at most, {mean:.3} on average");
            assert!(most <= allowed.0 && mean < allowed.1, "{name}, channel {channel}: {most}, {mean:.3}");
        }
    }
}

/// Sets what `ispe` says of the image's size.
fn claiming(avif: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut bytes = avif.to_vec();
    let at = bytes.windows(4).position(|name| name == b"ispe").expect("a size") + 8;
    bytes[at..at + 4].copy_from_slice(&width.to_be_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&height.to_be_bytes());
    bytes
}

#[test]
fn a_size_is_judged_before_anything_is_decoded_and_must_be_the_frames() {
    let avif = file("8-bit-420");
    assert!(matches!(decode(&claiming(avif, 65_535, 65_535)), Err(DecodeError::TooLong)));
    let Err(DecodeError::TooManyPixels(most)) = decode(&claiming(avif, 14_142, 14_142)) else {
        panic!("200 million pixels are too many")
    };
    assert!((8_000_000..16_000_000).contains(&most), "{most}");
    for (width, height) in [(45, 32), (46, 31), (31, 45), (8, 8), (2000, 2000), (0, 0)] {
        let decoded = decode(&claiming(avif, width, height));
        assert!(matches!(decoded, Err(DecodeError::Unreadable(_))), "{width}x{height}");
    }
}

/// Frames that are not shown would each be kept.
#[test]
fn nothing_is_decoded_after_the_first_frame() {
    let item =
        Container::open(file("8-bit-420")).and_then(|container| container.primary()).expect("an image");
    let stream = item.data.repeat(3);
    let coded = Coded::first_frame(&stream).expect("a frame");
    assert!(coded.len() < 2 * item.data.len(), "{} of {}", coded.len(), item.data.len());
    assert!(coded.decode((45, 31), None).is_ok());
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    for name in ["8-bit-420", "10-bit-444", "grid", "animation"] {
        let avif = file(name);
        // The data of an animation's later frames is at its end.
        let end = if name == "animation" { avif.len() / 2 } else { avif.len() };
        for length in 0..end {
            assert!(decode(&avif[..length]).is_err(), "{length} of {} bytes of {name}", avif.len());
        }
    }
}

/// Bits, bytes and whole fields, in the boxes and in the AV1 data. Whatever comes out has the size that was judged.
#[test]
fn a_damaged_file_is_an_image_or_an_error() {
    let mut random = StdRng::seed_from_u64(19);
    let (mut images, mut errors) = (0, 0);
    for name in
        ["8-bit-420", "10-bit-422", "12-bit-444-limited", "identity", "grid", "grain", "alpha", "animation"]
    {
        for _ in 0..500 {
            let mut bytes = file(name).to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes[at] = random.random(),
                    1 => bytes[at] = if random.random() { 0 } else { 255 },
                    2 => {
                        let end = (at + 4).min(bytes.len());
                        bytes[at..end].fill(random.random());
                    }
                    _ => bytes[at] ^= 1 << random.random_range(0..8),
                }
            }
            match decode(&bytes) {
                Ok(image) => {
                    images += 1;
                    assert_eq!(image.rgb.len(), 3 * image.width * image.height);
                }
                Err(error) => {
                    errors += 1;
                    assert!(error.to_string().len() < 200, "{error}");
                }
            }
        }
    }
    println!("{images} images, {errors} errors");
    assert!(images > 500 && errors > 500, "{images} images, {errors} errors");
}

#[test]
fn what_only_some_files_have_is_refused_by_its_name() {
    let layered = |name: &[u8; 4]| {
        let mut bytes = file("8-bit-420").to_vec();
        // A property that says nothing about pixels becomes one of layers.
        let at = bytes.windows(4).position(|found| found == b"pixi").expect("a property");
        bytes[at..at + 4].copy_from_slice(name);
        decode(&bytes).expect_err("a refusal").to_string()
    };
    assert_eq!(layered(b"a1op"), "it is an AVIF with layers, which is not read");
    assert_eq!(layered(b"lsel"), "it is an AVIF with layers, which is not read");
}
