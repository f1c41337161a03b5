//! Certificates as Java reads them: a key store in its oldest format, JKS, which every Java since 1.2 takes.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use tokio_rustls::rustls::pki_types::CertificateDer;

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
/// An entry that is a certificate, and no private key.
const TRUSTED: u32 = 2;

/// Java's own stores have this password. It protects nothing: without it Java leaves out the check of the digest.
const PASSWORD: &str = "changeit";

/// A store of certificates that are trusted.
pub(super) fn trust_store(certificates: &[&CertificateDer<'_>]) -> Vec<u8> {
    let count = u32::try_from(certificates.len()).expect("some hundred certificates");
    let mut store = [MAGIC, VERSION, count].map(u32::to_be_bytes).concat();
    for (index, certificate) in certificates.iter().enumerate() {
        let length = u32::try_from(certificate.len()).expect("a certificate is a few kilobytes");
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, &format!("latentd-{index}"));
        // When it was added, in milliseconds since 1970: Java only shows it.
        store.extend(0_u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length.to_be_bytes());
        store.extend_from_slice(certificate);
    }
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(&PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend_from_slice(digest.finish().as_ref());
    store
}

fn text(store: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a short word");
    store.extend(length.to_be_bytes());
    store.extend(text.as_bytes());
}
