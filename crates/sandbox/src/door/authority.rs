//! A cage's own certificate authority: for one host after the other it makes the certificate with
//! which the door ends TLS.
//!
//! Made anew for each cage and trusted in that cage alone. Its keys are in this process' memory and
//! nowhere else: they are never written, never sent, and gone with the cage. Nothing in a
//! certificate tells whose cage it is.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ResolvesServerCertUsingSni, ServerSessionMemoryCache},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

use super::locked;

/// Who has signed, as it is read inside. The links by its hash in a cage's folder of certificates
/// are made for exactly this name ([`NAME_HASH`]).
const NAME: &str = "Sandbox authority";
/// OpenSSL's hash of that name (`openssl x509 -subject_hash`): it finds authorities in a folder by
/// it.
pub(crate) const NAME_HASH: &str = "d94b19a9";
/// Whom a host's certificate is for, beside its alternative name, which is what counts.
const HOST_NAME: &str = "Sandbox";
/// How far a cage's clock may be behind.
const BEFORE: Duration = Duration::from_secs(60 * 60);
/// How long certificates are valid: longer than a cage lives, shorter than the 398 days that some
/// programs bear.
const VALID: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Hosts whose certificates are kept. More are made anew.
const HOSTS: usize = 512;
/// Sessions of TLS that may be taken up again.
const SESSIONS: usize = 512;

/// Made once, for it never changes.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The authority of one cage.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// When the authority's certificate begins and ends; those that it signs do with it.
    valid: (SystemTime, SystemTime),
    /// The key of all hosts' certificates.
    key: KeyPair,
    /// The same key, as TLS uses it.
    signing: Arc<dyn SigningKey>,
    /// A configuration that has all but a certificate and a protocol.
    plain: ServerConfig,
    hosts: Mutex<HashMap<String, Host>>,
}

/// What was made for a host: its configuration for each protocol that was asked for.
struct Host {
    certified: Arc<CertifiedKey>,
    configs: Vec<Arc<ServerConfig>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, with keys of its own.
    ///
    /// # Errors
    /// Those of the random source and of the cryptography.
    pub(crate) fn new() -> Result<Self, Error> {
        let now = SystemTime::now();
        let valid = (now - BEFORE, now + VALID);
        let own = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(NAME, valid)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&own)?;
        let issuer = Issuer::new(params, own);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = PROVIDER.key_provider.load_private_key(der);
        let signing = signing.map_err(|_| Error::CouldNotParseKeyPair)?;
        let (plain, hosts) = (plain(), Mutex::default());
        Ok(Self { certificate, issuer, valid, key, signing, plain, hosts })
    }

    /// Its certificate, for those who shall trust it.
    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server's configuration for one host, which is a name or an IPv4 address. It speaks this
    /// protocol of ALPN and no other, or none at all.
    ///
    /// # Errors
    /// A host that is no name of a certificate; those of the cryptography.
    pub(crate) fn server_config(
        &self,
        host: &str,
        protocol: Option<&[u8]>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let known = locked(&self.hosts).get(host).map(|host| {
            let config = host.configs.iter().find(|config| speaks(config, protocol));
            config.cloned().ok_or_else(|| Arc::clone(&host.certified))
        });
        let certified = match known {
            Some(Ok(config)) => return Ok(config),
            Some(Err(certified)) => certified,
            // Not under the lock: two who make the same at a time do each other no harm.
            None => Arc::new(self.certify(host)?),
        };
        let mut config = self.plain.clone();
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&certified)));
        let config = Arc::new(config);
        let mut hosts = locked(&self.hosts);
        if hosts.len() >= HOSTS && !hosts.contains_key(host) {
            hosts.clear();
        }
        let made = hosts
            .entry(host.to_owned())
            .or_insert_with(|| Host { certified, configs: Vec::with_capacity(1) });
        if !made.configs.iter().any(|config| speaks(config, protocol)) {
            made.configs.push(Arc::clone(&config));
        }
        Ok(config)
    }

    fn certify(&self, host: &str) -> Result<CertifiedKey, Error> {
        let mut params = params(HOST_NAME, self.valid)?;
        params.subject_alt_names = CertificateParams::new([host.to_owned()])?.subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        Ok(CertifiedKey::new(vec![certificate.into()], Arc::clone(&self.signing)))
    }
}

/// What certificates of both kinds have.
fn params(name: &str, (from, to): (SystemTime, SystemTime)) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = from.into();
    params.not_after = to.into();
    // Its own: programs that keep certificates take two with one number of one name for a forgery.
    let mut serial = [0; 16];
    PROVIDER.secure_random.fill(&mut serial).map_err(|_| Error::RingUnspecified)?;
    // Neither negative nor with a zero in front, as DER wants it (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn plain() -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let nothing = Arc::new(ResolvesServerCertUsingSni::new());
    let mut plain = match builder.with_protocol_versions(rustls::DEFAULT_VERSIONS) {
        Ok(builder) => builder.with_no_client_auth().with_cert_resolver(nothing),
        // This provider has the default versions.
        Err(error) => unreachable!("{error}"),
    };
    plain.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    plain
}

fn speaks(config: &ServerConfig, protocol: Option<&[u8]>) -> bool {
    config.alpn_protocols.first().map(Vec::as_slice) == protocol
}

#[cfg(test)]
mod tests;
