//! Pictures whose files are small and whose pixels are not: a worker makes them smaller as it reads them, or refuses.

use crate::program::Program;
use crate::support::{ENDPOINT, eventually};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

/// A PNG of nothing but zeros, with other chunks before its pixels. `kind` is bit depth and colour type.
fn zeros(width: u32, height: u32, [depth, color]: [u8; 2], interlaced: bool, chunks: &[u8]) -> Vec<u8> {
    let channels = [1, 0, 3, 1, 2, 0, 4][usize::from(color)];
    let row = vec![0; 1 + (width as usize * channels * usize::from(depth)).div_ceil(8)];
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..height {
        pixels.write_all(&row).expect("memory takes everything");
    }
    let header =
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, u8::from(interlaced)]]
            .concat();
    let pixels = pixels.finish().expect("memory takes everything");
    [
        b"\x89PNG\r\n\x1a\n",
        &chunk(b"IHDR", &header)[..],
        chunks,
        &chunk(b"IDAT", &pixels),
        &chunk(b"IEND", &[]),
    ]
    .concat()
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat()
}

/// A profile of 200 MB of one letter.
fn huge_profile() -> Vec<u8> {
    let mut profile = ZlibEncoder::new(Vec::new(), Compression::fast());
    let block = vec![b'a'; 1_000_000];
    for _ in 0..200 {
        profile.write_all(&block).expect("memory takes everything");
    }
    chunk(b"iCCP", &[b"k\0\0", &profile.finish().expect("memory takes everything")[..]].concat())
}

fn jpeg(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = image::GrayImage::from_pixel(side, side, image::Luma([90]));
    picture.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("a JPEG");
    bytes
}

async fn upload(program: &Program, file: &[u8]) -> String {
    let answer =
        program.call("127.0.0.1", "POST /files/upload HTTP/1.1\r\ncontent-type: image/png", file).await;
    answer.expect("an answer").1["access_url"].as_str().expect("a URL").to_owned()
}

/// Status and body of a run that begins from a file.
async fn run(program: &Program, file: &[u8]) -> (u16, Value) {
    let input = json!({
        "prompt": "x", "image_url": upload(program, file).await, "num_inference_steps": 1, "strength": 1.0,
        "image_size": { "width": 64, "height": 64 }
    });
    let head = format!("POST /run/{ENDPOINT}/image-to-image HTTP/1.1");
    program.call("127.0.0.1", &head, input.to_string().as_bytes()).await.expect("an answer")
}

#[tokio::test]
async fn a_file_takes_a_bounded_part_of_memory_whatever_it_unpacks_to() {
    let program = Program::start(&["--safety-checker", "none"], None);
    let normal = eventually(async || {
        let (status, answer) = run(&program, &zeros(64, 64, [8, 2], false, &[])).await;
        (status == 200).then_some(answer)
    });
    assert_eq!(normal.await["images"][0]["width"], 64);
    let taken = [
        ("a PNG of 200 million pixels of one bit", zeros(14_142, 14_142, [1, 0], false, &[])),
        ("a PNG of 64 million pixels of 64 bits", zeros(8000, 8000, [16, 6], false, &[])),
        ("a JPEG of 200 million pixels", jpeg(14_142)),
    ];
    let refused = [
        ("an interlaced PNG of 100 million pixels", zeros(10_000, 10_000, [8, 2], true, &[])),
        ("a PNG with a side of 60,000 pixels", zeros(60_000, 8, [8, 2], false, &[])),
    ];
    let either = [("a PNG with a profile of 200 MB", zeros(64, 64, [8, 2], false, &huge_profile()))];
    let taken = taken.into_iter().map(|(name, file)| (name, file, &[200][..]));
    let refused = refused.into_iter().map(|(name, file)| (name, file, &[422][..]));
    let either = either.into_iter().map(|(name, file)| (name, file, &[200, 422][..]));
    for (name, file, expected) in taken.chain(refused).chain(either) {
        let rest = program.worker_memory().await.rest(name);
        let begun = Instant::now();
        let (status, answer) = run(&program, &file).await;
        assert!(expected.contains(&status), "{name}: {status} {answer}");
        println!("{name}: {} KB, {status} after {:?}", file.len() / 1024, begun.elapsed());
        if status == 422 && expected == [422] {
            assert_eq!(answer["detail"][0]["type"], "image_too_large", "{name}: {answer}");
        }
        rest.is_back().await;
    }
}
