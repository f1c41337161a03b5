//! What a call is for, told by its method, host and path alone.
//!
//! `queue.fal.run` and `fal.run` have the same paths. Here the first is the prefix `/queue/` or
//! a host that begins with `queue.`, the second is `/run/` or the bare path. Below either, a
//! path with `requests/{id}` is about that request, whatever stands before it.

use crate::calls::uploads::UploadCall;
use crate::docs;
use crate::hosts;
use crate::output::error::ApiError;
use crate::playground;
use axum::http::Method;
use latentd_queue::queue::RequestId;
use latentd_queue::storage::FileKey;

/// Below which prefix a call came, so that its answer can name URLs below the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mount {
    Bare,
    Queue,
    Run,
}

impl Mount {
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::Queue => "/queue",
            Self::Run => "/run",
        }
    }
}

/// What a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Submit(Application),
    Run(Application),
    RunStream(Application),
    /// A web socket: inputs in, results out.
    Realtime(Application),
    /// A web socket that carries runs and streams.
    OverWebSocket(Application),
    Status(RequestId),
    StatusStream(RequestId),
    Result(RequestId),
    Cancel(RequestId),
    Payloads(RequestId),
    File(FileKey),
    SigningKeys,
    Upload(UploadCall),
    Tokens,
    Playground(&'static playground::Asset),
    Models,
    Live,
    Ready,
    Metrics,
    Document,
    Docs,
    DocsAsset(&'static docs::Asset),
    Proxy,
}

/// Below these stand an owner and a name, elsewhere an owner is the first of an id.
const NAMESPACES: [&str; 2] = ["workflows", "comfy"];

/// An endpoint id: `fal-ai/stable-diffusion-v35-large` and what follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Application {
    /// Owner and alias, below a namespace if there is one.
    pub(crate) id: String,
    /// The rest, without a leading slash.
    pub(crate) path: String,
}

/// Finds the target. Repeated and trailing slashes do not count.
pub(crate) fn resolve(method: &Method, host: &str, path: &str) -> Result<(Target, Mount), ApiError> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if !host.starts_with("queue.")
        && let Some((upload, takes)) = UploadCall::of(&segments)
    {
        let words = if takes == Method::PUT { "PUT" } else { "POST" };
        allow(method, &[takes], words)?;
        return Ok((Target::Upload(upload), Mount::Bare));
    }
    if segments == ["tokens"] && !host.starts_with("queue.") {
        return allow(method, &[Method::POST], "POST").and(Ok((Target::Tokens, Mount::Bare)));
    }
    if let ["v1", "models", "requests", id, "payloads"] | ["models", "requests", id, "payloads"] =
        segments.as_slice()
    {
        let id = id.parse().map_err(|_| ApiError::UnknownRequest);
        return Ok((allow(method, &[Method::DELETE], "DELETE").and(id).map(Target::Payloads)?, Mount::Bare));
    }
    let own = match segments.as_slice() {
        ["health"] | ["health", "ready"] => Some(Target::Ready),
        ["health", "live"] => Some(Target::Live),
        ["metrics"] => Some(Target::Metrics),
        ["v1", "models"] => Some(Target::Models),
        ["openapi.json"] | ["api", "openapi", "queue", "openapi.json"] => Some(Target::Document),
        ["docs"] => Some(Target::Docs),
        ["docs", name] => Some(Target::DocsAsset(docs::Asset::of(name).ok_or_else(|| unknown(path))?)),
        [".well-known", "jwks.json"] => Some(Target::SigningKeys),
        ["files", name] => Some(Target::File(FileKey::parse(name).ok_or_else(|| unknown(path))?)),
        // Never a model's name, whatever follows.
        ["files" | "storage", ..] => return Err(unknown(path)),
        ["api", "fal", "proxy"] => return Ok((Target::Proxy, Mount::Bare)),
        _ => None,
    };
    if let Some(target) = own {
        allow(method, &[Method::GET, Method::HEAD], "GET, HEAD")?;
        return Ok((target, Mount::Bare));
    }
    if hosts::is_without_models(host) {
        return Err(unknown(path));
    }
    // Only to be read: a model may be called as the page's files are.
    if let Some(asset) = playground::at(&segments)
        && allow(method, &[Method::GET, Method::HEAD], "").is_ok()
    {
        return Ok((Target::Playground(asset), Mount::Bare));
    }
    let (mount, rest) = match segments.split_first() {
        Some((&"queue", rest)) => (Mount::Queue, rest),
        Some((&"run", rest)) => (Mount::Run, rest),
        _ => (Mount::Bare, segments.as_slice()),
    };
    if let Some(at) = rest.iter().position(|segment| *segment == "requests")
        && let [id, tail @ ..] = &rest[at + 1..]
    {
        return Ok((about_request(method, id, tail, path)?, mount));
    }
    let application = Application::of(rest).ok_or_else(|| unknown(path))?;
    let queued = mount == Mount::Queue || (mount == Mount::Bare && host.starts_with("queue."));
    match queued {
        true => allow(method, &[Method::POST], "POST")?,
        // The client that waits for a result may put its input into the query.
        false => allow(method, &[Method::GET, Method::POST], "GET, POST")?,
    }
    let target = match application.streamed() {
        _ if queued => Target::Submit(application),
        Some(streamed) => Target::RunStream(streamed),
        None => Target::Run(application),
    };
    Ok((target, mount))
}

