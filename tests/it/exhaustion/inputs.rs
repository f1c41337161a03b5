//! Bodies and messages that are small on the wire and large in memory, or many at once.

use crate::attack::Attacked;
use crate::support::{ENDPOINT, small};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Almost the largest body that any endpoint takes.
const LARGE: usize = 15_000_000;

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn socket(program: &Attacked, path: &str) -> Socket {
    connect_async(format!("ws://{}{path}", program.address)).await.expect("a web socket").0
}

/// A valid input with as many copies of something as fit beside it.
fn bomb(unit: &str) -> Vec<u8> {
    let mut body = br#"{"prompt":"x","image_url":"data:;base64,","junk":["#.to_vec();
    while body.len() + unit.len() < LARGE {
        body.extend_from_slice(unit.as_bytes());
        body.push(b',');
    }
    body.pop();
    body.extend_from_slice(b"]}");
    body
}

#[tokio::test]
async fn an_input_of_many_values_is_refused_before_it_takes_memory() {
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("15 MB of values");
    for unit in [r#"{"":0}"#, "[]", r#""""#, "[[[[]]]]"] {
        for path in ["/queue", "/run"] {
            let head = format!("POST {path}/{ENDPOINT}/image-to-image HTTP/1.1");
            let (status, answer) = program.call("127.0.0.1", &head, &bomb(unit)).await.expect("an answer");
            let error = answer["detail"][0]["ctx"]["error"].as_str().unwrap_or_default();
            assert_eq!((status, error.starts_with("more than 1000 values")), (422, true), "{unit} {answer}");
        }
    }
    for path in ["/tokens/", "/storage/upload/initiate"] {
        let answer = program.call("127.0.0.1", &format!("POST {path} HTTP/1.1"), &bomb("[]")).await;
        assert_eq!(answer.expect("an answer").0, 413, "{path} needs no such body");
    }
    baseline.returns().await;
}

#[tokio::test]
async fn a_message_of_many_values_is_refused_before_it_takes_memory() {
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("15 MB of values on a web socket");
    let mut socket = socket(&program, &format!("/{ENDPOINT}/image-to-image/realtime")).await;
    // {"prompt": "x", "junk": [{"": 0}, …]}
    let count = (LARGE / 3) as u32;
    let mut packed = b"\x82\xa6prompt\xa1x\xa4junk\xdd".to_vec();
    packed.extend(count.to_be_bytes());
    packed.extend(b"\x81\xa0\x00".repeat(count as usize));
    let text = String::from_utf8(bomb("[]")).expect("text");
    for message in [Message::Binary(packed.into()), Message::Text(text.into())] {
        socket.send(message).await.expect("a connection");
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("no answer") };
        assert!(answer.contains("more than 1000 values"), "{answer}");
    }
    // The connection is still there, and holds nothing.
    baseline.returns().await;
}

/// The largest valid inputs there are, from many clients at once: all are accepted, a few at a time.
#[tokio::test]
async fn large_inputs_are_taken_one_after_the_other() {
    let program = Attacked::start(&["--workers", "0"], None);
    let image = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(vec![7; 10 * 1024 * 1024]));
    let mut input = small();
    input["image_url"] = image.into();
    let body = input.to_string();
    let baseline = program.memory().baseline("16 images of 10 MiB at once");
    let head = format!("POST /queue/{ENDPOINT}/image-to-image HTTP/1.1");
    let calls = (0..16).map(|_| program.call("127.0.0.1", &head, body.as_bytes()));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.expect("an answer").0, 200);
    }
    baseline.returns().await;
}

/// Messages that wait behind the work of their connections, and messages that never become whole.
#[tokio::test]
async fn what_many_web_sockets_send_is_bounded_together() {
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("40 web sockets with 15 MB each");
    let path = format!("/{ENDPOINT}/image-to-image/realtime");
    let mut input = small();
    input["image_url"] = "data:image/png;base64,aGk=".into();
    let mut large = input.to_string();
    large.push_str(&" ".repeat(LARGE - large.len()));
    let mut sockets = Vec::new();
    for index in 0..40 {
        let mut socket = socket(&program, &path).await;
        if index < 20 {
            socket.send(Message::Text(input.to_string().into())).await.expect("a connection");
        }
        sockets.push(socket);
    }
    let send = sockets.iter_mut().enumerate().map(async |(index, socket)| {
        if index < 20 {
            // Taken, or refused because others wait already; whichever does not go into memory stays here.
            let sent = socket.send(Message::Text(large.clone().into()));
            let _ = tokio::time::timeout(Duration::from_secs(3), sent).await;
        } else {
            let MaybeTlsStream::Plain(stream) = socket.get_mut() else { panic!("a plain connection") };
            let mut frame = vec![0x81, 0x80 | 127];
            frame.extend((LARGE as u64).to_be_bytes());
            frame.extend([0; 4]);
            frame.resize(LARGE, b' ');
            let _ = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&frame)).await;
        }
    });
    futures_util::future::join_all(send).await;
    let head = format!("POST /queue/{ENDPOINT} HTTP/1.1");
    let normal = program.call("127.0.0.1", &head, small().to_string().as_bytes()).await;
    assert_eq!(normal.expect("an answer").0, 200, "small inputs have memory of their own");
    baseline.assert_bounded();
    drop(sockets);
    baseline.returns().await;
}

/// A socket that once took a large message, and one that once sent one, keep no buffer of that size.
#[tokio::test]
async fn a_web_socket_keeps_no_buffer_for_its_largest_message() {
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("20 web sockets after 15 MB each");
    let path = format!("/{ENDPOINT}/image-to-image/realtime");
    let refused = " ".repeat(LARGE);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = socket(&program, &path).await;
        socket.send(Message::Text(refused.clone().into())).await.expect("a connection");
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("no answer") };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["type"], json!("x-fal-error"));
        sockets.push(socket);
    }
    baseline.returns().await;
}
