//! A directory of text encoders: what a checkpoint does not contain.

use super::components::Component;
use super::header::Header;
use super::quantized_formats;
use super::{PartLocation, StoredPart};
use crate::content::Directory;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Adds the encoders of `dir`, in place of those inside the checkpoint, and a VAE if that has none.
pub(super) fn add(dir: &Path, places: &mut BTreeMap<Component, PartLocation>) -> Result<()> {
    let encoders = [Component::ClipL, Component::ClipG, Component::T5];
    let folders = Directory::new(dir);
    let has = |part: Component| folders.exists(&format!("{}/config.json", part.folder()));
    if encoders.into_iter().any(has) {
        let found = encoders.into_iter().filter(|part| has(*part));
        places.extend(found.map(|part| (part, PartLocation::Folder(folders.clone()))));
        if has(Component::Vae) {
            places.entry(Component::Vae).or_insert_with(|| PartLocation::Folder(folders));
        }
        return Ok(());
    }
    for (part, stored) in best(dir)? {
        if encoders.contains(&part) || (part == Component::Vae && !places.contains_key(&part)) {
            places.insert(part, PartLocation::Stored(stored));
        }
    }
    match encoders.into_iter().find(|part| !places.contains_key(part)) {
        Some(part) => check_others(dir, part),
        None => Ok(()),
    }
}

/// Refuses a directory that lacks an encoder and has files of weights in a format that is not read: one of them may be
/// it, and to pass over it would say that there is none.
fn check_others(dir: &Path, lacking: Component) -> Result<()> {
    const FORMATS: [(&str, &str); 4] = [("ckpt", PICKLE), ("pt", PICKLE), ("pth", PICKLE), ("bin", PICKLE)];
    const PICKLE: &str = "a pickle, which can run a program when it is opened";
    for (extension, what) in FORMATS {
        if let Some(path) = files_of(dir, extension)?.first() {
            return Err(Error::Model(format!(
                "{} is {what}, and text encoders are read from .safetensors and .gguf files alone: put {lacking} there as one, or \
                 move this file away",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The parts in the files of `dir`. Where there are several of a part, the largest one, which is the most precise: the
/// repositories have T5 in 16 bits and in 8.
fn best(dir: &Path) -> Result<BTreeMap<Component, StoredPart>> {
    let mut best: BTreeMap<Component, StoredPart> = BTreeMap::new();
    for path in &weights_in(dir)? {
        let header = Arc::new(Header::read(path)?);
        quantized_formats::check(path, &header)?;
        for stored in StoredPart::all(path, &header) {
            let part = stored.piece.part;
            if best.get(&part).is_none_or(|other| other.bytes() < stored.bytes()) {
                best.insert(part, stored);
            }
        }
    }
    Ok(best)
}

/// The files of a directory that hold weights, by name.
pub(crate) fn weights_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files_of(dir, "safetensors")?;
    files.extend(files_of(dir, "gguf")?);
    Ok(files)
}

fn files_of(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let unreadable = |reason| Error::Io { path: dir.to_path_buf(), reason };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)));
    paths.sort();
    Ok(paths)
}

/// Whether everything is there that an image needs; T5 is not.
pub(super) fn check(
    file: &Path,
    dir: Option<&Path>,
    places: &BTreeMap<Component, PartLocation>,
) -> Result<()> {
    const ENCODERS: &str = "clip_l.safetensors, clip_g.safetensors and t5xxl_fp16.safetensors (the folder text_encoders \
                            of stabilityai/stable-diffusion-3.5-large on the Hugging Face hub has them)";
    const VAE: &str = "a VAE (vae/diffusion_pytorch_model.safetensors of the same repository)";
    let needed = [Component::Vae, Component::ClipL, Component::ClipG];
    let missing: Vec<Component> = needed.into_iter().filter(|part| !places.contains_key(part)).collect();
    let needs = |part: &Component| missing.contains(part);
    let files = match (needs(&Component::Vae), needs(&Component::ClipL) || needs(&Component::ClipG)) {
        (false, false) => return Ok(()),
        (true, false) => VAE.to_owned(),
        (false, true) => ENCODERS.to_owned(),
        (true, true) => format!("{VAE}, {ENCODERS}"),
    };
    let missing = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and no ");
    Err(match dir {
        None => Error::MissingParts { file: file.to_path_buf(), missing, files },
        Some(dir) => {
            let (file, dir) = (file.display(), dir.display());
            Error::Model(format!("{file} has no {missing} inside, nor has {dir}: put there {files}"))
        }
    })
}
