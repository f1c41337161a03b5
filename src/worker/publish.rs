//! From pixels to a recorded result: encode, store, then one transaction.

use super::{PublishError, Worker, patiently};
use crate::engine::{Generated, Measure, Picture, Timings, Verdict, score, stage_seconds};
use crate::picture;
use crate::queue::{Claim, Finish, Observation, StoredFile};
use crate::request::{ImageRequest, Output, OutputFormat, OutputImage, Place};
use crate::storage::FileKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::time::Instant;

/// Publishes the pictures of a claim; on anything but [`Finish::Recorded`] no file is left behind.
pub(super) async fn publish(
    worker: &Worker,
    claim: &Claim,
    request: &ImageRequest,
    generated: Generated,
    load: Option<f64>,
) -> Result<Finish, PublishError> {
    let format = match request.format {
        OutputFormat::Jpeg => picture::Format::Jpeg,
        OutputFormat::Png => picture::Format::Png,
    };
    let (flagged, safety) = (generated.flagged(), generated.timings.safety);
    tell_scores(worker, claim, &generated.verdicts, safety).await?;
    let scores = generated.verdicts.iter().map(score).collect();
    let started = Instant::now();
    let (pictures, encoded) = encode_all(generated.pictures, format).await?;
    let encode = started.elapsed().as_secs_f64();
    let seconds = stage_seconds(generated.timings, encode, load);
    let seen = observations(generated.timings, encode, &generated.verdicts);
    let mut files = Vec::new();
    let images = place_all(worker, request, &pictures, encoded, format, &mut files).await;
    let finish = match images {
        Ok(images) => {
            let (seed, prompt) = (request.seed, request.prompt.clone());
            let output = Output { images, seconds, seed, flagged, scores, prompt };
            record(worker, claim, output, safety, &files, &seen).await
        }
        Err(error) => Err(error),
    };
    if !matches!(finish, Ok(Finish::Recorded)) {
        discard(worker, &files).await;
    }
    finish
}

async fn encode_all(
    pictures: Vec<Picture>,
    format: picture::Format,
) -> Result<(Vec<Picture>, Vec<Vec<u8>>), PublishError> {
    let encode = move || {
        let encoded: Result<Vec<_>, _> =
            pictures.iter().map(|one| picture::encode(one, format, &[]).map_err(|e| e.to_string())).collect();
        encoded.map(|encoded| (pictures, encoded))
    };
    let joined = tokio::task::spawn_blocking(encode).await;
    joined.map_err(|error| PublishError::Encode(error.to_string()))?.map_err(PublishError::Encode)
}

/// Makes the bytes durable, or folds them into the output. `files` lists what was stored so far.
async fn place_all(
    worker: &Worker,
    request: &ImageRequest,
    pictures: &[Picture],
    encoded: Vec<Vec<u8>>,
    format: picture::Format,
    files: &mut Vec<StoredFile>,
) -> Result<Vec<OutputImage>, PublishError> {
    let mut images = Vec::new();
    for (picture, bytes) in pictures.iter().zip(encoded) {
        let place = if request.inline {
            Place::Inline(STANDARD.encode(&bytes))
        } else {
            let key = FileKey::fresh(format.extension());
            files.push(StoredFile {
                key: key.as_str().to_owned(),
                content_type: format.content_type().to_owned(),
                bytes: bytes.len() as u64,
                sha256: hex::encode(Sha256::digest(&bytes)),
            });
            worker.storage.put(&key, bytes).await?;
            Place::Stored(key.as_str().to_owned())
        };
        images.push(OutputImage {
            place,
            width: picture.width,
            height: picture.height,
            content_type: format.content_type().to_owned(),
        });
    }
    Ok(images)
}

/// What the safety checker thought of each picture, if it looked.
async fn tell_scores(
    worker: &Worker,
    claim: &Claim,
    verdicts: &[Verdict],
    seconds: f64,
) -> Result<(), PublishError> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let one = |Verdict { score, flagged, .. }: &Verdict| {
        if *flagged { format!("{score:.3} (unsafe, made black)") } else { format!("{score:.3}") }
    };
    for (picture, verdict) in verdicts.iter().enumerate() {
        let Verdict { score, flagged, .. } = verdict;
        tracing::info!(request = %claim.id, picture, score, flagged, "safety checker");
    }
    let scores: Vec<_> = verdicts.iter().map(one).collect();
    let line = format!("safety checker: {} in {seconds:.2} s", scores.join(", "));
    worker.report(claim, &line).await?;
    Ok(())
}

/// What is counted of a request beside its end.
fn observations(timings: Timings, encode: f64, verdicts: &[Verdict]) -> Vec<Observation> {
    let Timings { text, denoise, decode, safety, .. } = timings;
    let checked = (!verdicts.is_empty()).then_some(("safety", safety));
    let stages = [("text", text), ("denoise", denoise), ("decode", decode), ("encode", encode)];
    let stages = stages.into_iter().chain(checked).map(|(stage, time)| Observation::stage(stage, time));
    let scores = verdicts.iter().flat_map(|Verdict { score, measure, flagged }| {
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
    Ok(patiently(|| worker.queue.finish(claim, &value, files, seen)).await?)
}

async fn discard(worker: &Worker, files: &[StoredFile]) {
    for file in files {
        let Some(key) = FileKey::parse(&file.key) else { continue };
        if let Err(error) = worker.storage.delete(&key).await {
            tracing::warn!(key = file.key, %error, "a file without owner stays behind");
        }
    }
}
