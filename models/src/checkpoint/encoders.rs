//! `--text-encoders DIR`: what a checkpoint does not bring itself.

use super::contents::Part;
use super::header::Header;
use super::{Place, StoredPart};
use crate::files::ModelFiles;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Adds the encoders of `dir`, in place of those inside the checkpoint, and a VAE if that has none.
pub(super) fn add(dir: &Path, places: &mut BTreeMap<Part, Place>) -> Result<()> {
    let encoders = [Part::ClipL, Part::ClipG, Part::T5];
    let folders = ModelFiles::Directory(dir.to_path_buf());
    let has = |part: Part| folders.exists(&format!("{}/config.json", part.folder()));
    if encoders.into_iter().any(has) {
        let found = encoders.into_iter().filter(|part| has(*part));
        places.extend(found.map(|part| (part, Place::Folder(folders.clone()))));
        return Ok(());
    }
    for (part, stored) in best(dir)? {
        if encoders.contains(&part) || (part == Part::Vae && !places.contains_key(&part)) {
            places.insert(part, Place::Stored(stored));
        }
    }
    Ok(())
}

/// The parts in the files of `dir`. Where there are several of a part, the largest one, which is the most precise: the
/// repositories have T5 in 16 bits and in 8.
fn best(dir: &Path) -> Result<BTreeMap<Part, StoredPart>> {
    let mut best: BTreeMap<Part, StoredPart> = BTreeMap::new();
    for path in &weights_in(dir)? {
        for stored in StoredPart::all(path, &Arc::new(Header::read(path)?)) {
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
    let unreadable = |source| Error::Io { path: dir.to_path_buf(), source };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    Ok(paths)
}

/// Whether everything is there that a picture needs; T5 is not.
pub(super) fn check(file: &Path, dir: Option<&Path>, places: &BTreeMap<Part, Place>) -> Result<()> {
    let (file, needed) = (file.display(), [Part::Vae, Part::ClipL, Part::ClipG]);
    let missing: Vec<String> =
        needed.iter().filter(|part| !places.contains_key(part)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" and no ");
    let files = "clip_l.safetensors, clip_g.safetensors and t5xxl_fp16.safetensors (the folder text_encoders of \
                 stabilityai/stable-diffusion-3.5-large on the Hugging Face hub has them)";
    Err(Error::Model(match dir {
        None => format!("{file} has no {missing} inside: give --text-encoders DIR with {files}"),
        Some(dir) => {
            format!("{file} has no {missing} inside, nor has {}: put there {files}", dir.display())
        }
    }))
}
