//! A model on a machine without a network: from a bundle to the first picture, in a network namespace that has only the
//! loopback interface, whose kernel counts what is sent and tried.

use super::bundle::{bundle_of_tiny, connected, text};
use super::*;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Unbundles, generates, serves by the line that was printed, and asks for one picture; counts after each.
const SCRIPT: &str = r#"
set -euo pipefail
ip link set lo up
count() { cat /proc/net/snmp /proc/net/snmp6 > "$OUT/$1.counts"; cat /proc/net/dev > "$OUT/$1.dev"; }
latentd unbundle "$BUNDLE" > "$OUT/line"
latentd generate 'a fox' --steps 2 --width 64 --height 64 --seed 7 --model me/tiny --offline -o "$OUT/fox.png"
count generated
sh -c "exec $(cat "$OUT/line")" > "$OUT/served" 2> "$OUT/log" &
server=$!
trap 'kill $server; wait $server || true' EXIT
until grep -q 'listens on http://127.0.0.1:8080' "$OUT/served"; do kill -0 $server; sleep 0.05; done
exec 3<>/dev/tcp/127.0.0.1/8080
printf 'POST /run/%s HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "$ENDPOINT" ${#INPUT} "$INPUT" >&3
cat <&3 > "$OUT/answer"
exec 3>&-
count served
# The counters see what is tried: an address that nobody has, and a name.
(exec 3<>/dev/tcp/192.0.2.1/80) 2> /dev/null || true
count tried
"#;

/// The counters of a kernel by their names, such as `Tcp.ActiveOpens`.
fn counters(text: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let Some(protocol) = pair[0].split(':').next().filter(|_| pair[0].contains(':')) else { continue };
        for (name, value) in names.zip(values).skip(1) {
            if let Ok(value) = value.parse() {
                found.insert(format!("{protocol}.{name}"), value);
            }
        }
    }
    for line in lines {
        if let Some((name, Ok(value))) =
            line.split_once(char::is_whitespace).map(|(n, v)| (n, v.trim().parse()))
        {
            found.insert(name.to_owned(), value);
        }
    }
    found
}

/// Connections that were begun, datagrams that were sent, and packets that had no way to go.
fn tried(place: &Path, when: &str) -> [u64; 3] {
    let found = counters(&std::fs::read_to_string(place.join(format!("{when}.counts"))).expect("counters"));
    let sum = |names: [&str; 2]| names.iter().map(|name| found.get(*name).copied().unwrap_or_default()).sum();
    assert!(found.contains_key("Tcp.ActiveOpens") && found.contains_key("Udp.OutDatagrams"), "{found:?}");
    [
        found["Tcp.ActiveOpens"],
        sum(["Udp.OutDatagrams", "Udp6OutDatagrams"]),
        sum(["Ip.OutNoRoutes", "Ip6OutNoRoutes"]),
    ]
}

/// Interfaces, each with the packets that it received and sent.
fn interfaces(place: &Path, when: &str) -> Vec<(String, u64, u64)> {
    let text = std::fs::read_to_string(place.join(format!("{when}.dev"))).expect("interfaces");
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        Some((name.trim().to_owned(), numbers[1], numbers[9]))
    };
    text.lines().filter_map(interface).filter(|(name, ..)| !is_a_tunnel_of_the_kernel(name)).collect()
}

/// Some kernels make these, without an address and down, in every namespace.
fn is_a_tunnel_of_the_kernel(name: &str) -> bool {
    let prefixes = ["tunl", "sit", "gre", "gretap", "erspan", "ip_vti", "ip6_vti", "ip6tnl", "ip6gre"];
    prefixes.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest == "0"))
}

#[tokio::test]
async fn the_first_picture_needs_no_packet() {
    let (hub, home) = connected().await;
    let bundle = bundle_of_tiny(&hub, &home).await;
    let mut here = program(&hub, &home);
    here.args(["generate", "a fox", "--steps", "2", "--width", "64", "--height", "64", "--seed", "7"]);
    here.args(["--model", NAME, "-o"]).arg(home.path().join("fox.png"));
    let here = output(here).await;
    assert!(here.status.success(), "{}", text(&here.stderr));

    let place = tempfile::tempdir().expect("a directory");
    let there = |name: &str| place.path().join(name);
    std::fs::create_dir(there("home")).expect("a directory");
    let input = json!({
        "prompt": "a fox", "image_size": { "width": 64, "height": 64 }, "num_inference_steps": 2, "seed": 7,
        "output_format": "png", "sync_mode": true,
    });
    let programs = Path::new(env!("CARGO_BIN_EXE_latentd")).parent().expect("a folder").to_owned();
    let path = std::env::var_os("PATH").expect("a path");
    let path =
        std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path))).expect("paths");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "bash", "-c", SCRIPT])
        .env_clear()
        .envs([("PATH", path), ("HOME", there("home").into()), ("OUT", place.path().into())])
        .envs([("BUNDLE", bundle.as_os_str()), ("INPUT", input.to_string().as_ref())])
        .env("ENDPOINT", crate::support::ENDPOINT)
        .output()
        .expect("unshare");
    let log = std::fs::read_to_string(there("log")).unwrap_or_default();
    assert!(output.status.success(), "{}{log}", text(&output.stderr));
    let line = std::fs::read_to_string(there("line")).expect("a line");
    assert_eq!(line, "latentd serve --model me/tiny --offline\n");

    let picture = std::fs::read(there("fox.png")).expect("a picture");
    assert_eq!(
        picture,
        std::fs::read(home.path().join("fox.png")).expect("a picture"),
        "as where it was pulled"
    );
    let answer = std::fs::read_to_string(there("answer")).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}{log}");
    let json = &body[body.find('{').expect("JSON")..=body.rfind('}').expect("JSON")];
    let output: Value = serde_json::from_str(json).expect("JSON");
    let url = output["images"][0]["url"].as_str().expect("a URL");
    let served = BASE64_STANDARD.decode(url.strip_prefix("data:image/png;base64,").expect("a data URI"));
    assert!(served.expect("base64").starts_with(b"\x89PNG"));

    assert_eq!(interfaces(place.path(), "generated"), [("lo".to_owned(), 0, 0)], "not one packet");
    assert_eq!(tried(place.path(), "generated"), [0, 0, 0]);
    // Of the server, one connection: that of the client.
    assert_eq!(tried(place.path(), "served"), [1, 0, 0]);
    assert_eq!(interfaces(place.path(), "served").len(), 1);
    let counted = tried(place.path(), "tried");
    assert!(counted[0] + counted[2] > 1, "an attempt is counted: {counted:?}");
}
