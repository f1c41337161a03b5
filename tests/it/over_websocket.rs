//! HTTP over a web socket: every call is begun and ended by a text, in order.

use crate::sockets::{Listening, Socket, is_stopped, long};
use crate::support::{ENDPOINT, small, stepped_engine};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// One answer: how it begins, its body, how it ends.
async fn answer(socket: &mut Socket) -> (Value, String, Value) {
    let start = socket.text().await;
    assert_eq!(start["type"], "start", "{start}");
    assert_eq!(start["headers"]["x-fal-request-id"], start["request_id"]);
    let mut body = String::new();
    loop {
        let Message::Text(text) = socket.next().await else { panic!("no text") };
        match serde_json::from_str::<Value>(&text) {
            Ok(end) if end["type"] == "end" => {
                assert_eq!(end["request_id"], start["request_id"]);
                assert!(end["time_to_first_byte_seconds"].is_f64());
                return (start, body, end);
            }
            _ => body.push_str(&text),
        }
    }
}

async fn connect(listening: &Listening, below: &str) -> Socket {
    listening.try_connect(&format!("/ws/{ENDPOINT}{below}"), &[]).await.expect("a web socket")
}

#[tokio::test]
async fn runs_go_over_one_connection_in_order() {
    let listening = Listening::start().await.generate().await;
    let hosted = listening.try_connect(&format!("/{ENDPOINT}"), &[("host", "ws.localhost")]).await;
    for mut socket in
        [connect(&listening, "").await, connect(&listening, "/turbo").await, hosted.expect("open")]
    {
        let mut second = small();
        second["seed"] = 8.into();
        socket.json(&small()).await;
        socket.send(second.to_string().into_bytes()).await;
        socket.json(&json!({ "num_images": 9 })).await;
        socket.send("{").await;
        for seed in [7, 8] {
            let (start, body, end) = answer(&mut socket).await;
            assert_eq!((&start["status"], &end["status"]), (&json!(200), &json!(200)));
            assert_eq!(start["headers"]["content-type"], "application/json");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(body["seed"], seed);
        }
        for problem in ["missing", "json_invalid"] {
            let (start, body, end) = answer(&mut socket).await;
            assert_eq!((&start["status"], &end["status"]), (&json!(422), &json!(422)));
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(body["detail"][0]["type"], problem);
        }
    }
    assert_eq!(listening.refused("/ws/fal-ai/another", &[]).await, 404);
    assert_eq!(listening.refused(&format!("/ws/{ENDPOINT}/realtime"), &[]).await, 404);
}

#[tokio::test]
async fn a_stream_comes_as_its_events_come() {
    let listening = Listening::start().await.generate().await;
    let mut socket = connect(&listening, "/stream").await;
    for _ in 0..2 {
        socket.json(&small()).await;
        let (start, body, end) = answer(&mut socket).await;
        assert_eq!(start["headers"]["content-type"], "text/event-stream");
        let last = body.trim_end().rsplit("data: ").next().expect("an event");
        assert_eq!(serde_json::from_str::<Value>(last).expect("JSON")["seed"], 7);
        assert_eq!(end["status"], 200);
    }
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_a_500() {
    let listening = Listening::start().await;
    let (engine, control) = stepped_engine();
    listening.work(engine).await;
    let mut socket = connect(&listening, "/stream").await;
    socket.json(&small()).await;
    control.step().await;
    control.fail(latentd::engine::EngineError::Numbers("NaN".into()));
    let (start, body, end) = answer(&mut socket).await;
    assert_eq!((&start["status"], &end["status"]), (&json!(200), &json!(500)));
    assert!(body.contains("runner_server_error"), "{body}");
}

#[tokio::test]
async fn a_client_that_goes_stops_its_work() {
    for path in ["", "/stream"] {
        let listening = Listening::start().await;
        let (engine, control) = stepped_engine();
        listening.work(engine).await;
        let mut socket = connect(&listening, path).await;
        socket.json(&long()).await;
        control.step().await;
        drop(socket);
        is_stopped(&listening.server, &control).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_closes_the_socket() {
    let listening = Listening::start().await;
    let mut socket = connect(&listening, "").await;
    listening.server.closing.send_replace(true);
    assert_eq!(socket.code().await, 1000);
    listening.stop().await;
}
