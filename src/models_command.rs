//! `latentd models`: `pull`, `verify`, `list`, `inspect` and `convert`.

mod convert;
mod inspect;

use crate::args::{ModelsCommand, PullArgs};
use crate::config::model::published_endpoint;
use crate::config::{ConfigError, HubConfig, hub};
use crate::hub_models::identify;
use crate::hub_models::list::{self, ListedModel};
use indicatif::DecimalBytes;
use latentd_hub::{Files, ModelRepo, ProgressOutput, Recheck, VerifyReport};
use latentd_models::{ClassifierManifest, Manifest, ModelCard, ModelSource};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Carries out a command.
pub(crate) async fn run(command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::Pull(args) => pull(args).await,
        ModelsCommand::Verify { model, json, hub } => verify(&hub::resolve(&hub)?, &model, json),
        ModelsCommand::Convert(args) => tokio::task::block_in_place(|| convert::convert(&args)),
        ModelsCommand::Inspect { path, json } => inspect::inspect(&path, json),
        ModelsCommand::List { json } => list(&hub::of_cache()?, json),
    }
}

async fn pull(args: PullArgs) -> anyhow::Result<()> {
    let hub = hub::resolve(&args.hub)?;
    let repo = identify(&args.model, &hub.revision).ok_or_else(|| unknown(&args.model))?;
    let output = if args.json {
        ProgressOutput::Events(|event| println!("{event}"))
    } else {
        ProgressOutput::Terminal
    };
    let recheck = if args.verify { Recheck::Yes } else { Recheck::No };
    let pulled = latentd_hub::pull(&hub, &repo, output, recheck).await;
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

/// The names of published models and classifiers.
fn names() -> impl Iterator<Item = &'static str> {
    let models = Manifest::all().iter().map(|manifest| manifest.name.as_str());
    models.chain(ClassifierManifest::all().iter().map(|manifest| manifest.name.as_str()))
}

fn verify(hub: &HubConfig, model: &str, json: bool) -> anyhow::Result<()> {
    let (directory, repository, files) = locate(hub, model)?;
    let report = latentd_hub::verify(&directory, repository.as_deref().unwrap_or_default(), &files)?;
    let VerifyReport { good, damaged, missing, unknown, bytes } = &report;
    if json {
        let report = json!({
            "path": directory, "ok": report.is_good(), "bytes": bytes,
            "good": good, "damaged": damaged, "missing": missing, "without_checksum": unknown,
        });
        println!("{report:#}");
    } else {
        for (label, paths) in [("damaged", damaged), ("missing", missing), ("no checksum", unknown)] {
            paths.iter().for_each(|path| println!("{label:<12} {path}"));
        }
        println!("{} files of {} are good in {}", good.len(), DecimalBytes(*bytes), directory.display());
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

/// The directory of a name, its repository if it is in the cache, and the files that it needs.
fn locate(hub: &HubConfig, model: &str) -> anyhow::Result<(PathBuf, Option<String>, Files)> {
    let path = Path::new(model);
    if path.is_dir() {
        let is_classifier = !path.join("model_index.json").exists() && path.join("config.json").exists();
        let files = match &ClassifierManifest::all()[0] {
            manifest if is_classifier => Files::Listed(manifest.files.keys().cloned().collect()),
            _ => Files::pipeline(),
        };
        return Ok((path.to_path_buf(), None, files));
    }
    let repo = identify(model, &hub.revision).ok_or_else(|| unknown(model))?;
    let snapshot = latentd_hub::any_snapshot(hub, &repo);
    let ModelRepo { repository, files, .. } = repo;
    let Some(snapshot) = snapshot else {
        let cache = hub.cache.display();
        anyhow::bail!(
            "{repository} is not in the cache {cache}: `latentd models pull {repository}` downloads it"
        );
    };
    Ok((snapshot, Some(repository), files))
}

fn list(hub: &HubConfig, json: bool) -> anyhow::Result<()> {
    let models = list::all(hub)?;
    let card = ModelCard::read(&ModelSource::Builtin).ok();
    if json {
        let mini = card.map(|card| {
            json!({
                "name": card.name, "source": "built in", "state": "complete",
                "size_multiple": card.size_multiple, "max_side": card.max_side,
                // It answers for each endpoint that has no other model.
                "endpoints": Manifest::all().iter().map(|manifest| published_endpoint(manifest).id()).collect::<Vec<_>>(),
            })
        });
        let others = models.iter().map(as_json);
        println!("{:#}", Value::from_iter(mini.into_iter().chain(others)));
        return Ok(());
    }
    println!("{:<42} {:<12} {:>10}  PATH", "NAME", "STATE", "SIZE");
    if let Some(card) = card {
        println!("{:<42} built in", card.name);
    }
    for ListedModel { name, state, bytes, path, endpoint: _ } in &models {
        let bytes = bytes.map_or_else(|| "-".into(), |bytes| DecimalBytes(bytes).to_string());
        let path = path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        println!("{}", format!("{name:<42} {state:<12} {bytes:>10}  {path}").trim_end());
    }
    println!(
        "\n`latentd models pull NAME` fetches one; a directory in the diffusers layout or a checkpoint\nfile works too: --model PATH"
    );
    Ok(())
}

fn as_json(model: &ListedModel) -> Value {
    let ListedModel { name, state, bytes, path, endpoint } = model;
    let endpoints: Vec<_> = endpoint.iter().collect();
    json!({ "name": name, "source": "hub", "state": state, "bytes": bytes, "path": path, "endpoints": endpoints })
}
