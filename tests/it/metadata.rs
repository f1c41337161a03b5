//! What image files say of the request that they were generated for, and what they must not say.

use crate::init_image;
use crate::lifecycle::file_of;
use crate::openai;
use crate::support::{Scripted, Server, id_of, small_with, stepped_engine};
use axum::http::StatusCode;
use image::{ImageDecoder, ImageEncoder};
use latentd::queue::Lost;
use latentd_fal::Api;
use serde_json::json;
use std::io::Cursor;

const FORMATS: [&str; 3] = ["png", "jpeg", "webp"];

/// A server whose models are replaced by the built-in one.
async fn start(change: impl FnOnce(&mut Api)) -> Server {
    Server::with(|api| {
        for served in api.endpoints.iter_mut().filter_map(|endpoint| endpoint.served.as_mut()) {
            served.stand_in = Some("mini".into());
        }
        change(api);
    })
    .await
}

/// Keywords and values that a file has.
pub(crate) fn text_of(file: &[u8]) -> Vec<(String, String)> {
    if image::guess_format(file).expect("an image") == image::ImageFormat::Png {
        let reader = png::Decoder::new(Cursor::new(file)).read_info().expect("a PNG");
        let text = reader.info().utf8_text.iter();
        return text.map(|chunk| (chunk.keyword.clone(), chunk.get_text().expect("text"))).collect();
    }
    let reader = image::ImageReader::new(Cursor::new(file)).with_guessed_format().expect("an image");
    let packet = reader.into_decoder().expect("a header").xmp_metadata().expect("a header");
    let packet = String::from_utf8(packet.unwrap_or_default()).expect("UTF-8");
    let properties = packet.split("<latentd:").skip(1).filter_map(|rest| {
        let (keyword, rest) = rest.split_once('>')?;
        let (value, _) = rest.split_once(&format!("</latentd:{keyword}>"))?;
        Some((keyword.to_owned(), value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
    });
    properties.collect()
}

/// The file of an image that is generated for a call of OpenAI's API, which knows every format.
async fn file(server: &Server, format: &str, headers: &[(&'static str, &str)]) -> Vec<u8> {
    let input = json!({ "output_format": format, "prompt": "a <fox> & 庭", "negative_prompt": "rain" });
    let mut request = openai::post(openai::GENERATIONS, &openai::small(input));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    openai::first_image(&openai::answered(server, request, Scripted::grey()).await)
}

#[tokio::test]
async fn an_image_file_says_how_it_was_generated() {
    let server = start(|_| {}).await;
    let expected = [
        ("prompt", "a <fox> & 庭"),
        ("negative_prompt", "rain"),
        ("seed", "7"),
        ("steps", "3"),
        ("guidance", "3.5"),
        ("model", "mini"),
        ("Software", concat!("latentd ", env!("CARGO_PKG_VERSION"))),
    ];
    let expected = expected.map(|(keyword, value)| (keyword.to_owned(), value.to_owned()));
    for format in FORMATS {
        assert_eq!(text_of(&file(&server, format, &[]).await), expected, "{format}");
    }
    for format in ["png", "jpeg"] {
        let request = server.submit(&small_with("output_format", format)).await;
        server.generate_all().await;
        let found = text_of(&file_of(&server, &request).await);
        assert_eq!((found.len(), found[0].1.as_str()), (7, "a fox"), "fal's {format}");
    }
}

#[tokio::test]
async fn nothing_is_said_where_the_operator_or_the_request_wants_that() {
    let server = start(|_| {}).await;
    let silent = start(|api| api.no_metadata = true).await;
    for format in FORMATS {
        assert_eq!(text_of(&file(&server, format, &[("x-fal-store-io", "0")]).await), [], "{format}");
        let bytes = file(&silent, format, &[]).await;
        assert_eq!(text_of(&bytes), [], "{format}");
        for word in ["fox", "latentd", "mini"] {
            assert!(!contains(&bytes, word), "{format}: {word}");
        }
    }
}

/// A request whose input is to be forgotten keeps no adapters either; one of a server that writes no settings does.
#[tokio::test]
async fn files_without_settings_are_no_private_requests() {
    let silent = start(|api| api.no_metadata = true).await;
    let accepted = async |headers: &[(&str, &str)]| {
        silent.submit_with(headers, &small_with("output_format", "png")).await;
        let claim = silent.claim("w").await;
        (claim.body["private"] == true, claim.body["without_settings"] == true)
    };
    assert_eq!(accepted(&[]).await, (false, true));
    assert_eq!(accepted(&[("x-fal-store-io", "0")]).await, (true, true));
}

#[tokio::test]
async fn an_attempt_that_goes_on_writes_the_same_bytes() {
    let server = start(|_| {}).await;
    for format in ["png", "jpeg"] {
        let input = small_with("output_format", format);
        let whole = server.submit(&input).await;
        server.run_stepped("whole").await.finish().await;
        let interrupted = server.submit(&input).await;
        let (engine, control) = stepped_engine();
        let lost = crate::support::SteppedRun::start(server.worker("lost", engine).await, control);
        lost.step().await;
        server.queue.reclaim(Lost::Died("lost")).await.expect("a database");
        server.run_stepped("current").await.finish().await;
        assert_eq!(file_of(&server, &whole).await, file_of(&server, &interrupted).await, "{format}");
        assert_ne!(id_of(&whole), id_of(&interrupted));
        lost.finish().await;
    }
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|found| found == word.as_bytes())
}

/// Images of one grey, each with a secret in every kind of metadata that its format has.
fn secrets() -> Vec<Vec<u8>> {
    const SECRET: &[u8] = b"SECRET 52.5200 N 13.4050 E";
    // A TIFF header and one directory whose only entry is ImageDescription.
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0".to_vec();
    exif.extend_from_slice(&(SECRET.len() as u32).to_le_bytes());
    exif.extend_from_slice(b"\x1a\0\0\0\0\0\0\0");
    exif.extend_from_slice(SECRET);
    let pixels = vec![200; 48 * 32 * 3];
    fn write(encoder: &mut impl ImageEncoder, exif: &[u8]) {
        encoder.set_exif_metadata(exif.to_vec()).expect("EXIF");
        encoder.set_icc_profile(SECRET.to_vec()).expect("a profile");
    }
    let [mut jpeg, mut png, mut webp] = [const { Vec::new() }; 3];
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
    write(&mut encoder, &exif);
    encoder.write_image(&pixels, 48, 32, image::ExtendedColorType::Rgb8).expect("a JPEG");
    let mut encoder = image::codecs::png::PngEncoder::new(&mut png);
    write(&mut encoder, &exif);
    encoder.write_image(&pixels, 48, 32, image::ExtendedColorType::Rgb8).expect("a PNG");
    let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut webp);
    write(&mut encoder, &exif);
    encoder.write_image(&pixels, 48, 32, image::ExtendedColorType::Rgb8).expect("a WebP");
    vec![jpeg, png, webp]
}

#[tokio::test]
async fn nothing_of_an_initial_images_metadata_gets_into_a_generated_one() {
    let server = start(|_| {}).await;
    for image in secrets() {
        assert!(
            contains(&image, "SECRET") || !image.starts_with(b"\xff\xd8"),
            "the profile of a PNG is packed"
        );
        for format in FORMATS {
            let request = openai::small_form(&[("output_format", format)], &image);
            let answer = openai::answered(&server, request, Scripted::grey()).await;
            let bytes = openai::first_image(&answer);
            assert_eq!(image::load_from_memory(&bytes).expect("an image").width(), 48);
            for secret in ["SECRET", "Exif", "eXIf", "iCCP", "ICCP", "EXIF", "ICC_PROFILE"] {
                assert!(!contains(&bytes, secret), "{secret} in {format}");
            }
        }
        let mut input = init_image::from(&init_image::data_uri(&image));
        input["output_format"] = json!("jpeg");
        let result = init_image::generated(&server, &input).await;
        assert_eq!(result.status, StatusCode::OK, "{result:?}");
        let url = result.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
        let file = server.get(url.strip_prefix("http://test:1").expect("our URL")).await;
        assert!(!contains(&file.bytes, "SECRET") && !contains(&file.bytes, "Exif"));
    }
}
