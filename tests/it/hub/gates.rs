//! Licences, tokens, wrong names and missing networks: each has its own line.

use super::*;
use latentd::config::HubToken;
use stand_in::{GOOD_TOKEN, OUTSIDER};

async fn gated() -> (StandIn, TempDir) {
    hub_with(Repository { is_gated: true, ..tiny() }).await
}

async fn refusal(settings: &HubConfig, repo: &ModelRepo) -> String {
    pull(settings, repo).await.expect_err("a refusal").to_string()
}

fn with(settings: &HubConfig, token: &str) -> HubConfig {
    HubConfig { token: Some(HubToken(token.into())), ..settings.clone() }
}

#[tokio::test]
async fn a_licence_is_explained_with_the_page_to_visit() {
    let (hub, home) = gated().await;
    let settings = settings(&hub, &home);
    let url = &hub.url;
    assert_eq!(
        refusal(&settings, &tiny_repo()).await,
        format!(
            "me/tiny has a licence to accept: do so on {url}/me/tiny, make a token on {url}/settings/tokens, and give it as HF_TOKEN (or run `hf auth login`)"
        )
    );
    assert_eq!(
        refusal(&with(&settings, OUTSIDER), &tiny_repo()).await,
        format!(
            "the owner of the token in HF_TOKEN may not read me/tiny yet: accept its licence on {url}/me/tiny with that account, then do this again"
        )
    );
    let wrong = "hf_wrong";
    let error = refusal(&with(&settings, wrong), &tiny_repo()).await;
    assert_eq!(
        error,
        format!("the hub does not accept the token in HF_TOKEN: make another on {url}/settings/tokens")
    );
    assert!(!error.contains(wrong));
    assert_eq!(refusal(&with(&settings, "not\na token"), &tiny_repo()).await, error);
}

#[tokio::test]
async fn the_token_goes_to_the_hub_alone() {
    let (hub, home) = gated().await;
    std::fs::write(home.path().join("token"), format!("{GOOD_TOKEN}\n"))
        .expect("the file of `hf auth login`");
    let directory = pull(&settings(&hub, &home), &tiny_repo()).await.expect("a model");
    assert!(is_whole(&directory));
    let calls = hub.calls();
    let bearer = format!("Bearer {GOOD_TOKEN}");
    assert!(calls.iter().any(|call| call.is_elsewhere) && calls.iter().all(|call| call.method == "GET"));
    for call in calls {
        let expected = (!call.is_elsewhere).then_some(&bearer);
        assert_eq!(call.authorization.as_ref(), expected, "{}", call.path);
    }
}

#[tokio::test]
async fn a_token_in_a_file_is_named_by_its_file() {
    let (hub, home) = gated().await;
    let path = home.path().join("token");
    std::fs::write(&path, OUTSIDER).expect("a file");
    let error = refusal(&settings(&hub, &home), &tiny_repo()).await;
    assert!(error.starts_with(&format!("the owner of the token in {} may not", path.display())), "{error}");
}

#[tokio::test]
async fn wrong_names_have_different_errors() {
    let (hub, home) = hub().await;
    let settings = settings(&hub, &home);
    let other = repo("me/other", "main");
    assert_eq!(
        refusal(&settings, &other).await,
        "127.0.0.1 has no model me/other, or it is private and needs a token in HF_TOKEN"
    );
    assert_eq!(
        refusal(&with(&settings, GOOD_TOKEN), &other).await,
        "127.0.0.1 has no model me/other, or it is private"
    );
    let old = repo(NAME, "v2");
    assert_eq!(refusal(&settings, &old).await, "me/tiny has no revision v2");
}

#[tokio::test]
async fn no_network_and_no_name_have_different_errors() {
    let (hub, home) = hub().await;
    let settings = settings(&hub, &home);
    let unused =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let closed =
        HubConfig { endpoint: format!("http://{unused}").parse().expect("a URL"), ..settings.clone() };
    let error = refusal(&closed, &tiny_repo()).await;
    assert!(error.starts_with("127.0.0.1 cannot be reached: ") && error.contains("refused"), "{error}");
    // A name that no name service may know (RFC 6761).
    let nowhere = HubConfig { endpoint: "http://hub.invalid".parse().expect("a URL"), ..settings.clone() };
    let error = refusal(&nowhere, &tiny_repo()).await;
    assert!(error.starts_with("the address of hub.invalid cannot be found"), "{error}");
    let strange =
        HubConfig { endpoint: format!("{}/elsewhere", hub.url).parse().expect("a URL"), ..settings };
    let error = refusal(&strange, &tiny_repo()).await;
    assert_eq!(error, "127.0.0.1 answered 404: is it a Hugging Face hub?");
}
