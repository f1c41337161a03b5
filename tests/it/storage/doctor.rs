//! What `serve` refuses of a bucket before anything else, and `doctor` reports.

use super::program::{environment, run, serve};
use super::service::{BUCKET, Fault, SECRET, Service};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

/// State and text of doctor's finding about the storage.
pub(super) fn judged(service: &Service, data: &Path, extra: &[(&str, &Path)]) -> (String, String) {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_latentd"));
    let storage = format!("s3://{BUCKET}/p");
    doctor
        .args(["doctor", "--json", "--listen", "127.0.0.1:0", "--storage", &storage, "--data-dir"])
        .arg(data);
    doctor.envs(environment(service, SECRET)).envs(extra.iter().copied());
    let output = doctor.output().expect("the program");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = found["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|finding| finding["about"] == "storage").expect("one about it");
    let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(output.status.success(), text("state") == "good", "{found}");
    (text("state"), text("found"))
}

/// The line by which `serve` refuses.
fn refused(service: &Service, data: &Path) -> String {
    let storage = format!("s3://{BUCKET}/p");
    let data = data.to_str().expect("text");
    let flags = ["serve", "--data-dir", data, "--storage", &storage, "--listen", "127.0.0.1:0"];
    let output = run(service, SECRET, &flags);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{line}");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_judged_by_what_the_key_may_do_there() {
    let service = Service::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let (state, found) = judged(&service, data.path(), &[]);
    assert_eq!((state.as_str(), found.as_str()), ("good", "s3://images/p can be listed, read and written"));
    assert!(service.objects("p").is_empty(), "doctor leaves nothing");
    assert_eq!(std::fs::read_dir(data.path()).expect("a directory").count(), 0);
    for (method, fault, words) in [
        (Some(Method::PUT), Fault::Denied, "cannot write: access denied"),
        (Some(Method::DELETE), Fault::Denied, "cannot delete: access denied"),
        (Some(Method::GET), Fault::Denied, "cannot list: access denied"),
        (None, Fault::WrongRegion, "AWS_REGION"),
    ] {
        service.always(method, fault);
        let (state, found) = judged(&service, data.path(), &[]);
        assert!(state == "wrong" && found.contains(words) && found.contains("s3://images/p"), "{found}");
        let line = refused(&service, data.path());
        assert!(line.contains(&found), "{line}\n{found}");
        service.recover();
    }
    assert_eq!(judged(&service, data.path(), &[]).0, "good");
    assert!(service.objects("p").is_empty(), "also what could not be deleted is");
    assert!(!data.path().join("latentd.sqlite").exists(), "serve refuses before it makes a database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_database_is_refused_before_anything_is_made() {
    let service = Service::start().await;
    let [ours, theirs, fresh] = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    // Killed, so that the id may be in SQLite's log alone.
    drop(serve(&service, theirs.path(), "p", &["--workers", "0"]));
    let (state, found) = judged(&service, theirs.path(), &[]);
    assert_eq!(state, "good", "{found}");
    drop(serve(&service, ours.path(), "of/ours", &["--workers", "0"]));
    for data in [&ours, &fresh] {
        let (state, found) = judged(&service, data.path(), &[]);
        assert!(state == "wrong" && found.contains("belong to another database"), "{found}");
        assert!(refused(&service, data.path()).contains(&found));
    }
    assert_eq!(std::fs::read_dir(fresh.path()).expect("a directory").count(), 0);
}

/// A certificate for the loopback address, which only those trust who are given it.
fn certificate(directory: &Path) -> (TlsAcceptor, std::path::PathBuf) {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let der = signed.cert.der().clone();
    let path = directory.join("root.pem");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&der));
    std::fs::write(&path, pem).expect("a file");
    let key = signed.signing_key.serialize_der().try_into().expect("a private key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let config = config.with_single_cert(vec![der], key).expect("a key and its certificate");
    (TlsAcceptor::from(Arc::new(config)), path)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_service_is_believed_that_the_system_trusts() {
    let directory = tempfile::tempdir().expect("a directory");
    let (tls, root) = certificate(directory.path());
    let service = Service::start_over(Some(tls)).await;
    let data = tempfile::tempdir().expect("a directory");
    let (state, found) = judged(&service, data.path(), &[("SSL_CERT_FILE", &root)]);
    assert_eq!(state, "good", "{found}");
    let (state, found) = judged(&service, data.path(), &[]);
    assert!(state == "wrong" && found.contains("certificate"), "{found}");
}
