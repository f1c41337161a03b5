//! AVIF as the initial image, over HTTP.

use crate::init_image::{data_uri, from, generated, look, refusal};
use crate::support::Server;

#[tokio::test]
async fn an_avif_is_an_initial_image() {
    let server = Server::start().await;
    // Its corner has no red, which is the channel that the scripted engine repeats.
    let avif = include_bytes!("../images/avif/identity.avif");
    let result = generated(&server, &from(&data_uri(avif))).await;
    assert_eq!(look(&server, &result).await, (45, 31, 0));
}

#[tokio::test]
async fn a_damaged_avif_and_one_that_is_too_large_have_different_errors() {
    let server = Server::start().await;
    let avif = include_bytes!("../images/avif/8-bit-420.avif");
    let cut = generated(&server, &from(&data_uri(&avif[..avif.len() - 9]))).await;
    assert_eq!(refusal(&cut).0, "image_load_error");
    let mut large = avif.to_vec();
    let size = large.windows(4).position(|name| name == b"ispe").expect("a size") + 8;
    large[size..size + 8].copy_from_slice(&[0, 0, 0x30, 0, 0, 0, 0x30, 0]);
    assert_eq!(refusal(&generated(&server, &from(&data_uri(&large))).await).0, "image_too_large");
    let no_boxes = generated(&server, &from(&data_uri(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf"))).await;
    assert_eq!(refusal(&no_boxes).0, "image_load_error");
}
