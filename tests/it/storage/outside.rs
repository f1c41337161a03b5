//! What was written is read by a client that shares no code with this program: Python's standard library.

use super::pattern;
use super::service::{BUCKET, KEY, SECRET, Service};
use latentd::storage::FileKey;
use sha2::{Digest, Sha256};
use tokio::process::Command;

#[tokio::test]
async fn another_client_reads_what_was_written() {
    let service = Service::start().await;
    let storage = service.storage("some/prefix");
    for length in [10, 1_500_000, 20_000_000] {
        let (key, bytes) = (FileKey::fresh("png"), pattern(length));
        let mut writer = storage.create(&key).await.expect("a store");
        for piece in bytes.chunks(1 << 20) {
            writer.write(piece.to_vec().into()).await.expect("a store");
        }
        writer.finish().await.expect("a store");
        let object = format!("/{BUCKET}/some/prefix/{}", key.as_str());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/storage/read_back.py");
        let mut python = Command::new("python3");
        python.arg(script).args([&service.endpoint, &object, KEY, SECRET]);
        let read = python.output().await.expect("python3");
        let found = String::from_utf8_lossy(&read.stdout);
        let expected = format!("{length} {}\n", hex::encode(Sha256::digest(&bytes)));
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&read.stderr));
    }
}
