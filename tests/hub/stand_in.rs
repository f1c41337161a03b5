//! A stand-in for the Hugging Face hub, with a second host for large files as the hub has: it answers as the hub does,
//! counts what it sends, and misbehaves as a test scripts it.
//!
//! Shapes and headers are those that `huggingface_hub` reads; tests/clients/python/test_hub.py has it try them.

#[path = "content.rs"]
mod content;
#[path = "repository.rs"]
mod repository;

pub(crate) use content::Act;
pub(crate) use repository::{File, Repository};

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, LOCATION, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use content::content;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A token whose owner accepted every licence.
pub(crate) const GOOD_TOKEN: &str = "hf_good";

/// A token whose owner accepted none.
pub(crate) const OUTSIDER: &str = "hf_outsider";

/// The commit of every repository.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// At the second host.
    pub(crate) is_elsewhere: bool,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

/// Both hosts, until it is dropped.
pub(crate) struct StandIn {
    /// What `HF_ENDPOINT` is to be.
    pub(crate) url: String,
    hub: Arc<Hub>,
    _hosts: JoinSet<()>,
}

struct Hub {
    repositories: BTreeMap<String, Repository>,
    /// The second host.
    elsewhere: String,
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    calls: Mutex<Vec<Call>>,
    sent: Mutex<BTreeMap<String, u64>>,
    connections: AtomicUsize,
}

type Shared = State<Arc<Hub>>;

impl StandIn {
    /// Serves repositories by name.
    pub(crate) async fn start(repositories: impl IntoIterator<Item = (String, Repository)>) -> Self {
        let bind = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (here, elsewhere) = (bind().await, bind().await);
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
        let hub = Arc::new(Hub {
            repositories: repositories.into_iter().collect(),
            elsewhere: url(&elsewhere),
            acts: Mutex::default(),
            calls: Mutex::default(),
            sent: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let url = url(&here);
        let main = Router::new()
            .route("/api/models/{owner}/{name}", get(info_of_main))
            .route("/api/models/{owner}/{name}/revision/{revision}", get(info))
            .route("/api/models/{owner}/{name}/tree/{revision}", get(tree))
            .route("/api/resolve-cache/models/{owner}/{name}/{commit}/{*path}", get(small_file))
            .route("/{owner}/{name}/resolve/{revision}/{*path}", get(resolve))
            .route(
                "/stand-in/sent",
                get(async |State(hub): Shared| json!(*hub.sent.lock().expect("sent")).to_string()),
            );
        let second = Router::new().route("/{*path}", get(large_file));
        let mut hosts = JoinSet::new();
        for (listener, router, is_elsewhere) in [(here, main, false), (elsewhere, second, true)] {
            let note = move |State(hub): Shared, request: Request, next: Next| async move {
                hub.note(&request, is_elsewhere);
                next.run(request).await
            };
            let router = router.layer(from_fn_with_state(hub.clone(), note)).with_state(hub.clone());
            let counting = hub.clone();
            let count = move |_: &mut tokio::net::TcpStream| {
                counting.connections.fetch_add(1, Ordering::SeqCst);
            };
            hosts.spawn(async move { axum::serve(listener.tap_io(count), router).await.expect("a host") });
        }
        Self { url, hub, _hosts: hosts }
    }

    /// What to do with the next requests for a file.
    pub(crate) fn script(&self, path: &str, acts: impl IntoIterator<Item = Act>) {
        self.hub.acts.lock().expect("acts").entry(path.into()).or_default().extend(acts);
    }

    /// Bytes sent of each file.
    pub(crate) fn sent(&self) -> BTreeMap<String, u64> {
        self.hub.sent.lock().expect("sent").clone()
    }

    /// Connections that were ever made.
    pub(crate) fn connections(&self) -> usize {
        self.hub.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.hub.calls.lock().expect("calls").clone()
    }
}

impl Hub {
    fn note(&self, request: &Request, is_elsewhere: bool) {
        let header = |name| request.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        self.calls.lock().expect("calls").push(Call {
            method: request.method().clone(),
            is_elsewhere,
            path: request.uri().path().to_owned(),
            authorization: header(AUTHORIZATION),
            range: header(RANGE),
        });
    }

    /// A repository, for whom the token lets see it.
    fn repository(&self, name: &str, revision: &str, headers: &HeaderMap) -> Result<&Repository, Refusal> {
        let token = token(headers)?;
        let Some(repository) = self.repositories.get(name) else {
            return Err(match token {
                None => refusal(401, "RepoNotFound", "Invalid username or password."),
                Some(_) => refusal(404, "RepoNotFound", "Repository not found"),
            });
        };
        if !["main", COMMIT].contains(&revision) {
            return Err(refusal(404, "RevisionNotFound", &format!("Invalid rev id: {revision}")));
        }
        Ok(repository)
    }

    /// A file, for whom the licence lets have it.
    fn file(&self, name: &str, revision: &str, path: &str, headers: &HeaderMap) -> Result<&File, Refusal> {
        let repository = self.repository(name, revision, headers)?;
        let refused = |status, rest: &str| {
            let message = format!("Access to model {name} is restricted{rest}");
            Err(refusal(status, "GatedRepo", &message))
        };
        match token(headers)? {
            None if repository.is_gated => {
                return refused(
                    401,
                    ". You must have access to it and be authenticated to access it. Please log in.",
                );
            }
            Some(OUTSIDER) if repository.is_gated => {
                return refused(
                    403,
                    " and you are not in the authorized list. Visit the model's page to ask for access.",
                );
            }
            _ => {}
        }
        repository.files.get(path).ok_or_else(|| refusal(404, "EntryNotFound", "Entry not found"))
    }
}

fn token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match given {
        Some(token) if ![GOOD_TOKEN, OUTSIDER].contains(&token) => {
            Err(refusal(401, "", "Invalid credentials in Authorization header"))
        }
        token => Ok(token),
    }
}

/// A status, the hub's word for why, and a sentence.
struct Refusal(u16, &'static str, String);

fn refusal(status: u16, code: &'static str, said: &str) -> Refusal {
    Refusal(status, code, said.into())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, code, said) = self;
        let mut response = as_json(&json!({ "error": said }));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        let headers = response.headers_mut();
        headers.insert("x-error-message", said.parse().expect("a header"));
        if !code.is_empty() {
            headers.insert("x-error-code", code.parse().expect("a header"));
        }
        response
    }
}

