//! Fetched adapters: when a file is fetched again, what is kept and for how long, and what is left of what failed.

use crate::hub::stand_in::{File, Repository, StandIn};
use crate::loras::{file, refusal, result, upload, with, worker};
use crate::support::{Server, hub_of, tick_until_idle};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use latentd::adapters::{self, AdapterCache, Origin, cached_bytes};
use latentd::config::HubConfig;
use latentd_egress::{Client, Egress, Validators};
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A host of adapters: at `/tagged` with an ETag, at `/dated` with a date, at `/plain` without either.
#[derive(Clone)]
struct Host {
    origin: String,
    /// What every path has.
    number: Arc<Mutex<f32>>,
    /// Paths with the status that they were answered with.
    answers: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Host {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let host = Self { origin, number: Arc::new(Mutex::new(1.0)), answers: Arc::default() };
        let router = Router::new().fallback(answer).with_state(host.clone());
        tokio::spawn(latentd_fal::listen(listener, router, std::future::pending()));
        host
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    fn set(&self, number: f32) {
        *self.number.lock().expect("no test panicked") = number;
    }

    /// The answers since the last call.
    fn answers(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut *self.answers.lock().expect("no test panicked"))
    }
}

async fn answer(State(host): State<Host>, uri: Uri, headers: HeaderMap) -> Response {
    let number = *host.number.lock().expect("no test panicked");
    let (tag, date) = (format!("\"{number}\""), format!("Thu, 0{number} Jan 2026 00:00:00 GMT"));
    let asked =
        |name, version: &str| headers.get(name).is_some_and(|value| value.as_bytes() == version.as_bytes());
    let unchanged = StatusCode::NOT_MODIFIED.into_response();
    let response = match uri.path() {
        "/tagged" if asked(header::IF_NONE_MATCH, &tag) => unchanged,
        "/tagged" => ([(header::ETAG, tag)], file(number)).into_response(),
        "/dated" if asked(header::IF_MODIFIED_SINCE, &date) => unchanged,
        "/dated" => ([(header::LAST_MODIFIED, date)], file(number)).into_response(),
        "/moved" => (StatusCode::FOUND, [(header::LOCATION, "/tagged")]).into_response(),
        "/private" => (StatusCode::FOUND, [(header::LOCATION, "http://10.0.0.1/a")]).into_response(),
        "/endless" => {
            let piece = || Ok::<_, std::io::Error>(vec![0_u8; 64 * 1024]);
            let start = futures_util::stream::iter([Ok(file(1.0))]);
            let rest = futures_util::stream::repeat_with(piece);
            Body::from_stream(futures_util::StreamExt::chain(start, rest)).into_response()
        }
        // A header of 50 GB, and a body that never ends.
        "/claims" => {
            let start = [&(50_u64 << 30).to_le_bytes()[..], b"{\"a\":", &[b' '; 300]].concat();
            let start = futures_util::stream::iter([Ok::<_, std::io::Error>(start)]);
            let rest = futures_util::stream::pending();
            Body::from_stream(futures_util::StreamExt::chain(start, rest)).into_response()
        }
        "/plain" => file(number).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    let noted = (uri.path().to_owned(), response.status().as_u16());
    host.answers.lock().expect("no test panicked").push(noted);
    response
}

fn paths(answers: &[(String, u16)]) -> Vec<(&str, u16)> {
    answers.iter().map(|(path, status)| (path.as_str(), *status)).collect()
}

#[tokio::test]
async fn a_url_is_fetched_again_only_if_its_server_does_not_say_that_it_is_unchanged() {
    let (server, host) = (Server::start().await, Host::start().await);
    let (mut worker, got) = worker(&server).await;
    let mut fetch = async |path: &str| {
        let answer = result(&server, &mut worker, &host.url(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        host.answers()
    };
    for path in ["/tagged", "/dated"] {
        host.set(1.0);
        assert_eq!(paths(&fetch(path).await), [(path, 200)]);
        assert_eq!(paths(&fetch(path).await), [(path, 304)]);
        host.set(2.0);
        assert_eq!(paths(&fetch(path).await), [(path, 200)], "it has changed");
        assert_eq!(paths(&fetch(path).await), [(path, 304)]);
    }
    assert_eq!(paths(&fetch("/plain").await), [("/plain", 200)]);
    assert_eq!(paths(&fetch("/plain").await), [("/plain", 200)], "nobody can say");
    assert_eq!(paths(&fetch("/moved").await), [("/moved", 302), ("/tagged", 200)]);
    assert_eq!(paths(&fetch("/moved").await), [("/moved", 302), ("/tagged", 304)]);
    let numbers = got.lock().expect("one engine").iter().map(|loras| loras[0].0.clone()).collect::<Vec<_>>();
    let expected = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0];
    assert_eq!(numbers, expected.map(file));
    let folder = adapters::folder(server.directory.path());
    assert_eq!(cached_bytes(&folder), 2 * file(1.0).len() as u64, "by its content");
}

#[tokio::test]
async fn what_a_url_may_not_be_is_not_fetched() {
    let (server, host) = (Server::start().await, Host::start().await);
    let (mut worker, _) = worker(&server).await;
    for (path, class, words) in [
        ("/missing?secret=1", "file_download_error", "the server answered 404"),
        ("/private", "file_download_error", "not public"),
        ("/endless", "file_too_large", "more than 1000000 bytes"),
        ("/claims", "value_error", "its header claims 53687091200 bytes"),
    ] {
        let (found, text) = refusal(&result(&server, &mut worker, &host.url(path)).await);
        assert_eq!(found, class, "{path}: {text}");
        let name = format!("the LoRA {}", host.url(path.split('?').next().expect("a path")));
        assert!(text.starts_with(&name) && text.contains(words) && !text.contains("secret"), "{text}");
    }
    host.answers();
    worker.outgoing = Client::new(Egress::new(false), "--fetch-allow");
    let (class, text) = refusal(&result(&server, &mut worker, &host.url("/tagged")).await);
    assert_eq!(class, "file_download_error");
    assert!(text.contains("not public") && text.contains("--fetch-allow"), "{text}");
    assert_eq!(host.answers(), [], "it was not called");
}

/// Keeps a file of this number in a cache.
async fn keep(cache: &AdapterCache, number: f32) -> latentd::adapters::HeldFile {
    let mut incoming = cache.receive(1000).expect("a folder");
    incoming.append(&file(number)).await.expect("a file");
    let url = format!("http://host/{number}");
    cache.keep(incoming, Origin::Url(&url), Validators::default()).await.expect("a file")
}

async fn has(cache: &AdapterCache, number: f32) -> bool {
    cache.find(Origin::Url(&format!("http://host/{number}"))).await.is_some()
}

#[tokio::test]
async fn the_least_recently_used_is_removed_and_none_that_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = file(1.0).len() as u64;
    // As two workers have it.
    let cache = AdapterCache::open(folder.path(), 2 * bytes).expect("a folder");
    let other = AdapterCache::open(folder.path(), 2 * bytes).expect("a folder");
    drop(keep(&cache, 1.0).await);
    drop(keep(&other, 2.0).await);
    assert!(has(&other, 1.0).await, "used again");
    drop(keep(&cache, 3.0).await);
    let kept = [has(&cache, 1.0).await, has(&cache, 2.0).await, has(&cache, 3.0).await];
    assert_eq!(kept, [true, false, true]);
    assert_eq!(cached_bytes(folder.path()), 2 * bytes);
    let (_, used) = cache.find(Origin::Url("http://host/1")).await.expect("it is there");
    assert!(has(&cache, 3.0).await);
    drop(keep(&other, 4.0).await);
    drop(keep(&other, 5.0).await);
    assert!(used.path().exists() && has(&cache, 1.0).await, "a request uses it");
    drop(used);
    // In a smaller one from now on.
    let small = AdapterCache::open(folder.path(), bytes).expect("a folder");
    assert!(cached_bytes(folder.path()) <= bytes);
    let none = AdapterCache::open(folder.path(), 0).expect("a folder");
    let held = keep(&none, 6.0).await;
    let path = held.path().to_owned();
    assert!(path.exists() && cached_bytes(folder.path()) == 0 && !has(&small, 6.0).await, "for one request");
    drop(held);
    assert!(!path.exists());
    let sources = std::fs::read_dir(folder.path().join("sources")).expect("a folder");
    assert_eq!(sources.count(), 0, "nothing is known of what is gone");
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_what_another_writes_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || AdapterCache::open(folder.path(), 1000).expect("a folder");
    let cache = open();
    let partial = folder.path().join("partial");
    std::fs::write(partial.join("0123"), "half").expect("a file");
    std::fs::create_dir_all(partial.join("0123.folder/blobs")).expect("a folder");
    let mut incoming = cache.receive(1000).expect("a folder");
    incoming.append(&file(1.0)).await.expect("a file");
    open();
    let left: Vec<_> = std::fs::read_dir(&partial).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    cache.keep(incoming, Origin::Hub("a"), Validators::default()).await.expect("a file");
    assert!(open().find(Origin::Hub("a")).await.is_some());
    // A copy that was cut while nobody looked is not there for long: its name is its content.
    drop(cache.receive(1000).expect("a folder"));
    assert_eq!(std::fs::read_dir(&partial).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_copy_of_an_upload_ends_with_it_and_a_private_request_leaves_none() {
    let server = Server::start().await;
    let folder = adapters::folder(server.directory.path());
    let (mut worker, got) = worker(&server).await;
    let url = upload(&server, file(1.0), Some(60)).await;
    let private = server.submit_with(&[("x-fal-store-io", "0")], &with(json!([{ "path": url }]))).await;
    tick_until_idle(&mut worker).await;
    assert_eq!(server.get(&private).await.status, StatusCode::OK);
    assert_eq!(cached_bytes(&folder), 0, "private");
    assert_eq!(result(&server, &mut worker, &url).await.status, StatusCode::OK);
    assert_eq!(cached_bytes(&folder), file(1.0).len() as u64);
    server.clock.advance(61);
    assert_eq!(
        refusal(&result(&server, &mut worker, &url).await).0,
        "file_download_error",
        "though there is a copy"
    );
    latentd::worker::forget_ended_uploads(&server.queue, &worker.adapters.cache).await.expect("a database");
    assert_eq!(cached_bytes(&folder), 0);
    assert_eq!(got.lock().expect("one engine").len(), 2);
}

pub(crate) fn hub(stand_in: &StandIn, folder: &Path) -> HubConfig {
    HubConfig { endpoint: stand_in.url.parse().expect("a URL"), offline: None, ..hub_of(folder) }
}

#[tokio::test]
async fn an_adapter_on_the_hub_is_downloaded_once() {
    let server = Server::start().await;
    let large = [&file(9.0)[..], &[0; 1_000_000]].concat();
    let repository = |files: &[(&str, Vec<u8>)]| {
        let mut repository = Repository::default();
        for (path, bytes) in files {
            repository.files.insert((*path).into(), File::new(path, bytes.clone()));
        }
        repository
    };
    let gated = Repository { is_gated: true, ..repository(&[("a.safetensors", file(5.0))]) };
    let stand_in = StandIn::start([
        ("me/one".to_owned(), repository(&[("README.md", vec![b'x']), ("style.safetensors", file(1.0))])),
        (
            "me/two".to_owned(),
            repository(&[
                ("a.safetensors", file(2.0)),
                ("x/b.safetensors", file(3.0)),
                ("c.safetensors", file(4.0)),
            ]),
        ),
        ("me/large".to_owned(), repository(&[("a.safetensors", large)])),
        ("me/gated".to_owned(), gated),
    ])
    .await;
    let (mut worker, got) = worker(&server).await;
    worker.hub = hub(&stand_in, server.directory.path());
    for path in ["me/one", "me/one/style.safetensors", "me/two/x/b.safetensors", "me/one"] {
        let answer = result(&server, &mut worker, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
    let numbers = got.lock().expect("one engine").iter().map(|loras| loras[0].0.clone()).collect::<Vec<_>>();
    assert_eq!(numbers, [1.0, 1.0, 3.0, 1.0].map(file));
    for (path, class, words) in [
        (
            "me/two",
            "file_download_error",
            "it has 2 .safetensors files: name one, as in owner/name/a.safetensors",
        ),
        ("me/two/d.safetensors", "file_download_error", "it has no file d.safetensors"),
        ("me/nothing", "file_download_error", "has no model me/nothing"),
        ("me/gated", "file_download_error", "does not let this server read me/gated"),
        ("me/large", "file_too_large", "--max-adapter"),
    ] {
        let (found, text) = refusal(&result(&server, &mut worker, path).await);
        let data_dir = server.directory.path().to_str().expect("a path");
        assert_eq!(found, class, "{text}");
        assert!(text.contains(words) && !text.contains(data_dir), "{words}: {text}");
    }
    let folder = adapters::folder(server.directory.path());
    assert_eq!(cached_bytes(&folder), 2 * file(1.0).len() as u64);
    assert_eq!(std::fs::read_dir(folder.join("partial")).expect("a folder").count(), 0);
    worker.hub.offline = Some("--offline");
    assert_eq!(result(&server, &mut worker, "me/one").await.status, StatusCode::OK, "it is here");
    let (_, text) = refusal(&result(&server, &mut worker, "me/other").await);
    assert!(text.contains("--offline"), "{text}");
}
