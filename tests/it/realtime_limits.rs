//! Realtime at its edges: messages that are too many or too large, clients that go, a server that stops, silence.

use crate::sockets::{Listening, is_stopped, long};
use crate::support::{ENDPOINT, StepControl, small, small_with, stepped_engine};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

fn numbered(seed: i64) -> Value {
    small_with("seed", seed)
}

/// A server whose worker takes steps as the test commands.
async fn stepped() -> (Listening, StepControl) {
    let listening = Listening::start().await;
    let (engine, control) = stepped_engine();
    listening.work(engine).await;
    (listening, control)
}

#[tokio::test]
async fn messages_are_answered_in_order_and_the_oldest_make_room() {
    for (query, pending) in
        [("", vec![1, 4, 5]), ("?max_buffering=1", vec![1, 5]), ("?max_buffering=60", vec![1, 2, 3, 4, 5])]
    {
        let (listening, control) = stepped().await;
        let mut socket = listening.connect(&format!("/realtime{query}")).await;
        socket.json(&numbered(1)).await;
        control.step().await;
        for seed in 2..=5 {
            socket.json(&numbered(seed)).await;
        }
        socket.read_by_server().await;
        for _ in &pending {
            control.take_all_steps();
        }
        for seed in pending {
            assert_eq!(socket.text().await["seed"], seed, "{query}");
        }
    }
}

#[tokio::test]
async fn a_buffering_that_is_none_is_refused() {
    let listening = Listening::start().await;
    for count in ["0", "61", "-1", "two", ""] {
        let path = format!("/{ENDPOINT}/realtime?max_buffering={count}");
        assert_eq!(listening.refused(&path, &[]).await, 400, "{count}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_a_monstrous_one_ends_the_connection() {
    let listening = Listening::start().await.generate().await;
    let mut socket = listening.connect("/realtime").await;
    // Two prompts, and a file of 10 MiB in base64 with a tenth for what programs add.
    let most = 2 * 50_000 * 12 + 64 * 1024 + (10 * 1024 * 1024_usize).div_ceil(3) * 4 / 10 * 11;
    socket.send(" ".repeat(most + 1)).await;
    let error = socket.text().await;
    assert_eq!(error["reason"], format!("the body is larger than {most} bytes"));
    let mut padded = small().to_string();
    padded.push_str(&" ".repeat(most - padded.len()));
    socket.send(padded).await;
    assert_eq!(socket.text().await["seed"], 7);

    let mut socket = listening.connect("/realtime").await;
    let monster = Message::Binary(vec![0; 33 * 1024 * 1024].into());
    let _ = futures_util::SinkExt::send(&mut socket.0, monster).await;
    while let Some(Ok(message)) = socket.0.next().await {
        assert!(matches!(message, Message::Close(_)), "{message:?}");
    }
    let mut socket = listening.connect("/realtime").await;
    socket.json(&small()).await;
    assert_eq!(socket.text().await["seed"], 7);
}

#[tokio::test]
async fn a_close_frame_is_answered() {
    let listening = Listening::start().await;
    let mut socket = listening.connect("/realtime").await;
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    socket.0.close(Some(close)).await.expect("a connection");
    assert_eq!(socket.code().await, 1000);
    assert!(socket.0.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_stops_its_work() {
    for sends_close in [true, false] {
        let (listening, control) = stepped().await;
        let mut socket = listening.connect("/realtime").await;
        socket.json(&long()).await;
        control.step().await;
        if sends_close {
            socket.0.close(None).await.expect("a connection");
        }
        drop(socket);
        is_stopped(&listening.server, &control).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_while_its_input_is_accepted_leaves_nothing_behind() {
    let listening = Listening::start().await;
    for _ in 0..30 {
        let mut socket = listening.connect("/realtime").await;
        socket.json(&small()).await;
        socket.0.close(None).await.expect("a connection");
        while let Some(Ok(_)) = socket.0.next().await {}
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    listening.server.until_none_waits().await;
}

#[tokio::test]
async fn a_server_that_stops_closes_idle_connections_at_once() {
    let listening = Listening::start().await;
    let mut socket = listening.connect("/realtime").await;
    listening.server.closing.send_replace(true);
    assert_eq!(socket.code().await, 1000);
    assert_eq!(listening.refused(&format!("/{ENDPOINT}/realtime"), &[]).await, 503);
    listening.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_the_work_in_hand_first() {
    let (listening, control) = stepped().await;
    let mut socket = listening.connect("/realtime").await;
    socket.json(&small()).await;
    control.step().await;
    listening.server.closing.send_replace(true);
    socket.json(&small()).await;
    socket.read_by_server().await;
    control.take_all_steps();
    assert_eq!(socket.text().await["seed"], 7);
    let error = socket.text().await;
    assert_eq!((&error["type"], &error["reason"]), (&json!("x-fal-error"), &json!("the server is stopping")));
    assert_eq!(socket.code().await, 1001);
    listening.stop().await;
}

#[tokio::test]
async fn work_that_the_stopping_server_cannot_end_is_given_up() {
    let (listening, control) = stepped().await;
    let mut socket = listening.connect("/realtime").await;
    socket.json(&small()).await;
    control.step().await;
    listening.server.closing.send_replace(true);
    let client = async {
        assert_eq!(socket.text().await["reason"], "the server is stopping");
        assert_eq!(socket.code().await, 1001);
    };
    tokio::join!(listening.stop(), client);
}

/// Turns the runtime's clock.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn silence_is_filled_with_pings_and_ends() {
    let listening = Listening::start().await;
    let mut socket = listening.connect("/realtime").await;
    socket.read_by_server().await;
    later(21).await;
    assert!(matches!(socket.0.next().await, Some(Ok(Message::Ping(_)))));
    later(300).await;
    let message = socket.text().await;
    assert_eq!((&message["type"], &message["error"]), (&json!("x-fal-error"), &json!("TIMEOUT")));
    assert_eq!(socket.code().await, 1000);
}