/// Finds the target of a web socket. `ws.fal.run` is the prefix `/ws/` or a host that begins with `ws.`; clients
/// of realtime name the application itself, or its path `realtime` or `ws`.
pub(crate) fn resolve_socket(host: &str, path: &str) -> Result<(Target, Mount), ApiError> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (prefix, rest) = match segments.split_first() {
        Some((&prefix @ ("run" | "ws"), rest)) => (prefix, rest),
        _ => ("", segments.as_slice()),
    };
    let over = prefix == "ws" || (prefix.is_empty() && host.starts_with("ws."));
    let rest = match rest {
        [above @ .., "realtime" | "ws"] if !over => above,
        all => all,
    };
    let mount = if prefix == "run" { Mount::Run } else { Mount::Bare };
    match Application::of(rest) {
        Some(_) if host.starts_with("queue.") || hosts::is_without_models(host) => Err(unknown(path)),
        Some(application) if over => Ok((Target::OverWebSocket(application), mount)),
        Some(application) => Ok((Target::Realtime(application), mount)),
        None => Err(unknown(path)),
    }
}

fn about_request(method: &Method, id: &str, tail: &[&str], path: &str) -> Result<Target, ApiError> {
    let id = id.parse().map_err(|_| ApiError::UnknownRequest);
    match tail {
        [] | ["response"] => allow(method, &[Method::GET], "GET").and(id).map(Target::Result),
        ["status"] => allow(method, &[Method::GET], "GET").and(id).map(Target::Status),
        ["status", "stream"] => allow(method, &[Method::GET], "GET").and(id).map(Target::StatusStream),
        ["cancel"] => {
            allow(method, &[Method::PUT], "PUT").and(id.or(Err(ApiError::UnknownCancel))).map(Target::Cancel)
        }
        _ => Err(unknown(path)),
    }
}

impl Application {
    /// Reads an endpoint id.
    pub(crate) fn named(id: &str) -> Option<Self> {
        Self::of(&id.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>())
    }

    pub(crate) fn of(segments: &[&str]) -> Option<Self> {
        let in_namespace = segments.first().is_some_and(|first| NAMESPACES.contains(first));
        let named = segments.len().min(if in_namespace { 3 } else { 2 });
        (named > 0).then(|| Self { id: segments[..named].join("/"), path: segments[named..].join("/") })
    }

    /// What is to be streamed, if the path ends in `stream`.
    pub(crate) fn streamed(&self) -> Option<Self> {
        let path = self.path.strip_suffix("stream")?;
        let above = path.strip_suffix('/').or_else(|| path.is_empty().then_some(path))?;
        Some(Self { id: self.id.clone(), path: above.to_owned() })
    }

    /// The name without its namespace.
    pub(crate) fn alias(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }
}

fn allow(method: &Method, allowed: &[Method], words: &'static str) -> Result<(), ApiError> {
    if allowed.contains(method) { Ok(()) } else { Err(ApiError::MethodNotAllowed(words)) }
}

