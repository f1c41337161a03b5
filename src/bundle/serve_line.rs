//! The command that serves a bundle's model, for a shell.

use super::manifest::{DIRECTORY, Manifest, ServedModel, TEXT_ENCODERS};
use crate::config::{HubConfig, hub};
use latentd_hub::{BundledRepo, snapshot_directory};
use latentd_models::ClassifierManifest;
use std::path::{Path, PathBuf};

/// The branch that is used where no other revision is named.
const MAIN: &str = "main";

/// The line to type.
pub(super) fn serve_line(manifest: &Manifest, hub: &HubConfig) -> String {
    let default = hub::default_cache();
    let cache = (default.as_ref() != Some(&hub.cache)).then(|| format!("HF_HUB_CACHE={} ", word(&hub.cache)));
    let mut line = format!("{}latentd serve", cache.unwrap_or_default());
    for (flag, value) in flags(manifest, &hub.cache) {
        line += &format!(" {flag} {}", quoted(&value));
    }
    line + " --offline"
}

fn flags(manifest: &Manifest, cache: &Path) -> Vec<(&'static str, String)> {
    let ServedModel { repository, published, path, has_text_encoders } = &manifest.model;
    let repo = |name: &str| manifest.repositories.iter().find(|repo| repo.repository == name);
    let directory = |repo: &BundledRepo| snapshot_directory(cache, repo);
    let model = repo(repository);
    let place = match (path.as_deref(), model.map(directory)) {
        (Some(DIRECTORY), Some(directory)) => directory.display().to_string(),
        (Some(path), Some(directory)) => directory.join(path).display().to_string(),
        _ => known_name(repository),
    };
    let place = match published {
        Some(name) if *name != place => format!("{name}={place}"),
        _ => place,
    };
    let mut flags = vec![("--model", place)];
    if let Some(model) = model.filter(|model| path.is_none() && model.revision != MAIN) {
        flags.push(("--revision", model.revision.clone()));
    }
    if let Some(model) = model.filter(|_| *has_text_encoders) {
        flags.push(("--text-encoders", directory(model).join(TEXT_ENCODERS).display().to_string()));
    }
    match manifest.safety_checker.as_str() {
        "auto" => {}
        name if ClassifierManifest::find(name).is_some() || name == "none" => {
            flags.push(("--safety-checker", name.to_owned()));
        }
        name => {
            let path: PathBuf = repo(name).map(directory).unwrap_or_default();
            flags.push(("--safety-checker", path.display().to_string()));
        }
    }
    flags
}

/// The short name of a published model's repository.
fn known_name(repository: &str) -> String {
    let known = latentd_models::Manifest::all().iter().find(|manifest| manifest.repository == repository);
    known.map_or_else(|| repository.to_owned(), |manifest| manifest.name.clone())
}

fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:,@".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_is_quoted() {
        assert_eq!(quoted("/models/sd3.5_large.safetensors"), "/models/sd3.5_large.safetensors");
        assert_eq!(quoted("/my models/it's $HOME"), r"'/my models/it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
