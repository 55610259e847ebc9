//! Certificates of an authority that only the tests know, made by openssl.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    /// An authority, a server's certificate for `localhost` and one for another name.
    pub(crate) fn make() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.openssl("ca", &[]);
        made.signed("server", "DNS:localhost");
        made.signed("stranger", "DNS:elsewhere.example.org");
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, name: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048"]);
        command.args(["-subj", &format!("/CN={name}")]).args(more);
        command.arg("-keyout").arg(self.file(&format!("{name}.key")));
        command.arg("-out").arg(self.file(&format!("{name}.crt")));
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn signed(&self, name: &str, names: &str) {
        let (ca, key) = (self.file("ca.crt"), self.file("ca.key"));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let names = format!("subjectAltName={names}");
        let no_authority = "basicConstraints=critical,CA:FALSE";
        self.openssl(
            name,
            &["-CA", &path(&ca), "-CAkey", &path(&key), "-addext", &names, "-addext", no_authority],
        );
    }

    pub(crate) fn authority(&self) -> Vec<u8> {
        fs::read(self.file("ca.crt")).unwrap()
    }

    pub(crate) fn server(&self, name: &str) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.file(&format!("{name}.crt"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key);
        Arc::new(config.unwrap())
    }
}
