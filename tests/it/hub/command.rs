//! `latentd models`: what programs and people read.

use super::*;
use serde_json::Value;
use stand_in::COMMIT;

async fn run(hub: &StandIn, home: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program(hub, home);
    command.arg("models").args(arguments);
    let output = output(command).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test]
async fn a_pull_tells_programs_what_happens() {
    let (hub, home) = hub().await;
    hub.script("vae/config.json", [stand_in::Act::Spoil]);
    let (code, out, err) = run(&hub, &home, &["pull", NAME, "--json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<Value> = out.lines().map(json).collect();
    let events = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    let start = &lines[0];
    assert_eq!(
        (&start["event"], &start["repository"], &start["commit"]),
        (&"start".into(), &NAME.into(), &COMMIT.into())
    );
    assert_eq!(start["files"], needed().len());
    let bytes: u64 = events("file").iter().map(|line| line["bytes"].as_u64().expect("bytes")).sum();
    assert_eq!(start["total_bytes"], bytes);
    assert_eq!(events("note")[0]["message"], "it arrived damaged; fetching it once more");
    let done = lines.last().expect("a line");
    assert!(done["event"] == "done" && is_whole(Path::new(done["path"].as_str().expect("a path"))));

    let (code, out, err) = run(&hub, &home, &["pull", "me/other", "--json"]).await;
    assert_eq!(code, Some(1));
    let error = json(&out)["error"].as_str().expect("text").to_owned();
    assert_eq!(err, format!("latentd: {error}\n"));
}

#[tokio::test]
async fn a_name_that_is_none_is_a_usage_error() {
    let (hub, home) = hub().await;
    for command in ["pull", "verify"] {
        let (code, _, err) = run(&hub, &home, &[command, "tiny"]).await;
        assert_eq!(code, Some(2));
        assert!(err.starts_with("latentd: tiny: give OWNER/NAME") && err.contains("falconsai"), "{err}");
    }
    assert_eq!(hub.connections(), 0);
}

#[tokio::test]
async fn damage_is_found_and_mended() {
    let (hub, home) = hub().await;
    assert_eq!(run(&hub, &home, &["pull", NAME]).await.0, Some(0));
    let directory = home.path().join("hub/models--me--tiny/snapshots").join(COMMIT);
    let (code, out, _) = run(&hub, &home, &["verify", NAME, "--json"]).await;
    let report = json(&out);
    assert!(
        code == Some(0)
            && report["ok"] == true
            && report["good"].as_array().expect("a list").len() == needed().len()
    );
    let by_path = run(&hub, &home, &["verify", directory.to_str().expect("UTF-8"), "--json"]).await;
    assert_eq!((by_path.0, &json(&by_path.1)["good"]), (Some(0), &report["good"]));

    let blob = directory.join(LARGE).canonicalize().expect("a file");
    let mut bytes = std::fs::read(&blob).expect("bytes");
    bytes[1000] ^= 4;
    std::fs::write(blob, bytes).expect("damage");
    std::fs::remove_file(directory.join("vae/config.json")).expect("a file less");
    let (code, out, err) = run(&hub, &home, &["verify", NAME]).await;
    assert_eq!(code, Some(1));
    assert!(out.starts_with(&format!("damaged      {LARGE}\nmissing      vae/config.json\n")), "{out}");
    assert_eq!(
        err,
        "latentd: me/tiny: damaged 1, missing 1; `latentd models pull me/tiny --verify` fetches them again\n"
    );
    assert_eq!(run(&hub, &home, &["pull", NAME, "--verify"]).await.0, Some(0));
    assert!(is_whole(&directory));
    assert_eq!(hub.sent()[LARGE], 2 * size(LARGE));
}

#[tokio::test]
async fn the_list_says_what_is_here_and_what_can_be_had() {
    let (hub, home) = hub().await;
    let state = |text: &str, name: &str| {
        let all = json(text);
        let found = all.as_array().expect("a list").iter().find(|line| line["name"] == name).cloned();
        found.map(|line| {
            (
                line["state"].as_str().expect("a state").to_owned(),
                line["bytes"].as_u64(),
                line["path"].clone(),
            )
        })
    };
    let (code, out, _) = run(&hub, &home, &["list", "--json"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(state(&out, "mini").expect("built in").0, "complete");
    let large = state(&out, "stable-diffusion-3.5-large").expect("a manifest");
    assert!(large.0 == "to be pulled" && large.1 > Some(20_000_000_000), "{large:?}");
    assert_eq!(state(&out, "falconsai").expect("a manifest").1, Some(343_225_017));
    assert_eq!(state(&out, NAME), None);
    assert_eq!(hub.connections(), 0);

    run(&hub, &home, &["pull", NAME]).await;
    let (_, out, _) = run(&hub, &home, &["list", "--json"]).await;
    let (word, bytes, path) = state(&out, NAME).expect("it is here");
    assert_eq!(word, "complete");
    assert!(bytes > Some(1_000_000) && is_whole(Path::new(path.as_str().expect("a path"))));
    let (_, out, _) = run(&hub, &home, &["list"]).await;
    assert!(out.lines().any(|line| line.starts_with("me/tiny ") && line.contains("complete")), "{out}");
    std::fs::remove_file(Path::new(path.as_str().expect("a path")).join(LARGE)).expect("a file less");
    let (_, out, _) = run(&hub, &home, &["list", "--json"]).await;
    assert_eq!(state(&out, NAME).expect("a part of it is here").0, "incomplete");
}

#[tokio::test]
async fn a_directory_of_hf_download_is_verified_by_the_notes_beside_it() {
    let (hub, home) = hub().await;
    let directory = home.path().join("model");
    let notes = directory.join(".cache/huggingface/download");
    for (path, file) in Repository::of(&golden()).files {
        for (full, text) in [
            (directory.join(&path), file.bytes.to_vec()),
            (
                notes.join(format!("{path}.metadata")),
                format!("{COMMIT}\n{}\n1729555200.0\n", file.etag()).into_bytes(),
            ),
        ] {
            std::fs::create_dir_all(full.parent().expect("a folder")).expect("a folder");
            std::fs::write(full, text).expect("a file");
        }
    }
    let path = directory.to_str().expect("UTF-8").to_owned();
    let (code, out, _) = run(&hub, &home, &["verify", &path, "--json"]).await;
    assert!(code == Some(0) && json(&out)["good"].as_array().expect("a list").len() == needed().len());
    std::fs::write(directory.join("vae/config.json"), "{}").expect("damage");
    std::fs::remove_file(notes.join(format!("{LARGE}.metadata"))).expect("a note less");
    let (code, out, _) = run(&hub, &home, &["verify", &path, "--json"]).await;
    assert_eq!(code, Some(1));
    assert_eq!(json(&out)["damaged"], serde_json::json!(["vae/config.json"]));
    assert_eq!(json(&out)["without_checksum"], serde_json::json!([LARGE]));
}
