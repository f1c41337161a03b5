//! Realtime: what goes over the web socket, in both framings, and who may open one.

use crate::keys::Keyed;
use crate::sockets::{Listening, Socket};
use crate::support::{ENDPOINT, small, stepped_engine};
use latentd::queue::{NewKey, Scope};
use rmp_serde::from_slice;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const ALIAS: &str = "stable-diffusion-v35-large";

fn numbered(seed: i64) -> Value {
    let mut input = small();
    input["seed"] = seed.into();
    input
}

#[tokio::test]
async fn a_result_comes_as_its_input_went() {
    let listening = Listening::start().await.generate().await;
    let mut socket = listening.connect("/realtime").await;
    socket.json(&small()).await;
    let first = socket.text().await;
    assert_eq!((&first["seed"], &first["prompt"]), (&json!(7), &json!("a fox")));
    assert_eq!(first["request_id"].as_str().map(str::len), Some(36));
    let url = first["images"][0]["url"].as_str().expect("a URL");
    let path = url.strip_prefix(&format!("http://{}", listening.address)).expect("on this server");
    assert_eq!(listening.server.get(path).await.header("content-type"), "image/jpeg");

    let mut input = numbered(8);
    input["request_id"] = "mine".into();
    socket.msgpack(&input).await;
    let second: Value = from_slice(&socket.next().await.into_data()).expect("msgpack");
    assert_eq!((&second["seed"], &second["request_id"]), (&json!(8), &json!("mine")));
    assert_eq!(second["images"][0]["width"], 32);
    assert_eq!(second["has_nsfw_concepts"], json!([false]));
}

#[tokio::test]
async fn every_path_of_the_clients_opens() {
    let listening = Listening::start().await.generate().await;
    for path in ["", "/realtime", "/realtime/", "/ws", "/turbo", "/turbo/realtime"] {
        let mut socket = listening.connect(path).await;
        socket.json(&small()).await;
        assert_eq!(socket.text().await["seed"], 7, "{path}");
    }
    let mut socket = listening.try_connect(&format!("/run/{ENDPOINT}/realtime"), &[]).await.expect("open");
    socket.json(&small()).await;
    assert_eq!(socket.text().await["seed"], 7);
    for path in ["/fal-ai/another/realtime", "/realtime", &format!("/{ENDPOINT}/other/realtime"), "/tokens/"]
    {
        assert_eq!(listening.refused(path, &[]).await, 404, "{path}");
    }
}

