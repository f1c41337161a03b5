//! Images whose files are small and whose pixels are not: a worker makes them smaller as it reads them, or refuses.

use crate::attack::Attacked;
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
    let image = image::GrayImage::from_pixel(side, side, image::Luma([90]));
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).expect("a JPEG");
    bytes
}

/// A GIF whose one frame has one colour. `frame` is its size, which the image's need not be.
fn gif(image: (u16, u16), frame: (u16, u16)) -> Vec<u8> {
    let size = |(width, height): (u16, u16)| [width.to_le_bytes(), height.to_le_bytes()].concat();
    let mut bits = Lzw::default();
    let pixels = usize::from(frame.0) * usize::from(frame.1);
    bits.fill(pixels);
    let data: Vec<u8> =
        bits.bytes.chunks(255).flat_map(|block| [&[block.len() as u8][..], block].concat()).collect();
    [
        &b"GIF89a"[..],
        &size(image),
        &[0x80, 0, 0, 90, 90, 90, 0, 0, 0, 0x2c, 0, 0, 0, 0],
        &size(frame),
        &[0, 2],
        &data,
        &[0, 0x3b],
    ]
    .concat()
}

/// Codes of GIF's compression for pixels of one colour: each is as long as the one before and a pixel more.
#[derive(Default)]
struct Lzw {
    bytes: Vec<u8>,
    pending: u32,
    bits: u32,
}

impl Lzw {
    const CLEAR: u32 = 4;

    fn put(&mut self, code: u32, width: u32) {
        self.pending |= code << self.bits;
        self.bits += width;
        while self.bits >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.bits -= 8;
        }
    }

    fn fill(&mut self, mut pixels: usize) {
        while pixels > 0 {
            let (mut width, mut next, mut length) = (3, Self::CLEAR + 2, 1);
            self.put(Self::CLEAR, width);
            self.put(0, width);
            pixels -= 1;
            while pixels > length && next < 4096 {
                self.put(next, width);
                next += 1;
                length += 1;
                pixels -= length.min(pixels);
                if next == 1 << width && width < 12 {
                    width += 1;
                }
            }
            if pixels <= length {
                // What is left, one by one, with codes that are sure to exist.
                let rest = std::mem::take(&mut pixels).min(64);
                (0..rest).for_each(|_| self.put(0, width));
            }
        }
        self.put(Self::CLEAR + 1, 3);
        self.put(0, 8);
    }
}

/// A BMP whose rows are packed into next to nothing.
fn bmp(width: i32, height: i32) -> Vec<u8> {
    let row = [[255, 1].repeat(width as usize / 255), vec![(width % 255) as u8, 1, 0, 0]].concat();
    let rows = row.repeat(height as usize);
    let palette = [0, 0, 0, 0, 90, 90, 90, 0];
    let offset = 14 + 40 + palette.len() as u32;
    [
        &b"BM"[..],
        &(offset + rows.len() as u32).to_le_bytes(),
        &[0; 4],
        &offset.to_le_bytes(),
        &40u32.to_le_bytes(),
        &width.to_le_bytes(),
        &height.to_le_bytes(),
        &[1, 0, 8, 0, 1, 0, 0, 0],
        &(rows.len() as u32).to_le_bytes(),
        &[0; 8],
        &2u32.to_le_bytes(),
        &[0; 4],
        &palette,
        &rows,
    ]
    .concat()
}

/// An AVIF of 10 bits, colour in full resolution and film grain, which may claim other sides than it has.
fn avif(side: Option<u32>) -> Vec<u8> {
    let mut bytes = include_bytes!("../../images/large.avif").to_vec();
    if let Some(side) = side {
        let at = bytes.windows(4).position(|name| name == b"ispe").expect("a size") + 8;
        bytes[at..at + 8].copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
    }
    bytes
}

/// A TIFF of zeros in one strip, packed. `bits` are those of each of three samples.
fn tiff(side: u32, bits: u16) -> Vec<u8> {
    let row = vec![0; side as usize * 3 * usize::from(bits) / 8];
    let mut strip = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..side {
        strip.write_all(&row).expect("memory takes everything");
    }
    let strip = strip.finish().expect("memory takes everything");
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let bits_at = 8 + strip.len() as u32;
    let bits = bits.to_le_bytes().repeat(3);
    let entries = [
        entry(256, 4, 1, side),
        entry(257, 4, 1, side),
        entry(258, 3, 3, bits_at),
        entry(259, 3, 1, 8),
        entry(262, 3, 1, 2),
        entry(273, 4, 1, 8),
        entry(277, 3, 1, 3),
        entry(278, 4, 1, side),
        entry(279, 4, 1, strip.len() as u32),
    ];
    let directory = (bits_at + bits.len() as u32).to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    [&b"II*\0"[..], &directory, &strip, &bits, &count, &entries.concat(), &[0; 4]].concat()
}

