//! What the authority can vouch for, and who may hold its key.

use super::port::{Port, local, roots};
use latentd::config::InterceptConfig;
use latentd::intercept::Interceptor;
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, KeyUsagePurpose};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// What somebody with the authority's key could make.
fn forged(folder: &Path, name: &str) -> CertificateDer<'static> {
    let document = std::fs::read(folder.join("ca-key.pk8")).expect("the key");
    let key = KeyPair::try_from(document.as_slice()).expect("a key");
    let mut authority = CertificateParams::default();
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name = DistinguishedName::new();
    authority
        .distinguished_name
        .push(DnType::CommonName, "latentd intercept (fal hosts on this machine only)");
    let leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let own = KeyPair::generate().expect("a key");
    leaf.signed_by(&own, &Issuer::new(authority, key)).expect("a certificate").der().clone()
}

fn is_trusted(folder: &Path, name: &str) -> bool {
    let roots = Arc::new(roots(folder));
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(default_provider()));
    let verifier = verifier.build().expect("a verifier");
    let named = ServerName::try_from(name.to_owned()).expect("a name");
    verifier.verify_server_cert(&forged(folder, name), &[], &named, &[], UnixTime::now()).is_ok()
}

#[tokio::test]
async fn its_key_is_worth_nothing_for_other_names() {
    let port = Port::start().await;
    for name in
        ["fal.run", "queue.fal.run", "new.fal.ai", "falrun.com", "fal.media", "localhost", "127.0.0.1", "::1"]
    {
        assert!(is_trusted(&port.folder(), name), "{name}");
    }
    for name in
        ["example.com", "notfal.run", "fal.run.example.com", "run", "127.0.0.2", "10.0.0.1", "2001:db8::1"]
    {
        assert!(!is_trusted(&port.folder(), name), "{name}");
    }
}

#[tokio::test]
async fn its_key_stays_and_is_the_owners_alone() {
    let port = Port::start().await;
    let folder = port.folder();
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let key = folder.join("ca-key.pk8");
    assert_eq!((mode(&folder), mode(&key)), (0o700, 0o600));

    let first = std::fs::read(&key).expect("the key");
    let old = roots(&folder);
    let again = || async {
        let config = InterceptConfig { listen: local(), tunnel: None };
        Interceptor::open(port.server.directory.path(), config, false).await
    };
    again().await.expect("opened again");
    assert_eq!(std::fs::read(&key).expect("the key"), first);
    // Who trusted the certificate of an earlier start trusts what is signed now.
    assert_eq!(old.roots[0].subject_public_key_info, roots(&folder).roots[0].subject_public_key_info);
    assert_eq!(old.roots[0].subject, roots(&folder).roots[0].subject);

    for (path, mode, right) in
        [(&key, 0o640, "chmod 600"), (&key, 0o604, "chmod 600"), (&folder, 0o770, "chmod 700")]
    {
        let before = std::fs::metadata(path).expect("a file").permissions();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
        let error = again().await.err().expect("refused").to_string();
        assert!(error.contains(right) && error.contains(path.to_str().expect("UTF-8")), "{error}");
        std::fs::set_permissions(path, before).expect("changed back");
    }
    std::fs::write(&key, b"not a key").expect("written");
    let error = again().await.err().expect("refused").to_string();
    assert!(error.contains("remove it"), "{error}");
}

#[tokio::test]
async fn the_bundle_has_the_authority_once() {
    let port = Port::start().await;
    let bundle = std::fs::read_to_string(port.folder().join("bundle.pem")).expect("a bundle");
    let own = std::fs::read_to_string(port.folder().join("ca.pem")).expect("a certificate");
    assert_eq!(bundle.matches(own.trim()).count(), 1);
    let found = tokio_rustls::rustls::RootCertStore::empty().add_parsable_certificates(
        <CertificateDer<'static> as tokio_rustls::rustls::pki_types::pem::PemObject>::pem_slice_iter(
            bundle.as_bytes(),
        )
        .map(|certificate| certificate.expect("a certificate")),
    );
    assert!(found.0 >= 1 && found.1 == 0, "{found:?}");
}
