//! The certificate authority of a data directory: it issues certificates for fal's names on this machine alone.
//!
//! Its key is made once. Its own certificate is made at every start, so that it does not expire and names what this version
//! answers for. Programs that trust an earlier certificate of the same key trust the new ones too.

use super::InterceptError;
use super::folder::{Folder, KEY};
use jiff::Timestamp;
use latentd_fal::{FAL_DOMAINS, is_fal};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Validity of the authority's certificate. Programs may be configured to trust it for long.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Validity of a certificate of the server.
pub(super) const LEAF_LIFE: Duration = DAY;

/// Clocks may differ by this much, for containers and virtual machines.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// The names of this machine, for programs that are configured with a host instead of a proxy.
const LOCAL_NAME: &str = "localhost";
const LOCAL_ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The key and the certificate that sign the server's certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Reads the key, or makes one that only its owner may read.
    pub(super) fn open(folder: &Folder, now: Timestamp) -> Result<Self, InterceptError> {
        let key = match folder.read_private(KEY)? {
            Some(key) => KeyPair::try_from(key.as_slice()).map_err(|error| {
                InterceptError::Certificate(format!("{KEY}: {error}: remove it to have a new one made"))
            })?,
            None => {
                let key = KeyPair::generate().map_err(failed)?;
                folder.write(KEY, 0o600, key.serialized_der())?;
                key
            }
        };
        let params = params(now);
        let certificate = params.self_signed(&key).map_err(failed)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The certificate that programs are configured to trust.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The public key, which every certificate of this authority contains.
    pub(super) fn public_key(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }

    /// A certificate for every name that is answered, with a key of its own. `addresses`: for this machine's addresses
    /// too. BoringSSL (Bun, Chromium) checks no name constraints of addresses and refuses a chain in which one applies,
    /// so only clients that call an address are shown any.
    pub(super) fn issue(&self, now: Timestamp, addresses: bool) -> Result<CertifiedKey, InterceptError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("latentd");
        params.subject_alt_names = names().map_err(failed)?;
        if addresses {
            params.subject_alt_names.extend(LOCAL_ADDRESSES.map(SanType::IpAddress));
        }
        (params.not_before, params.not_after) = (
            date_time_ymd(1970, 1, 1) + unix(now - CLOCK_SLACK),
            date_time_ymd(1970, 1, 1) + unix(now + LEAF_LIFE),
        );
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        CertifiedKey::from_der(vec![certificate], key, &default_provider())
            .map_err(|error| InterceptError::Certificate(error.to_string()))
    }
}

/// Does the server's certificate hold this name?
pub(super) fn vouches_for(name: &str) -> bool {
    is_fal(name) || name == LOCAL_NAME
}

fn params(now: Timestamp) -> CertificateParams {
    let mut permitted: Vec<_> =
        FAL_DOMAINS.iter().map(|domain| GeneralSubtree::DnsName((*domain).into())).collect();
    permitted.push(GeneralSubtree::DnsName(LOCAL_NAME.into()));
    // Without these any address would be permitted: a constraint binds only names of its own kind.
    permitted.extend(LOCAL_ADDRESSES.map(|ip| {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, bits))
    }));
    let mut params = CertificateParams::default();
    params.distinguished_name = named("latentd intercept (fal hosts on this machine only)");
    (params.not_before, params.not_after) =
        (date_time_ymd(1970, 1, 1) + unix(now - DAY), date_time_ymd(1970, 1, 1) + unix(now + AUTHORITY_LIFE));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    params
}

/// `rest.alpha.fal.ai` is two names below its domain, and a wildcard reaches one.
fn names() -> Result<Vec<SanType>, rcgen::Error> {
    let domains = FAL_DOMAINS.iter().flat_map(|domain| [(*domain).to_owned(), format!("*.{domain}")]);
    let names = domains.chain(["*.alpha.fal.ai".into(), LOCAL_NAME.into()]);
    names.map(|name| Ok(SanType::DnsName(name.try_into()?))).collect()
}

fn named(name: &str) -> DistinguishedName {
    let mut whole = DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

/// Since 1970.
fn unix(at: Timestamp) -> Duration {
    Duration::from_secs(at.as_second().try_into().unwrap_or(0))
}

fn failed(error: rcgen::Error) -> InterceptError {
    InterceptError::Certificate(error.to_string())
}