fn as_json(value: &Value) -> Response {
    ([("content-type", "application/json; charset=utf-8")], value.to_string()).into_response()
}

async fn info_of_main(
    hub: Shared,
    Path((owner, name)): Path<(String, String)>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    info(hub, Path((owner, name, "main".into())), query, headers).await
}

async fn info(
    State(hub): Shared,
    Path((owner, name, revision)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = format!("{owner}/{name}");
    let repository = hub.repository(&id, &revision, &headers)?;
    let has_blobs = query.get("blobs").is_some_and(|blobs| blobs.eq_ignore_ascii_case("true"));
    let sibling = |(path, file): (&String, &File)| {
        let mut sibling = json!({ "rfilename": path });
        if has_blobs {
            sibling["size"] = file.size().into();
            sibling["blobId"] = file.blob_id().into();
            if file.is_large {
                sibling["lfs"] = json!({ "sha256": file.sha256(), "size": file.size(), "pointerSize": 135 });
            }
        }
        sibling
    };
    let gated: Value = if repository.is_gated { "auto".into() } else { false.into() };
    Ok(as_json(&json!({
        "_id": "000000000000000000000000", "id": id, "modelId": id, "author": owner, "sha": COMMIT,
        "lastModified": "2024-10-22T00:00:00.000Z", "private": false, "gated": gated, "disabled": false,
        "downloads": 0, "likes": 0, "tags": ["diffusers"], "library_name": "diffusers",
        "siblings": repository.files.iter().map(sibling).collect::<Vec<_>>(),
    })))
}

async fn tree(
    State(hub): Shared,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let repository = hub.repository(&format!("{owner}/{name}"), &revision, &headers)?;
    let folders: BTreeSet<&str> =
        repository.files.keys().filter_map(|path| path.rsplit_once('/').map(|(folder, _)| folder)).collect();
    let folders =
        folders.iter().map(|path| json!({ "type": "directory", "oid": COMMIT, "size": 0, "path": path }));
    let files = repository.files.iter().map(|(path, file)| {
        let mut entry = json!({ "type": "file", "oid": file.blob_id(), "size": file.size(), "path": path });
        if file.is_large {
            entry["lfs"] = json!({ "oid": file.sha256(), "size": file.size(), "pointerSize": 135 });
        }
        entry
    });
    Ok(as_json(&Value::from_iter(folders.chain(files))))
}

/// Where a file is: at the second host, or at another path of this one.
async fn resolve(
    State(hub): Shared,
    Path((owner, name, revision, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = hub.file(&format!("{owner}/{name}"), &revision, &path, &headers)?;
    let etag = format!("\"{}\"", file.etag());
    let (status, place) = match file.is_large {
        true => (StatusCode::FOUND, format!("{}/{owner}/{name}/{path}?X-Amz-Signature=0123", hub.elsewhere)),
        false => (
            StatusCode::TEMPORARY_REDIRECT,
            format!("/api/resolve-cache/models/{owner}/{name}/{COMMIT}/{path}"),
        ),
    };
    let mut response = (status, [(LOCATION, place)], "a redirect").into_response();
    let answer = response.headers_mut();
    answer.insert("x-repo-commit", COMMIT.parse().expect("a header"));
    answer.insert("x-linked-size", file.bytes.len().into());
    answer.insert("x-linked-etag", etag.parse().expect("a header"));
    Ok(response)
}

async fn small_file(
    State(hub): Shared,
    Path((owner, name, commit, path)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = hub.file(&format!("{owner}/{name}"), &commit, &path, &headers)?.clone();
    let mut response = content(&hub, &path, &file, &method, &headers);
    response.headers_mut().insert("x-repo-commit", COMMIT.parse().expect("a header"));
    Ok(response)
}

async fn large_file(
    State(hub): Shared,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // As object stores do: the signature is all, and two ways to ask at once are refused.
    if !query.contains_key("X-Amz-Signature") || headers.contains_key(AUTHORIZATION) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut parts = path.splitn(3, '/');
    let repository = [parts.next(), parts.next()].map(Option::unwrap_or_default).join("/");
    let path = parts.next().unwrap_or_default();
    match hub.repositories.get(&repository).and_then(|repository| repository.files.get(path)) {
        Some(file) => content(&hub, path, file, &method, &headers),
        None => StatusCode::FORBIDDEN.into_response(),
    }
}
