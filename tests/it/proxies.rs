//! Reverse proxies in front of the server: who is believed, and what URLs then look like.

use crate::support::{ENDPOINT, Server, small};
use crate::wire::{exchange, post, serve};
use axum::http::StatusCode;
use clap::Parser;
use latentd::args::{Cli, Command};
use latentd::config::{ConfigError, ServeConfig};

const OUTSIDE: &str =
    "x-forwarded-proto: https\r\nx-forwarded-host: images.example\r\nx-forwarded-prefix: /fal\r\n";

/// A server that believes peers in `block`.
async fn behind(block: &str) -> Server {
    let block = block.parse().expect("a block");
    Server::with(|api| api.trusted_proxies = vec![block]).await
}

/// What a submit with these headers says of its status URL, before the endpoint.
async fn base(server: &Server, path: &str, headers: &str) -> String {
    let reply = exchange(serve(server).await, post(path, headers, &small().to_string()).as_bytes()).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let (_, rest) = reply.text.split_once(r#""status_url":""#).expect("a status URL");
    rest.split(&format!("/{ENDPOINT}/requests/")).next().expect("a base").to_owned()
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let server = behind("127.0.0.0/8").await;
    let submit = format!("/queue/{ENDPOINT}");
    assert_eq!(base(&server, &submit, OUTSIDE).await, "https://images.example/fal/queue");
    let port = "x-forwarded-proto: https\r\nx-forwarded-port: 8443\r\n";
    assert_eq!(base(&server, &submit, port).await, "https://inside:8443/queue");
    let standard = "forwarded: for=9.9.9.9;host=\"images.example:444\";proto=https\r\n";
    assert_eq!(base(&server, &submit, standard).await, "https://images.example:444/queue");
    assert_eq!(base(&server, &submit, "").await, "http://inside:1/queue");
    let queue_host = "x-forwarded-host: queue.images.example\r\n";
    assert_eq!(base(&server, &format!("/{ENDPOINT}"), queue_host).await, "http://queue.images.example");
}

#[tokio::test]
async fn anybody_else_is_not() {
    let server = behind("10.0.0.0/8").await;
    let submit = format!("/queue/{ENDPOINT}");
    for headers in [OUTSIDE, "forwarded: host=evil;proto=https\r\n", "x-forwarded-host: a/b\r\n"] {
        assert_eq!(base(&server, &submit, headers).await, "http://inside:1/queue");
    }
}

#[tokio::test]
async fn a_client_behind_a_proxy_names_its_targets_from_outside() {
    let server = behind("127.0.0.1/32").await;
    let target = format!("x-fal-target-url: https://images.example/fal/queue/{ENDPOINT}\r\n{OUTSIDE}");
    assert_eq!(base(&server, "/api/fal/proxy", &target).await, "https://images.example/fal/queue");
    let fal = format!("x-fal-target-url: https://queue.fal.run/{ENDPOINT}\r\n{OUTSIDE}");
    assert_eq!(base(&server, "/api/fal/proxy", &fal).await, "https://images.example/fal/queue");
    let other = format!("x-fal-target-url: https://evil.example/fal/queue/{ENDPOINT}\r\n{OUTSIDE}");
    let reply = exchange(serve(&server).await, post("/api/fal/proxy", &other, "{}").as_bytes()).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
}

#[tokio::test]
async fn a_proxy_with_invalid_headers_gets_an_error() {
    let server = behind("127.0.0.1/32").await;
    let headers = "x-forwarded-proto: gopher\r\n";
    let reply =
        exchange(serve(&server).await, post(&format!("/queue/{ENDPOINT}"), headers, "{}").as_bytes()).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(reply.text.contains("x-forwarded-proto"), "{reply:?}");
}

#[tokio::test]
async fn a_public_url_is_stronger() {
    let public = "https://public.example".parse().expect("a URL");
    let block = "127.0.0.1/32".parse().expect("a block");
    let server = Server::with(|api| {
        api.public_url = Some(public);
        api.trusted_proxies = vec![block];
    })
    .await;
    assert_eq!(base(&server, &format!("/queue/{ENDPOINT}"), OUTSIDE).await, "https://public.example/queue");
}

fn configured(flag: &str) -> Result<ServeConfig, ConfigError> {
    let Cli { command, log, .. } = Cli::parse_from(["latentd", "serve", "--trusted-proxy", flag]);
    match command {
        Command::Serve(args) => ServeConfig::resolve(*args, log),
        _ => panic!("it serves"),
    }
}

#[test]
fn the_flag_takes_addresses_and_blocks() {
    let config = configured("10.0.0.0/8, ::1,192.168.0.7").expect("three of them");
    let blocks: Vec<String> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.0.0.0/8", "::1/128", "192.168.0.7/32"]);
    let refused = configured("proxy.example").expect_err("a name is no address");
    assert!(refused.to_string().contains("--trusted-proxy proxy.example"), "{refused}");
}
