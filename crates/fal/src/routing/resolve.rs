//! Finds the route of a call by its method, host and path alone.
//!
//! `queue.fal.run` and `fal.run` have the same paths. Here the first is the prefix `/queue/` or a host that begins with
//! `queue.`, the second is `/run/` or the bare path. Below either, a path with `requests/{id}` is about that request,
//! whatever stands before it.

use crate::hosts;
use crate::output::error::ApiError;
use crate::output::links::Mount;
use crate::routing::parameters::Parameters;
use crate::routing::table::{Place, ROUTES, Route};
use crate::routing::target::Target;
use axum::http::Method;

/// The route of a call, and what its path means there.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) target: Target,
    pub(crate) mount: Mount,
    pub(crate) route: &'static Route,
}

/// Finds the route of a call that is not the handshake of a web socket. Repeated and trailing slashes do not count.
pub(crate) fn resolve(method: &Method, host: &str, path: &str) -> Result<Found, ApiError> {
    let segments = segments(path);
    let is_queue_host = host.starts_with("queue.");
    let own = |place| place == Place::Own || (place == Place::Rest && !is_queue_host);
    let search = Search { method, mount: Mount::Bare };
    if let Some(found) = search.find(own, |route| Parameters::of(path, route.template, &segments))? {
        return Ok(found);
    }
    // Never a model's name, whatever follows.
    if matches!(segments.as_slice(), ["files" | "storage", ..]) || hosts::is_without_models(host) {
        return Err(unknown(path));
    }
    let page =
        search.find(|place| place == Place::Page, |route| Parameters::of(path, route.template, &segments));
    if let Ok(Some(found)) = page {
        return Ok(found);
    }
    let (mount, rest) = match segments.split_first() {
        Some((&"queue", rest)) => (Mount::Queue, rest),
        Some((&"run", rest)) => (Mount::Run, rest),
        _ => (Mount::Bare, segments.as_slice()),
    };
    let search = Search { mount, ..search };
    let request = rest.iter().position(|segment| *segment == "requests").filter(|at| at + 1 < rest.len());
    let found = match request {
        Some(at) => search.find(
            |place| place == Place::Request,
            |route| Parameters::of(path, route.template, &rest[at..]),
        )?,
        None => {
            let queued = mount == Mount::Queue || (mount == Mount::Bare && is_queue_host);
            let wanted = if queued { Place::Queue } else { Place::Run };
            search.find(|place| place == wanted, |_| Some(Parameters::of_application(path, rest)))?
        }
    };
    found.ok_or_else(|| unknown(path))
}

/// Finds the route of a web socket's handshake. `ws.fal.run` is the prefix `/ws/` or a host that begins with `ws.`;
/// clients of realtime name the application itself, or its path `realtime` or `ws`.
pub(crate) fn resolve_socket(host: &str, path: &str) -> Result<Found, ApiError> {
    let segments = segments(path);
    let (prefix, rest) = match segments.split_first() {
        Some((&prefix @ ("run" | "ws"), rest)) => (prefix, rest),
        _ => ("", segments.as_slice()),
    };
    let over = prefix == "ws" || (prefix.is_empty() && host.starts_with("ws."));
    let rest = match rest {
        [above @ .., "realtime" | "ws"] if !over => above,
        all => all,
    };
    if host.starts_with("queue.") || hosts::is_without_models(host) {
        return Err(unknown(path));
    }
    let mount = if prefix == "run" { Mount::Run } else { Mount::Bare };
    let wanted = if over { Place::OverWebSocket } else { Place::Realtime };
    let search = Search { method: &Method::GET, mount };
    let found = search.find(|place| place == wanted, |_| Some(Parameters::of_application(path, rest)))?;
    found.ok_or_else(|| unknown(path))
}

/// A search of the table for one call.
#[derive(Clone, Copy)]
struct Search<'a> {
    method: &'a Method,
    mount: Mount,
}

impl<'a> Search<'a> {
    /// The first route at a place whose path fits. Where only the method is another, the call is refused.
    fn find(
        self,
        is_there: impl Fn(Place) -> bool,
        values: impl Fn(&Route) -> Option<Parameters<'a>>,
    ) -> Result<Option<Found>, ApiError> {
        let mut allowed: Vec<&str> = Vec::new();
        for route in ROUTES.iter().filter(|route| is_there(route.place)) {
            let Some(values) = values(route) else { continue };
            let target = match (route.target)(&values) {
                Err(ApiError::UnknownPath(_)) => continue,
                target => target,
            };
            if route.verb.allows(self.method) {
                return Ok(Some(Found { target: target?, mount: self.mount, route }));
            }
            if !allowed.contains(&route.verb.words()) {
                allowed.push(route.verb.words());
            }
        }
        if allowed.is_empty() { Ok(None) } else { Err(ApiError::MethodNotAllowed(allowed.join(", "))) }
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn unknown(path: &str) -> ApiError {
    ApiError::UnknownPath(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::target::Application;
    use latentd_queue::queue::RequestId;

    const ID: &str = "0190c1a0-0000-7000-8000-000000000000";

    fn of(method: Method, host: &str, path: &str) -> Result<(Target, Mount), ApiError> {
        resolve(&method, host, path).map(|found| (found.target, found.mount))
    }

    #[test]
    fn queue_and_run_are_distinguished_by_prefix_and_host() {
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
    fn web_sockets_are_distinguished_by_prefix_and_host() {
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
            assert_eq!(
                resolve_socket(host, path).ok().map(|found| (found.target, found.mount)),
                Some((target, mount)),
                "{host} {path}"
            );
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
            Err(ApiError::MethodNotAllowed(allowed)) if allowed == "PUT"
        ));
        assert!(matches!(of(Method::GET, "h", "/files/../x"), Err(ApiError::UnknownPath(_))));
        assert!(
            matches!(of(Method::GET, "h", "/queue/a/b"), Err(ApiError::MethodNotAllowed(allowed)) if allowed == "POST")
        );
        assert!(matches!(of(Method::GET, "h", "/files/x"), Err(ApiError::UnknownPath(_))));
    }
}