async fn upload(program: &Attacked, file: &[u8]) -> String {
    let answer =
        program.call("127.0.0.1", "POST /files/upload HTTP/1.1\r\ncontent-type: image/png", file).await;
    answer.expect("an answer").1["access_url"].as_str().expect("a URL").to_owned()
}

/// Status and body of a run that begins from a file.
async fn run(program: &Attacked, file: &[u8]) -> (u16, Value) {
    let input = json!({
        "prompt": "x", "image_url": upload(program, file).await, "num_inference_steps": 1, "strength": 1.0,
        "image_size": { "width": 64, "height": 64 }
    });
    let head = format!("POST /run/{ENDPOINT}/image-to-image HTTP/1.1");
    program.call("127.0.0.1", &head, input.to_string().as_bytes()).await.expect("an answer")
}

#[tokio::test]
async fn a_file_takes_a_bounded_part_of_memory_whatever_it_unpacks_to() {
    let program = Attacked::start(&["--safety-checker", "none"], None);
    let normal = eventually(async || {
        let (status, answer) = run(&program, &zeros(64, 64, [8, 2], false, &[])).await;
        (status == 200).then_some(answer)
    });
    assert_eq!(normal.await["images"][0]["width"], 64);
    let taken = [
        ("a PNG of 200 million pixels of one bit", zeros(14_142, 14_142, [1, 0], false, &[])),
        ("a PNG of 64 million pixels of 64 bits", zeros(8000, 8000, [16, 6], false, &[])),
        ("a JPEG of 200 million pixels", jpeg(14_142)),
        ("a GIF of 16 million pixels", gif((4000, 4000), (4000, 4000))),
        ("a GIF of 16 million pixels whose frame is smaller", gif((4000, 4000), (3999, 4000))),
        ("a BMP of 16 million pixels", bmp(4000, 4000)),
        ("a TIFF of 9 million pixels", tiff(3000, 8)),
        ("an AVIF of 8 million pixels with all that one may have", avif(None)),
    ];
    let refused = [
        ("an interlaced PNG of 100 million pixels", zeros(10_000, 10_000, [8, 2], true, &[])),
        ("a PNG with a side of 60,000 pixels", zeros(60_000, 8, [8, 2], false, &[])),
        ("a GIF of 200 million pixels", gif((14_142, 14_142), (14_142, 14_142))),
        ("a GIF of 100 pixels that says it has 200 million", gif((14_142, 14_142), (10, 10))),
        ("a GIF with a side of 60,000 pixels", gif((60_000, 8), (60_000, 8))),
        ("a BMP of 200 million pixels", bmp(14_142, 14_142)),
        ("a BMP with a side of 60,000 pixels", bmp(60_000, 8)),
        ("a TIFF of 200 million pixels", tiff(14_142, 8)),
        ("a TIFF of 64 million pixels of 48 bits", tiff(8000, 16)),
        ("a TIFF with sides of 20,000 pixels", tiff(20_000, 8)),
        ("an AVIF of 16 million pixels", avif(Some(4000))),
        ("an AVIF with sides of 65,535 pixels", avif(Some(65_535))),
    ];
    let either = [
        ("a PNG with a profile of 200 MB", zeros(64, 64, [8, 2], false, &huge_profile())),
        ("a GIF of 100 pixels whose frame has 200 million", gif((10, 10), (14_142, 14_142))),
    ];
    let taken = taken.into_iter().map(|(name, file)| (name, file, &[200][..]));
    let refused = refused.into_iter().map(|(name, file)| (name, file, &[422][..]));
    let either = either.into_iter().map(|(name, file)| (name, file, &[200, 422][..]));
    for (name, file, expected) in taken.chain(refused).chain(either) {
        let baseline = program.worker_memory().await.baseline(name);
        let begun = Instant::now();
        let (status, answer) = run(&program, &file).await;
        assert!(expected.contains(&status), "{name}: {status} {answer}");
        println!("{name}: {} KB, {status} after {:?}", file.len() / 1024, begun.elapsed());
        if status == 422 && expected == [422] {
            assert_eq!(answer["detail"][0]["type"], "image_too_large", "{name}: {answer}");
        }
        baseline.returns().await;
    }
}
