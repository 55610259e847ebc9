//! TLS as libpq's `sslmode` means it: whether, with whom, and what ties a password exchange to it.
//!
//! Knows certificates and no message of PostgreSQL.

use crate::error::PostgresError;
use crate::options::{Host, HostSpec, RootCertificates, SslMode, SslOptions};
use crate::socket::{Socket, Until};
use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Everything that a handshake needs.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// How far a server is trusted.
#[derive(Debug)]
enum Trust {
    /// Whoever answers.
    Anybody,
    /// Whom the roots vouch for; with its name, or under any.
    Vouched { verifier: Option<Arc<WebPkiServerVerifier>>, pinned: Vec<CertificateDer<'static>>, name: bool },
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl TlsSetup {
    /// Reads certificates and decides whom to trust.
    pub(crate) fn new(options: &SslOptions, spec: &HostSpec) -> Result<Self, PostgresError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = trust(options, &provider)?;
        let name = server_name(spec, &trust)?;
        let verifier = Arc::new(Verifier { trust, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| certificates(Path::new("system"), io::Error::other(error)))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, private) = identity(certificate, key)?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| certificates(certificate, io::Error::other(error)))?
            }
        };
        config.enable_sni = options.tell_name;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    /// Shakes hands.
    pub(crate) fn handshake(
        &self,
        socket: &Socket,
        deadline: Option<Instant>,
    ) -> io::Result<ClientConnection> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        let mut until = Until { socket, deadline };
        while connection.is_handshaking() {
            let _ = connection.complete_io(&mut until)?;
        }
        Ok(connection)
    }
}

fn certificates(path: &Path, source: io::Error) -> PostgresError {
    PostgresError::Certificates { path: path.to_path_buf(), source }
}

fn trust(options: &SslOptions, provider: &Arc<CryptoProvider>) -> Result<Trust, PostgresError> {
    let verifies = matches!(options.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let file = match &options.roots {
        RootCertificates::File(path) => Some(path.clone()),
        RootCertificates::Default(path) => path.clone().filter(|path| path.exists()),
        RootCertificates::System => None,
    };
    // With roots at hand `require` means `verify-ca`: libpq keeps this for those who relied on it.
    let Some(roots) = (match (file, options.mode) {
        (Some(path), SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => {
            Some((from_file(&path)?, path))
        }
        (None, _) if verifies => Some((from_system()?, PathBuf::from("system"))),
        _ => None,
    }) else {
        return Ok(Trust::Anybody);
    };
    let (pinned, path) = roots;
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(pinned.iter().cloned());
    if pinned.is_empty() {
        return Err(certificates(&path, io::Error::other("no certificate is in it")));
    }
    let verifier = (usable > 0)
        .then(|| WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build())
        .transpose()
        .map_err(|error| certificates(&path, io::Error::other(error)))?;
    Ok(Trust::Vouched { verifier, pinned, name: options.mode == SslMode::VerifyFull })
}

fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    all.map_err(|error| certificates(path, io::Error::other(error)))
}

fn from_system() -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    let mut found = rustls_native_certs::load_native_certs();
    match found.errors.pop() {
        Some(error) if found.certs.is_empty() => {
            Err(certificates(Path::new("system"), io::Error::other(error)))
        }
        _ => Ok(found.certs),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(certificate: &Path, key: &Path) -> Result<Identity, PostgresError> {
    let chain = from_file(certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| certificates(key, io::Error::other(error)))?;
    Ok((chain, private))
}

/// The name that the certificate must have. Where no name is checked, a host that no certificate could name
/// (one with an underscore at a place where none may be) does not matter.
fn server_name(spec: &HostSpec, trust: &Trust) -> Result<ServerName<'static>, PostgresError> {
    let Host::Name(name) = &spec.host else {
        return Err(PostgresError::Argument { what: "host name", value: spec.host.to_string() });
    };
    match (ServerName::try_from(name.clone()), trust) {
        (Ok(name), _) => Ok(name),
        (Err(_), Trust::Vouched { name: true, .. }) => {
            Err(PostgresError::Argument { what: "host name", value: name.clone() })
        }
        (Err(_), _) => Ok(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Vouched { verifier, pinned, name } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        // A self-signed certificate that was handed over as its own root: usual for PostgreSQL, and as good
        // as can be, but no chain.
        if pinned.contains(end_entity) {
            if *name {
                let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let Some(verifier) = verifier else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is looked at before the name, so that a wrong name says that the chain is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    // Signatures are verified whoever answers: without that, nobody could tie a password exchange to a
    // certificate, since anybody can show one that is not theirs.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What `tls-server-end-point` (RFC 5929) ties a password exchange to: the hash of the server's certificate,
/// by the algorithm that signed it, and by SHA-256 in place of MD5 and SHA-1. `None` where the algorithm
/// names no hash that we know: then the exchange cannot be tied.
pub(crate) fn end_point(tls: &ClientConnection) -> Option<Vec<u8>> {
    let certificate = tls.peer_certificates()?.first()?;
    let algorithm = match signature_algorithm(certificate)? {
        // RSA: MD5, SHA-1, SHA-256, SHA-384, SHA-512 (1.2.840.113549.1.1.x).
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13] => &digest::SHA512,
        // ECDSA: SHA-1, SHA-256, SHA-384, SHA-512 (1.2.840.10045.4…).
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The object identifier of the algorithm that signed a certificate: `SEQUENCE { tbsCertificate SEQUENCE,
/// signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }`.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (_, behind) = element(outer, SEQUENCE)?;
    let (algorithm, _) = element(behind, SEQUENCE)?;
    Some(element(algorithm, OBJECT_IDENTIFIER)?.0)
}

/// One DER element of a kind: its content, and what stands behind it.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == kind).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithm_is_found_behind_what_was_signed() {
        let certificate = [0x30, 0x81, 10, 0x30, 1, 7, 0x30, 5, 0x06, 2, 1, 2, 0];
        assert_eq!(signature_algorithm(&certificate), Some(&[1, 2][..]));
        for cut in 0..certificate.len() {
            assert_eq!(signature_algorithm(&certificate[..cut]), None, "{cut}");
        }
        assert_eq!(signature_algorithm(&[0x30, 0x85, 1, 1, 1, 1, 1, 1]), None);
    }
}
