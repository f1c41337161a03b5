//! From a hub to an image: `latentd serve --model owner/name` on a machine that has nothing yet.

use super::*;
use crate::support::{ENDPOINT, Program, exchange};
use serde_json::{Value, json};

/// Starts a server in another thread, for the hub answers in this one.
async fn serve(hub: &StandIn, home: &TempDir, flags: &[&str]) -> Program {
    let mut command = program(hub, home);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--safety-checker", "none"])
        .args(flags);
    tokio::task::spawn_blocking(move || Program::spawn(&mut command)).await.expect("a server")
}

/// The bytes of a generated image.
async fn generate(server: &Program) -> Vec<u8> {
    let address = server.address.clone();
    let call = move |method: &str, path: &str, body: &str| {
        let (head, bytes) = exchange(&address, method, path, "", body.as_bytes());
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        bytes
    };
    let address = server.address.clone();
    let generate = move || {
        let input = json!({
            "prompt": "a fox", "image_size": { "width": 64, "height": 64 }, "num_inference_steps": 2, "seed": 7,
            "output_format": "png",
        });
        let answer = call("POST", &format!("/run/{ENDPOINT}"), &input.to_string());
        let output: Value = serde_json::from_slice(&answer).expect("JSON");
        let url = output["images"][0]["url"].as_str().unwrap_or_else(|| panic!("{output}")).to_owned();
        call("GET", url.split_once(&address).expect("our URL").1, "")
    };
    tokio::task::spawn_blocking(generate).await.expect("an image")
}

#[tokio::test]
async fn a_model_of_the_hub_is_pulled_served_and_generated_with() {
    let (hub, home) = hub().await;
    let server = serve(&hub, &home, &["--model", NAME]).await;
    let image = generate(&server).await;
    drop(server);

    let asked = hub.calls().len();
    let server = serve(&hub, &home, &["--model", NAME, "--offline"]).await;
    assert_eq!(generate(&server).await, image, "the same from the cache");
    drop(server);
    let by_path = golden();
    let server = serve(&hub, &home, &["--model", by_path.to_str().expect("UTF-8")]).await;
    assert_eq!(generate(&server).await, image, "and from the directory that the hub has");
    assert_eq!(hub.calls().len(), asked);
}

#[tokio::test]
async fn generate_pulls_too_and_knows_revisions() {
    let (hub, home) = hub().await;
    let mut command = program(&hub, &home);
    command.args(["generate", "a fox", "--steps", "2", "--width", "64", "--height", "64", "--model", NAME]);
    command
        .args(["--safety-checker", "none", "--revision", stand_in::COMMIT, "--output"])
        .arg(home.path().join("fox.png"));
    let output = output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(home.path().join("fox.png").exists());
}

#[tokio::test]
async fn a_wrong_command_line_fetches_nothing() {
    let (hub, home) = hub().await;
    let mut command = program(&hub, &home);
    command.args(["serve", "--model", NAME, "--workers", "many"]);
    let output = output(command).await;
    assert_eq!((output.status.code(), hub.connections()), (Some(2), 0));
}

/// The safety checker is the hub's too, for a model that has none.
#[tokio::test]
async fn the_usual_safety_checker_is_pulled_with_the_model() {
    let classifier = golden().join("../../safety/plain");
    let repositories = [
        (NAME.to_owned(), tiny()),
        ("Falconsai/nsfw_image_detection".to_owned(), Repository::of(&classifier)),
    ];
    let (hub, home) = (StandIn::start(repositories).await, tempfile::tempdir().expect("a directory"));
    for offline in [&[][..], &["--offline"]] {
        let mut command = program(&hub, &home);
        command
            .args(["generate", "a fox", "--steps", "2", "--width", "64", "--height", "64", "--model", NAME]);
        command.args(["--safety-threshold", "0", "--json"]).args(offline);
        command.arg("-o").arg(home.path().join("fox.png"));
        let output = output(command).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["has_nsfw_concepts"], json!([true]));
    }
}