#[tokio::test]
async fn images_in_the_result_are_data_uris_or_bytes() {
    let listening = Listening::start().await.generate().await;
    let mut socket = listening.connect("/realtime").await;
    let mut input = small();
    input["sync_mode"] = true.into();
    socket.msgpack(&input).await;
    let result: Value = from_slice(&socket.next().await.into_data()).expect("msgpack");
    assert!(
        result["images"][0]["url"].as_str().is_some_and(|url| url.starts_with("data:image/jpeg;base64,/9j"))
    );

    #[derive(serde::Deserialize)]
    struct Raw {
        images: Vec<Image>,
    }
    #[derive(serde::Deserialize)]
    struct Image {
        url: Option<String>,
        content: Vec<u8>,
    }
    input["_force_msgpack"] = json!(null);
    socket.msgpack(&input).await;
    let result: Raw = from_slice(&socket.next().await.into_data()).expect("msgpack");
    assert!(result.images[0].url.is_none() && result.images[0].content.starts_with(b"\xff\xd8"));
    assert_eq!(listening.server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_the_connection_goes_on() {
    let listening = Listening::start().await.generate().await;
    let mut socket = listening.connect("/realtime").await;
    let deep = [vec![0x91; 500], vec![0xc0]].concat();
    let messages: [Message; 8] = [
        "{".into(),
        "".into(),
        Message::Binary(vec![0xc1].into()),
        Message::Binary(vec![].into()),
        Message::Binary(vec![0x80, 0x80].into()),
        Message::Binary(vec![0x81, 0x01, 0x01].into()),
        Message::Binary(vec![0xdd, 0xff, 0xff, 0xff, 0xff].into()),
        Message::Binary(deep.into()),
    ];
    for message in messages {
        socket.send(message.clone()).await;
        let error = socket.text().await;
        assert_eq!(
            (&error["type"], &error["error"]),
            (&json!("x-fal-error"), &json!("BAD_REQUEST")),
            "{message:?}"
        );
        assert!(
            error["reason"].as_str().is_some_and(|text| text.starts_with("the message is not ")),
            "{error}"
        );
    }
    socket.json(&json!({ "request_id": "r", "num_images": 9 })).await;
    let error = socket.text().await;
    assert_eq!((&error["type"], &error["error"]), (&json!("x-fal-error"), &json!("INVALID_INPUT")));
    assert_eq!(error["request_id"], "r");
    assert_eq!(
        error["reason"],
        "prompt: Field required; num_images: Input should be less than or equal to 4"
    );
    assert_eq!(error["detail"][1]["loc"], json!(["body", "num_images"]));
    socket.msgpack(&json!([1])).await;
    assert_eq!(socket.text().await["error"], "INVALID_INPUT");
    socket.json(&small()).await;
    assert_eq!(socket.text().await["seed"], 7);
}

async fn keyed() -> (Keyed, Listening) {
    let keyed = Keyed::start().await;
    keyed.add("a", None).await;
    let Keyed { server, ring } = keyed;
    let listening = Listening::over(server).await.generate().await;
    let server = crate::support::Server::start().await;
    (Keyed { server, ring }, listening)
}

async fn revoke(keyed: &Keyed, listening: &Listening, id: &str) {
    listening.server.queue.revoke_key(id).await.expect("a database");
    keyed.ring.refresh(&listening.server.queue).await.expect("a database");
}

async fn token(listening: &Listening, app: &str, seconds: u32) -> String {
    let wish = json!({ "allowed_apps": [app], "token_expiration": seconds }).to_string();
    let request = axum::http::Request::post("/tokens/").header("authorization", "Key a:secret");
    let answer = listening.server.send(request.body(wish.into()).expect("a request")).await;
    answer.json().as_str().expect("a token").to_owned()
}

async fn with_token(listening: &Listening, token: &str) -> Socket {
    listening.connect(&format!("/realtime?fal_jwt_token={token}")).await
}

async fn is_refused_and_asked_for_a_token(socket: &mut Socket) {
    assert_eq!(socket.text().await, json!({ "status": "error", "error": "Unauthorized" }));
}

#[tokio::test]
async fn a_key_in_the_header_and_a_token_in_the_query_open() {
    let (_, listening) = keyed().await;
    let path = format!("/{ENDPOINT}/realtime");
    assert_eq!(listening.refused(&path, &[]).await, 401);
    assert_eq!(listening.refused(&path, &[("authorization", "Key a:wrong")]).await, 401);
    let mut socket = listening.try_connect(&path, &[("authorization", "Key a:secret")]).await.expect("open");
    socket.json(&small()).await;
    assert_eq!(socket.text().await["seed"], 7);
    for app in [ALIAS, ENDPOINT, "fal-ai/stable-diffusion-v35-large/realtime"] {
        let mut socket = with_token(&listening, &token(&listening, app, 120).await).await;
        socket.json(&small()).await;
        assert_eq!(socket.text().await["seed"], 7, "{app}");
    }
}

#[tokio::test]
async fn a_token_for_something_else_or_of_the_past_is_refused_by_a_message_on_the_socket() {
    let (_, listening) = keyed().await;
    let past = token(&listening, ALIAS, 10).await;
    listening.server.clock.advance(11);
    for wrong in [token(&listening, "another", 120).await, past, "nonsense".into()] {
        let mut socket = with_token(&listening, &wrong).await;
        is_refused_and_asked_for_a_token(&mut socket).await;
        assert_eq!(socket.code().await, 1008);
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let (_, listening) = keyed().await;
    let mut socket = with_token(&listening, &token(&listening, ALIAS, 1).await).await;
    is_refused_and_asked_for_a_token(&mut socket).await;
    assert_eq!(socket.code().await, 1000);

    let mut socket = with_token(&listening, &token(&listening, ALIAS, 3000).await).await;
    listening.server.clock.advance(3001);
    socket.json(&small()).await;
    is_refused_and_asked_for_a_token(&mut socket).await;
    assert_eq!(socket.code().await, 1000);
}

#[tokio::test]
async fn a_connection_ends_with_its_key() {
    let (keyed, listening) = keyed().await;
    let header = [("authorization", "Key a:secret")];
    let mut by_key = listening.try_connect(&format!("/{ENDPOINT}/realtime"), &header).await.expect("open");
    let mut by_token = with_token(&listening, &token(&listening, ALIAS, 120).await).await;
    revoke(&keyed, &listening, "a").await;
    for socket in [&mut by_key, &mut by_token] {
        socket.json(&small()).await;
        is_refused_and_asked_for_a_token(socket).await;
        assert_eq!(socket.code().await, 1000);
    }
}

#[tokio::test]
async fn the_limit_of_a_key_holds() {
    let keyed = Keyed::start().await;
    let sha256 = latentd::keys::KeyHash::of("b:secret").0;
    let new = NewKey { id: "b".into(), sha256, name: String::new(), scope: Scope::Api, concurrency: Some(1) };
    keyed.server.queue.add_key(&new).await.expect("a database");
    keyed.ring.refresh(&keyed.server.queue).await.expect("a database");
    let listening = Listening::over(keyed.server).await;
    let (engine, control) = stepped_engine();
    listening.work(engine).await;
    let header = [("authorization", "Key b:secret")];
    let path = format!("/{ENDPOINT}/realtime");
    let mut first = listening.try_connect(&path, &header).await.expect("open");
    let mut second = listening.try_connect(&path, &header).await.expect("open");
    first.json(&small()).await;
    control.step().await;
    second.json(&small()).await;
    assert_eq!(second.text().await["error"], "CONCURRENT_REQUESTS_LIMIT");
    control.take_all_steps();
    assert_eq!(first.text().await["seed"], 7);
    control.take_all_steps();
    second.json(&small()).await;
    assert_eq!(second.text().await["seed"], 7);
}
