//! Hosts that are not fal's, where the operator lets programs reach them.

use super::port::Port;
use latentd_egress::Egress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A host that sends back what it gets.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    port
}

async fn refusal(port: &Port, target: &str) -> String {
    let answer = port.say(&format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn bytes_are_carried_to_their_end() {
    let host = echo().await;
    let mut egress = Egress::new(false);
    egress.allow("127.0.0.1").expect("an address");
    let port = Port::with(Some(egress)).await;
    let mut stream = port.tunnel(&format!("127.0.0.1:{host}")).await;
    // Not TLS, and none of the server's business.
    stream.write_all(b"\x00anything").await.expect("sent");
    stream.shutdown().await.expect("the end is sent");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.expect("the end comes back");
    assert_eq!(back, b"\x00anything");
}

#[tokio::test]
async fn private_networks_are_not_reached_unless_they_are_allowed() {
    let host = echo().await;
    let port = Port::with(Some(Egress::new(false))).await;
    for target in
        [format!("127.0.0.1:{host}"), format!("localhost:{host}"), "[::1]:443".into(), "10.0.0.1:443".into()]
    {
        let line = refusal(&port, &target).await;
        assert!(line.starts_with("HTTP/1.1 502 ") && line.contains("--intercept-tunnel-allow"), "{line}");
    }
}

#[tokio::test]
async fn fals_names_are_never_dialled() {
    let host = echo().await;
    let mut egress = Egress::new(true);
    egress.allow("0.0.0.0/0").expect("a block");
    let port = Port::with(Some(egress)).await;
    for name in ["fal.run", "api.fal.ai", "v2.fal.media", "queue.falrun.com."] {
        let line = refusal(&port, &format!("{name}:{host}")).await;
        assert!(line.starts_with("HTTP/1.1 403 ") && line.contains("port 443"), "{line}");
        // What comes behind port 443 is this server: it speaks TLS, with a certificate of its own.
        let stream = port.tunnel(&format!("{name}:443")).await;
        assert!(port.tls(name.trim_end_matches('.'), stream).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_said() {
    let port = {
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        gone.local_addr().expect("an address").port()
    };
    let mut egress = Egress::new(false);
    egress.allow("127.0.0.0/8").expect("a block");
    let line = refusal(&Port::with(Some(egress)).await, &format!("127.0.0.1:{port}")).await;
    assert!(line.starts_with("HTTP/1.1 502 ") && line.contains("no connection"), "{line}");
}
