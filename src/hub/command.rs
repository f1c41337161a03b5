//! `latentd models`: `pull`, `verify`, `list` and `inspect`.

use super::cache::Folder;
use super::error::size;
use super::listing::{self, Listed};
use super::verify::{self, Report};
use super::{Files, Show, Wanted, pull};
use crate::args::{HubArgs, ModelsCommand, PullArgs};
use crate::config::{ConfigError, HubConfig};
use crate::endpoint::Published;
use crate::inspecting;
use latentd_models::{ClassifierManifest, Manifest, ModelCard, ModelSource};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Carries out a command.
pub(crate) async fn run(command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::Pull(args) => run_pull(args).await,
        ModelsCommand::Verify { model, json, hub } => run_verify(&model, json, &hub),
        ModelsCommand::Inspect { path, json } => inspecting::inspect(&path, json),
        ModelsCommand::List { json } => {
            let args = HubArgs { revision: "main".into(), offline: true, stall_timeout: 1 };
            list(&super::config(&args)?, json)
        }
    }
}

async fn run_pull(args: PullArgs) -> anyhow::Result<()> {
    let hub = super::config(&args.hub)?;
    let wanted = Wanted::named(&args.model, &hub.revision).ok_or_else(|| unknown(&args.model))?;
    let show = if args.json { Show::Json } else { Show::People };
    let pulled = pull::pull(&hub, &wanted, show, args.verify).await;
    match &pulled {
        Ok(path) if args.json => println!("{}", json!({ "event": "done", "path": path })),
        Ok(path) => println!("{}", path.display()),
        Err(error) if args.json => println!("{}", json!({ "event": "error", "error": error.to_string() })),
        Err(_) => {}
    }
    Ok(pulled.map(drop)?)
}

fn unknown(name: &str) -> ConfigError {
    let names = names().collect::<Vec<_>>().join(", ");
    ConfigError(format!("{name}: give OWNER/NAME as the hub has it, or one of {names}"))
}

/// What manifests name.
fn names() -> impl Iterator<Item = &'static str> {
    let models = Manifest::all().iter().map(|manifest| manifest.name.as_str());
    models.chain(ClassifierManifest::all().iter().map(|manifest| manifest.name.as_str()))
}

fn run_verify(model: &str, json: bool, args: &HubArgs) -> anyhow::Result<()> {
    let hub = super::config(args)?;
    let (directory, repository, files) = place(&hub, model)?;
    let report = verify::directory(&directory, repository.as_deref().unwrap_or_default(), &files)?;
    let Report { good, damaged, missing, unknown, bytes } = &report;
    if json {
        let report = json!({
            "path": directory, "ok": report.is_good(), "bytes": bytes,
            "good": good, "damaged": damaged, "missing": missing, "without_checksum": unknown,
        });
        println!("{report:#}");
    } else {
        for (word, paths) in [("damaged", damaged), ("missing", missing), ("no checksum", unknown)] {
            paths.iter().for_each(|path| println!("{word:<12} {path}"));
        }
        println!("{} files of {} are good in {}", good.len(), size(*bytes), directory.display());
    }
    if report.is_good() {
        return Ok(());
    }
    if damaged.is_empty() && missing.is_empty() {
        anyhow::bail!(
            "{model}: nothing could be verified, for none of its files has a checksum here: only a model that was \
             pulled, or brought by `hf download`, has them"
        );
    }
    let again = match repository {
        Some(repository) => format!("; `latentd models pull {repository} --verify` fetches them again"),
        None => String::new(),
    };
    anyhow::bail!("{model}: damaged {}, missing {}{again}", damaged.len(), missing.len())
}

/// The directory that a name stands for, the repository if it is of one, and what belongs to it.
fn place(hub: &HubConfig, model: &str) -> anyhow::Result<(PathBuf, Option<String>, Files)> {
    let path = Path::new(model);
    if path.is_dir() {
        let is_classifier = !path.join("model_index.json").exists() && path.join("config.json").exists();
        let files = match &ClassifierManifest::all()[0] {
            manifest if is_classifier => Files::of(&manifest.repository),
            _ => Files::Pipeline,
        };
        return Ok((path.to_path_buf(), None, files));
    }
    let wanted = Wanted::named(model, &hub.revision).ok_or_else(|| unknown(model))?;
    let folder = Folder::new(&hub.cache, &wanted.repository);
    let commit = folder.commit(&wanted.revision).or_else(|| folder.commits().into_iter().next());
    let Some(commit) = commit else {
        let (repository, cache) = (wanted.repository, hub.cache.display());
        anyhow::bail!(
            "{repository} is not in the cache {cache}: `latentd models pull {repository}` brings it"
        );
    };
    Ok((folder.snapshot(&commit), Some(wanted.repository), wanted.files))
}

fn list(hub: &HubConfig, json: bool) -> anyhow::Result<()> {
    let lines = listing::all(hub)?;
    let card = ModelCard::read(&ModelSource::Builtin).ok();
    if json {
        let mini = card.map(|card| {
            json!({
                "name": card.name, "source": "built in", "state": "complete",
                "size_multiple": card.size_multiple, "max_side": card.max_side,
                // It stands in for each.
                "endpoints": Manifest::all().iter().map(|manifest| Published::of(manifest).id()).collect::<Vec<_>>(),
            })
        });
        let others = lines.iter().map(as_json);
        println!("{:#}", Value::from_iter(mini.into_iter().chain(others)));
        return Ok(());
    }
    println!("{:<42} {:<12} {:>10}  PATH", "NAME", "STATE", "SIZE");
    if let Some(card) = card {
        println!("{:<42} built in", card.name);
    }
    for Listed { name, state, bytes, path, endpoint: _ } in &lines {
        let bytes = bytes.map_or_else(|| "-".into(), size);
        let path = path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        println!("{}", format!("{name:<42} {state:<12} {bytes:>10}  {path}").trim_end());
    }
    println!(
        "\n`latentd models pull NAME` fetches one; a directory in the diffusers layout or a checkpoint\nfile works too: --model PATH"
    );
    Ok(())
}

fn as_json(line: &Listed) -> Value {
    let Listed { name, state, bytes, path, endpoint } = line;
    let endpoints: Vec<_> = endpoint.iter().collect();
    json!({ "name": name, "source": "hub", "state": state, "bytes": bytes, "path": path, "endpoints": endpoints })
}
