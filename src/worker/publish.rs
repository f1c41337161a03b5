//! Publishes a request's images: encodes them, stores the files, records the result in one transaction.

use super::retry::with_retry;
use super::{Attempt, PublishError, Worker};
use crate::engine::{Generated, Image, Measure, SafetyVerdict, Timings, score, stage_seconds};
use crate::image_file;
use crate::queue::{self, Claim, Finish, Level, Observation, StoredFile};
use crate::storage::FileKey;
use crate::sweep;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use latentd_request::{ImageRequest, Output, OutputFormat, OutputImage, Place};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Publishes the images of a claim; on anything but [`Finish::Recorded`] no file is left behind.
pub(super) async fn publish(
    worker: &Worker,
    claim: &Attempt,
    request: &ImageRequest,
    generated: Generated,
    load: Option<f64>,
) -> Result<Finish, PublishError> {
    let quality = request.quality.unwrap_or(image_file::DEFAULT_QUALITY);
    let format = match request.format {
        OutputFormat::Jpeg => image_file::Format::Jpeg(quality),
        OutputFormat::Png => image_file::Format::Png,
        OutputFormat::WebP => image_file::Format::WebP(quality),
    };
    let (flagged, safety) = (generated.flagged(), generated.timings.safety);
    log_scores(worker, claim, &generated.verdicts, safety).await?;
    let scores = generated.verdicts.iter().map(score).collect();
    let started = Instant::now();
    let scaled_to = request.scaled_to;
    log_scaling(worker, claim, scaled_to, &generated.images).await?;
    // Of a request that an earlier version stored, `private` says both.
    let is_silent = request.private || request.without_settings;
    let text = |image| if is_silent { Vec::new() } else { settings(request, image) };
    let texts = (0..generated.images.len()).map(text).collect();
    let span = claim.span.child("encode images");
    let (images, encoded) = encode_all(generated.images, format, scaled_to, texts).await?;
    drop(span);
    let encode = started.elapsed().as_secs_f64();
    let seconds = stage_seconds(generated.timings, encode, load);
    let seen = observations(generated.timings, encode, &generated.verdicts);
    let files = match request.inline {
        true => Vec::new(),
        false => encoded.iter().map(|bytes| describe(format, bytes)).collect(),
    };
    let encoded: Vec<_> = encoded.into_iter().map(Bytes::from).collect();
    let span = claim.span.child("store files");
    let is_stored = store_all(worker, claim, &files, &encoded).await;
    drop(span);
    let finish = match is_stored {
        Ok(true) => {
            let images = output_images(&images, &encoded, &files, format);
            let (seed, prompt) = (request.seed, request.prompt.clone());
            let output = Output { images, seconds, seed, flagged, scores, prompt };
            let _span = claim.span.child("finish");
            record(worker, claim, output, safety, &files, &seen).await
        }
        // Cancelled, or lost to another attempt: giving it back ends a cancelled request.
        Ok(false) => Ok(with_retry(|| worker.queue.give_back(claim)).await?),
        Err(error) => Err(error),
    };
    if !matches!(finish, Ok(Finish::Recorded)) {
        discard(worker, &files).await;
    }
    finish
}

/// The file record of an encoded image, under a new key.
fn describe(format: image_file::Format, bytes: &[u8]) -> StoredFile {
    StoredFile {
        key: FileKey::fresh(format.extension()).as_str().to_owned(),
        content_type: format.content_type().to_owned(),
        bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    }
}