fn unknown(path: &str) -> ApiError {
    ApiError::UnknownPath(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190c1a0-0000-7000-8000-000000000000";

    fn of(method: Method, host: &str, path: &str) -> Result<(Target, Mount), ApiError> {
        resolve(&method, host, path)
    }

    #[test]
    fn queue_and_run_are_told_apart_by_prefix_and_host() {
        let app = |path: &str| Application { id: "a/b".into(), path: path.into() };
        let cases = [
            ("localhost", "/queue/a/b", Target::Submit(app("")), Mount::Queue),
            ("localhost", "/queue/a/b/c/", Target::Submit(app("c")), Mount::Queue),
            ("queue.localhost:1", "/a/b", Target::Submit(app("")), Mount::Bare),
            ("queue.localhost", "/run/a/b", Target::Run(app("")), Mount::Run),
            ("localhost", "/run//a/b/", Target::Run(app("")), Mount::Run),
            ("localhost", "/a/b", Target::Run(app("")), Mount::Bare),
            ("localhost", "/run/a/b/stream", Target::RunStream(app("")), Mount::Run),
            ("localhost", "/a/b/turbo/stream/", Target::RunStream(app("turbo")), Mount::Bare),
            ("localhost", "/a/b/downstream", Target::Run(app("downstream")), Mount::Bare),
            ("localhost", "/queue/a/b/stream", Target::Submit(app("stream")), Mount::Queue),
        ];
        for (host, path, target, mount) in cases {
            assert_eq!(of(Method::POST, host, path).ok(), Some((target, mount)), "{host} {path}");
        }
    }

    #[test]
    fn an_id_below_a_namespace_has_three_parts() {
        for (path, id, rest) in [
            ("/workflows/o/a/b", "workflows/o/a", "b"),
            ("/queue/comfy/o/a", "comfy/o/a", ""),
            ("/o/a/b/c", "o/a", "b/c"),
        ] {
            let application = match of(Method::POST, "h", path) {
                Ok((Target::Run(application) | Target::Submit(application), _)) => application,
                other => panic!("{path}: {other:?}"),
            };
            assert_eq!((application.id.as_str(), application.path.as_str()), (id, rest));
        }
    }

    #[test]
    fn web_sockets_are_told_apart_by_prefix_and_host() {
        let app = |path: &str| Application { id: "a/b".into(), path: path.into() };
        let cases = [
            ("localhost", "/a/b/realtime", Target::Realtime(app("")), Mount::Bare),
            ("localhost", "/run/a/b/realtime/", Target::Realtime(app("")), Mount::Run),
            ("fal.run", "/a/b/turbo/realtime", Target::Realtime(app("turbo")), Mount::Bare),
            ("localhost", "/a/b/ws", Target::Realtime(app("")), Mount::Bare),
            ("localhost", "/a/b", Target::Realtime(app("")), Mount::Bare),
            ("ws.localhost", "/run/a/b", Target::Realtime(app("")), Mount::Run),
            ("localhost", "/ws/a/b", Target::OverWebSocket(app("")), Mount::Bare),
            ("ws.fal.run", "/a/b/stream", Target::OverWebSocket(app("stream")), Mount::Bare),
            ("ws.fal.run", "/a/b/realtime", Target::OverWebSocket(app("realtime")), Mount::Bare),
        ];
        for (host, path, target, mount) in cases {
            assert_eq!(resolve_socket(host, path).ok(), Some((target, mount)), "{host} {path}");
        }
        for (host, path) in
            [("queue.fal.run", "/a/b"), ("rest.fal.ai", "/a/b"), ("h", "/realtime"), ("h", "/")]
        {
            assert!(resolve_socket(host, path).is_err(), "{host} {path}");
        }
    }

    #[test]
    fn the_id_alone_decides_below_requests() {
        let id: RequestId = ID.parse().expect("an id");
        let cases = [
            (Method::GET, "", Target::Result(id)),
            (Method::GET, "/", Target::Result(id)),
            (Method::GET, "/response", Target::Result(id)),
            (Method::GET, "/status/", Target::Status(id)),
            (Method::GET, "/status/stream", Target::StatusStream(id)),
            (Method::PUT, "/cancel", Target::Cancel(id)),
        ];
        for (method, tail, target) in cases {
            for prefix in ["/queue/a/b", "/run/a", "/workflows/a/b", "", "/queue"] {
                let path = format!("{prefix}/requests/{ID}{tail}");
                assert_eq!(
                    of(method.clone(), "h", &path).ok().map(|(t, _)| t),
                    Some(target.clone()),
                    "{path}"
                );
            }
        }
        assert!(matches!(of(Method::GET, "h", "/a/b/requests/nonsense"), Err(ApiError::UnknownRequest)));
        assert!(matches!(
            of(Method::GET, "h", &format!("/a/requests/{ID}/cancel")),
            Err(ApiError::MethodNotAllowed("PUT"))
        ));
        assert!(matches!(of(Method::GET, "h", "/files/../x"), Err(ApiError::UnknownPath(_))));
        assert!(matches!(of(Method::GET, "h", "/queue/a/b"), Err(ApiError::MethodNotAllowed("POST"))));
        assert!(matches!(of(Method::GET, "h", "/files/x"), Err(ApiError::UnknownPath(_))));
    }
}
