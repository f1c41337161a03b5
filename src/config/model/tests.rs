//! Which model answers where.

use super::*;

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/golden/base/model");
const DUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/golden/dual/model");

const LARGE: &str = "stable-diffusion-3.5-large";
const TURBO: &str = "stable-diffusion-3.5-large-turbo";
const MEDIUM: &str = "stable-diffusion-3.5-medium";

/// What each model answers for.
fn answers(texts: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let named = all(&texts, "main").map_err(|error| error.to_string())?;
    let models = assign(&named).map_err(|error| error.to_string())?;
    let names = |model: &Model| model.answers_for.iter().map(|manifest| manifest.name.clone()).collect();
    Ok(models.iter().map(names).collect())
}

#[test]
fn mini_stands_in_for_what_no_other_model_is() {
    assert_eq!(answers(&["mini"]), Ok(vec![vec![LARGE.into(), TURBO.into(), MEDIUM.into()]]));
    assert_eq!(answers(&["mini", DUAL]), Ok(vec![vec![LARGE.into(), TURBO.into()], vec![MEDIUM.into()]]));
    assert_eq!(answers(&[&format!("{MEDIUM}=mini")]), Ok(vec![vec![MEDIUM.into()]]));
    let both = answers(&[&format!("{MEDIUM}=mini"), "mini"]).expect("one each");
    assert_eq!(both, [vec![MEDIUM.to_owned()], vec![LARGE.into(), TURBO.into()]]);
}

#[test]
fn a_directory_is_what_it_is_said_to_be_or_looks_like() {
    assert_eq!(answers(&[BASE]), Ok(vec![vec![LARGE.into()]]));
    assert_eq!(answers(&[DUAL]), Ok(vec![vec![MEDIUM.into()]]));
    assert_eq!(answers(&[&format!("{TURBO}={BASE}")]), Ok(vec![vec![TURBO.into()]]));
    let by_repository = format!("stabilityai/{MEDIUM}={BASE},{DUAL}/../../base/model");
    assert_eq!(answers(&[&by_repository]), Ok(vec![vec![MEDIUM.into()], vec![LARGE.into()]]));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (texts, words) in [
        (vec![BASE, BASE], "would both answer for fal-ai/stable-diffusion-v35-large: leave one out"),
        (vec!["mini", "mini"], "given twice"),
        (vec![""], "name a model"),
        (vec!["no/such/model"], "no such directory"),
        (vec!["sdxl=mini"], "sdxl is no published model; there are `stable-diffusion-3.5-large`"),
        (
            vec![
                "mini",
                "stable-diffusion-3.5-large=mini",
                "stable-diffusion-3.5-large-turbo=mini",
                "stable-diffusion-3.5-medium=mini",
            ],
            "leave it out",
        ),
    ] {
        let refusal = answers(&texts).expect_err("a refusal");
        assert!(refusal.contains(words), "{texts:?}: {refusal}");
    }
    assert!(
        sole(&all(&["mini,mini".into()], "main").expect("two"))
            .expect_err("two")
            .to_string()
            .contains("takes one model")
    );
}

#[test]
fn what_was_read_is_written_for_another_process() {
    for text in [format!("{TURBO}={BASE}"), BASE.to_owned(), "mini".to_owned(), format!("{MEDIUM}=mini")] {
        assert_eq!(all(std::slice::from_ref(&text), "main").expect("a model")[0].to_string(), text);
    }
}

#[test]
fn text_encoders_go_to_checkpoints_alone() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, "weights").expect("a file");
    let text = file.to_str().expect("UTF-8");
    let named = |texts: &[&str]| {
        all(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), "main").expect("models")
    };
    let dir = Some(folder.path());
    let models = with_text_encoders(named(&[text, "mini"]), dir).expect("a checkpoint and mini");
    assert_eq!(
        models[0].location.local(),
        Some(&ModelSource::Checkpoint { file: file.clone(), text_encoders: dir.map(Path::to_owned) })
    );
    assert_eq!(models[0].to_string(), text);
    assert_eq!(models[1].location, ModelLocation::Local(ModelSource::Builtin));
    let refused =
        |dir| with_text_encoders(named(&["mini"]), Some(Path::new(dir))).expect_err("a refusal").to_string();
    assert!(refused("no/such/folder").contains("--text-encoders no/such/folder: give a directory"));
    assert!(refused(".").contains("it belongs to a checkpoint file"));
}

#[test]
fn a_name_of_the_hub_is_a_model_that_is_to_be_fetched() {
    let hub = |text: &str| {
        let named = all(&[text.to_owned()], "v2").expect("a model").remove(0);
        let ModelLocation::Hub { repository, revision } = named.location else { panic!("{text} is here") };
        assert_eq!(revision, "v2");
        (named.published.map(|manifest| manifest.name.as_str()), repository)
    };
    let turbo = format!("stabilityai/{TURBO}");
    assert_eq!(hub(TURBO), (Some(TURBO), turbo.clone()));
    assert_eq!(hub(&turbo), (Some(TURBO), turbo));
    assert_eq!(hub("me/mine"), (None, "me/mine".into()));
    assert_eq!(hub(&format!("{TURBO}=me/mine")), (Some(TURBO), "me/mine".into()));
}

#[test]
fn every_published_model_has_an_endpoint() {
    let ids: Vec<String> = Manifest::all().iter().map(|manifest| published_endpoint(manifest).id()).collect();
    let expected = [
        "fal-ai/stable-diffusion-v35-large",
        "fal-ai/stable-diffusion-v35-large/turbo",
        "fal-ai/stable-diffusion-v35-medium",
    ];
    assert_eq!(ids, expected);
    assert_eq!(Manifest::all().len(), Published::all().len());
    for manifest in Manifest::all() {
        assert_eq!(published_endpoint(manifest).title, manifest.title);
    }
}