async fn encode_all(
    images: Vec<Image>,
    format: image_file::Format,
    scaled_to: Option<(usize, usize)>,
    texts: Vec<Vec<(&'static str, String)>>,
) -> Result<(Vec<Image>, Vec<Vec<u8>>), PublishError> {
    let scale = move |one| match scaled_to {
        Some(size) => image_file::scaled(one, size),
        None => one,
    };
    let encode = move || {
        let images: Vec<Image> = images.into_iter().map(scale).collect();
        let encode = |(one, text): (_, &Vec<_>)| {
            image_file::encode(one, format, text).map_err(|error| error.to_string())
        };
        let encoded: Result<Vec<_>, _> = images.iter().zip(&texts).map(encode).collect();
        encoded.map(|encoded| (images, encoded))
    };
    let joined = tokio::task::spawn_blocking(encode).await;
    joined.map_err(|error| PublishError::Encode(error.to_string()))?.map_err(PublishError::Encode)
}

/// The generation settings that are written into the file of one image.
fn settings(request: &ImageRequest, image: usize) -> Vec<(&'static str, String)> {
    let ImageRequest { prompt, negative_prompt, seed, steps, guidance, .. } = request;
    let settings = image_file::Settings {
        prompt,
        negative_prompt,
        seed: *seed,
        steps: *steps,
        guidance: *guidance,
        model: request.stand_in.as_ref().unwrap_or(&request.model),
        skip_layers: request.skip_layers.as_ref(),
        controlnet: request.controlnet.as_ref(),
        ip_adapter: request.ip_adapter.as_ref(),
    };
    settings.text(request.image_offset + image)
}

/// Notes in the request's log that its images were scaled up after generating.
async fn log_scaling(
    worker: &Worker,
    claim: &Claim,
    scaled_to: Option<(usize, usize)>,
    generated: &[Image],
) -> Result<(), PublishError> {
    if let (Some((width, height)), Some(from)) = (scaled_to, generated.first()) {
        let from = format!("{}x{}", from.width, from.height);
        let line = format!(
            "generated at {from}, the largest that this model generates, and scaled to {width}x{height}"
        );
        worker.report(claim, &line).await?;
    }
    Ok(())
}

/// Records the files as expected and stores them durably; retries while the disk is full. `false` if the request was
/// cancelled or lost to another attempt.
async fn store_all(
    worker: &Worker,
    claim: &Claim,
    files: &[StoredFile],
    encoded: &[Bytes],
) -> Result<bool, PublishError> {
    let keys: Vec<_> = files.iter().map(|file| file.key.as_str()).collect();
    if !keys.is_empty() && !with_retry(|| worker.queue.expect_files(&keys, Some(claim))).await? {
        return Ok(false);
    }
    for (file, bytes) in files.iter().zip(encoded) {
        let Some(key) = FileKey::parse(&file.key) else { continue };
        let was_logged = AtomicBool::new(false);
        let is_stored = with_retry(|| store_wanted(worker, claim, &key, bytes, &was_logged));
        if !is_stored.await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Stores a file durably; `false` if the request was cancelled or lost to another attempt. The first failure is noted in
/// the request's log.
async fn store_wanted(
    worker: &Worker,
    claim: &Claim,
    key: &FileKey,
    bytes: &Bytes,
    was_logged: &AtomicBool,
) -> Result<bool, PublishError> {
    if !matches!(worker.queue.verdict(claim).await?, queue::Verdict::Continue { .. }) {
        return Ok(false);
    }
    let stored = worker.storage.put(key, bytes.clone()).await;
    if stored.is_err() && !was_logged.load(Ordering::Relaxed) {
        let line = format!("the images cannot be stored now: waiting for the {}", worker.storage.medium());
        let logged = worker.queue.progress(claim, Level::Warn, &line).await;
        was_logged.store(logged.is_ok(), Ordering::Relaxed);
    }
    Ok(stored.map(|()| true)?)
}

/// The output's entry for each image: the key of its file, or its bytes in base64.
fn output_images(
    images: &[Image],
    encoded: &[Bytes],
    files: &[StoredFile],
    format: image_file::Format,
) -> Vec<OutputImage> {
    let place = |at: usize| match files.get(at) {
        Some(file) => Place::Stored(file.key.clone()),
        None => Place::Inline(STANDARD.encode(&encoded[at])),
    };
    let image = |(at, image): (usize, &Image)| OutputImage {
        place: place(at),
        width: image.width,
        height: image.height,
        content_type: format.content_type().to_owned(),
    };
    images.iter().enumerate().map(image).collect()
}

/// Logs the safety checker's scores, if it ran.
async fn log_scores(
    worker: &Worker,
    claim: &Claim,
    verdicts: &[SafetyVerdict],
    seconds: f64,
) -> Result<(), PublishError> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let one = |SafetyVerdict { score, flagged, .. }: &SafetyVerdict| {
        if *flagged { format!("{score:.3} (unsafe, made black)") } else { format!("{score:.3}") }
    };
    for (image, verdict) in verdicts.iter().enumerate() {
        let SafetyVerdict { score, flagged, .. } = verdict;
        tracing::info!(request = %claim.id, image, score, flagged, "safety checker");
    }
    let scores: Vec<_> = verdicts.iter().map(one).collect();
    let line = format!("safety checker: {} in {seconds:.2} s", scores.join(", "));
    worker.report(claim, &line).await?;
    Ok(())
}

/// The metrics of a request that are recorded with its result.
fn observations(timings: Timings, encode: f64, verdicts: &[SafetyVerdict]) -> Vec<Observation> {
    let Timings { text, denoise, decode, safety, .. } = timings;
    let checked = (!verdicts.is_empty()).then_some(("safety", safety));
    let stages = [("text", text), ("denoise", denoise), ("decode", decode), ("encode", encode)];
    let stages = stages.into_iter().chain(checked).map(|(stage, time)| Observation::stage(stage, time));
    let scores = verdicts.iter().flat_map(|SafetyVerdict { score, measure, flagged }| {
        let measure = match measure {
            Measure::Probability => "probability",
            Measure::Margin => "margin",
        };
        let score = Observation::safety_score(measure, f64::from(*score));
        [Some(score), flagged.then(Observation::safety_flagged)]
    });
    stages.chain(scores.flatten()).collect()
}

async fn record(
    worker: &Worker,
    claim: &Claim,
    output: Output,
    safety: f64,
    files: &[StoredFile],
    seen: &[Observation],
) -> Result<Finish, PublishError> {
    let seconds = output.seconds;
    let total = seconds.load.unwrap_or_default()
        + seconds.text
        + seconds.denoise
        + seconds.decode
        + safety
        + seconds.encode;
    worker.report(claim, &format!("done in {total:.2} s")).await?;
    let value = serde_json::to_value(output).map_err(|error| PublishError::Encode(error.to_string()))?;
    Ok(with_retry(|| worker.queue.finish(claim, &value, files, seen)).await?)
}

/// Removes files that no request owns; the sweep removes those that cannot be removed now.
async fn discard(worker: &Worker, files: &[StoredFile]) {
    for key in files.iter().filter_map(|file| FileKey::parse(&file.key)) {
        if let Err(error) = sweep::discard(&worker.queue, &worker.storage, &key).await {
            tracing::warn!(key = key.as_str(), %error, "a file without owner stays for now");
        }
    }
}
