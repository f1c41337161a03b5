//! The certificate of the moment: short-lived, and made anew while the server runs.

use super::InterceptError;
use super::authority::{Authority, LEAF_LIFE, vouches_for};
use crate::tls;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// Resolves the certificate of a TLS handshake: for a name that is answered here, or for none.
pub(super) struct Certificates {
    authority: Authority,
    clock: Clock,
    leaf: Mutex<Leaf>,
}

/// The certificates of the moment.
struct Leaf {
    made: Timestamp,
    /// Shown to clients that name a host: its names are DNS names alone.
    named: Arc<CertifiedKey>,
    /// Shown to clients that call an address, which name nothing.
    nameless: Arc<CertifiedKey>,
}

impl Leaf {
    fn issue(authority: &Authority, made: Timestamp) -> Result<Self, InterceptError> {
        let issue = |addresses| authority.issue(made, addresses).map(Arc::new);
        Ok(Self { made, named: issue(false)?, nameless: issue(true)? })
    }
}

impl Certificates {
    pub(super) fn new(authority: Authority, clock: Clock) -> Result<Self, InterceptError> {
        let leaf = Mutex::new(Leaf::issue(&authority, clock())?);
        Ok(Self { authority, clock, leaf })
    }

    /// TLS with these certificates.
    pub(super) fn into_acceptor(self) -> Result<TlsAcceptor, InterceptError> {
        tls::acceptor(Arc::new(self)).map_err(|error| InterceptError::Certificate(error.to_string()))
    }

    /// The certificate for a client that named a host, or named none. Made anew in the middle of its life, and when the
    /// clock was set back before it.
    fn current(&self, named: bool) -> Arc<CertifiedKey> {
        let now = (self.clock)();
        let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.duration_since(leaf.made);
        let half = SignedDuration::try_from(LEAF_LIFE / 2).expect("some hours");
        if age > half || age.is_negative() {
            match Leaf::issue(&self.authority, now) {
                Ok(issued) => *leaf = issued,
                Err(error) => tracing::error!(%error, "the old certificate stays"),
            }
        }
        if named { leaf.named.clone() } else { leaf.nameless.clone() }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        name.is_none_or(vouches_for).then(|| self.current(name.is_some()))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Certificates(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::folder::Folder;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;
    use tokio_rustls::rustls::RootCertStore;
    use tokio_rustls::rustls::client::WebPkiServerVerifier;
    use tokio_rustls::rustls::client::danger::ServerCertVerifier;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};

    #[test]
    fn certificates_are_renewed_before_they_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = Folder::make(directory.path()).expect("a folder");
        let start = Timestamp::now();
        let authority = Authority::open(&folder, start).expect("an authority");
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).expect("a root");
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
                .build()
                .expect("a verifier");
        let is_good = |key: &CertifiedKey, hour: i64| {
            let seconds = u64::try_from(start.as_second() + hour * 3600).expect("after 1970");
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let name = ServerName::try_from("rest.alpha.fal.ai").expect("a name");
            verifier.verify_server_cert(&key.cert[0], &[], &name, &[], now).is_ok()
        };

        let hour = Arc::new(AtomicI64::new(0));
        let clock = hour.clone();
        let clock = move || start + SignedDuration::from_hours(clock.load(Ordering::Relaxed));
        let certificates = Certificates::new(authority, Box::new(clock)).expect("certificates");
        let at = |then: i64| {
            hour.store(then, Ordering::Relaxed);
            certificates.current(true)
        };
        let first = at(0);
        assert!(is_good(&first, 0) && is_good(&first, 23) && !is_good(&first, 25));
        assert!(Arc::ptr_eq(&first, &at(11)), "one serves for a while");
        let second = at(13);
        assert!(!Arc::ptr_eq(&first, &second) && is_good(&second, 13) && is_good(&second, 36));
        assert!(is_good(&at(24 * 365), 24 * 365), "a server may run for long");
        assert!(is_good(&at(-2), -2), "a clock that was wrong is put right");
    }
}
