//! Removal from a bucket: by a record alone, and again when the service refused.

use super::service::{Fault, Service};
use super::serving::{server, upload};
use crate::support::{HOUR, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::storage::FileKey;
use latentd::sweep;

/// As in every server of these tests.
const PREFIX: &str = "files";

/// Removals that the service was asked for since it was last asked.
fn removals(service: &Service) -> Vec<String> {
    let seen = service.seen().into_iter().filter(|seen| seen.method == Method::DELETE);
    let mut names: Vec<_> =
        seen.map(|seen| seen.path.rsplit('/').next().expect("a name").to_owned()).collect();
    names.sort();
    names
}

async fn image_for_a_minute(server: &Server) -> (String, String) {
    let request = Request::post(format!("/queue/{}", crate::support::ENDPOINT))
        .header("x-fal-object-lifecycle-preference", r#"{"expiration_duration_seconds": 60}"#)
        .body(Body::from(small().to_string()));
    let answer = server.send(request.expect("a request")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    server.generate_all().await;
    let id = answer.json()["request_id"].as_str().expect("an id").to_owned();
    let request = format!("/queue/{}/requests/{id}", crate::support::ENDPOINT);
    let url = server.get(&request).await.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    let name = url.rsplit('/').next().expect("a name").to_owned();
    (format!("/files/{name}"), name)
}

#[tokio::test]
async fn what_is_past_its_time_is_removed_and_what_no_record_names_is_not() {
    let service = Service::start().await;
    let server = server(&service).await;
    let kept = upload(&server, super::pattern(1000)).await;
    assert_eq!(kept.status, StatusCode::OK);
    let (path, name) = image_for_a_minute(&server).await;
    let foreign = [FileKey::fresh("png").as_str().to_owned(), "notes.txt".to_owned()];
    for name in &foreign {
        service.add_object(PREFIX, name);
    }
    let sweep = async || sweep::once(&server.queue, &server.storage).await;
    service.seen();
    sweep().await.expect("a sweep");
    assert_eq!((removals(&service), server.get(&path).await.status), (vec![], StatusCode::OK));

    server.clock.advance(61);
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND, "not served from that second on");
    service.always(Some(Method::DELETE), Fault::Denied);
    sweep().await.expect_err("the service refuses");
    assert!(service.objects(PREFIX).contains(&name));
    service.recover();
    service.seen();
    sweep().await.expect("another sweep, which knows of it still");
    assert_eq!(removals(&service), [name.as_str()]);
    server.clock.advance(100 * 24 * HOUR);
    sweep().await.expect("a sweep");
    assert_eq!(removals(&service), [""; 0], "an upload stays until its time, and nothing else is touched");
    let objects = service.objects(PREFIX);
    assert!(foreign.iter().all(|name| objects.contains(name)) && !objects.contains(&name), "{objects:?}");
    assert_eq!(objects.len(), 3, "{objects:?}");
}
