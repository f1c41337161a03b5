//! The unmodified crate `fal`, whose hosts are fixed: the environment of `latentd env` redirects its calls to this server.
//! Its key is not valid at fal.

use fal::endpoints::fal_ai::stable_diffusion_v35_large::{
    ImageSize, ImageSizeProperty, Output, TextToImageInput, stable_diffusion_v35_large,
};
use fal::queue::{Queue, Status};
use futures::StreamExt;

fn input() -> TextToImageInput {
    TextToImageInput {
        prompt: "a lighthouse".into(),
        image_size: Some(ImageSizeProperty::Square),
        num_inference_steps: Some(4),
        seed: Some(7),
        ..Default::default()
    }
}

async fn submit(input: TextToImageInput) -> Queue<Output> {
    let queue = stable_diffusion_v35_large(input).queue().await.expect("a submit");
    let url = &queue.payload.status_url;
    assert!(url.starts_with("https://queue.fal.run/fal-ai/stable-diffusion-v35-large/requests/"), "{url}");
    queue
}

async fn check(output: Output, side: i64) {
    assert_eq!((output.seed, output.prompt.as_str()), (7, "a lighthouse"));
    assert_eq!(output.has_nsfw_concepts, [false]);
    let [image] = output.images.as_slice() else { panic!("{} images", output.images.len()) };
    assert_eq!((image.width, image.height), (side, side));
    assert!(image.url.starts_with("https://v3.fal.media/files/"), "{}", image.url);
    let file = reqwest::get(&image.url).await.expect("a file");
    assert_eq!(file.headers()["content-type"], image.content_type.as_deref().expect("a type"));
    assert!(file.bytes().await.expect("its bytes").starts_with(&[0xff, 0xd8]));
}

#[tokio::test]
async fn runs() {
    check(stable_diffusion_v35_large(input()).send().await.expect("an output"), 512).await;
}

#[tokio::test]
async fn a_refused_run_is_its_text() {
    let input = TextToImageInput { num_images: Some(9), ..input() };
    let refused = stable_diffusion_v35_large(input).with_api_key("another:key").send().await;
    let refused = refused.expect_err("no output").to_string();
    assert!(refused.contains(r#""loc":["body","num_images"]"#), "{refused}");
}

#[tokio::test]
async fn polls_until_completed() {
    let queue = submit(input()).await;
    let last = loop {
        let status = queue.status(true).await.expect("a status");
        match status.status {
            Status::InQueue => assert!(status.queue_position.is_some()),
            Status::InProgress => {}
            Status::Completed => break status,
        }
    };
    let lines: Vec<_> = last.logs.expect("logs").into_iter().map(|log| log.message).collect();
    assert!(lines.iter().any(|line| line.starts_with("step 4/4")), "{lines:?}");
    check(queue.response().await.expect("an output"), 512).await;
}

#[tokio::test]
async fn streams_its_status() {
    let queue = submit(input()).await;
    let statuses: Vec<_> = queue.stream(true).await.expect("a stream").collect().await;
    let statuses: Vec<_> = statuses.into_iter().map(|status| status.expect("a status")).collect();
    assert_eq!(statuses.last().map(|last| &last.status), Some(&Status::Completed));
    let steps = statuses.iter().flat_map(|status| status.logs.iter().flatten());
    assert_eq!(steps.filter(|log| log.message.starts_with("step ")).count(), 4, "new lines only");
    check(queue.response().await.expect("an output"), 512).await;
}

#[tokio::test]
async fn cancels() {
    let behind =
        submit(TextToImageInput { num_inference_steps: Some(50), num_images: Some(4), ..input() }).await;
    let queue = submit(input()).await;
    queue.cancel().await.expect("cancelled");
    behind.cancel().await.expect("cancelled");
    let refused = queue.response().await.expect_err("no output").to_string();
    assert!(refused.contains("client_cancelled"), "{refused}");
}

#[tokio::test]
async fn a_refusal_is_its_text() {
    let queue = submit(TextToImageInput { num_images: Some(9), ..input() }).await;
    let refused = queue.response().await.expect_err("no output").to_string();
    assert!(refused.contains(r#""loc":["body","num_images"]"#), "{refused}");
}

/// The crate wraps a size in an object of its own, which the model does not know: it then generates its default size.
#[tokio::test]
async fn an_image_size_is_wrapped() {
    let size = ImageSizeProperty::ImageSize(ImageSize { width: Some(128), height: Some(96) });
    let queue = submit(TextToImageInput { image_size: Some(size), ..input() }).await;
    while queue.status(false).await.expect("a status").status != Status::Completed {}
    check(queue.response().await.expect("an output"), 512).await;
}
